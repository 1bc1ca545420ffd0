"""Edges: gateways that hold client connections for another one. What is promised holds at them too, while the bus loses
messages and edges and the origin are killed under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stackclient import Account, Api, Closed, Edge, Gateway, Sock, assert_problem, make_room, register
from stackclient.edge import bus_url
from stackclient.lossy import LossyProxy

CLIENTS = int(os.environ.get("STACK_TEST_EDGE_CLIENTS") or 300)
PEOPLE = 10
ROOMS = 3
SENDERS = 6
ROUNDS = 2
LOST = 0.2
PATIENCE_S = 60

Connect = Callable[..., Awaitable[Sock]]


@pytest.fixture(scope="module")
def origin() -> Iterator[Gateway]:
    gateway = Gateway()
    gateway.env["STACK_BUS_URL"] = bus_url(gateway)
    gateway.start()
    yield gateway
    gateway.dispose()


@pytest.fixture(scope="module")
def edge(origin: Gateway) -> Iterator[Edge]:
    one = Edge(origin)
    one.start()
    one.linked()
    yield one
    one.dispose()


@pytest.fixture(scope="module")
def people(edge: Edge) -> tuple[Account, Account, str]:
    api = Api(edge)
    alice, bob = register(api, "alice"), register(api, "bob")
    return alice, bob, make_room(alice, bob)


async def eventually(true: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_people_at_an_edge_and_at_the_origin_hear_each_other(
    origin: Gateway, edge: Edge, people: tuple[Account, Account, str], connect: Connect
) -> None:
    alice, bob, room = people
    here, there = await connect(alice, gateway=edge), await connect(bob, gateway=origin)
    await here.subscribe(room)
    await there.subscribe(room)
    seqs = [await here.send(room, "from the edge"), await there.send(room, "from the origin")]
    for socket in (here, there):
        await socket.reached(room, seqs[-1])
    assert here.raw_log(room) == there.raw_log(room)
    await there.text('{"type":"typing","payload":{"room":"%s","on":true}}' % room)
    await here.event("typing", room=room, user_id=bob.id)
    await there.ok("read", {"room": room, "seq": seqs[0]})


async def test_presence_and_read_cursors_cross(
    origin: Gateway, edge: Edge, people: tuple[Account, Account, str], connect: Connect
) -> None:
    alice, bob, room = people
    here, phone = await connect(alice, gateway=edge), await connect(alice, gateway=origin)
    await here.subscribe(room)
    there = await connect(bob, gateway=origin)
    await there.subscribe(room)
    await here.event("presence", room=room, user_id=bob.id, status="online")
    users = alice.ok("GET", f"/rooms/{room}/presence")["users"]
    assert {user["user_id"] for user in users} == {alice.id, bob.id}
    seq = await there.send(room, "read me")
    await phone.ok("read", {"room": room, "seq": seq})
    await here.event("read", room=room, user_id=alice.id, read_seq=seq)
    since = len(here.frames)
    await there.close()
    await here.event("presence", since=since, room=room, user_id=bob.id, status="offline")


async def test_who_is_put_out_hears_nothing_more(
    origin: Gateway, edge: Edge, people: tuple[Account, Account, str], connect: Connect
) -> None:
    alice, _, _ = people
    carol = register(Api(edge), "carol")
    room = make_room(alice, carol)
    here, hers = await connect(alice, gateway=origin), await connect(carol, gateway=edge)
    await hers.subscribe(room)
    await hers.reached(room, await here.send(room, "one"))
    alice.ok("PUT", f"/rooms/{room}/bans/{carol.id}", json={})
    await hers.event("unsubscribed", room=room, reason="banned")
    for _ in range(5):
        await here.send(room, "secret")
    await hers.alive()
    # What comes behind the end of a subscription is a breach that the fixture looks for.
    carol.ok("POST", "/auth/logout")
    began = time.monotonic()
    await hers.event("session", state="revoked")
    assert await hers.closed() == 4001
    assert time.monotonic() - began < 1.5


async def test_an_edge_that_goes_down_says_so(origin: Gateway, people: tuple[Account, Account, str]) -> None:
    alice, _, room = people
    one = Edge(origin)
    try:
        one.start()
        one.linked()
        socket = await Sock.open(one, token=alice.access)
        await socket.subscribe(room)
        one.terminate()
        assert (await socket.event("drain"))["reconnect_in_ms"] > 0
        assert await socket.closed() == 1001
        assert one.wait() == 0
        socket.check()
    finally:
        one.dispose()


async def test_the_origin_goes_away_and_comes_back() -> None:
    origin = Gateway()
    origin.env["STACK_BUS_URL"] = bus_url(origin)
    edge = Edge(origin)
    try:
        origin.start()
        edge.start()
        edge.linked()
        api = Api(edge)
        alice, bob = register(api, "alice"), register(api, "bob")
        room = make_room(alice, bob)
        hers, his = await Sock.open(edge, token=alice.access), await Sock.open(edge, token=bob.access)
        await hers.subscribe(room, 0)
        await his.subscribe(room)
        last = await hers.send(room, "before")
        await his.reached(room, last)
        for end in (origin.kill, origin.stop):
            end()
            await eventually(lambda: not edge.is_ready(), "the edge does not notice")
            error = await hers.fails("send", {"room": room, "body": "lost"}, "unavailable")
            assert error["retryable"] and error["retry_after_ms"] > 0
            response = alice.get("/me")
            assert_problem(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) >= 1
            assert api.get("/api/v1/me").status_code == 503
            await his.fails("history", {"room": room}, "unavailable")
            assert not any(frame["type"] == "drain" for frame in hers.frames + his.frames)
            origin.start()
            edge.linked()
            deadline = time.monotonic() + PATIENCE_S
            while (answer := await hers.request("send", {"room": room, "body": "after"}))["type"] == "error":
                assert answer["payload"]["code"] == "unavailable" and time.monotonic() < deadline
                await asyncio.sleep(0.02)
            for socket in (hers, his):
                await socket.reached(room, answer["payload"]["seq"], 10)
        # Signed out while the origin cannot tell the edge: found out when it is back.
        origin.kill()
        origin.start()
        direct = Api(origin)
        alice.api = direct
        alice.ok("POST", "/auth/logout")
        assert await hers.closed(10) == 4001
        await his.subscribe(room)
        for socket in (hers, his):
            await socket.close()
            socket.check()
    finally:
        edge.dispose()
        origin.dispose()


async def test_who_subscribes_again_under_load_goes_on_behind_the_answer(
    origin: Gateway, edge: Edge, people: tuple[Account, Account, str], connect: Connect
) -> None:
    """The bus may be quicker than the answer: what was given out before it stands at or below its `head`, and behind it
    comes the next. The sockets look at every frame."""
    alice, bob, room = people
    speaker = await connect(alice, gateway=origin)
    readers = [await connect(bob, gateway=edge) for _ in range(4)]
    over = done = False

    async def speak() -> None:
        # Until nobody waits for an event any more.
        while not done:
            for future in [await speaker.ask("send", {"room": room, "body": "on"}) for _ in range(8)]:
                assert (await future)["type"] == "ok"

    async def again(reader: Sock, after: bool) -> int:
        count = 0
        while not over:
            cursor = reader.cursors.get(room)
            seen = len(reader.log(room))
            answer = await reader.subscribe(room, cursor if after else None)
            assert cursor is None or answer["head"] >= cursor
            if count % 5 == 0:
                await reader.until(lambda: len(reader.log(room)) > seen, "an event")
            count += 1
        return count

    tasks = [asyncio.create_task(again(reader, n % 2 == 1)) for n, reader in enumerate(readers)]
    speaking = asyncio.create_task(speak())
    await asyncio.sleep(2)
    over = True
    counts = await asyncio.gather(*tasks)
    done = True
    await speaking
    assert min(counts) > 10, counts


async def test_an_origin_that_hangs_is_one_that_is_away() -> None:
    origin = Gateway()
    origin.env["STACK_BUS_URL"] = bus_url(origin)
    edge = Edge(origin)
    try:
        origin.start()
        edge.start()
        edge.linked()
        alice = register(Api(edge), "alice")
        room = make_room(alice)
        socket = await Sock.open(edge, token=alice.access)
        await socket.subscribe(room, 0)
        await socket.reached(room, await socket.send(room, "before"))
        assert origin.process is not None
        origin.process.send_signal(signal.SIGSTOP)
        error = await socket.fails("send", {"room": room, "body": "into the void"}, "unavailable")
        assert error["retryable"]
        assert not edge.is_ready()
        origin.process.send_signal(signal.SIGCONT)
        edge.linked()
        while (answer := await socket.request("send", {"room": room, "body": "after"}))["type"] == "error":
            assert answer["payload"]["code"] == "unavailable"
            await asyncio.sleep(0.02)
        await socket.reached(room, answer["payload"]["seq"], 10)
        await socket.close()
        socket.check()
    finally:
        edge.dispose()
        origin.dispose()


def certificate(folder: Path, name: str, ca: str | None = None) -> None:
    """Makes `name`.pem and `name`.key: a CA, or signed by one."""
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    subject = ["-subj", f"/CN={name}"]
    if ca is None:
        run("openssl", "req", "-x509", *key, *subject, "-days", "2", "-out", f"{name}.pem")
        return
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("openssl", "req", *key, *subject, "-out", f"{name}.csr")
    run(
        *f"openssl x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 2 -extfile ext".split(),
        *("-out", f"{name}.pem"),
    )


async def test_an_edge_on_another_machine_shows_its_certificate(tmp_path: Path, free_port: int) -> None:
    for name, ca in (("ca", None), ("origin", "ca"), ("edge", "ca"), ("stranger", None), ("foreign", "stranger")):
        certificate(tmp_path, name, ca)
    origin = Gateway(
        STACK_EDGE_LISTEN=f"127.0.0.1:{free_port}",
        STACK_EDGE_TLS_CERT=str(tmp_path / "origin.pem"),
        STACK_EDGE_TLS_KEY=str(tmp_path / "origin.key"),
        STACK_EDGE_CLIENT_CA=str(tmp_path / "ca.pem"),
    )
    origin.env["STACK_BUS_URL"] = bus_url(origin)

    def far(name: str) -> Edge:
        one = Edge(
            origin,
            STACK_EDGE_TLS_CERT=str(tmp_path / f"{name}.pem"),
            STACK_EDGE_TLS_KEY=str(tmp_path / f"{name}.key"),
            STACK_EDGE_ORIGIN_CA=str(tmp_path / "ca.pem"),
        )
        one.origin_url = f"tls://localhost:{free_port}"
        return one

    edge, foreign = far("edge"), far("foreign")
    try:
        origin.start()
        edge.start()
        foreign.start()
        edge.linked()
        alice = register(Api(edge), "alice")
        room = make_room(alice)
        socket = await Sock.open(edge, token=alice.access)
        await socket.subscribe(room, 0)
        await socket.reached(room, await socket.send(room, "far away"))
        await socket.close()
        socket.check()
        assert not foreign.is_ready()
        await eventually(lambda: "edges were refused" in origin.log_tail(20_000), "nobody was refused")
    finally:
        foreign.dispose()
        edge.dispose()
        origin.dispose()


TELLING = ["subscribe", "messages", "ws_frames", "ws_auth", "http_rooms", "http_general", "capnp_ws"]
"""The parts of the suite that would notice most."""


@pytest.mark.skipif("STACK_TEST_EDGE" in os.environ, reason="this is the suite at an edge")
def test_the_suite_cannot_tell_an_edge_from_a_gateway() -> None:
    folder = Path(__file__).parent
    files = [str(folder / f"test_{part}.py") for part in TELLING]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    run = subprocess.run(
        command, cwd=folder, env={**os.environ, "STACK_TEST_EDGE": "1"}, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stdout[-8000:]


# Everybody has everything once, whatever goes down.


@dataclass
class World:
    """What is known to the test: who was told what."""

    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Key → room and seq."""
    refused: int = 0
    reconnects: int = 0
    counter: int = 0
    over: bool = False


