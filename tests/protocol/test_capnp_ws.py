"""The sub-protocol `stack.v1.capnp`, with pycapnp, websockets and `schema/gateway.capnp` alone."""

from __future__ import annotations

import asyncio
import json
import socket as tcp
from pathlib import Path
from typing import Any

import capnp
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from stackclient import Account, Api, Gateway, Sock, add_member, dial, login, make_room, register, upgrade_refused
from stackclient.gateway import REPOSITORY

NATIVE = "stack.v1.capnp"
TEXT = "stack.v1.json"
SCHEMA = capnp.load(str(REPOSITORY / "schema" / "gateway.capnp"), imports=[str(Path(capnp.__file__).parents[1])])
GOLDEN = REPOSITORY / "schema" / "golden"
TIMEOUT_S = 20
BODY = "x" * 600


def frame(kind: str, id: int | None = None, **fields: Any) -> bytes:
    """A ClientFrame."""
    message = SCHEMA.ClientFrame.new_message()
    if id is not None:
        message.hasId, message.id = True, id
    message.from_dict({kind: fields if fields or kind != "ping" else None})
    return message.to_bytes()


def read(data: str | bytes) -> tuple[str, dict[str, Any]]:
    """The kind of a ServerFrame, and what it holds; of an `ok` also which one it is, as `which`."""
    assert isinstance(data, bytes), "every frame is binary"
    with SCHEMA.ServerFrame.from_bytes(data) as message:
        kind = str(message.which())
        held = message.to_dict()[kind]
        if kind == "ok":
            held["which"] = str(message.ok.which())
        if kind == "event":
            held["which"] = str(message.event.which())
    return kind, held


