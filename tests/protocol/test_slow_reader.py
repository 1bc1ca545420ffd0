"""Promise 3: a slow reader is served from the log at its own pace and is never dropped for slowness alone."""

import asyncio
import json
import socket as tcp

from stackclient import LOG_EVENTS, Account, Gateway, Sock, dial, make_room

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
