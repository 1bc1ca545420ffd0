"""The bus as PROTOCOL.md has it, heard by plain SUB sockets of `pyzmq` and `pynng`: nothing on their side is ours.

What they hear of a room has to be what a WebSocket client gets, byte for byte, while people chat.
"""

from __future__ import annotations

import asyncio
import json
import socket as tcp
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynng
import pytest
import zmq
import zmq.auth

from stackclient import Account, Api, Gateway, Sock, make_room, register
from stackclient.gateway import find_binary

WIRES = ["nng+tcp", "nng+ipc", "zmq+tcp", "zmq+ipc"]

PATIENCE_S = 20
PULSE = b"control.bus\0"


class Timeout(Exception):
    """Nothing came in time."""


class Nng:
    """A plain SUB socket of `pynng`."""

    def __init__(self, url: str):
        self.socket = pynng.Sub0(recv_max_size=0, recv_buffer_size=8192)
        self.socket.dial(url.removeprefix("nng+"), block=False)

    def subscribe(self, *prefixes: bytes) -> None:
        for prefix in prefixes:
            self.socket.subscribe(prefix)

    def next(self, timeout_s: float) -> bytes:
        self.socket.recv_timeout = max(1, int(timeout_s * 1000))
        try:
            return self.socket.recv()
        except pynng.Timeout:
            raise Timeout from None

    def close(self) -> None:
        self.socket.close()


class Zmq:
    """A plain SUB socket of `pyzmq`."""

    def __init__(self, url: str, keys: tuple[bytes, bytes] | None = None, server: bytes | None = None):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.linger = 0
        self.socket.rcvhwm = 0
        if keys and server:
            self.socket.curve_publickey, self.socket.curve_secretkey = keys
            self.socket.curve_serverkey = server
        self.socket.connect(url.removeprefix("zmq+"))

    def subscribe(self, *prefixes: bytes) -> None:
        for prefix in prefixes:
            self.socket.subscribe(prefix)

    def next(self, timeout_s: float) -> bytes:
        if not self.socket.poll(max(1, int(timeout_s * 1000))):
            raise Timeout
        return self.socket.recv()

    def close(self) -> None:
        self.socket.close()


Sub = Nng | Zmq


def free_port() -> int:
    with tcp.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(wire: str, folder: Path) -> str:
    return f"{wire}://{folder}/bus.sock" if wire.endswith("ipc") else f"{wire}://127.0.0.1:{free_port()}"


def messages(sub: Sub, count: int, of: bytes = b"") -> list[tuple[str, bytes]]:
    """So many messages with `of` in them, as topic and payload; pulses are left out."""
    got: list[tuple[str, bytes]] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(got) < count:
        try:
            message = sub.next(deadline - time.monotonic())
        except Timeout:
            raise AssertionError(f"{len(got)} of {count} messages came, the last {got[-3:]}") from None
        topic, separator, payload = message.partition(b"\0")
        assert separator, message[:80]
        if topic != b"control.bus" and of in payload:
            got.append((topic.decode(), payload))
    return got


def joined(sub: Sub, *prefixes: bytes) -> Sub:
    """Subscribes, and waits for a pulse: ZeroMQ's publisher takes subscriptions in order, nng's subscriber filters."""
    sub.subscribe(*prefixes, PULSE)
    message = sub.next(PATIENCE_S)
    while not message.startswith(PULSE):
        message = sub.next(PATIENCE_S)
    pulse = json.loads(message.removeprefix(PULSE))
    assert len(pulse["publisher"]) == 16 and len(pulse["frames"]) == 4, pulse
    return sub


@pytest.fixture
def subs() -> Iterator[Callable[..., Sub]]:
    """Opens sockets, and closes them at the end."""
    opened: list[Sub] = []

    def open_one(url: str, *prefixes: bytes, **kwargs: Any) -> Sub:
        one = Nng(url) if url.startswith("nng") else Zmq(url, **kwargs)
        opened.append(one)
        return joined(one, *prefixes) if prefixes else one

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def house(start_gateway, tmp_path: Path) -> Iterator[Callable[..., tuple[Gateway, str, Account, Account]]]:
    """A gateway on a bus with two people."""
    apis: list[Api] = []

    def open_house(wire: str, **env: str) -> tuple[Gateway, str, Account, Account]:
        url = env.pop("url", None) or address(wire, tmp_path)
        gateway = start_gateway(STACK_BUS_URL=url, **env)
        api = Api(gateway)
        apis.append(api)
        return gateway, url, register(api, "alice"), register(api, "bob")

    yield open_house
    for api in apis:
        api.close()


async def chat(socket: Sock, room: str, count: int, what: str) -> int:
    """Says so many things, some of them at once; gives the last number."""
    last = 0
    for start in range(0, count, 20):
        asked = [
            await socket.ask("send", {"room": room, "body": f"{what} {n} \u0000 ünïcode 🎈"})
            for n in range(start, min(count, start + 20))
        ]
        for answer in [await one for one in asked]:
            assert answer["type"] == "ok", answer
            last = max(last, answer["payload"]["seq"])
    return last


