"""Programs at the local socket, with pycapnp and the schema alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import stat
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from stackclient import Account, Api, Gateway, make_room, register
from stackclient.gateway import REPOSITORY, find_binary
from stackclient.rooms import add_member

capnp = pytest.importorskip("capnp")

SCHEMA = capnp.load(str(REPOSITORY / "schema" / "gateway.capnp"), imports=["/usr/include"])

ALL_SCOPES = ["read", "send", "rooms", "presence"]


def socket_of(gateway: Gateway) -> str:
    return str(gateway.data_dir / "gateway.sock")


class Refused(Exception):
    """A call was refused with this problem."""

    def __init__(self, problem: dict[str, Any]):
        super().__init__(json.dumps(problem))
        self.problem = problem
        self.code = problem["code"]


async def ask(promise: Any) -> Any:
    """The answer to a call; a refusal is the JSON at the end of the exception's text."""
    try:
        return await promise
    except capnp.KjException as error:
        text = error.description
        if "{" not in text:
            raise
        problem, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        raise Refused(problem) from None


def in_kj(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Runs a test in the event loop of the library."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with capnp.kj_loop():
            await asyncio.wait_for(test(*args, **kwargs), 60)

    return run


async def dial(gateway: Gateway) -> Any:
    """The interface at the socket. The client is kept alive by it."""
    stream = await capnp.AsyncIoStream.create_unix_connection(path=socket_of(gateway))
    client = capnp.TwoPartyClient(stream)
    return client, client.bootstrap().cast_as(SCHEMA.Gateway)


async def login(gateway: Gateway, token: str) -> Any:
    client, bootstrap = await dial(gateway)
    answer = await ask(bootstrap.login(token))
    return client, answer.session


class Sink(SCHEMA.Sink.Server):
    """Collects events; `pause` is how long it takes for each batch."""

    def __init__(self, pause: float = 0.0):
        self.pause = pause
        self.events_seen: list[dict[str, Any]] = []
        self.gaps: list[tuple[int, int, str]] = []
        self.end: str | None = None
        self.news = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.batches = 0

    async def events(self, events, **kwargs):
        await self.hold.wait()
        if self.pause:
            await asyncio.sleep(self.pause)
        self.batches += 1
        for event in events:
            kind = event.which()
            seen = {"seq": event.seq, "room": event.room, "sender": event.sender, "ts": event.ts, "kind": str(kind)}
            if str(kind) == "message":
                seen.update(body=event.message.body, data=event.message.data, key=event.message.key)
            self.events_seen.append(seen)
        self.news.set()

    async def gap(self, to, reason, _context, **kwargs):
        self.gaps.append((getattr(_context.params, "from"), to, reason))
        self.news.set()

    async def ended(self, reason, **kwargs):
        self.end = reason
        self.news.set()

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events_seen]

    async def until(self, holds: Callable[[Sink], bool], within: float = 20.0) -> None:
        deadline = time.monotonic() + within
        while not holds(self):
            self.news.clear()
            if holds(self):
                return
            left = deadline - time.monotonic()
            assert left > 0, f"{len(self.events_seen)} events, gaps {self.gaps}, end {self.end}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), min(left, 1.0))


def make_admin(gateway: Gateway, api: Api) -> Account:
    """The first admin, by the setup link."""
    told = subprocess.run(
        [str(find_binary()), "setup-url", "--data-dir", str(gateway.data_dir)],
        cwd=gateway.home,
        check=True,
        capture_output=True,
        text=True,
    )
    token = told.stdout.strip().rsplit("#", 1)[1]
    password = "correct horse battery staple"
    body = {"token": token, "username": "root", "password": password, "token_delivery": "body"}
    made = api.request("POST", "/setup/password", json=body)
    assert made.status_code in (200, 201), made.text
    answer = made.json()
    user = answer["user"]
    return Account(api, "root", password, user["id"], answer["access_token"], answer.get("refresh_token"), user)


@pytest.fixture(scope="module")
def admin(gateway: Gateway, api: Api) -> Account:
    return make_admin(gateway, api)


class Bot:
    def __init__(self, made: dict[str, Any]):
        self.key_id = made["id"]
        self.token = made["key"]
        self.id = made["user"]["id"]


