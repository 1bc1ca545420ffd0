"""Bad input, seeded: always an answer or a documented close, never a 5xx, and the server lives."""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
from typing import Any

import pytest

from stackclient import Account, Api, Gateway, Sock, assert_problem, make_room
from stackclient.spec import FRAME_LIMIT, MAX_ID

FRAMES = 1200
BYTE_FRAMES = 300
REQUESTS = 400


def templates(room: str, me: Account, other: Account) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("auth", {"token": me.access}),
        ("subscribe", {"room": room, "after": 0}),
        ("subscribe", {"room": room}),
        ("unsubscribe", {"room": room}),
        ("send", {"room": room, "body": "hello", "data": {"a": 1}, "key": "k", "reply_to": 1}),
        ("edit", {"room": room, "seq": 3, "body": "edited"}),
        ("redact", {"room": room, "seq": 3, "reason": "x"}),
        ("react", {"room": room, "seq": 3, "emoji": "👍", "remove": False}),
        ("join", {"room": room}),
        ("leave", {"room": room}),
        ("history", {"room": room, "after": 1, "limit": 5}),
        ("history", {"room": room, "before": 5}),
        ("history", {"room": room, "after_ts": 5}),
        ("read", {"room": room, "seq": 2}),
        ("typing", {"room": room, "on": True}),
        ("presence", {"status": "online", "text": "x"}),
        ("ping", {}),
        ("device_register", {"device_id": "d", "device_name": "n", "device_type": "t"}),
        ("stream_start", {"to": "d", "source_device_id": "e", "stream_type": "both"}),
        ("ok", {}),
        ("message", {"room": room, "seq": 1, "ts": 1, "sender": other.id, "body": "forged"}),
    ]


def odd(rng: random.Random) -> Any:
    """Any JSON value, the odder the better."""
    simple = [
        None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 1e308, 0.5, -0.0, "", " ", "\u0000", "\ufeff",
        "🦀", "a" * 300, "../..", "room.general\u0000", "null", "0", "\u202e", [], {}, [[]], [None], {"": ""}, {"a": {"b": {}}},
        list(range(50)), "x" * 20_000,
    ]  # fmt: skip
    choice = rng.random()
    if choice < 0.8:
        return rng.choice(simple)
    if choice < 0.9:
        return "".join(chr(rng.choice([rng.randrange(0x20, 0x7F), rng.randrange(0xA0, 0xD800)])) for _ in range(rng.randrange(40)))
    nested: Any = 0
    for _ in range(rng.randrange(1, 100)):
        nested = [nested] if rng.random() < 0.5 else {"n": nested}
    return nested


def mutate(rng: random.Random, value: dict[str, Any]) -> dict[str, Any]:
    """A copy with one to three fields replaced, removed, renamed or added."""
    value = dict(value)
    for _ in range(rng.randrange(1, 4)):
        keys = list(value)
        act = rng.random()
        if act < 0.6 and keys:
            value[rng.choice(keys)] = odd(rng)
        elif act < 0.8 and keys:
            del value[rng.choice(keys)]
        elif act < 0.9 and keys:
            value[rng.choice(string.ascii_lowercase) + "x"] = value.pop(rng.choice(keys))
        else:
            value["extra"] = odd(rng)
    return value


def garble(rng: random.Random, text: str) -> str:
    """The text with characters flipped, cut, doubled or inserted."""
    chars = list(text)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(chars)) if chars else 0
        act = rng.random()
        if act < 0.4 and chars:
            chars[at] = chr(rng.randrange(0x20, 0x7F))
        elif act < 0.6 and chars:
            del chars[at]
        elif act < 0.8:
            chars.insert(at, rng.choice('{}[]",:\\\n\u0000e-.0'))
        elif chars:
            chars = chars[: rng.randrange(len(chars))]
    return "".join(chars)


LIVES, CLOSES, EITHER = "lives", "closes", "either"

DEBATABLE = re.compile(r"\\u|[:\[,]\s*-?(\d[\d.]*[eE]|0\b(?<=-0))")