@pytest.mark.parametrize("wire", WIRES)
async def test_a_plain_socket_hears_a_room_as_its_people_do(wire: str, house, subs, connect):
    _, url, alice, bob = house(wire)
    room = make_room(alice, bob)
    other = make_room(alice)
    first, second = await connect(alice), await connect(bob)
    for socket in (first, second):
        await socket.subscribe(room)
    sub = subs(url, b"room." + room.encode() + b"\0")
    begin = first.cursors[room] + 1
    await asyncio.gather(
        chat(first, room, 200, "alice says"), chat(second, room, 200, "bob says"), chat(first, other, 50, "elsewhere")
    )
    last = await first.send(room, "edited")
    await first.ok("edit", {"room": room, "seq": last, "body": "better"})
    await second.ok("react", {"room": room, "seq": last, "emoji": "🎈"})
    for socket in (first, second):
        # Who is behind reads what is taken back as it is by then; the bus said it as it was.
        await socket.reached(room, last + 2)
    await first.ok("redact", {"room": room, "seq": last})
    head = begin + 400 + 4 - 1
    for socket in (first, second):
        await socket.reached(room, head)
    heard = await asyncio.to_thread(messages, sub, head - begin + 1)
    while json.loads(heard[0][1])["payload"]["seq"] < begin:
        # What happened to the room before may have been under way.
        heard = heard[1:] + messages(sub, 1)
    assert {topic for topic, _ in heard} == {f"room.{room}"}
    of_socket = second.raw_log(room)
    assert [payload.decode() for _, payload in heard] == [of_socket[seq] for seq in range(begin, head + 1)]
    assert first.raw_log(room) == of_socket


@pytest.mark.parametrize("wire", WIRES)
async def test_a_prefix_that_ends_in_a_zero_is_one_room_alone(wire: str, house, subs, connect):
    _, url, alice, _ = house(wire)
    for room in ("team", "team-b", "teams"):
        make_room(alice, id=room)
    alone, family = subs(url, b"room.team\0"), subs(url, b"room.team")
    socket: Sock = await connect(alice)
    for room in ("teams", "team-b", "team"):
        await socket.send(room, room)
    # That the rooms were made may still be under way.
    said = b'"type":"message"'
    assert [topic for topic, _ in messages(family, 3, said)] == ["room.teams", "room.team-b", "room.team"]
    [(topic, payload)] = messages(alone, 1, said)
    assert topic == "room.team"
    assert json.loads(payload)["payload"]["body"] == "team"


@pytest.mark.parametrize("wire", WIRES)
async def test_every_family_is_on_the_bus(wire: str, house, subs, connect):
    gateway, url, alice, bob = house(wire)
    room = make_room(alice, bob)
    sub = subs(url, b"")
    socket: Sock = await connect(alice)
    await socket.subscribe(room)
    await socket.send(room, "hello")
    assert bob.post("/auth/logout", json={}).status_code < 300
    wanted = {f"room.{room}", f"presence.{room}", "control.session_revoked"}
    seen: set[str] = set()
    while not wanted <= seen:
        [(topic, payload)] = messages(sub, 1)
        # The answers to gateways that subscribe are said to them, and everybody may hear them.
        assert topic.split(".")[0] in {"room", "presence", "user", "control", "welcome"}
        json.loads(payload)
        seen.add(topic)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_socket_survives_the_gateway(wire: str, house, subs, connect):
    gateway, url, alice, _ = house(wire)
    room = make_room(alice)
    sub = subs(url, b"room.")
    socket: Sock = await connect(alice)
    await socket.send(room, "before")
    assert json.loads(messages(sub, 1, b'"type":"message"')[0][1])["payload"]["body"] == "before"
    gateway.kill()
    gateway.start()
    # A killed gateway leaves its socket's file behind, and the next one takes its place.
    heard: list[tuple[str, bytes]] = []
    again: Sock = await connect(alice)
    deadline = time.monotonic() + PATIENCE_S
    said = 0
    while not heard and time.monotonic() < deadline:
        said += 1
        await again.send(room, f"after {said}")
        try:
            message = await asyncio.to_thread(sub.next, 0.1)
        except Timeout:
            continue
        if message.startswith(b"room."):
            heard.append((room, message))
    assert heard and b'"after ' in heard[0][1]
    seqs = [json.loads(heard[0][1].partition(b"\0")[2])["payload"]["seq"]]
    last = await again.send(room, "last")
    while seqs[-1] != last:
        seqs.append(json.loads(messages(sub, 1)[0][1])["payload"]["seq"])
    assert seqs == list(range(seqs[0], last + 1)), "from then on nothing is missing"


