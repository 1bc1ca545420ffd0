"""`send`, `edit`, `redact`, `react`, `history` over the socket, and what the log promises."""

import asyncio
import json
import time

import pytest

from stackclient import Account, Sock, add_member, assert_problem, make_room, tag
from stackclient.spec import BAD_FIELD, BODY_LIMIT, DATA_LIMIT, KEY_LIMIT


@pytest.fixture
def fresh(alice: Account, bob: Account) -> str:
    return make_room(alice, bob)


def event_at(who: Account, room: str, seq: int) -> dict:
    (event,) = who.messages(room, after=seq - 1, limit=1)["events"]
    assert event["payload"]["seq"] == seq
    return event


# Sending


async def test_send_is_acknowledged_and_in_the_log(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    head = alice.messages(fresh)["head"]
    before = time.time() * 1000
    answer = await socket.ok("send", {"room": fresh, "body": "hello"})
    assert set(answer) >= {"room", "seq", "ts"}
    assert answer["seq"] == head + 1
    assert before - 5000 <= answer["ts"] <= time.time() * 1000 + 5000
    event = event_at(alice, fresh, answer["seq"])
    assert event == {
        "type": "message",
        "payload": {"room": fresh, "seq": answer["seq"], "ts": answer["ts"], "sender": bob.id, "body": "hello"},
    }


async def test_optional_fields_stand_in_the_event(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    first = await socket.send(fresh, "first")
    key = tag()
    data = {"n": 1, "nested": {"list": [1, 2.5, "x", None, True]}, "é": "🦀"}
    seq = await socket.send(fresh, "second", data=data, key=key, reply_to=first)
    payload = event_at(alice, fresh, seq)["payload"]
    assert payload["data"] == data
    assert payload["key"] == key
    assert payload["reply_to"] == first


@pytest.mark.parametrize("data", [0, -1.5, "text", True, False, [], {}, [[[]]], {"": ""}, 2**53 - 1], ids=repr)
async def test_data_is_any_json_value(connect, alice: Account, room: str, data):
    socket: Sock = await connect(alice)
    seq = await socket.send(room, "with data", data=data)
    payload = event_at(alice, room, seq)["payload"]
    assert payload["data"] == data
    assert type(payload["data"]) is type(data)


@pytest.mark.parametrize(
    "body", ["é", "🦀" * 100, "\u0000", "a\n\t\\\"", "a\u2028\u2029b", "<script>alert(1)</script>", " ", "\u202e", "a\u0301"], ids=ascii
)
async def test_body_comes_back_as_sent(connect, alice: Account, room: str, body: str):
    """A control character or nothing but white space may be refused; what is accepted comes back unchanged."""
    socket: Sock = await connect(alice)
    answer = await socket.request("send", {"room": room, "body": body})
    if answer["type"] == "error":
        assert body in ("\u0000", " "), answer
        assert answer["payload"]["code"] in BAD_FIELD
    else:
        assert event_at(alice, room, answer["payload"]["seq"])["payload"]["body"] == body


async def test_empty_body_needs_data(connect, alice: Account, room: str):
    socket: Sock = await connect(alice)
    await socket.fails("send", {"room": room, "body": ""}, "invalid_field", "body")
    seq = await socket.send(room, "", data={"picture": 1})
    assert event_at(alice, room, seq)["payload"]["body"] == ""


@pytest.mark.parametrize("unit", ["a", "é", "🦀", "\n", '"'], ids=ascii)
async def test_body_limit_counts_bytes_of_utf8(connect, alice: Account, room: str, unit: str):
    socket: Sock = await connect(alice)
    at_limit = "abcd" + unit * ((BODY_LIMIT - 4) // len(unit.encode()))  # Whether white space alone is a body is not said.
    assert len(at_limit.encode()) == BODY_LIMIT
    seq = await socket.send(room, at_limit)
    assert event_at(alice, room, seq)["payload"]["body"] == at_limit
    await socket.fails("send", {"room": room, "body": at_limit + "a"}, "payload_too_large")
    await socket.alive()


async def test_data_limit(connect, alice: Account, room: str):
    socket: Sock = await connect(alice)
    at_limit = "d" * (DATA_LIMIT - 2)  # Two quotes.
    await socket.send(room, "big", data=at_limit)
    await socket.fails("send", {"room": room, "body": "big", "data": at_limit + "d"}, "payload_too_large")
    await socket.alive()


async def test_body_and_data_at_their_limits_together(connect, alice: Account, room: str):
    socket: Sock = await connect(alice)
    seq = await socket.send(room, "b" * BODY_LIMIT, data="d" * (DATA_LIMIT - 2), key="k" * KEY_LIMIT)
    assert len(event_at(alice, room, seq)["payload"]["body"]) == BODY_LIMIT


async def test_key_limits(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    await socket.send(fresh, "x", key="k")
    await socket.send(fresh, "x", key="k" * KEY_LIMIT)
    await socket.send(fresh, "x", key="é" * (KEY_LIMIT // 2))
    await socket.fails("send", {"room": fresh, "body": "x", "key": ""}, "invalid_field", "key")
    await socket.fails("send", {"room": fresh, "body": "x", "key": "k" * (KEY_LIMIT + 1)}, "payload_too_large")
    await socket.fails("send", {"room": fresh, "body": "x", "key": "é" * (KEY_LIMIT // 2) + "k"}, "payload_too_large")
    await socket.alive()


async def test_edit_has_the_bodys_limit(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    seq = await socket.send(fresh, "short")
    await socket.ok("edit", {"room": fresh, "seq": seq, "body": "e" * BODY_LIMIT})
    await socket.fails("edit", {"room": fresh, "seq": seq, "body": "e" * (BODY_LIMIT + 1)}, "payload_too_large")


async def test_reply_to_what_is_not_there_is_an_error(connect, alice: Account, fresh: str):
    """Which error is not said."""
    socket: Sock = await connect(alice)
    await socket.fails("send", {"room": fresh, "body": "x", "reply_to": 10_000}, ("invalid_field", "not_found"))
    await socket.fails("send", {"room": fresh, "body": "x", "reply_to": 0}, ("invalid_field", "not_found"))
    await socket.alive()


# Keys


async def test_repeated_key_gets_the_first_seq_whatever_the_body(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    key = tag()
    first = await socket.ok("send", {"room": fresh, "body": "one", "key": key})
    for body in ("one", "two", "x" * 1000):
        again = await socket.ok("send", {"room": fresh, "body": body, "key": key})
        assert again == first
    await socket.send(fresh, "another")
    assert (await socket.ok("send", {"room": fresh, "body": "three", "key": key}))["seq"] == first["seq"]
    log = alice.whole_log(fresh)
    assert [e["payload"]["body"] for e in log if e["payload"].get("key") == key] == ["one"]


async def test_repeated_key_is_no_event_for_subscribers(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    await socket.subscribe(fresh)
    key = tag()
    for n in range(3):
        await socket.send(fresh, f"{n}", key=key)
    last = await socket.send(fresh, "end")
    await socket.reached(fresh, last)
    assert [f["payload"]["body"] for f in socket.log(fresh)] == ["0", "end"]


async def test_key_belongs_to_its_sender_and_room(connect, alice: Account, bob: Account, fresh: str):
    other = make_room(alice, bob)
    a: Sock = await connect(alice)
    b: Sock = await connect(bob)
    key = tag()
    first = await a.send(fresh, "alice", key=key)
    second = await b.send(fresh, "bob", key=key)
    assert second == first + 1
    elsewhere = await a.send(other, "alice elsewhere", key=key)
    assert event_at(alice, other, elsewhere)["payload"]["body"] == "alice elsewhere"
    assert await a.send(fresh, "again", key=key) == first
    assert await b.send(fresh, "again", key=key) == second


async def test_key_is_shared_by_socket_and_http_and_all_devices(connect, alice: Account, fresh: str):
    key = tag()
    one: Sock = await connect(alice)
    two: Sock = await connect(alice)
    seq = await one.send(fresh, "x", key=key)
    assert await two.send(fresh, "y", key=key) == seq
    assert alice.ok("POST", f"/rooms/{fresh}/messages", json={"body": "z", "key": key})["seq"] == seq


async def test_same_key_in_flight_many_times_is_one_message(connect, alice: Account, fresh: str):
    sockets = [await connect(alice) for _ in range(4)]
    key = tag()
    futures = [
        await socket.ask("send", {"room": fresh, "body": f"{n}", "key": key}) for n in range(25) for socket in sockets
    ]
    answers = [await f for f in futures]
    assert len({(a["payload"]["seq"], a["payload"]["ts"]) for a in answers}) == 1
    assert sum(e["payload"].get("key") == key for e in alice.whole_log(fresh)) == 1


async def test_key_outlives_redaction(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    key = tag()
    seq = await socket.send(fresh, "x", key=key)
    await socket.ok("redact", {"room": fresh, "seq": seq})
    assert await socket.send(fresh, "x", key=key) == seq
    assert event_at(alice, fresh, seq)["payload"].get("redacted") is True


async def test_refused_send_does_not_use_up_its_key(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    key = tag()
    await socket.fails("send", {"room": fresh, "body": "x" * (BODY_LIMIT + 1), "key": key}, "payload_too_large")
    seq = await socket.send(fresh, "good", key=key)
    assert event_at(alice, fresh, seq)["payload"]["body"] == "good"


# Slow mode


@pytest.fixture
def slow(alice: Account, bob: Account) -> str:
    return make_room(alice, bob, slow_mode_s=60)


async def test_slow_mode_says_when_and_answers_repeats(connect, alice: Account, bob: Account, slow: str):
    socket: Sock = await connect(bob)
    key = tag()
    first = await socket.ok("send", {"room": slow, "body": "one", "key": key})
    for fields in ({}, {"key": tag()}):
        error = await socket.fails("send", {"room": slow, "body": "two", **fields}, "rate_limited")
        assert error["retryable"] is True
        assert 0 < error["retry_after_ms"] <= 60_000
    for body in ("one", "another", "", "x" * (BODY_LIMIT + 1)):
        assert await socket.ok("send", {"room": slow, "body": body, "key": key}) == first
    again = bob.ok("POST", f"/rooms/{slow}/messages", json={"body": "three", "key": key})
    assert again == first
    assert_problem(bob.post(f"/rooms/{slow}/messages", json={"body": "three"}), 429, "rate_limited")
    owner: Sock = await connect(alice)
    for n in range(5):
        await owner.send(slow, f"moderators are exempt {n}")
    assert sum(e["payload"].get("sender") == bob.id for e in alice.whole_log(slow) if e["type"] == "message") == 1


async def test_slow_mode_is_for_messages_alone(connect, bob: Account, slow: str):
    socket: Sock = await connect(bob)
    await socket.fails("send", {"room": slow, "body": ""}, "invalid_field", "body")
    await socket.fails("send", {"room": slow, "body": "x", "reply_to": 10_000}, ("invalid_field", "not_found"))
    seq = await socket.send(slow, "what was refused took no turn")
    await socket.fails("send", {"room": slow, "body": "x"}, "rate_limited")
    for n in range(3):
        await socket.ok("edit", {"room": slow, "seq": seq, "body": f"a slip, {n}"})
        await socket.ok("react", {"room": slow, "seq": seq, "emoji": "👍"})
    await socket.ok("redact", {"room": slow, "seq": seq})
    await socket.fails("send", {"room": slow, "body": "x"}, "rate_limited")


# The line of seq and ts


async def test_seq_is_gapless_and_ts_never_falls(connect, alice: Account, bob: Account, fresh: str):
    sockets = [await connect(who) for who in (alice, bob, alice, bob)]
    acknowledged: dict[int, tuple[int, str]] = {}

    async def mixed(socket: Sock, name: str) -> None:
        for n in range(30):
            body = f"{name} {n}"
            answer = await socket.ok("send", {"room": fresh, "body": body})
            acknowledged[answer["seq"]] = (answer["ts"], body)
            await socket.ok("react", {"room": fresh, "seq": answer["seq"], "emoji": "👍"})
            if n % 5 == 0:
                await socket.ok("edit", {"room": fresh, "seq": answer["seq"], "body": body + " edited"})

    await asyncio.gather(*(mixed(s, f"sender {n}") for n, s in enumerate(sockets)))
    log = alice.whole_log(fresh)
    assert [e["payload"]["seq"] for e in log] == list(range(1, len(log) + 1))
    times = [e["payload"]["ts"] for e in log]
    assert times == sorted(times)
    assert len(acknowledged) == 120
    for event in log:
        if event["type"] == "message":
            ts, body = acknowledged.pop(event["payload"]["seq"])
            assert (event["payload"]["ts"], event["payload"]["body"]) == (ts, body)
    assert not acknowledged


# Edit, redact, react


async def test_edit_is_an_event_and_leaves_the_original(connect, alice: Account, bob: Account, fresh: str):
    author: Sock = await connect(bob)
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    seq = await author.send(fresh, "original")
    answer = await author.ok("edit", {"room": fresh, "seq": seq, "body": "changed"})
    assert answer["room"] == fresh
    assert answer["seq"] == seq + 1
    event = await reader.event("edited", room=fresh)
    assert event == {
        "room": fresh,
        "seq": answer["seq"],
        "ts": answer["ts"],
        "sender": bob.id,
        "target_seq": seq,
        "body": "changed",
    }
    assert event_at(alice, fresh, seq)["payload"]["body"] == "original"


async def test_only_the_author_edits(connect, alice: Account, bob: Account, carol: Account, fresh: str):
    add_member(alice, fresh, carol)
    author: Sock = await connect(bob)
    seq = await author.send(fresh, "bob's")
    other: Sock = await connect(carol)
    await other.fails("edit", {"room": fresh, "seq": seq, "body": "carol's"}, "forbidden")
    await other.alive()


async def test_redaction_leaves_a_tombstone_at_its_seq(connect, alice: Account, bob: Account, fresh: str):
    author: Sock = await connect(bob)
    live: Sock = await connect(alice)
    await live.subscribe(fresh)
    sent = await author.ok(
        "send", {"room": fresh, "body": "the secret word", "data": {"secret": "secret word"}, "key": "secret-key-1"}
    )
    seq = sent["seq"]
    edited = (await author.ok("edit", {"room": fresh, "seq": seq, "body": "the secret word, edited"}))["seq"]
    answer = await author.ok("redact", {"room": fresh, "seq": seq, "reason": "a slip"})
    event = await live.event("redacted", room=fresh)
    assert event == {
        "room": fresh,
        "seq": answer["seq"],
        "ts": answer["ts"],
        "sender": bob.id,
        "target_seq": seq,
        "reason": "a slip",
    }
    tombstone = {
        "type": "message",
        "payload": {"room": fresh, "seq": seq, "ts": sent["ts"], "sender": bob.id, "redacted": True},
    }
    assert event_at(alice, fresh, seq) == tombstone
    stripped = event_at(alice, fresh, edited)
    assert stripped["type"] == "edited"
    assert stripped["payload"]["target_seq"] == seq

    over_http = alice.get(f"/rooms/{fresh}/messages", params={"limit": 500}).text
    late: Sock = await connect(alice)
    await late.subscribe(fresh, 0)
    await late.reached(fresh, answer["seq"])
    over_ws = json.dumps(await late.ok("history", {"room": fresh, "limit": 500}))
    for text in (over_http, over_ws, "".join(late.raw_log(fresh).values())):
        assert "secret" not in text
    assert [f for f in late.log(fresh) if f["payload"]["seq"] == seq] == [tombstone]


async def test_redaction_without_reason(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    await socket.subscribe(fresh)
    seq = await socket.send(fresh, "x")
    await socket.ok("redact", {"room": fresh, "seq": seq})
    event = await socket.event("redacted", room=fresh, target_seq=seq)
    assert "reason" not in event


async def test_member_does_not_redact_anothers(connect, alice: Account, bob: Account, fresh: str):
    owner: Sock = await connect(alice)
    seq = await owner.send(fresh, "alice's")
    member: Sock = await connect(bob)
    await member.fails("redact", {"room": fresh, "seq": seq}, "forbidden")


async def test_owner_redacts_anothers(connect, alice: Account, bob: Account, fresh: str):
    """Not said in a sentence, but the roles would mean nothing otherwise."""
    member: Sock = await connect(bob)
    seq = await member.send(fresh, "bob's")
    owner: Sock = await connect(alice)
    await owner.ok("redact", {"room": fresh, "seq": seq})
    assert event_at(alice, fresh, seq)["payload"]["redacted"] is True


async def test_redacted_message_is_gone(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    seq = await socket.send(fresh, "x")
    last = (await socket.ok("redact", {"room": fresh, "seq": seq}))["seq"]
    await socket.fails("edit", {"room": fresh, "seq": seq, "body": "back"}, "gone")
    await socket.fails("redact", {"room": fresh, "seq": seq}, "gone")
    await socket.fails("react", {"room": fresh, "seq": seq, "emoji": "👍"}, "gone")
    message = f"/rooms/{fresh}/messages/{seq}"
    assert_problem(alice.patch(message, json={"body": "back"}), 410, "gone")
    assert_problem(alice.delete(message), 410, "gone")
    assert_problem(alice.put(f"{message}/reactions/%F0%9F%91%8D"), 410, "gone")
    assert event_at(alice, fresh, seq)["payload"]["redacted"] is True
    assert alice.messages(fresh)["head"] == last


async def test_reactions(connect, alice: Account, bob: Account, fresh: str):
    reactor: Sock = await connect(bob)
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    seq = await reader.send(fresh, "react to this")
    added = await reactor.ok("react", {"room": fresh, "seq": seq, "emoji": "🎉"})
    event = await reader.event("reacted", seq=added["seq"])
    assert (event["sender"], event["target_seq"], event["emoji"]) == (bob.id, seq, "🎉")
    assert event.get("remove", False) is False
    removed = await reactor.ok("react", {"room": fresh, "seq": seq, "emoji": "🎉", "remove": True})
    event = await reader.event("reacted", seq=removed["seq"])
    assert event["remove"] is True
    assert removed["seq"] == added["seq"] + 1


@pytest.mark.parametrize("kind", ["edit", "redact", "react"])
async def test_target_that_is_not_there_is_an_error(connect, alice: Account, fresh: str, kind: str):
    """Beyond the head and 0: `not_found` or `invalid_field`, not said which. An event that is no message is `invalid_field`."""
    socket: Sock = await connect(alice)
    fields = {"edit": {"body": "x"}, "redact": {}, "react": {"emoji": "👍"}}[kind]
    for seq in (10_000, 2**53 - 1, 0):
        await socket.fails(kind, {"room": fresh, "seq": seq, **fields}, ("not_found", "invalid_field"))
    reacted = await socket.ok("react", {"room": fresh, "seq": await socket.send(fresh, "x"), "emoji": "👍"})
    for seq in (1, 2, reacted["seq"]):
        await socket.fails(kind, {"room": fresh, "seq": seq, **fields}, "invalid_field", "seq")
    await socket.alive()


# Who may


async def test_room_it_may_not_see_is_not_found_for_every_request(connect, alice: Account, carol: Account, fresh: str):
    socket: Sock = await connect(carol)
    for kind, payload in {
        "send": {"body": "x"},
        "edit": {"seq": 1, "body": "x"},
        "redact": {"seq": 1},
        "react": {"seq": 1, "emoji": "👍"},
        "join": {},
        "leave": {},
        "history": {},
        "read": {"seq": 1},
        "subscribe": {},
    }.items():
        await socket.fails(kind, {"room": fresh, **payload}, "not_found")
        await socket.fails(kind, {"room": "no-such-room", **payload}, "not_found")
    await socket.alive()


async def test_visible_but_not_allowed_is_forbidden(connect, alice: Account, carol: Account):
    room = make_room(alice, public=True, allow_guests=False)
    owner: Sock = await connect(alice)
    seq = await owner.send(room, "x")
    socket: Sock = await connect(carol)
    for kind, payload in {
        "send": {"body": "x"},
        "edit": {"seq": seq, "body": "x"},
        "redact": {"seq": seq},
        "react": {"seq": seq, "emoji": "👍"},
        "history": {},
        "subscribe": {},
        "read": {"seq": seq},
    }.items():
        await socket.fails(kind, {"room": room, **payload}, "forbidden")
    await socket.alive()


async def test_guest_reads_and_never_sends(connect, alice: Account, carol: Account):
    room = make_room(alice, public=True, allow_guests=True)
    owner: Sock = await connect(alice)
    seq = await owner.send(room, "for everyone")
    guest: Sock = await connect(carol)
    assert (await guest.subscribe(room, 0))["role"] == "guest"
    await guest.reached(room, seq)
    events = (await guest.ok("history", {"room": room}))["events"]
    assert events[-1]["payload"]["body"] == "for everyone"
    await guest.fails("send", {"room": room, "body": "x"}, "forbidden")
    await guest.fails("edit", {"room": room, "seq": seq, "body": "x"}, "forbidden")
    await guest.fails("redact", {"room": room, "seq": seq}, "forbidden")


async def test_guest_member_never_sends(connect, alice: Account, carol: Account):
    room = make_room(alice)
    add_member(alice, room, carol, "guest")
    guest: Sock = await connect(carol)
    assert (await guest.subscribe(room, 0))["role"] == "guest"
    await guest.fails("send", {"room": room, "body": "x"}, "forbidden")
    await guest.ok("history", {"room": room})


# History


@pytest.fixture(scope="module")
def long_room(alice: Account, bob: Account) -> tuple[str, int]:
    """A room with 150 messages over HTTP; and its head."""
    room = make_room(alice, bob)
    for n in range(150):
        alice.ok("POST", f"/rooms/{room}/messages", json={"body": f"{n}"})
    return room, alice.messages(room)["head"]


def seqs(page: dict) -> list[int]:
    return [e["payload"]["seq"] for e in page["events"]]


async def test_history_pages(connect, bob: Account, long_room):
    room, head = long_room
    socket: Sock = await connect(bob)

    async def page(**cursor) -> list[int]:
        answer = await socket.ok("history", {"room": room, **cursor})
        assert (answer["head"], answer["first"]) == (head, 1)
        return seqs(answer)

    assert await page() == list(range(head - 49, head + 1)), "no cursor: the newest page, 50 by default"
    assert await page(after=0) == list(range(1, 51))
    assert await page(after=0, limit=500) == list(range(1, head + 1))
    assert await page(after=10, limit=1) == [11], "cursors are exclusive"
    assert await page(before=10, limit=3) == [7, 8, 9], "in `seq` order"
    assert await page(before=10) == list(range(1, 10))
    assert await page(before=1) == []
    assert await page(after=head) == []
    assert await page(limit=1) == [head]
    assert await page(before=head + 1, limit=2) == [head - 1, head]


async def test_history_after_ts(connect, bob: Account, long_room):
    room, head = long_room
    socket: Sock = await connect(bob)
    everything = (await socket.ok("history", {"room": room, "limit": 500}))["events"]
    for ts in {e["payload"]["ts"] for e in everything[::25]}:
        expected = [e["payload"]["seq"] for e in everything if e["payload"]["ts"] > ts][:50]
        assert seqs(await socket.ok("history", {"room": room, "after_ts": ts})) == expected
    assert seqs(await socket.ok("history", {"room": room, "after_ts": 0, "limit": 5})) == [1, 2, 3, 4, 5]
    assert seqs(await socket.ok("history", {"room": room, "after_ts": everything[-1]["payload"]["ts"]})) == []


async def test_page_of_long_messages_ends_early_and_is_read_on(connect, alice: Account):
    """A page stays below the 1 MiB that common clients take as one frame."""
    room = make_room(alice)
    socket: Sock = await connect(alice)
    futures = [await socket.ask("send", {"room": room, "body": "x" * BODY_LIMIT}) for _ in range(150)]
    for future in futures:
        assert (await future)["type"] == "ok"
    read: list[int] = []
    while not read or read[-1] < 151:
        before = len(socket.raw)
        page = await socket.ok("history", {"room": room, "after": read[-1] if read else 0, "limit": 500})
        assert max(len(raw.encode()) for raw in socket.raw[before:]) < 1024 * 1024
        assert page["head"] == 151
        assert 1 <= len(page["events"]) < 150
        read += seqs(page)
    assert read == list(range(1, 152))
    newest = alice.get(f"/rooms/{room}/messages", params={"limit": 500})
    assert len(newest.content) < 1024 * 1024
    assert seqs(newest.json())[-1] == 151, "the newest page ends with the newest"
    older = alice.messages(room, before=seqs(newest.json())[0], limit=500)
    assert seqs(older)[-1] == seqs(newest.json())[0] - 1


async def test_history_refuses_bad_cursors(connect, bob: Account, long_room):
    room, head = long_room
    socket: Sock = await connect(bob)
    await socket.fails("history", {"room": room, "after": head + 1}, "invalid_field", "after")
    await socket.fails("history", {"room": room, "limit": 0}, "invalid_field", "limit")
    await socket.fails("history", {"room": room, "limit": 501}, "invalid_field", "limit")
    await socket.fails("history", {"room": room, "limit": -1}, BAD_FIELD)
    await socket.fails("history", {"room": room, "after": -1}, BAD_FIELD)
    await socket.fails("history", {"room": room, "after": 1, "before": 5}, BAD_FIELD)
    await socket.fails("history", {"room": room, "after": 1, "after_ts": 5}, BAD_FIELD)
    await socket.fails("history", {"room": room, "before": 1, "after_ts": 5}, BAD_FIELD)
    await socket.ok("history", {"room": room, "limit": 1})
    await socket.ok("history", {"room": room, "limit": 500})


# Over HTTP


def test_http_send(alice: Account, bob: Account, fresh: str):
    response = bob.post(f"/rooms/{fresh}/messages", json={"body": "over http", "data": [1], "key": "http-1"})
    assert response.status_code == 201
    answer = response.json()
    assert answer["room"] == fresh
    payload = event_at(alice, fresh, answer["seq"])["payload"]
    assert payload == {
        "room": fresh,
        "seq": answer["seq"],
        "ts": answer["ts"],
        "sender": bob.id,
        "body": "over http",
        "data": [1],
        "key": "http-1",
    }
    again = bob.post(f"/rooms/{fresh}/messages", json={"body": "again", "key": "http-1"})
    assert again.is_success
    assert again.json()["seq"] == answer["seq"]
    reply = bob.ok("POST", f"/rooms/{fresh}/messages", json={"body": "re", "reply_to": answer["seq"]})
    assert event_at(alice, fresh, reply["seq"])["payload"]["reply_to"] == answer["seq"]


def test_http_send_limits(alice: Account, fresh: str):
    path = f"/rooms/{fresh}/messages"

    def refused(body: dict, status: int, code: str, field: str | None = None) -> None:
        response = alice.post(path, json=body)
        assert response.status_code == status, response.text
        assert response.json()["code"] == code
        if field:
            assert response.json()["field"] == field

    assert alice.post(path, json={"body": "b" * BODY_LIMIT}).status_code == 201
    refused({"body": "b" * (BODY_LIMIT + 1)}, 413, "payload_too_large")
    assert alice.post(path, json={"body": "b", "data": "d" * (DATA_LIMIT - 2)}).status_code == 201
    refused({"body": "b", "data": "d" * (DATA_LIMIT - 1)}, 413, "payload_too_large")
    assert alice.post(path, json={"body": "b", "key": "k" * KEY_LIMIT}).status_code == 201
    refused({"body": "b", "key": "k" * (KEY_LIMIT + 1)}, 413, "payload_too_large")
    refused({"body": "b", "key": ""}, 422, "invalid_field", "key")


def test_http_send_who_may(alice: Account, carol: Account, fresh: str):
    assert carol.post(f"/rooms/{fresh}/messages", json={"body": "x"}).status_code == 404
    assert alice.post("/rooms/no-such-room/messages", json={"body": "x"}).status_code == 404
    public = make_room(alice, public=True, allow_guests=True)
    assert carol.post(f"/rooms/{public}/messages", json={"body": "x"}).status_code == 403
    assert carol.get(f"/rooms/{public}/messages").status_code == 200
    closed = make_room(alice, public=True, allow_guests=False)
    assert carol.get(f"/rooms/{closed}/messages").status_code == 403
    assert carol.get(f"/rooms/{fresh}/messages").status_code == 404


def test_http_pages(bob: Account, long_room):
    room, head = long_room

    def page(**params) -> list[int]:
        answer = bob.messages(room, **params)
        assert (answer["head"], answer["first"]) == (head, 1)
        return seqs(answer)

    assert page() == list(range(head - 49, head + 1))
    assert page(after=0) == list(range(1, 51))
    assert page(before=10, limit=3) == [7, 8, 9]
    assert page(after=head) == []
    assert page(after_ts=0, limit=2) == [1, 2]
    assert page(limit=500) == list(range(1, head + 1))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("after=100000", "after"),
    ],
)
def test_http_pages_out_of_range_are_422(bob: Account, long_room, query: str, field: str):
    room, _ = long_room
    response = bob.get(f"/rooms/{room}/messages?{query}")
    assert response.status_code == 422, response.text
    assert response.json()["field"] == field


@pytest.mark.parametrize(
    "query",
    ["after=1&before=5", "after=1&after_ts=5", "before=1&after_ts=5", "after=-1", "after=x", "before=x", "limit=many", "limit=1.5"],
)
def test_http_pages_with_bad_cursors_are_refused(bob: Account, long_room, query: str):
    room, _ = long_room
    response = bob.get(f"/rooms/{room}/messages?{query}")
    assert response.status_code in (400, 422), response.text
