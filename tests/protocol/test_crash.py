"""Promises 1 to 4 under SIGKILL: what was acknowledged is there once, under its number, whenever the process is killed.

A hundred rounds on one data directory. In each, several connections send to several rooms, with keys and without, edit
and react, and followers read on from where the last kill left them, while a random moment passes. Then the process is
killed and started again, and what was acknowledged is held against the log; at the end all of it once more, and the
log against what the followers were told across all kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from stackclient import Account, Api, Closed, Gateway, Sock, make_room, register
from stackclient.http import no_jar

ROUNDS = int(os.environ.get("STACK_TEST_KILLS") or 100)
SOCKETS = 4
ROOMS = 3
FOLLOWERS = 2
IN_FLIGHT = 24
LOAD_S = (0.02, 0.35)


@dataclass
class Sent:
    """One message that was sent, acknowledged or not."""

    room: str
    sender: str
    body: str
    key: str | None
    seq: int | None = None
    ts: int | None = None


@dataclass
class Ledger:
    """Everything the clients know."""

    sent: list[Sent] = field(default_factory=list)
    acts: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    """(room, seq) → the edit or reaction acknowledged there."""
    counter: int = 0

    def message(self, room: str, sender: str, keyed: bool) -> Sent:
        self.counter += 1
        sent = Sent(room, sender, f"message {self.counter}", f"key-{self.counter}" if keyed else None)
        self.sent.append(sent)
        return sent


def payload_of(sent: Sent) -> dict[str, Any]:
    return {"room": sent.room, "body": sent.body} | ({"key": sent.key} if sent.key else {})


def note(sent: Sent, answer: dict[str, Any]) -> None:
    if sent.seq is not None:
        assert answer["seq"] == sent.seq, f"{sent} is now answered with {answer}"
    sent.seq, sent.ts = answer["seq"], answer["ts"]


async def socket_load(socket: Sock, user: Account, rooms: list[str], ledger: Ledger, rng: random.Random) -> None:
    """Keeps requests in flight until the connection is gone; what is answered is noted."""
    in_flight: list[tuple[asyncio.Future, Any]] = []
    mine: list[Sent] = []
    last = dict.fromkeys(rooms, 0)
    try:
        while True:
            while len(in_flight) < IN_FLIGHT:
                room = rng.choice(rooms)
                acknowledged = [s for s in mine[-60:] if s.seq is not None]
                if acknowledged and rng.random() < 0.15:
                    target = rng.choice(acknowledged)
                    ledger.counter += 1
                    if rng.random() < 0.5:
                        kind, act = "edit", {"room": target.room, "seq": target.seq, "body": f"edit {ledger.counter}"}
                    else:
                        kind, act = "react", {"room": target.room, "seq": target.seq, "emoji": "👍"}
                    in_flight.append((await socket.ask(kind, act), act))
                else:
                    sent = ledger.message(room, user.id, rng.random() < 0.7)
                    mine.append(sent)
                    in_flight.append((await socket.ask("send", payload_of(sent)), sent))
            future, what = in_flight[0]
            answer = await future
            in_flight.pop(0)
            collect(ledger, what, answer, user, last)
    except Closed:
        for future, what in in_flight:  # Answers that came before the end count.
            if future.done() and future.exception() is None:
                collect(ledger, what, future.result(), user, last)


def collect(ledger: Ledger, what: Any, answer: dict[str, Any], user: Account, last: dict[str, int]) -> None:
    """`last` is what this connection was last acknowledged in each room: its requests are carried out in order."""
    assert answer["type"] == "ok", answer
    room, seq = answer["payload"]["room"], answer["payload"]["seq"]
    assert seq > last[room], f"{what} was acknowledged as {seq} after {last[room]}"
    last[room] = seq
    if isinstance(what, Sent):
        note(what, answer["payload"])
    else:
        expected = {"target_seq": what["seq"], "sender": user.id, "ts": answer["payload"]["ts"]}
        expected |= {k: what[k] for k in ("body", "emoji") if k in what}
        ledger.acts[(what["room"], answer["payload"]["seq"])] = expected


async def http_load(gateway: Gateway, user: Account, room: str, ledger: Ledger) -> None:
    async with httpx.AsyncClient(base_url=gateway.base_url, trust_env=False, timeout=10, cookies=no_jar()) as client:
        while True:
            sent = ledger.message(room, user.id, True)
            body = {k: v for k, v in payload_of(sent).items() if k != "room"}
            try:
                response = await client.post(
                    f"/api/v1/rooms/{room}/messages", json=body, headers={"authorization": f"Bearer {user.access}"}
                )
            except httpx.TransportError:
                return
            assert response.is_success, response.text
            note(sent, response.json())


class Logs:
    """The rooms' logs as read after each restart: what stood there once must stand there unchanged."""

    def __init__(self, rooms: list[str]):
        self.events: dict[str, list[dict[str, Any]]] = {room: [] for room in rooms}
        self.messages: dict[tuple[str, str], list[dict[str, Any]]] = {}
        """(room, body) → the messages that say so."""
        self.keyed: dict[tuple[str, str, str], int] = {}

    def read_on(self, reader: Account) -> None:
        for room, events in self.events.items():
            for event in reader.whole_log(room, after=len(events)):
                self._take(room, events, event)

    def _take(self, room: str, events: list[dict[str, Any]], event: dict[str, Any]) -> None:
        payload = event["payload"]
        position = len(events) + 1
        assert payload["seq"] == position, f"{room}: {payload['seq']} stands where {position} should"
        assert not events or payload["ts"] >= events[-1]["payload"]["ts"], f"{room} {position}: ts falls"
        events.append(event)
        if event["type"] == "message":
            self.messages.setdefault((room, payload["body"]), []).append(payload)
            if "key" in payload:
                owner = (room, payload["sender"], payload["key"])
                assert owner not in self.keyed, f"{owner} stands at {self.keyed[owner]} and at {position}"
                self.keyed[owner] = position

    def read_again(self, reader: Account) -> None:
        for room, events in self.events.items():
            assert reader.whole_log(room) == events, f"{room}: what was read before reads differently now"

    def check(self, ledger: Ledger, sent_since: int = 0) -> None:
        for sent in ledger.sent[sent_since:]:
            found = self.messages.get((sent.room, sent.body), [])
            assert len(found) <= 1, f"{sent} stands there {len(found)} times"
            if sent.seq is not None:
                assert found, f"{sent} was acknowledged and is missing"
                assert (found[0]["seq"], found[0]["ts"], found[0]["sender"]) == (sent.seq, sent.ts, sent.sender), (
                    f"{sent} stands as {found[0]}"
                )
                assert found[0].get("key") == sent.key
        for (room, seq), expected in ledger.acts.items():
            payload = self.events[room][seq - 1]["payload"]
            assert {k: payload.get(k) for k in expected} == expected, f"{room} {seq}: {payload}, expected {expected}"