def verdict(text: str) -> tuple[str, int | None]:
    """What PROTOCOL.md says of such a frame, and the id that must be answered.

    Parsers of JSON differ on repeated names, lone surrogates, exponents out of range and -0, and PROTOCOL.md does not say
    whether 1.0 is an integer or null an absent id: either reading will do.
    """
    repeated = False

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in items}) != len(items)
        return dict(items)

    try:
        frame = json.loads(text, parse_constant=refuse, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return CLOSES, None
    if repeated or DEBATABLE.search(text):
        return EITHER, None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        return CLOSES, None
    id = frame.get("id")
    if ("id" in frame and id is None) or (isinstance(id, float) and id.is_integer()):
        return EITHER, None
    if "id" in frame and (not isinstance(id, int) or isinstance(id, bool) or not 0 <= id <= MAX_ID):
        return CLOSES, None
    return LIVES, id if frame["type"] != "typing" else None


class Fuzzed:
    """A socket that is opened anew whenever the frame before had it closed."""

    PROBE = MAX_ID

    def __init__(self, gateway: Gateway, account: Account):
        self.gateway, self.account = gateway, account
        self.socket: Sock | None = None

    async def put(self, text: str) -> None:
        if self.socket is None:
            self.socket = await Sock.open(self.gateway, token=self.account.access)
            await self.socket.request("ping", {}, id=self.PROBE - 1)
        expected, id = verdict(text)
        told = f"{expected}: {text[:500]!r}"
        answer = self.socket.expect_answer(id) if id is not None else None
        try:
            await self.socket.text(text)
            probe = await self.socket.request("ping", {}, id=self.PROBE)
            assert probe["type"] == "ok", told
        except Exception as gone:
            if isinstance(gone, AssertionError):
                raise AssertionError(f"silence after {told}") from gone
            code = await self.socket.closed()
            assert expected != LIVES, f"closed with {code} after {told}"
            assert code == 4000, f"closed with {code} after {told}"
            self.socket = None
            return
        assert expected != CLOSES, f"the socket lives after {told}"
        if answer is not None:
            frame = await asyncio.wait_for(answer, 10)
            if frame["type"] == "error":
                assert frame["payload"]["code"] not in ("internal", "unavailable", "timeout"), f"{frame} after {told}"

    async def close(self) -> None:
        if self.socket is not None:
            await self.socket.close()


@pytest.fixture
def arena(alice: Account, bob: Account, carol: Account) -> str:
    room = make_room(alice, bob, carol, public=True)  # Whoever leaves can join again.
    for n in range(5):
        bob.ok("POST", f"/rooms/{room}/messages", json={"body": f"{n}"})
    return room


async def test_mutated_frames(gateway: Gateway, api: Api, alice: Account, bob: Account, arena: str, seeded: random.Random):
    fuzzed = Fuzzed(gateway, bob)
    shapes = templates(arena, bob, alice)
    for n in range(FRAMES):
        kind, payload = seeded.choice(shapes)
        frame: dict[str, Any] = {"type": kind, "id": n + 1, "payload": mutate(seeded, payload)}
        if seeded.random() < 0.15:
            frame = mutate(seeded, frame)
        text = json.dumps(frame, ensure_ascii=False)
        if len(text.encode()) <= FRAME_LIMIT:
            await fuzzed.put(text)
    await fuzzed.close()
    room_is_whole(alice, arena)
    assert gateway.alive()
    assert not gateway.panics()


async def test_garbled_frames(gateway: Gateway, alice: Account, bob: Account, arena: str, seeded: random.Random):
    fuzzed = Fuzzed(gateway, bob)
    shapes = templates(arena, bob, alice)
    for n in range(BYTE_FRAMES):
        kind, payload = seeded.choice(shapes)
        await fuzzed.put(garble(seeded, json.dumps({"type": kind, "id": n + 1, "payload": payload})))
    await fuzzed.close()
    room_is_whole(alice, arena)
    assert gateway.alive()
    assert not gateway.panics()


async def test_random_bytes_as_frames(gateway: Gateway, connect, bob: Account, seeded: random.Random):
    for n in range(40):
        socket: Sock = await connect(bob)
        data = seeded.randbytes(seeded.randrange(0, 2000))
        await socket.ws.send(data, text=n % 2 == 0)
        assert await socket.closed() in ((4000, 1007) if n % 2 == 0 else (4000,))
    assert gateway.alive()


async def test_broken_websocket_framing(gateway: Gateway, connect, bob: Account, seeded: random.Random):
    """Garbage below the frames: reserved opcodes, unmasked frames, lengths that lie. The connection ends, the server does not."""
    for _ in range(30):
        socket: Sock = await connect(bob)
        await socket.alive()
        socket.ws.transport.write(seeded.randbytes(seeded.randrange(2, 200)) + b"\xff" * 14)
        socket.ws.transport.write_eof()
        await socket.closed()
    assert gateway.alive()
    assert not gateway.panics()


async def test_other_clients_do_not_notice(gateway: Gateway, connect, alice: Account, bob: Account, arena: str, seeded: random.Random):
    reader: Sock = await connect(alice)
    await reader.subscribe(arena)
    fuzzed = Fuzzed(gateway, bob)
    shapes = [s for s in templates(arena, bob, alice) if s[0] not in ("leave", "auth")]
    last = 0
    for n in range(150):
        kind, payload = seeded.choice(shapes)
        await fuzzed.put(garble(seeded, json.dumps({"type": kind, "id": n + 1, "payload": mutate(seeded, payload)})))
        if n % 10 == 0:
            last = await reader.send(arena, f"between {n}")
    await fuzzed.close()
    await reader.reached(arena, last)
    assert sum(f["payload"].get("body", "").startswith("between") for f in reader.log(arena) if f["type"] == "message") == 15


def room_is_whole(who: Account, room: str) -> None:
    log = who.whole_log(room)
    assert [e["payload"]["seq"] for e in log] == list(range(1, len(log) + 1))
    times = [e["payload"]["ts"] for e in log]
    assert times == sorted(times)


# HTTP


def routes(room: str, me: Account, other: Account) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("POST", "/auth/refresh", {"refresh_token": "x"}),
        ("POST", "/rooms", {"title": "x", "settings": {"public": True, "slow_mode_s": 1, "max_message_bytes": 10}}),
        ("PATCH", f"/rooms/{room}", {"title": "x", "settings": {"allow_guests": True}}),
        ("POST", f"/rooms/{room}/messages", {"body": "x", "data": 1, "key": "k", "reply_to": 1}),
        ("PUT", f"/rooms/{room}/members/{other.id}", {"role": "member"}),
        ("PUT", f"/rooms/{room}/bans/{other.id}", {"reason": "x", "expires_at": 1}),
        ("PATCH", "/me", {"display_name": "x", "settings": {}}),
        ("POST", "/auth/ticket", {}),
        ("POST", "/rooms/no-such-room/messages", {"body": "x"}),
    ]