@pytest.mark.parametrize("wire", WIRES)
async def test_a_socket_that_does_not_read_holds_nothing_up(wire: str, house, subs, connect):
    gateway, url, alice, _ = house(wire)
    room = make_room(alice)
    stalled, reader = subs(url, b"room."), subs(url, b"room.")
    socket: Sock = await connect(alice)
    body = "x" * 7000
    last = 0
    for _ in range(40):
        asked = [await socket.ask("send", {"room": room, "body": body}) for _ in range(50)]
        for answer in [await one for one in asked]:
            assert answer["type"] == "ok", answer
            last = answer["payload"]["seq"]
    heard = await asyncio.to_thread(messages, reader, 2000, b'"type":"message"')
    assert json.loads(heard[-1][1])["payload"]["seq"] == last
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 10
    assert stalled is not None


@pytest.mark.parametrize("wire", ["nng+ipc", "zmq+ipc"])
def test_a_file_of_the_bus_is_its_owners_alone(wire: str, house, tmp_path: Path):
    gateway, url, _, _ = house(wire)
    path = Path(url.split("://")[1])
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["bus.sock"]
    second = serve(gateway, STACK_BUS_URL=url)
    assert second.returncode == 1 and "another process listens there" in second.stderr, second.stderr
    assert gateway.stop() == 0
    assert not path.exists()


def serve(gateway: Gateway, **env: str) -> subprocess.CompletedProcess[str]:
    """Starts a gateway that is expected to refuse."""
    return subprocess.run(
        [str(find_binary()), "serve", "--listen", "127.0.0.1:0", "--data-dir", str(gateway.home / "other")],
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=gateway.home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"STACK_BUS_URL": "nng+tcp://0.0.0.0:5555"}, "nng has no encryption"),
        ({"STACK_BUS_URL": "zmq+tcp://0.0.0.0:5555"}, "only with CURVE keys"),
        ({"STACK_BUS_SUBSCRIBE": "zmq+tcp://192.0.2.1:5555"}, "only with CURVE keys"),
        ({"STACK_BUS_PUBLISH": "nng+tcp://192.0.2.1:5555"}, "nng has no encryption"),
        ({"STACK_BUS_URL": "nats://127.0.0.1:4222"}, "is not a bus URL"),
        ({"STACK_BUS_URL": "zmq+ipc://relative"}, "is not a bus URL"),
    ],
)
def test_an_unsafe_bus_is_refused_at_the_start(env: dict[str, str], reason: str, gateway: Gateway):
    refused = serve(gateway, **env)
    assert refused.returncode == 2, refused.stderr
    assert reason in refused.stderr, refused.stderr


async def test_curve_lets_in_whom_it_knows(house, subs, connect, tmp_path: Path):
    keys = subprocess.run(
        [str(find_binary()), "bus-keys", str(tmp_path / "gateway.key")], capture_output=True, text=True, check=True
    )
    server = keys.stdout.strip().encode()
    assert zmq.auth.load_certificate(tmp_path / "gateway.key")[0] == server, "pyzmq reads our file"
    known, stranger = zmq.curve_keypair(), zmq.curve_keypair()
    (tmp_path / "readers").write_text(f"# the archive\n{known[0].decode()}\n")
    _, url, alice, _ = house(
        "zmq+tcp",
        # Beyond loopback, as it is meant.
        url=f"zmq+tcp://0.0.0.0:{free_port()}",
        STACK_BUS_CURVE_SECRET_KEY_FILE=str(tmp_path / "gateway.key"),
        STACK_BUS_CURVE_AUTHORIZED_KEYS_FILE=str(tmp_path / "readers"),
    )
    url = url.replace("0.0.0.0", "127.0.0.1")
    room = make_room(alice)
    hears = subs(url, b"room.", keys=known, server=server)
    refused = [subs(url, keys=stranger, server=server), subs(url), subs(url, keys=known, server=stranger[0])]
    for one in refused:
        one.subscribe(b"")
    socket: Sock = await connect(alice)
    for n in range(20):
        await socket.send(room, f"secret {n}")
    assert [json.loads(payload)["payload"]["body"] for _, payload in messages(hears, 20, b"secret")] == [
        f"secret {n}" for n in range(20)
    ]
    for one in refused:
        with pytest.raises(Timeout):
            one.next(0.3)


async def test_a_collector_that_is_bound_is_dialled(house, connect, subs):
    """`bus.publish`: the gateway dials, a plain SUB socket is bound; also beside an address of its own."""
    collector = zmq.Context.instance().socket(zmq.SUB)
    collector.linger = 0
    port = collector.bind_to_random_port("tcp://127.0.0.1")
    collector.subscribe(b"")
    try:
        _, url, alice, _ = house("nng+ipc", STACK_BUS_PUBLISH=f"zmq+tcp://127.0.0.1:{port}")
        assert collector.poll(PATIENCE_S * 1000) and collector.recv().startswith(PULSE)
        room = make_room(alice)
        sub = subs(url, b"room.")
        socket: Sock = await connect(alice)
        await socket.send(room, "to both")
        [(_, payload)] = messages(sub, 1, b"to both")
        while True:
            assert collector.poll(PATIENCE_S * 1000), "the collector hears it too"
            message = collector.recv()
            if message == b"room." + room.encode() + b"\0" + payload:
                break
    finally:
        collector.close()