class Follower:
    """A subscriber of every room that resumes by its cursors after each kill; keeps all that it was ever told."""

    def __init__(self, user: Account, rooms: list[str]):
        self.user = user
        self.told: dict[str, list[dict[str, Any]]] = {room: [] for room in rooms}

    async def resume(self, gateway: Gateway) -> Sock:
        socket = await Sock.open(gateway, token=self.user.access)
        for room, told in self.told.items():
            # The cursor: events are counted from one, and the socket checks that they come without a hole.
            await socket.subscribe(room, len(told))
        return socket

    def keep(self, socket: Sock) -> None:
        for room, told in self.told.items():
            told += socket.log(room)


async def repeat_keys(gateway: Gateway, users: list[Account], ledger: Ledger, rng: random.Random) -> None:
    """Sends keyed messages again: acknowledged ones must be answered with the first seq, unacknowledged ones may become real now."""
    by_sender = {u.id: u for u in users}
    with_key = [s for s in ledger.sent if s.key]
    unanswered = [s for s in with_key if s.seq is None]
    answered = [s for s in with_key if s.seq is not None]
    chosen = rng.sample(unanswered, min(20, len(unanswered))) + rng.sample(answered, min(20, len(answered)))
    sockets = {u.id: await Sock.open(gateway, token=u.access) for u in users}
    for sent in chosen:
        body = sent.body if sent.seq is None else "another body"
        payload = {"room": sent.room, "body": body, "key": sent.key}
        note(sent, await sockets[by_sender[sent.sender].id].ok("send", payload))
    for socket in sockets.values():
        await socket.close()
        socket.check()