def no_server_error(response, told: str) -> None:
    assert response.status_code < 500, f"{response.status_code} after {told}"
    if response.status_code >= 400:
        assert_problem(response)


def test_mutated_bodies(gateway: Gateway, api: Api, alice: Account, bob: Account, arena: str, seeded: random.Random):
    shapes = routes(arena, alice, bob)
    for _ in range(REQUESTS):
        method, path, body = seeded.choice(shapes)
        sent: Any = mutate(seeded, body) if seeded.random() < 0.9 else odd(seeded)
        text = json.dumps(sent)
        if seeded.random() < 0.2:
            text = garble(seeded, text)
        response = alice.request(method, path, content=text.encode(), headers={"content-type": "application/json"})
        no_server_error(response, f"{method} {path} {text[:300]!r}")
    room_is_whole(alice, arena)
    assert gateway.alive()
    assert not gateway.panics()


def test_mutated_logins(gateway: Gateway, api: Api, alice: Account, seeded: random.Random):
    """Fewer, since what is well formed costs a password hash."""
    for _ in range(25):
        path, body = seeded.choice(
            [
                ("/auth/register", {"username": "x", "password": "short", "email": "a@example.test", "token_delivery": "body"}),
                ("/auth/login", {"login": "", "password": "", "token_delivery": "body"}),
                ("/auth/password", {"current_password": "", "new_password": "short"}),
            ]
        )
        body = mutate(seeded, body)
        response = alice.request("POST", path, json=body) if path == "/auth/password" else api.post(path, json=body)
        no_server_error(response, f"{path} {str(body)[:300]}")
    assert not gateway.panics()


def test_random_bytes_as_bodies(gateway: Gateway, alice: Account, arena: str, seeded: random.Random):
    for _ in range(60):
        data = seeded.randbytes(seeded.randrange(0, 5000))
        response = alice.post(f"/rooms/{arena}/messages", content=data, headers={"content-type": "application/json"})
        no_server_error(response, f"{data[:80]!r}")
        assert response.status_code in (400, 422)
    assert gateway.alive()


def test_mutated_queries_and_paths(gateway: Gateway, alice: Account, arena: str, seeded: random.Random):
    alphabet = string.ascii_letters + string.digits + "%&=+?/.-_~é🦀"
    for _ in range(150):
        piece = "".join(seeded.choice(alphabet) for _ in range(seeded.randrange(30)))
        value = str(seeded.choice([-1, 0, 1, 500, 501, 2**53, 2**64, "x", "", "1e3", "0x10", " 1", "+1", piece]))
        name = seeded.choice(["after", "before", "after_ts", "limit", piece])
        response = alice.get(f"/rooms/{arena}/messages", params={name: value})
        no_server_error(response, f"{name}={value}")
        response = alice.get("/rooms/" + piece.replace("?", "").replace("/", "") + "x")
        no_server_error(response, piece)
    assert gateway.alive()


CONTROLS = dict.fromkeys(range(0x20))
"""Removed, since no client library sends them in a header."""


def test_mutated_authorization(gateway: Gateway, api: Api, alice: Account, seeded: random.Random):
    for _ in range(100):
        token = garble(seeded, alice.access).translate(CONTROLS).strip()
        if token in ("", alice.access):  # Without its control characters it may be the good one again.
            continue
        header = f"Bearer {token}".encode("latin-1", "replace")
        response = api.client.get("/api/v1/me", headers={"authorization": header})
        assert response.status_code in (401, 400), f"{response.status_code} for {header!r}"
    assert gateway.alive()


async def test_gateway_is_well_afterwards(gateway: Gateway, connect, alice: Account, bob: Account):
    room = make_room(alice, bob)
    socket: Sock = await connect(bob)
    await socket.subscribe(room)
    seq = await socket.send(room, "all is well")
    await socket.reached(room, seq)
    assert gateway.alive()
    assert not gateway.panics()