class Native:
    """A client that knows the schema."""

    def __init__(self, ws: ClientConnection):
        self.ws = ws
        self.last_id = 0

    async def next(self) -> tuple[str, dict[str, Any]]:
        return read(await asyncio.wait_for(self.ws.recv(), TIMEOUT_S))

    async def tell(self, kind: str, **fields: Any) -> None:
        await self.ws.send(frame(kind, **fields))

    async def ask(self, kind: str, **fields: Any) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
        """Its answer, and the events that came before it."""
        self.last_id += 1
        await self.ws.send(frame(kind, self.last_id, **fields))
        before = []
        while True:
            kind, held = await self.next()
            if kind == "ok" and held["id"] == self.last_id:
                return kind, held, before
            if kind == "error" and held["hasId"] and held["id"] == self.last_id:
                return kind, held["problem"], before
            if kind == "event":
                before.append(held)

    async def ok(self, kind: str, **fields: Any) -> dict[str, Any]:
        """What an `ok` holds of the kind that it is."""
        answered, held, _ = await self.ask(kind, **fields)
        assert answered == "ok", held
        return {"which": held["which"], **(held[held["which"]] or {})}

    async def refused(self, kind: str, **fields: Any) -> dict[str, Any]:
        answered, problem, _ = await self.ask(kind, **fields)
        assert answered == "error", problem
        return problem

    async def events(self, count: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        while len(events) < count:
            kind, held = await self.next()
            if kind == "event":
                events.append(held)
            else:
                assert kind in ("presence", "typing", "read"), (kind, held)
        return events

    async def closed(self) -> int:
        """The code it is closed with, whatever comes before."""
        with pytest.raises(ConnectionClosed):
            while True:
                await asyncio.wait_for(self.ws.recv(), TIMEOUT_S)
        return self.ws.close_code or 0


@pytest.fixture
async def native(gateway: Gateway):
    """Opens sockets: `await native(alice)`, `await native()`; closes them at the end."""
    opened: list[ClientConnection] = []

    async def open_socket(who: Account | None = None, *, gateway: Gateway = gateway, **kwargs: Any) -> Native:
        token = who.access if who else None
        ws = await dial(gateway, token=token, subprotocols=[NATIVE], **kwargs)
        assert ws.subprotocol == NATIVE
        opened.append(ws)
        return Native(ws)

    yield open_socket
    for ws in opened:
        await ws.close()


async def test_first_of_the_offered_is_chosen(gateway: Gateway, api: Api):
    for offered in ([NATIVE, TEXT], [TEXT, NATIVE], ["other.v9", NATIVE]):
        ws = await dial(gateway, subprotocols=offered)
        assert ws.subprotocol == next(name for name in offered if name != "other.v9")
        await ws.close()
    status, _ = await upgrade_refused(gateway, subprotocols=["other.v9", "stack.v2.capnp"])
    assert status == 400
    assert api.get("//version").json()["protocols"] == [TEXT, NATIVE]


async def test_sign_in_subscribe_send_and_history(native, connect, alice: Account, bob: Account):
    room = make_room(alice, bob)
    one: Native = await native()
    assert (await one.refused("join", room=room))["code"] == "unauthenticated"
    signed_in = await one.ok("auth", token=alice.access)
    assert signed_in["which"] == "signedIn"
    assert signed_in["userId"] == alice.id and signed_in["sessionId"] == alice.session_id
    assert signed_in["expiresAt"] > 1_700_000_000_000

    head = alice.messages(room, limit=1)["head"]
    subscribed = await one.ok("subscribe", room=room, start={"after": 0})
    assert subscribed["which"] == "subscribed"
    assert (subscribed["room"], subscribed["head"], subscribed["role"]) == (room, head, "owner")
    past = await one.events(head)
    assert [event["seq"] for event in past] == list(range(1, head + 1))
    assert past[0]["which"] == "roomChange" and past[0]["roomChange"]["action"] == "created"
    assert {"memberChange"} == {event["which"] for event in past[1:]}

    text: Sock = await connect(bob)
    await text.subscribe(room)
    message = {"body": 'größer "🌍"', "data": '{"a": [1.50, null]}', "key": "k1", "replyTo": 0}
    _, held, before = await one.ask("send", room=room, message=message)
    assert held["which"] == "place", held
    place = held["place"]
    assert (place["room"], place["seq"]) == (room, head + 1)
    (event,) = before or await one.events(1)
    expected = {"room": room, "seq": head + 1, "ts": place["ts"], "sender": alice.id, "message": message, "which": "message"}
    assert event == expected
    # Done once, and to others it is a frame like every other.
    again = await one.ok("send", room=room, message=message)
    assert again == {"which": "place", **place}
    heard = await text.event("message", seq=head + 1)
    assert heard["body"] == message["body"] and heard["data"] == {"a": [1.5, None]}

    await text.send(room, "from the other side")
    (event,) = await one.events(1)
    assert event["message"]["body"] == "from the other side" and event["sender"] == bob.id

    assert (await one.ok("edit", room=room, seq=head + 1, body="shorter"))["seq"] == head + 3
    assert (await one.ok("react", room=room, seq=head + 1, emoji="👍", remove=False))["seq"] == head + 4
    assert (await one.ok("redact", room=room, seq=head + 1, reason="so"))["seq"] == head + 5
    page = await one.ok("history", room=room, cursor={"after": head}, limit=500)
    assert page["which"] == "page" and page["head"] == head + 5
    kinds = ["tombstone", "message", "edited", "reacted", "redacted"]
    with_kind = [(event["seq"], kind) for event, kind in zip(page["events"], kinds, strict=True) if kind in event]
    assert with_kind == [(head + 1 + n, kind) for n, kind in enumerate(kinds)]
    assert page["events"][2]["edited"]["stripped"] is True
    assert page["events"][4]["redacted"] == {"target": head + 1, "reason": "so"}
    newest = await one.ok("history", room=room, limit=2)
    assert [event["seq"] for event in newest["events"]] == [head + 4, head + 5]

    assert (await one.ok("ping"))["which"] == "pong"
    assert (await one.ok("read", room=room, seq=head + 2))["which"] == "done"
    await one.tell("typing", room=room, on=True)
    assert (await one.ok("presence", status="busy", text="tea"))["which"] == "done"
    assert (await one.ok("unsubscribe", room=room))["which"] == "done"
    assert (await one.ok("join", room=room))["role"] == "owner"


async def test_resume_by_cursor_without_hole_or_repeat(native, alice: Account, bob: Account):
    room = make_room(alice, bob)
    reader: Native = await native(bob)
    await reader.ok("subscribe", room=room, start={"after": 0})
    cursor = 0
    for event in await reader.events(2):
        cursor = event["seq"]
    sender: Native = await native(alice)
    for n in range(30):
        await sender.ok("send", room=room, message={"body": f"{n}"})
        if n % 10 == 4:
            # Gone in the middle, some of it read and some not.
            for event in await reader.events(3):
                assert event["seq"] == cursor + 1
                cursor = event["seq"]
            await reader.ws.close()
            reader = await native(bob)
            _, held, before = await reader.ask("subscribe", room=room, start={"after": cursor})
            assert held["which"] == "subscribed" and before == []
    head = (await sender.ok("history", room=room, limit=1))["head"]
    for event in await reader.events(head - cursor):
        assert event["seq"] == cursor + 1
        cursor = event["seq"]
    # Live from here on.
    await reader.ok("subscribe", room=room, start={"live": None})
    place = await sender.ok("send", room=room, message={"body": "live"})
    (event,) = await reader.events(1)
    assert event["seq"] == place["seq"] == head + 1
    refused = await reader.refused("subscribe", room=room, start={"after": head + 100})
    assert (refused["code"], refused["field"]) == ("invalid_field", "after")


async def test_slow_reader_gets_everything_in_order(native, gateway: Gateway, alice: Account, bob: Account):
    await slow_reader(native, gateway, alice, bob, messages=20_000)


async def test_slow_reader_under_tls_gets_everything_in_order(native):
    """Two sinks that each hold what they took, one behind the other."""
    running = Gateway().with_tls()
    try:
        api = Api(running.start())
        await slow_reader(native, running, register(api), register(api), messages=10_000)
        api.close()
    finally:
        running.dispose()


async def slow_reader(native, gateway: Gateway, alice: Account, bob: Account, messages: int):
    at_once = 200
    room = make_room(alice, bob)
    raw = tcp.socket()
    raw.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 32 * 1024)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, gateway.host_port)
    slow: Native = await native(bob, gateway=gateway, sock=raw, max_queue=1)
    await slow.ok("subscribe", room=room, start={"after": 0})

    sender: Native = await native(alice, gateway=gateway)
    said = 0
    while said < messages:
        for n in range(at_once):
            await sender.ws.send(frame("send", said + n, room=room, message={"body": BODY}))
        for _ in range(at_once):
            kind, held = await sender.next()
            assert kind == "ok", held
        said += at_once
    head = alice.messages(room, limit=1)["head"]
    assert head >= messages
    expected = 1
    while expected <= head:
        (event,) = await slow.events(1)
        assert event["seq"] == expected, "no hole, no repeat, no gap for slowness"
        expected += 1
    await slow.ok("ping")