class Client:
    """Somebody who stays: with every new connection it reads on behind the last event it has."""

    def __init__(self, who: Account, edge: Gateway, rooms: list[str], world: World):
        self.who, self.edge, self.rooms, self.world = who, edge, rooms, world
        self.logs: dict[str, list[int]] = {room: [] for room in rooms}
        self.sock: Sock | None = None
        self.closes: list[int | None] = []

    async def run(self) -> None:
        while not self.world.over:
            try:
                self.sock = await Sock.open(self.edge, token=self.who.access)
                await self.subscribe()
                await self.sock.closed(10_000)
                self.closes.append(self.sock.ws.close_code)
            except (Closed, OSError, AssertionError, Exception) as error:
                if isinstance(error, AssertionError) and "closed with" not in str(error):
                    raise
            self.keep()
            self.world.reconnects += 1
            await asyncio.sleep(0.05)

    async def subscribe(self) -> None:
        for room in self.rooms:
            seen = self.logs[room]
            after = seen[-1] if seen else 0
            while (answer := await self.sock.request("subscribe", {"room": room, "after": after}))["type"] == "error":
                assert answer["payload"]["code"] == "unavailable", answer
                self.world.refused += 1
                await asyncio.sleep(0.05)

    def keep(self) -> None:
        """Takes over what the connection that is gone has brought."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.check()
            for room in self.rooms:
                self.logs[room] += [frame["payload"]["seq"] for frame in sock.log(room)]

    def at(self, room: str) -> int:
        came = self.sock.cursors.get(room, 0) if self.sock is not None else 0
        return max(came, self.logs[room][-1] if self.logs[room] else 0)


async def sender(client: Client, world: World, rng: random.Random) -> None:
    """Sends under load. Whatever becomes of a message, it is sent again under its key until it is acknowledged."""
    while not world.over:
        world.counter += 1
        key, room = f"key-{world.counter}", rng.choice(client.rooms)
        while key not in world.acknowledged:
            sock = client.sock
            if sock is None:
                await asyncio.sleep(0.02)
                continue
            try:
                answer = await sock.request("send", {"room": room, "body": f"message {key}", "key": key})
            except Closed:
                await asyncio.sleep(0.02)
                continue
            if answer["type"] == "ok":
                world.acknowledged[key] = (room, answer["payload"]["seq"])
            else:
                assert answer["payload"]["code"] == "unavailable", answer
                world.refused += 1
                await asyncio.sleep(0.02)
        await asyncio.sleep(rng.random() * 0.02)


async def test_everybody_has_everything_once_whatever_goes_down(seeded: random.Random) -> None:
    origin = Gateway(STACK_LIMITS_CONNECTIONS_PER_USER="64")
    origin.env["STACK_BUS_URL"] = bus_url(origin)
    proxy = LossyProxy(bus_url(origin), f"ipc://{origin.home}/lossy.sock", LOST, seeded.randrange(2**32))
    edges = [Edge(origin, bus=proxy.url) for _ in range(2)]
    tasks: list[asyncio.Task[None]] = []
    world = World()
    try:
        origin.start()
        for edge in edges:
            edge.start()
            edge.linked()
        people = [register(Api(edges[0]), f"p{n}") for n in range(PEOPLE)]
        rooms = [make_room(*people) for _ in range(ROOMS)]
        clients = [
            Client(people[n % PEOPLE], edges[n % 2], seeded.sample(rooms, 1 + n % 2), world) for n in range(CLIENTS)
        ]
        tasks += [asyncio.create_task(client.run()) for client in clients]
        await eventually(lambda: all(client.sock is not None for client in clients), "not everybody is connected")
        tasks += [
            asyncio.create_task(sender(client, world, random.Random(seeded.random()))) for client in clients[:SENDERS]
        ]
        for _ in range(ROUNDS):
            for victim in (edges[0], origin, edges[1], origin):
                await under_load(world)
                stayed = {client: client.sock for client in clients if client.sock is not None}
                victim.kill()
                await asyncio.sleep(seeded.random())
                victim.start()
                for edge in edges:
                    await asyncio.to_thread(edge.linked)
                if victim is origin:
                    lost = [client for client, sock in stayed.items() if client.sock is not sock]
                    assert not lost, f"{len(lost)} sockets did not survive the origin: {[c.closes for c in lost][:5]}"
        await under_load(world)
        world.over = True
        await asyncio.gather(*tasks[CLIENTS:])
        people[0].api = Api(edges[0])  # Where it listens now.
        heads = {room: people[0].ok("GET", f"/rooms/{room}")["head"] for room in rooms}
        log = {room: {e["payload"]["seq"]: e["payload"] for e in people[0].whole_log(room)} for room in rooms}
        for client in clients:
            for room in client.rooms:
                await eventually(
                    lambda: client.at(room) >= heads[room],
                    f"a client stands at {client.at(room)} of {heads[room]} in {room}",
                )
        for client in clients:
            client.keep()
            for room in client.rooms:
                assert client.logs[room] == list(range(1, heads[room] + 1)), "a hole or a repeat"
        for key, (room, seq) in world.acknowledged.items():
            assert log[room][seq]["key"] == key, f"{key} was acknowledged as {seq}"
        for room in rooms:
            keys = [payload["key"] for payload in log[room].values() if "key" in payload]
            assert len(keys) == len(set(keys)), "a message stands twice"
        assert proxy.lost > 0 and world.refused > 0
        print(
            f"{len(clients)} clients, {sum(heads.values())} events, {len(world.acknowledged)} acknowledged, "
            f"{world.refused} refused, {world.reconnects} reconnects, bus: {proxy.lost} lost, {proxy.passed} passed"
        )
        for task in tasks[:CLIENTS]:
            if task.done():
                task.result()
    finally:
        world.over = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for edge in edges:
            edge.dispose()
        proxy.close()
        origin.dispose()


async def under_load(world: World) -> None:
    """Waits until something more has been said."""
    enough = len(world.acknowledged) + 60
    await eventually(lambda: len(world.acknowledged) >= enough, "nothing is acknowledged any more")