def make_bot(admin: Account, scopes: list[str] | None = None, **more: Any) -> Bot:
    body = {"name": "a bot", "scopes": ALL_SCOPES if scopes is None else scopes, **more}
    made = admin.post("/api-keys", json=body)
    assert made.status_code == 201, made.text
    return Bot(made.json())


@pytest.fixture(scope="module")
def bot(admin: Account) -> Bot:
    return make_bot(admin)


@pytest.fixture
def room(admin: Account, bot: Bot) -> str:
    room = make_room(admin)
    admin.ok("PUT", f"/rooms/{room}/members/{bot.id}", json={"role": "member"})
    return room


def head_of(account: Account, room: str) -> int:
    return account.get(f"/rooms/{room}").json()["head"]


def say(account: Account, room: str, body: str) -> int:
    answer = account.post(f"/rooms/{room}/messages", json={"body": body})
    assert answer.status_code == 201, answer.text
    return answer.json()["seq"]


async def chat(account: Account, room: str, bodies: list[str]) -> None:
    """Says all of it, without holding up this loop."""

    def work() -> None:
        for body in bodies:
            say(account, room, body)

    await asyncio.to_thread(work)


def test_the_socket_is_the_gateways_users_alone(gateway: Gateway) -> None:
    found = os.stat(socket_of(gateway))
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


@in_kj
async def test_it_says_who_it_is(gateway: Gateway) -> None:
    _, bootstrap = await dial(gateway)
    version = await bootstrap.version()
    assert version.version
    assert "stack.v1.json" in list(version.protocols)