async def test_what_is_refused_is_told_and_the_socket_lives(native, alice: Account, bob: Account):
    room = make_room(alice)
    socket: Native = await native(bob)
    for kind, fields, code, field in [
        ("join", {"room": room}, "not_found", ""),
        ("join", {"room": "Not A Slug"}, "invalid_field", "room"),
        ("join", {}, "invalid_field", "room"),
        ("send", {"room": room, "message": {"body": "hello"}}, "not_found", ""),
        ("send", {"room": room, "message": {"body": "x", "data": "{"}}, "invalid_field", "data"),
        ("presence", {"status": "offline"}, "invalid_field", "status"),
        ("auth", {"token": "nonsense"}, "unauthenticated", ""),
        ("auth", {"token": alice.access}, "forbidden", ""),
    ]:
        problem = await socket.refused(kind, **fields)
        assert problem["detail"] and not problem["retryable"]
        assert (problem["code"], problem["field"]) == (code, field), kind
    own = make_room(bob)
    too_long = await socket.refused("send", room=own, message={"body": "x" * 16_385})
    assert (too_long["code"], too_long["field"]) == ("payload_too_large", "body")
    assert (await socket.ok("send", room=own, message={"body": "x" * 16_384}))["which"] == "place"
    too_many = await socket.refused("history", room=own, limit=501)
    assert (too_many["code"], too_many["field"]) == ("invalid_field", "limit")
    # Without an id only the error is told.
    await socket.tell("send", room="nowhere", message={"body": "x"})
    kind, held = await socket.next()
    while kind != "error":
        kind, held = await socket.next()
    assert held["hasId"] is False and held["problem"]["code"] == "not_found"


async def test_what_a_newer_schema_has_is_refused_and_the_socket_lives(native, alice: Account):
    """Frames that `capnp encode` made of a schema that is not there yet."""
    socket: Native = await native(alice)
    rest = (GOLDEN / "newer" / "client-frames.bin").read_bytes()
    codes = []
    while rest:
        length = 8 + 8 * int.from_bytes(rest[4:8], "little")
        await socket.ws.send(rest[:length])
        kind, held = await socket.next()
        assert kind == "error" and held["hasId"] and held["id"] == 7
        codes.append(held["problem"]["code"])
        rest = rest[length:]
    # The first is a `send` with fields more, to a room that is not there; then kinds and values that are unknown here.
    assert codes == ["not_found", "bad_request", "invalid_field", "bad_request", "bad_request"]
    assert (await socket.ok("ping"))["which"] == "pong"