async def one_round(
    gateway: Gateway,
    users: list[Account],
    rooms: list[str],
    followers: list[Follower],
    ledger: Ledger,
    rng: random.Random,
) -> None:
    sockets = [await Sock.open(gateway, token=users[n % len(users)].access) for n in range(SOCKETS)]
    following = [await follower.resume(gateway) for follower in followers]
    load = [
        asyncio.create_task(socket_load(s, users[n % len(users)], rooms, ledger, rng)) for n, s in enumerate(sockets)
    ]
    load.append(asyncio.create_task(http_load(gateway, users[0], rooms[0], ledger)))
    # A random moment under load is the point of the test; it ends early if a load fails.
    done, _ = await asyncio.wait(load, timeout=rng.uniform(*LOAD_S), return_when=asyncio.FIRST_COMPLETED)
    gateway.kill()
    await asyncio.gather(*load)
    assert not done, "a load ended before the kill"
    for socket in [*sockets, *following]:
        await socket.closed()
        socket.check()
    for follower, socket in zip(followers, following, strict=True):
        follower.keep(socket)


async def test_kills_under_load(start_gateway, seeded: random.Random):
    gateway: Gateway = start_gateway()
    users = [register(Api(gateway)) for _ in range(3)]
    rooms = [make_room(users[0], *users[1:]) for _ in range(ROOMS)]
    followers = [Follower(users[n % len(users)], rooms) for n in range(FOLLOWERS)]
    ledger = Ledger()
    logs = Logs(rooms)
    begun = time.monotonic()
    for number in range(1, ROUNDS + 1):
        sent_before = len(ledger.sent)
        await one_round(gateway, users, rooms, followers, ledger, seeded)
        gateway.start()
        api = Api(gateway)
        for user in users:
            user.api = api
        logs.read_on(users[0])
        logs.check(ledger, sent_before)
        await repeat_keys(gateway, users, ledger, seeded)
        print(f"round {number}: {len(ledger.sent)} sent, {time.monotonic() - begun:.1f} s")
    acknowledged = sum(s.seq is not None for s in ledger.sent)
    print(f"{acknowledged} of {len(ledger.sent)} acknowledged, {len(ledger.acts)} edits and reactions")
    assert acknowledged > ROUNDS * 10, "the load was no load"
    logs.read_on(users[0])
    logs.check(ledger)
    logs.read_again(users[0])
    for follower in followers:
        socket = await follower.resume(gateway)
        for room, events in logs.events.items():
            await socket.reached(room, len(events))
        await socket.close()
        socket.check()
        follower.keep(socket)
        assert follower.told == logs.events, "a follower was told otherwise than the log reads"


async def test_kill_during_the_first_writes(start_gateway, connect):
    """A kill right after the first acknowledgements of a young file."""
    for _ in range(3):
        gateway: Gateway = start_gateway()
        user = register(Api(gateway))
        room = make_room(user)
        seq = user.ok("POST", f"/rooms/{room}/messages", json={"body": "kept", "key": "k"})["seq"]
        gateway.kill()
        gateway.start()
        user.api = Api(gateway)
        log = user.whole_log(room)
        assert [e["payload"]["seq"] for e in log] == list(range(1, len(log) + 1))
        assert log[seq - 1]["payload"]["body"] == "kept"
        assert user.ok("POST", f"/rooms/{room}/messages", json={"body": "again", "key": "k"})["seq"] == seq
