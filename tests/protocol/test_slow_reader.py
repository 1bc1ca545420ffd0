"""Promise 3: a slow reader is served from the log at its own pace and is never dropped for slowness alone."""

import asyncio
import json
import socket as tcp
import struct
import time

from stackclient import LOG_EVENTS, Account, Api, Gateway, Sock, add_member, dial, login, make_room, register

MESSAGES = 21_000
SENDERS = 3
IN_FLIGHT = 200
BODY = "x" * 600
"""Times MESSAGES that is more than the kernel will hold for the reader, so the gateway must."""


async def send_many(socket: Sock, room: str, count: int) -> None:
    futures = []
    for n in range(count):
        futures.append(await socket.ask("send", {"room": room, "body": f"{n} {BODY}"}))
        if len(futures) == IN_FLIGHT:
            for future in futures:
                assert (await future)["type"] == "ok"
            futures = []
    for future in futures:
        assert (await future)["type"] == "ok"


async def test_slow_reader_gets_everything_in_order(connect, gateway: Gateway, alice: Account, bob: Account, carol: Account):
    room = make_room(alice, bob, carol)
    raw = tcp.socket()
    raw.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 32 * 1024)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, gateway.host_port)
    slow = await dial(gateway, token=carol.access, sock=raw, max_queue=1)
    await slow.send(json.dumps({"type": "subscribe", "id": 1, "payload": {"room": room, "after": 0}}))
    answer = json.loads(await slow.recv())
    assert answer["type"] == "ok"

    fast: Sock = await connect(alice)
    await fast.subscribe(room)
    senders = [await connect(who) for who in (alice, bob, carol)]
    await asyncio.gather(*(send_many(s, room, MESSAGES // SENDERS) for s in senders))
    head = alice.messages(room, limit=1)["head"]
    await fast.reached(room, head, timeout=60)

    expected = 1
    while expected <= head:
        frame = json.loads(await asyncio.wait_for(slow.recv(), 20))
        if frame["type"] in LOG_EVENTS:
            assert frame["payload"]["seq"] == expected, "no hole, no repeat, no gap for slowness"
            expected += 1
        else:
            assert frame["type"] in ("presence", "read", "typing"), frame

    await slow.send(json.dumps({"type": "ping", "id": 2, "payload": {}}))
    last = await senders[0].send(room, "live again")
    seen: set[str] = set()
    while seen != {"ok", "message"}:
        frame = json.loads(await asyncio.wait_for(slow.recv(), 20))
        if frame["type"] in ("ok", "message"):
            seen.add(frame["type"])
        if frame["type"] == "message":
            assert frame["payload"]["seq"] == last == head + 1
    await slow.close()


async def test_requests_behind_answers_that_waited_are_answered_as_the_reader_takes_them(gateway: Gateway, alice: Account):
    """What was asked behind more answers than the gateway keeps is looked at as soon as they are taken."""
    room = make_room(alice)
    for _ in range(60):
        alice.ok("POST", f"/rooms/{room}/messages", json={"body": "x" * 16_000})
    raw = tcp.socket()
    raw.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 4 * 1024)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, gateway.host_port)
    slow = await dial(gateway, token=alice.access, sock=raw, max_queue=1)
    for n in range(6):
        await slow.send(json.dumps({"type": "history", "id": n, "payload": {"room": room, "limit": 60}}))
    await slow.send(json.dumps({"type": "ping", "id": 6, "payload": {}}))
    answered = set()
    while len(answered) < 7:
        frame = json.loads(await asyncio.wait_for(slow.recv(), 8))
        if frame["type"] == "ok":
            answered.add(frame["id"])
    await slow.close()


def masked(opcode: int, payload: bytes = b"") -> bytes:
    """A client's frame of fewer than 126 bytes; the mask is zeros."""
    return struct.pack("!BB4x", 0x80 | opcode, 0x80 | len(payload)) + payload


async def test_revoked_reader_who_takes_nothing_is_off_the_network_within_a_second(connect, gateway: Gateway, api: Api, alice: Account):
    """Promise 5 for a client that will never read its close frame."""
    reader = register(api)
    room = make_room(alice)
    add_member(alice, room, reader)
    session = login(reader)
    with tcp.socket() as raw:
        raw.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 32 * 1024)
        raw.settimeout(20)
        raw.connect(gateway.host_port)
        raw.sendall(
            f"GET /ws HTTP/1.1\r\nhost: {gateway.host_port[0]}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"authorization: Bearer {session.access}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += raw.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")
        request = {"type": "subscribe", "id": 1, "payload": {"room": room}}
        raw.sendall(masked(1, json.dumps(request).encode()))
        while b'"head"' not in answer:
            answer += raw.recv(1)

        sender: Sock = await connect(alice)
        for _ in range(10):
            futures = [await sender.ask("send", {"room": room, "body": "x" * 16_000}) for _ in range(100)]
            for future in futures:
                assert (await future)["type"] == "ok"

        begun = time.monotonic()
        reader.ok("DELETE", f"/auth/sessions/{session.session_id}")
        # Nothing is read here, so that the end shows only in what is sent: it is refused then.
        gone = False
        while not gone and time.monotonic() - begun < 3:
            try:
                raw.sendall(masked(9))
            except (BrokenPipeError, ConnectionResetError):
                gone = True
            else:
                await sender.alive()
        took = time.monotonic() - begun
        assert gone, "the connection is still there"
        assert took <= 1.0, f"took {took:.3f} s"
    await sender.alive()