async def test_golden_frames_are_what_they_say():
    """Another language reads yesterday's frames as we do."""
    lines = [json.loads(line) for line in (GOLDEN / "server-frames.jsonl").read_text().splitlines()]
    rest = (GOLDEN / "server-frames.bin").read_bytes()
    for line in lines:
        length = 8 + 8 * int.from_bytes(rest[4:8], "little")
        kind, held = read(rest[:length])
        rest = rest[length:]
        logged = line["type"] in ("message", "edited", "redacted", "reacted", "room", "member")
        assert kind == ("event" if logged else line["type"])
        if logged:
            assert (held["room"], held["seq"]) == (line["payload"]["room"], line["payload"]["seq"])
        if kind == "ok":
            assert held["id"] == line["id"]
    assert not rest


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"{}",
        b'{"type":"ping","id":1}',
        frame("ping", 1)[:-1],
        frame("ping", 1) + frame("ping", 2),
        frame("ping", 2**53),
        b"\x00\x00\x00\x00\xff\xff\xff\x7f" + bytes(8),
        b"\xff\xff\xff\xff" + bytes(60),
        frame("edit", 1, room="a", seq=1, body="ab").replace(b"ab\0", b"\xff\xfe\0"),
        frame("edit", 1, room="a", seq=1, body="ab").replace(b"ab\0", b"abc"),
        bytes([0, 0, 0, 0, 1, 0, 0, 0, 0xFC, 0xFF, 0xFF, 0x0F, 4, 0, 4, 0]),
    ],
    ids=["nothing", "short", "json", "cut", "two", "id", "huge", "segments", "utf8", "unended", "astray"],
)
async def test_malformed_messages_close(native, alice: Account, malformed: bytes):
    for who in (alice, None):
        socket: Native = await native(who)
        await socket.ws.send(malformed)
        kind, held = await socket.next()
        assert kind == "error" and held["problem"]["code"] == "bad_request" and not held["hasId"]
        assert await socket.closed() == 4000


async def test_text_and_what_is_too_long_close(native, gateway: Gateway, alice: Account):
    socket: Native = await native(alice)
    await socket.ws.send('{"type":"ping","id":1}')
    assert await socket.closed() == 4000
    socket = await native(alice)
    await socket.ws.send(bytes(64 * 1024 + 1))
    assert await socket.closed() == 1009
    ws = await dial(gateway, token=alice.access)
    await ws.send(frame("ping", 1))
    assert await Native(ws).closed() == 4000


async def test_bits_that_are_wrong_harm_nobody(native, alice: Account):
    """Every byte of a frame, changed: the frame is answered, or its socket is closed as malformed; the gateway lives."""
    room = make_room(alice)
    good = frame("history", 7, room=room, cursor={"after": 0}, limit=5)
    socket: Native = await native(alice)
    for at in range(len(good)):
        for bits in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[at] ^= bits
            try:
                await socket.ws.send(bytes(bad))
                await socket.ws.send(frame("ping", 9))
                while True:
                    kind, held = await socket.next()
                    if kind == "ok" and held["id"] == 9:
                        break
            except ConnectionClosed as closed:
                assert closed.rcvd is not None and closed.rcvd.code == 4000, (at, bits)
                socket = await native(alice)
    assert (await (await native(alice)).ok("ping"))["which"] == "pong"


async def test_revoked_and_removed(native, alice: Account, bob: Account):
    room = make_room(alice, bob)
    socket: Native = await native(bob)
    await socket.ok("subscribe", room=room)
    alice.ok("DELETE", f"/rooms/{room}/members/{bob.id}")
    while True:
        kind, held = await socket.next()
        if kind == "unsubscribed":
            break
    assert held == {"room": room, "reason": "removed"}
    add_member(alice, room, bob)
    assert (await socket.ok("subscribe", room=room))["which"] == "subscribed"
    phone = login(bob)
    other: Native = await native(phone)
    await other.ok("ping")
    phone.ok("POST", "/auth/logout")
    kind, held = await other.next()
    assert kind == "session" and held["state"] == "revoked"
    assert await other.closed() == 4001
    assert (await socket.ok("ping"))["which"] == "pong"
