"""A restart under two hundred subscribed sockets and somebody who writes: everybody is told when to come back, nobody is
refused where the listening socket stays open, and everybody has every event once, in order."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from stackclient import Account, Api, Gateway, Sock, make_room, register
from stackclient.socket import Closed

CLIENTS = int(os.environ.get("STACK_TEST_RESTART_CLIENTS") or 200)
ROOMS = 4
MESSAGES = 100
"""Before the restart, and again when everybody is back."""

BETWEEN_MESSAGES_S = 0.01
"""The readers are of Python and keep all they hear."""

PATIENCE_S = 60


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    running = Gateway(STACK_LIMITS_CONNECTIONS_PER_USER="10000").with_listener()
    try:
        running.start()
        yield running
    finally:
        running.dispose()


class Reader:
    """A client that follows a room and comes back when it is told to."""

    def __init__(self, account: Account, room: str):
        self.account, self.room = account, room
        self.seqs: list[int] = []
        self.told_ms: list[int] = []
        self.subscribed = 0
        self.socket: Sock | None = None

    async def follow(self) -> None:
        while True:
            # Not a try is lost: a connection that is refused fails the test.
            self.socket = await Sock.open(self.account.api.gateway, token=self.account.access)
            await self.socket.subscribe(self.room, self.seqs[-1] if self.seqs else 0)
            self.subscribed += 1
            try:
                code = await self.socket.closed(PATIENCE_S)
            finally:
                self.keep()
            assert code == 1001
            (told,) = [f["payload"]["reconnect_in_ms"] for f in self.socket.frames if f["type"] == "drain"]
            self.told_ms.append(told)
            await asyncio.sleep(told / 1000)

    def keep(self) -> None:
        assert self.socket is not None
        self.socket.check()
        self.seqs += [frame["payload"]["seq"] for frame in self.socket.log(self.room)]

    def reached(self) -> int:
        """The last event that it has."""
        live = self.socket.cursors.get(self.room, 0) if self.socket else 0
        return max(live, self.seqs[-1] if self.seqs else 0)

    async def leave(self, following: asyncio.Task[None]) -> None:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert self.socket is not None
        await self.socket.close()


class Writer:
    """Writes to every room in turn, and again with its key what was not answered."""

    def __init__(self, account: Account, rooms: list[str]):
        self.account, self.rooms = account, rooms
        self.heads: dict[str, int] = {}
        self.acknowledged = 0
        self.enough = False
        self.socket: Sock | None = None

    async def write(self) -> None:
        for number in itertools.count():
            if self.enough:
                return
            await asyncio.sleep(BETWEEN_MESSAGES_S)
            room = self.rooms[number % len(self.rooms)]
            while True:
                try:
                    if self.socket is None:
                        self.socket = await Sock.open(self.account.api.gateway, token=self.account.access)
                    seq = await self.socket.send(room, f"{number}", key=f"{number}")
                    break
                except Closed:
                    self.socket = None
            assert seq == self.heads.get(room, seq - 1) + 1, "each is there once, in its order"
            self.heads[room] = seq
            self.acknowledged += 1

    async def stop(self, writing: asyncio.Task[None]) -> None:
        self.enough = True
        await writing
        if self.socket is not None:
            await self.socket.close()


async def until(what: str, true, *tasks: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)


async def test_a_restart_loses_nothing_and_spreads_those_who_come_back(gateway: Gateway):
    account = register(Api(gateway), "alice")
    rooms = [make_room(account) for _ in range(ROOMS)]
    readers = [Reader(account, rooms[n % ROOMS]) for n in range(CLIENTS)]
    following = [asyncio.create_task(reader.follow()) for reader in readers]
    writer = Writer(account, rooms)
    writing = asyncio.create_task(writer.write())
    tasks = [*following, writing]
    await until("everybody follows", lambda: all(reader.subscribed for reader in readers), *tasks)
    begun = writer.acknowledged
    await until("messages", lambda: writer.acknowledged >= begun + MESSAGES, *tasks)

    gateway.terminate()
    assert await asyncio.to_thread(gateway.wait) == 0, "it has drained, and nobody held it up"
    await asyncio.to_thread(gateway.start)
    await until("everybody is back", lambda: all(reader.subscribed == 2 for reader in readers), *tasks)
    begun = writer.acknowledged
    await until("more messages", lambda: writer.acknowledged >= begun + MESSAGES, *tasks)
    await writer.stop(writing)

    heads = {room: account.messages(room, limit=1)["head"] for room in rooms}
    await until("everything", lambda: all(reader.reached() >= heads[reader.room] for reader in readers), *following)
    await asyncio.gather(*(reader.leave(task) for reader, task in zip(readers, following, strict=True)))
    for reader in readers:
        first = reader.seqs[0]
        assert reader.seqs == list(range(first, heads[reader.room] + 1)), "every event once, in order"
        assert first <= 2
    # Told to come back at moments that are spread: were they drawn evenly, a tenth of them would fall into each piece.
    told = [reader.told_ms[0] for reader in readers]
    pieces = Counter(ms * 10 // (max(told) + 1) for ms in told)
    assert max(pieces.values()) <= CLIENTS * 3 // 10, sorted(told)
    assert max(told) >= 2000
