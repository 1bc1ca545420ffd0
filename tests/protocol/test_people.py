"""`join`, `leave`, `read`, `typing`, `presence`, `ping`: what people see of each other."""

import asyncio
import time

import pytest

from stackclient import Account, Sock, add_member, make_room


@pytest.fixture
def fresh(alice: Account, bob: Account) -> str:
    return make_room(alice, bob)


# Ping


async def test_ping_tells_the_time(connect, alice: Account):
    socket: Sock = await connect(alice)
    answer = await socket.ok("ping", {})
    assert abs(answer["ts"] - time.time() * 1000) < 5000


# Join and leave


async def test_join_a_public_room(connect, alice: Account, carol: Account):
    room = make_room(alice, public=True)
    owner: Sock = await connect(alice)
    await owner.subscribe(room)
    socket: Sock = await connect(carol)
    first = await socket.ok("join", {"room": room})
    assert first == {"room": room, "role": "member"}
    event = await owner.event("member", room=room, action="joined")
    assert event["user_id"] == carol.id
    assert event["sender"] == carol.id
    assert await socket.ok("join", {"room": room}) == first, "joining again answers as the first time"
    await socket.send(room, "hello")
    actions = [e["payload"]["action"] for e in alice.whole_log(room) if e["type"] == "member" and e["payload"]["user_id"] == carol.id]
    assert actions == ["joined"]


async def test_joining_again_keeps_the_role(connect, alice: Account):
    room = make_room(alice, public=True)
    socket: Sock = await connect(alice)
    assert (await socket.ok("join", {"room": room}))["role"] == "owner"


async def test_leave_and_come_back(connect, alice: Account, carol: Account):
    room = make_room(alice, public=True)
    owner: Sock = await connect(alice)
    await owner.subscribe(room)
    socket: Sock = await connect(carol)
    await socket.ok("join", {"room": room})
    assert await socket.ok("leave", {"room": room}) == {}
    event = await owner.event("member", room=room, action="left")
    assert (event["user_id"], event["sender"]) == (carol.id, carol.id)
    await socket.fails("send", {"room": room, "body": "x"}, "forbidden")
    assert (await socket.ok("join", {"room": room}))["role"] == "member"
    await socket.send(room, "back")