@in_kj
async def test_a_bot_logs_in_and_sends_what_others_read(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    client, bootstrap = await dial(gateway)
    answer = await ask(bootstrap.login(bot.token))
    assert answer.userId == bot.id
    assert sorted(answer.scopes) == sorted(ALL_SCOPES)
    session = answer.session
    sent = await ask(session.send(room, {"body": "hello", "data": '{"a":[1,2]}', "key": "k-1"}))
    place = sent.place
    assert place.room == room and place.seq == head_of(admin, room)
    again = await ask(session.send(room, {"body": "something else", "key": "k-1"}))
    assert again.place.seq == place.seq
    read = await asyncio.to_thread(admin.get, f"/rooms/{room}/messages?after={place.seq - 1}")
    [frame] = read.json()["events"]
    payload = frame["payload"]
    assert (payload["body"], payload["data"], payload["sender"]) == ("hello", {"a": [1, 2]}, bot.id)
    assert payload["ts"] == place.ts


@in_kj
async def test_edit_react_redact_and_history(gateway: Gateway, bot: Bot, room: str) -> None:
    _, session = await login(gateway, bot.token)
    first = (await ask(session.send(room, {"body": "one"}))).place.seq
    await ask(session.edit(room, first, "uno"))
    await ask(session.react(room, first, "👍", False))
    await ask(session.redact(room, first, "a mistake"))
    page = (await ask(session.history(room, {"after": first - 1}, 0))).page
    kinds = [str(event.which()) for event in page.events]
    assert kinds == ["tombstone", "edited", "reacted", "redacted"]
    assert page.events[1].edited.stripped and page.events[1].edited.target == first
    assert page.events[3].redacted.reason == "a mistake"
    assert [event.seq for event in page.events] == list(range(first, first + 4))
    assert page.head == first + 3
    newest = (await ask(session.history(room, {"newest": None}, 2))).page
    assert [event.seq for event in newest.events] == [first + 2, first + 3]
    before = (await ask(session.history(room, {"before": first + 1}, 1))).page
    assert [event.seq for event in before.events] == [first]
    with pytest.raises(Refused) as refused:
        await ask(session.history(room, {"newest": None}, 501))
    assert refused.value.code == "invalid_field" and refused.value.problem["field"] == "limit"


@in_kj
async def test_rooms_presence_join_leave_and_read(gateway: Gateway, admin: Account, bot: Bot) -> None:
    room = make_room(admin, public=True)
    _, session = await login(gateway, bot.token)
    joined = await ask(session.join(room))
    assert str(joined.role) == "member"
    last = (await ask(session.send(room, {"body": "here"}))).place.seq
    await ask(session.read(room, last))
    [listed] = [one for one in (await ask(session.rooms())).rooms if one.id == room]
    assert (listed.readSeq, listed.head, listed.settings.public) == (last, last, True)
    sink = Sink()
    held = await ask(session.subscribe(room, {"live": None}, sink))
    there = await ask(session.presence(room))
    assert [one.userId for one in there.users] == [bot.id] and there.count == 1
    somebody = (await ask(session.user(admin.id))).user
    assert somebody.username == "root" and not somebody.bot
    assert (await ask(session.user(bot.id))).user.bot
    await ask(session.leave(room))
    await sink.until(lambda sink: sink.end == "left")
    del held


@in_kj
async def test_a_subscription_gives_everything_once_in_order(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    await chat(admin, room, [f"before {n}" for n in range(50)])
    _, session = await login(gateway, bot.token)
    sink = Sink()
    subscribed = await ask(session.subscribe(room, {"after": 0}, sink))
    assert str(subscribed.role) == "member" and subscribed.first == 1
    writing = asyncio.create_task(chat(admin, room, [f"live {n}" for n in range(150)]))
    await sink.until(lambda sink: len(sink.seqs) >= subscribed.head)
    await writing
    head = head_of(admin, room)
    await sink.until(lambda sink: len(sink.seqs) >= head)
    assert sink.seqs == list(range(1, head + 1))
    assert sink.events_seen[0]["kind"] == "roomChange"
    bodies = [event["body"] for event in sink.events_seen if event["kind"] == "message"]
    assert bodies == [f"before {n}" for n in range(50)] + [f"live {n}" for n in range(150)]
    live = Sink()
    other = await ask(session.subscribe(room, {"live": None}, live))
    seq = say(admin, room, "now")
    await live.until(lambda sink: sink.seqs == [seq])
    del other
    with pytest.raises(Refused) as refused:
        await ask(session.subscribe(room, {"after": seq + 1}, Sink()))
    assert refused.value.code == "invalid_field"


@in_kj
async def test_dropping_the_subscription_ends_it(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    client, session = await login(gateway, bot.token)
    sink = Sink()
    held = await ask(session.subscribe(room, {"live": None}, sink))
    seq = say(admin, room, "one")
    await sink.until(lambda sink: sink.seqs == [seq])
    del held
    for _ in range(200):
        if (await ask(session.presence(room))).count == 0:
            break
        await asyncio.sleep(0.02)
    assert (await ask(session.presence(room))).count == 0
    say(admin, room, "two")
    await ask(session.history(room, {"newest": None}, 1))
    assert sink.seqs == [seq]
    del client


@in_kj
async def test_a_slow_sink_loses_nothing_and_holds_up_nobody(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    _, session = await login(gateway, bot.token)
    start = head_of(admin, room)
    slow, quick = Sink(), Sink()
    slow.hold.clear()
    held = [
        await ask(session.subscribe(room, {"after": start}, slow)),
        await ask(session.subscribe(room, {"after": start}, quick)),
    ]
    # Far more than all buffers on the way: 4 MB.
    count, body = 500, "x" * 8000
    for begin in range(0, count, 50):
        await asyncio.gather(*(ask(session.send(room, {"body": f"{n:04} {body}"})) for n in range(begin, begin + 50)))
    await quick.until(lambda sink: len(sink.seqs) == count)
    assert slow.seqs == []
    slow.hold.set()
    slow.pause = 0.001
    await slow.until(lambda sink: len(sink.seqs) == count)
    expected = list(range(start + 1, start + count + 1))
    assert slow.seqs == expected and quick.seqs == expected
    assert not slow.gaps
    bodies = [event["body"][:4] for event in slow.events_seen]
    assert sorted(bodies) == [f"{n:04}" for n in range(count)]
    del held


@in_kj
async def test_wrong_tokens_are_refused_and_on_record(gateway: Gateway, admin: Account) -> None:
    client, bootstrap = await dial(gateway)
    for token in ("nonsense", "", "stk_" + "x" * 40):
        with pytest.raises(Refused) as refused:
            await ask(bootstrap.login(token))
        assert refused.value.code == "unauthenticated"
    # A person's token is no bot's.
    with pytest.raises(Refused) as refused:
        await ask(bootstrap.login(admin.access))
    assert refused.value.code == "forbidden"
    with pytest.raises(Refused):
        await ask(bootstrap.login("nonsense"))
    # That was the fifth: this connection is over, others are not.
    with pytest.raises(capnp.KjException):
        for _ in range(50):
            await bootstrap.version()
            await asyncio.sleep(0.05)
    _, other = await dial(gateway)
    await other.version()
    audit = await asyncio.to_thread(admin.get, "/admin/audit?action=api_key_refused")
    assert any(entry["target"] == "local socket" for entry in audit.json()["entries"])


@in_kj
async def test_scopes_and_places_decide_as_everywhere(gateway: Gateway, admin: Account, room: str) -> None:
    reader = make_bot(admin, ["read"])
    _, session = await login(gateway, reader.token)
    with pytest.raises(Refused) as refused:
        await ask(session.history(room, {"newest": None}, 0))
    assert refused.value.code == "not_found"
    admin.ok("PUT", f"/rooms/{room}/members/{reader.id}", json={"role": "member"})
    await ask(session.history(room, {"newest": None}, 0))
    for call in (session.send(room, {"body": "no"}), session.join(room), session.read(room, 1), session.admin()):
        with pytest.raises(Refused) as refused:
            await ask(call)
        assert refused.value.code == "forbidden"
    with pytest.raises(Refused) as refused:
        await ask(session.history("No Such Room!", {"newest": None}, 0))
    assert refused.value.code == "not_found"
    admin.ok("DELETE", f"/rooms/{room}/members/{reader.id}")
    with pytest.raises(Refused) as refused:
        await ask(session.subscribe(room, {"live": None}, Sink()))
    assert refused.value.code == "not_found"


@in_kj
async def test_being_removed_ends_the_subscription(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    _, session = await login(gateway, bot.token)
    sink = Sink()
    held = await ask(session.subscribe(room, {"live": None}, sink))
    await asyncio.to_thread(admin.ok, "DELETE", f"/rooms/{room}/members/{bot.id}")
    await sink.until(lambda sink: sink.end is not None)
    assert sink.end == "removed"
    say(admin, room, "a secret")
    with pytest.raises(Refused):
        await ask(session.history(room, {"newest": None}, 0))
    assert all(event.get("body") != "a secret" for event in sink.events_seen)
    del held


@in_kj
async def test_a_revoked_token_ends_everything_within_a_second(gateway: Gateway, admin: Account, room: str) -> None:
    other = make_bot(admin)
    admin.ok("PUT", f"/rooms/{room}/members/{other.id}", json={"role": "member"})
    _, session = await login(gateway, other.token)
    sink = Sink()
    held = await ask(session.subscribe(room, {"live": None}, sink))
    await asyncio.to_thread(admin.ok, "DELETE", f"/api-keys/{other.key_id}")
    revoked_at = time.monotonic()
    await sink.until(lambda sink: sink.end is not None, within=5)
    assert sink.end == "revoked" and time.monotonic() - revoked_at < 1.0
    for call in (session.send(room, {"body": "still here?"}), session.history(room, {"newest": None}, 0)):
        with pytest.raises(Refused) as refused:
            await ask(call)
        assert refused.value.code == "unauthenticated"
    say(admin, room, "without it")
    await asyncio.sleep(0.1)
    assert all(event.get("body") != "without it" for event in sink.events_seen)
    _, bootstrap = await dial(gateway)
    with pytest.raises(Refused) as refused:
        await ask(bootstrap.login(other.token))
    assert refused.value.code == "unauthenticated"
    del held


@in_kj
async def test_the_operator_is_known_by_its_user(gateway: Gateway, admin: Account, room: str) -> None:
    _, bootstrap = await dial(gateway)
    operator = (await ask(bootstrap.operator())).admin
    listed = await ask(operator.users("", 0))
    assert "root" in [user.username for user in listed.users]
    stats = {figure.name: figure.value for figure in (await ask(operator.stats())).stats}
    assert stats
    sink = Sink()
    held = await ask(operator.tail(room, {"after": 0}, sink))
    seq = say(admin, room, "watched")
    await sink.until(lambda sink: seq in sink.seqs)
    assert sink.seqs == list(range(1, seq + 1))
    del held


@in_kj
async def test_a_bot_with_the_scope_administers(gateway: Gateway, admin: Account) -> None:
    keeper = make_bot(admin, ["read", "admin"])
    _, session = await login(gateway, keeper.token)
    interface = (await ask(session.admin())).admin
    assert "root" in [user.username for user in (await ask(interface.users("", 0))).users]
    await asyncio.to_thread(admin.ok, "DELETE", f"/api-keys/{keeper.key_id}")
    with pytest.raises(Refused) as refused:
        await ask(interface.users("", 0))
    assert refused.value.code in ("unauthenticated", "forbidden")


def raw(gateway: Gateway) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(10)
    plain.connect(socket_of(gateway))
    return plain


def is_ended(plain: socket.socket) -> bool:
    """Whether the gateway hangs up; whatever it says before is read."""
    try:
        while plain.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


MALFORMED = {
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4,
    "too many segments": struct.pack("<II", 0xFFFF, 1),
    "a message over the limit": struct.pack("<II", 0, 1 << 28),
    "no message at all": struct.pack("<II", 0, 1) + b"\xff" * 8,
    "a pointer out of the message": struct.pack("<II", 0, 1) + struct.pack("<Q", 0x7FFF_0000_FFFC),
    "an unknown kind of message": struct.pack("<II", 0, 2) + struct.pack("<QQ", 0x0000_0001_0000_0000, 999),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_streams_end_their_connection_alone(gateway: Gateway, admin: Account, room: str, case: str) -> None:
    with raw(gateway) as plain:
        plain.sendall(MALFORMED[case])
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_WR)
        assert is_ended(plain)
    say(admin, room, "alive")


def test_who_does_not_log_in_does_not_stay(gateway: Gateway) -> None:
    with raw(gateway) as plain:
        plain.settimeout(15)
        begun = time.monotonic()
        assert is_ended(plain)
        assert time.monotonic() - begun > 5


@in_kj
async def test_oversize_messages_end_their_connection(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    _, session = await login(gateway, bot.token)
    with pytest.raises(Refused) as refused:
        await ask(session.send(room, {"body": "x" * 17_000}))
    assert refused.value.code == "payload_too_large"
    with pytest.raises((Refused, capnp.KjException)):
        await ask(session.send(room, {"body": "x" * 3_000_000}))
    with pytest.raises(capnp.KjException):
        for _ in range(50):
            await session.rooms()
            await asyncio.sleep(0.05)
    _, session = await login(gateway, bot.token)
    await ask(session.send(room, {"body": "back"}))


@in_kj
async def test_a_flood_of_calls_is_answered_in_full_without_a_limit_on_the_rate(
    gateway: Gateway, admin: Account, bot: Bot, room: str
) -> None:
    _, session = await login(gateway, bot.token)
    start = head_of(admin, room)
    # Nothing is awaited before all of them are on their way.
    calls = [ask(session.send(room, {"body": f"flood {n}"})) for n in range(3000)]
    places = [answer.place.seq for answer in await asyncio.gather(*calls)]
    assert places == list(range(start + 1, start + 3001))


@pytest.fixture
def limited(start_gateway: Callable[..., Gateway]) -> Iterator[tuple[Gateway, Account]]:
    gateway = start_gateway(STACK_RATE_ENABLED="true", STACK_IPC_CONNECTIONS="5")
    api = Api(gateway)
    yield gateway, make_admin(gateway, api)
    api.close()


@in_kj
async def test_a_flood_is_refused_by_rate_and_then_ended(limited: tuple[Gateway, Account]) -> None:
    gateway, admin = limited
    flooder, polite = make_bot(admin), make_bot(admin)
    room = make_room(admin)
    for one in (flooder, polite):
        admin.ok("PUT", f"/rooms/{room}/members/{one.id}", json={"role": "member"})
    _, session = await login(gateway, flooder.token)
    results = await asyncio.gather(*(ask(session.rooms()) for _ in range(4000)), return_exceptions=True)
    limited_ones = [one for one in results if isinstance(one, Refused)]
    assert limited_ones and all(one.code == "rate_limited" for one in limited_ones)
    assert limited_ones[0].problem["retry_after_ms"] > 0
    ended = [one for one in results if isinstance(one, capnp.KjException)]
    assert ended, "a program that does not listen is not ended"
    _, session = await login(gateway, polite.token)
    assert (await ask(session.send(room, {"body": "unharmed"}))).place.seq > 0


@in_kj
async def test_connections_have_a_limit_that_is_told(limited: tuple[Gateway, Account]) -> None:
    gateway, admin = limited
    bot = make_bot(admin)
    held = [await login(gateway, bot.token) for _ in range(5)]
    _, bootstrap = await dial(gateway)
    with pytest.raises(Refused) as refused:
        await ask(bootstrap.version())
    assert refused.value.code == "limit_exceeded"
    for _, session in held:
        await ask(session.rooms())
    held.clear()
    for _ in range(100):
        with contextlib.suppress(Refused, capnp.KjException):
            await login(gateway, bot.token)
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("places are not given back")


@in_kj
async def test_who_does_not_read_its_answers_costs_little_and_harms_nobody(gateway: Gateway, admin: Account, bot: Bot, room: str) -> None:
    await chat(admin, room, ["x" * 10_000 for _ in range(60)])

    def resident() -> int:
        assert gateway.process is not None
        with open(f"/proc/{gateway.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    reader, writer = await asyncio.open_unix_connection(socket_of(gateway))
    # Recorded from a real client: login, then page after page, and never a byte is read.
    recorder = await record(gateway, bot, room)
    stuck = asyncio.create_task(flood(writer, recorder))
    await asyncio.sleep(2)
    assert resident() - before < 64 * 1024 * 1024
    begun = time.monotonic()
    await asyncio.to_thread(say, admin, room, "quick")
    assert time.monotonic() - begun < 1.0
    stuck.cancel()
    writer.close()


async def flood(writer: asyncio.StreamWriter, recorded: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            writer.write(recorded)
            await writer.drain()


async def record(gateway: Gateway, bot: Bot, room: str) -> bytes:
    """What a client says that logs in and asks for 200 pages at once."""
    path = str(gateway.home / "record.sock")
    said = bytearray()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(socket_of(gateway))

        async def down() -> None:
            while data := await up_reader.read(65536):
                writer.write(data)
                await writer.drain()

        task = asyncio.create_task(down())
        while data := await reader.read(65536):
            said.extend(data)
            up_writer.write(data)
        task.cancel()
        up_writer.close()

    server = await asyncio.start_unix_server(relay, path)
    stream = await capnp.AsyncIoStream.create_unix_connection(path=path)
    client = capnp.TwoPartyClient(stream)
    session = client.bootstrap().cast_as(SCHEMA.Gateway).login(bot.token).session
    await asyncio.gather(*(ask(session.history(room, {"newest": None}, 50)) for _ in range(200)))
    server.close()
    return bytes(said)


@in_kj
async def test_a_restarted_gateway_takes_its_socket_again(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    _, bootstrap = await dial(gateway)
    await bootstrap.version()
    gateway.kill()
    assert os.path.exists(socket_of(gateway))
    gateway.start()
    _, bootstrap = await dial(gateway)
    await bootstrap.version()
    gateway.stop()
    assert not os.path.exists(socket_of(gateway))


@in_kj
async def test_going_down_answers_what_is_under_way_and_hangs_up(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    api = Api(gateway)
    admin = make_admin(gateway, api)
    bot = make_bot(admin)
    room = make_room(admin)
    admin.ok("PUT", f"/rooms/{room}/members/{bot.id}", json={"role": "member"})
    _, session = await login(gateway, bot.token)
    sink = Sink()
    held = await ask(session.subscribe(room, {"live": None}, sink))
    acknowledged: list[int] = []

    async def keep_sending() -> None:
        for n in range(100_000):
            acknowledged.append((await ask(session.send(room, {"body": f"{n}"}))).place.seq)

    sending = asyncio.create_task(keep_sending())
    await sink.until(lambda sink: len(sink.seqs) > 20)
    gateway.terminate()
    with pytest.raises((Refused, capnp.KjException)):
        await sending
    assert await asyncio.to_thread(gateway.wait) == 0
    gateway.start()
    head = Account(Api(gateway), "root", admin.password, admin.id, admin.access, None).get(f"/rooms/{room}")
    assert head.json()["head"] >= acknowledged[-1]
    assert acknowledged == list(range(acknowledged[0], acknowledged[-1] + 1))
    del held
    api.close()