async def test_last_owner_cannot_leave(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(alice)
    await socket.fails("leave", {"room": fresh}, "conflict")
    assert alice.delete(f"/rooms/{fresh}/members/{alice.id}").status_code == 409
    await socket.send(fresh, "still in")
    add_member(alice, fresh, bob, "owner")
    await socket.ok("leave", {"room": fresh})
    other: Sock = await connect(bob)
    await other.fails("leave", {"room": fresh}, "conflict")


async def test_created_is_seq_1(alice: Account, fresh: str):
    first = alice.messages(fresh, after=0, limit=1)["events"][0]
    assert first["type"] == "room"
    assert first["payload"]["seq"] == 1
    assert first["payload"]["action"] == "created"
    assert first["payload"]["sender"] == alice.id


async def test_change_and_role_are_events(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    alice.ok("PATCH", f"/rooms/{fresh}", json={"title": "Another title"})
    event = await socket.event("room", room=fresh, action="changed")
    assert event["sender"] == alice.id
    add_member(alice, fresh, bob, "moderator")
    event = await socket.event("member", room=fresh, action="role")
    assert (event["user_id"], event["sender"]) == (bob.id, alice.id)
    assert alice.whole_log(fresh)[-1]["payload"] == event


# Read cursors


async def test_read_is_kept_and_told_to_the_other_devices(connect, alice: Account, bob: Account, fresh: str):
    one: Sock = await connect(bob)
    two: Sock = await connect(bob)
    await two.alive()
    seqs = [await one.send(fresh, f"{n}") for n in range(3)]
    assert bob.ok("GET", f"/rooms/{fresh}")["read_seq"] == 0
    assert await one.ok("read", {"room": fresh, "seq": seqs[1]}) == {}
    event = await two.event("read", room=fresh)
    assert event == {"room": fresh, "user_id": bob.id, "read_seq": seqs[1]}
    assert bob.ok("GET", f"/rooms/{fresh}")["read_seq"] == seqs[1]
    assert (await two.subscribe(fresh))["read_seq"] == seqs[1]
    (listed,) = [r for r in bob.ok("GET", "/rooms")["rooms"] if r["id"] == fresh]
    assert listed["read_seq"] == seqs[1]
    assert alice.ok("GET", f"/rooms/{fresh}")["read_seq"] == 0, "the cursor is the caller's"


async def test_read_beyond_the_head(connect, bob: Account, fresh: str):
    """An error or not: not said. The cursor never stands beyond the head."""
    socket: Sock = await connect(bob)
    await socket.request("read", {"room": fresh, "seq": 10_000})
    room = bob.ok("GET", f"/rooms/{fresh}")
    assert room["read_seq"] <= room["head"]


# Typing


async def test_typing_is_seen_by_the_others_and_has_no_answer(connect, alice: Account, bob: Account, fresh: str):
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    typist: Sock = await connect(bob)
    await typist.text(f'{{"type":"typing","payload":{{"room":"{fresh}","on":true}}}}')
    event = await reader.event("typing", room=fresh)
    assert event == {"room": fresh, "user_id": bob.id, "on": True}
    await typist.text(f'{{"type":"typing","payload":{{"room":"{fresh}","on":false}}}}')
    await reader.event("typing", room=fresh, on=False)
    head = alice.messages(fresh)["head"]
    assert not [e for e in alice.whole_log(fresh) if e["type"] == "typing"], "outside the `seq` line"
    assert head == alice.messages(fresh)["head"]


async def test_typing_with_an_id_has_no_answer_either(connect, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    await socket.text(f'{{"type":"typing","id":77,"payload":{{"room":"{fresh}","on":true}}}}')
    await socket.alive()
    assert not [f for f in socket.frames if f.get("id") == 77]


async def test_typing_where_one_may_not(connect, alice: Account, carol: Account, fresh: str):
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    stranger: Sock = await connect(carol)
    await stranger.text(f'{{"type":"typing","payload":{{"room":"{fresh}","on":true}}}}')
    await stranger.alive()
    last = await reader.send(fresh, "after it")
    await reader.reached(fresh, last)
    await reader.alive()
    assert not [f for f in reader.frames if f["type"] == "typing"]


# Presence


def present(who: Account, room: str) -> dict[str, dict]:
    answer = who.ok("GET", f"/rooms/{room}/presence")
    assert isinstance(answer["version"], int)
    assert isinstance(answer["count"], int)
    return {u["user_id"]: u for u in answer["users"]}


async def test_presence_is_told_and_listed(connect, alice: Account, bob: Account, fresh: str):
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    assert await socket.ok("presence", {"status": "busy", "text": "in a meeting"}) == {}
    event = await reader.event("presence", room=fresh, user_id=bob.id, status="busy")
    assert event["text"] == "in a meeting"
    assert isinstance(event["version"], int)
    listed = present(alice, fresh)
    assert listed[bob.id]["status"] == "busy"
    assert listed[bob.id]["text"] == "in a meeting"
    assert abs(listed[bob.id]["last_seen_at"] - time.time() * 1000) < 120_000
    since = len(reader.frames)
    await socket.ok("presence", {"status": "away"})
    event = await reader.event("presence", since=since, room=fresh, user_id=bob.id, status="away")
    assert "text" not in event or event["text"] in (None, "in a meeting")


async def test_presence_versions_grow(connect, alice: Account, bob: Account, fresh: str):
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    for status in ("busy", "away", "online", "busy"):
        since = len(reader.frames)
        await socket.ok("presence", {"status": status})
        await reader.event("presence", since=since, room=fresh, user_id=bob.id, status=status)
    versions = [f["payload"]["version"] for f in reader.frames if f["type"] == "presence" and f["payload"]["room"] == fresh]
    assert versions == sorted(versions)


async def test_presence_ends_with_the_last_socket(connect, alice: Account, bob: Account, fresh: str):
    """What is told of one who went is not said beyond "may be lost"; that he is no longer listed as here is."""
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    one: Sock = await connect(bob)
    two: Sock = await connect(bob)
    await one.subscribe(fresh)
    await two.subscribe(fresh)
    await two.ok("presence", {"status": "online"})
    assert bob.id in present(alice, fresh)
    await one.close()
    await two.alive()
    assert present(alice, fresh)[bob.id]["status"] in ("online", "away", "busy"), "per user, across devices"
    since = len(reader.frames)
    await two.close()
    await reader.until(
        lambda: [f for f in reader.frames[since:] if f["type"] == "presence" and f["payload"]["user_id"] == bob.id],
        "presence of one who went",
    )
    gone = present(alice, fresh).get(bob.id)
    assert gone is None or gone["status"] == "offline"


async def test_presence_is_shown_to_those_who_may_read(connect, alice: Account, carol: Account, fresh: str):
    assert carol.get(f"/rooms/{fresh}/presence").status_code == 404
    closed = make_room(alice, public=True, allow_guests=False)
    assert carol.get(f"/rooms/{closed}/presence").status_code == 403
    opened = make_room(alice, public=True, allow_guests=True)
    assert carol.get(f"/rooms/{opened}/presence").status_code == 200


async def test_presence_is_not_told_to_those_outside(connect, alice: Account, bob: Account, carol: Account, fresh: str):
    outsider: Sock = await connect(carol)
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    await socket.ok("presence", {"status": "busy"})
    await reader.event("presence", room=fresh, user_id=bob.id, status="busy")
    await outsider.alive()
    assert not [f for f in outsider.frames if f["payload"].get("room") == fresh]


async def test_many_come_and_go(connect, alice: Account, bob: Account, fresh: str):
    """Connections that open and close at once leave nobody behind."""
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)

    async def visit() -> None:
        socket: Sock = await connect(bob)
        await socket.subscribe(fresh)
        await socket.close()

    for _ in range(3):
        await asyncio.gather(*(visit() for _ in range(8)))

    def gone() -> bool:
        entry = present(alice, fresh).get(bob.id)
        return entry is None or entry["status"] == "offline"

    deadline = time.monotonic() + 10
    while not gone():
        assert time.monotonic() < deadline, "still listed as here"
        await reader.alive()
