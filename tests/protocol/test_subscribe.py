"""Subscriptions: cursors, the seam between history and live, what ends them."""

import asyncio
import json
import random
import socket as tcp

import pytest

from stackclient import LOG_EVENTS, Account, Api, Gateway, Sock, add_member, make_room, register, tag
from stackclient.spec import BAD_FIELD, SUBSCRIPTIONS_LIMIT


def seqs(socket: Sock, room: str) -> list[int]:
    return [f["payload"]["seq"] for f in socket.log(room)]


async def talk(socket: Sock, room: str, count: int, what: str = "message") -> int:
    """Sends so many messages, all in flight together; gives the last `seq`."""
    futures = [await socket.ask("send", {"room": room, "body": f"{what} {n}"}) for n in range(count)]
    answers = [await f for f in futures]
    assert all(a["type"] == "ok" for a in answers), answers
    return max(a["payload"]["seq"] for a in answers)


@pytest.fixture
def fresh(alice: Account, bob: Account) -> str:
    return make_room(alice, bob)


# Cursors


async def test_answer_of_subscribe(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    last = await talk(socket, fresh, 3)
    answer = await socket.subscribe(fresh)
    assert answer["room"] == fresh
    assert answer["head"] == last
    assert answer["first"] == 1
    assert answer["role"] == "member"
    assert answer["read_seq"] == 0, "`read_seq` is 0 before any read"
    owner: Sock = await connect(alice)
    assert (await owner.subscribe(fresh))["role"] == "owner"


async def test_without_after_only_live(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 5)
    assert (await socket.subscribe(fresh))["head"] == head
    last = await talk(socket, fresh, 5, "live")
    await socket.reached(fresh, last)
    assert seqs(socket, fresh) == list(range(head + 1, last + 1))


async def test_from_the_beginning(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 120)
    await socket.subscribe(fresh, 0)
    await socket.reached(fresh, head)
    assert seqs(socket, fresh) == list(range(1, head + 1))
    created = socket.log(fresh)[0]
    assert created["type"] == "room"
    assert created["payload"]["action"] == "created"


@pytest.mark.parametrize("back", [0, 1, 2, 50, 63, 64, 65])
async def test_from_a_cursor_and_then_live(connect, alice: Account, fresh: str, back: int):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 130)
    answer = await socket.subscribe(fresh, head - back)
    assert answer["head"] == head
    last = await talk(socket, fresh, 3, "live")
    await socket.reached(fresh, last)
    assert seqs(socket, fresh) == list(range(head - back + 1, last + 1))


async def test_ok_comes_before_the_events(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 10)
    before = len(socket.frames)
    await socket.subscribe(fresh, 0)
    await socket.reached(fresh, head)
    kinds = [f["type"] for f in socket.frames[before:] if f["type"] in LOG_EVENTS | {"ok"}]
    assert kinds[0] == "ok"
    assert "ok" not in kinds[1:]


async def test_cursor_beyond_the_head_is_invalid(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 2)
    for after in (head + 1, head + 1000, 2**53 - 1):
        await socket.fails("subscribe", {"room": fresh, "after": after}, "invalid_field", "after")
    await socket.subscribe(fresh, head)


async def test_history_joined_begins_with_a_gap(connect, alice: Account, bob: Account, carol: Account):
    room = make_room(alice, history="joined", public=True, allow_guests=True)
    owner: Sock = await connect(alice)
    await talk(owner, room, 3)
    add_member(alice, room, bob)
    last = await talk(owner, room, 2)
    assert last == 7

    for after, told in [(0, (1, 4)), (3, (4, 4)), (4, None), (5, None)]:
        socket: Sock = await connect(bob)
        answer = await socket.subscribe(room, after)
        assert (answer["first"], answer["head"]) == (5, last)
        await socket.reached(room, last)
        kinds = [f["type"] for f in socket.frames if f["type"] in LOG_EVENTS | {"ok", "gap"}]
        gaps = [f["payload"] for f in socket.frames if f["type"] == "gap"]
        if told is None:
            assert gaps == []
        else:
            assert kinds[:2] == ["ok", "gap"], "between the answer and the events"
            assert gaps == [{"room": room, "from": told[0], "to": told[1], "reason": "joined"}]
        assert seqs(socket, room) == list(range(max(after, 4) + 1, last + 1))
    page = bob.messages(room, after=0)
    assert [e["payload"]["seq"] for e in page["events"]] == [5, 6, 7]
    assert (page["first"], bob.ok("GET", f"/rooms/{room}")["first"]) == (5, 5)
    await socket.fails("edit", {"room": room, "seq": 2, "body": "x"}, "not_found")
    await socket.fails("react", {"room": room, "seq": 2, "emoji": "👍"}, "not_found")

    guest: Sock = await connect(carol)
    assert (await guest.subscribe(room, 2))["first"] == last + 1
    assert await guest.event("gap") == {"room": room, "from": 3, "to": last, "reason": "joined"}
    live = await talk(owner, room, 1)
    await guest.reached(room, live)
    assert seqs(guest, room) == [live]


async def test_repeated_subscribe_moves_the_cursor(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    head = await talk(socket, fresh, 20)
    for after in (0, 10, 0, head, 5):
        before = len(socket.frames)
        await socket.subscribe(fresh, after)
        await socket.reached(fresh, head)
        new = [f["payload"]["seq"] for f in socket.frames[before:] if f["type"] in LOG_EVENTS]
        assert new == list(range(after + 1, head + 1))
    last = await talk(socket, fresh, 3, "live")
    await socket.reached(fresh, last)
    assert seqs(socket, fresh)[-3:] == [last - 2, last - 1, last], "one subscription, not several"


async def test_repeated_subscribe_while_events_flow(connect, alice: Account, bob: Account, fresh: str, seeded: random.Random):
    """The watch of `Sock` holds every event after each `ok` against that `ok`'s cursor."""
    sender: Sock = await connect(bob)
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh, 0)
    sending = asyncio.create_task(talk(sender, fresh, 600))
    while not sending.done():
        at = reader.cursors.get(fresh, 0)
        await reader.subscribe(fresh, seeded.randrange(at + 1) if seeded.random() < 0.7 else None)
    last = await sending
    await reader.subscribe(fresh, 0)
    await reader.reached(fresh, last)
    assert seqs(reader, fresh)[-last:] == list(range(1, last + 1))


async def test_unsubscribe_ends_the_events(connect, alice: Account, fresh: str):
    socket: Sock = await connect(alice)
    await socket.subscribe(fresh)
    assert await socket.ok("unsubscribe", {"room": fresh}) == {}
    await talk(socket, fresh, 3)
    await socket.alive()
    assert socket.log(fresh) == []
    head = (await socket.subscribe(fresh, 0))["head"]
    await socket.reached(fresh, head)


async def test_unsubscribe_of_what_is_not_subscribed(connect, alice: Account, fresh: str):
    """`{}` or an error: not said. The socket lives."""
    socket: Sock = await connect(alice)
    await socket.request("unsubscribe", {"room": fresh})
    await socket.request("unsubscribe", {"room": "no-such-room"})
    await socket.alive()


async def test_two_rooms_do_not_mix(connect, alice: Account):
    one, two = make_room(alice), make_room(alice)
    socket: Sock = await connect(alice)
    await socket.subscribe(one, 0)
    head = (await socket.subscribe(two, 0))["head"]
    await socket.reached(two, head)
    last = await talk(socket, one, 5)
    await socket.reached(one, last)
    assert socket.cursors[two] == head


async def test_257th_room_is_over_the_limit(connect, alice: Account):
    rooms = [make_room(alice) for _ in range(SUBSCRIPTIONS_LIMIT + 1)]
    socket: Sock = await connect(alice)
    futures = [await socket.ask("subscribe", {"room": room}) for room in rooms[:-1]]
    assert {(await f)["type"] for f in futures} == {"ok"}
    await socket.fails("subscribe", {"room": rooms[-1]}, "limit_exceeded")
    await socket.subscribe(rooms[0], 0)  # Repeated, it is no further one.
    await socket.ok("unsubscribe", {"room": rooms[0]})
    await socket.subscribe(rooms[-1])
    last = await talk(socket, rooms[5], 1)
    await socket.reached(rooms[5], last)


# The seam


async def test_seam_without_hole_or_repeat(connect, alice: Account, bob: Account, carol: Account, seeded: random.Random):
    """Senders send all the while; subscribers join at random moments from random cursors."""
    room = make_room(alice, bob, carol)
    senders = [await connect(who) for who in (alice, bob, carol)]
    await talk(senders[0], room, 150, "early")

    async def send_all(socket: Sock, name: str) -> int:
        last = 0
        for batch in range(8):
            last = await talk(socket, room, 40, f"{name} {batch}")
        return last

    sending = [asyncio.create_task(send_all(s, f"sender {n}")) for n, s in enumerate(senders)]
    joined: list[tuple[Sock, int]] = []
    while not all(t.done() for t in sending) and len(joined) < 24:
        socket: Sock = await connect(seeded.choice((alice, bob, carol)))
        head = alice.messages(room, limit=1)["head"]
        after = seeded.choice((0, head, seeded.randrange(head + 1), max(0, head - seeded.randrange(5))))
        await socket.subscribe(room, after)
        joined.append((socket, after))
    head = max([await t for t in sending])
    assert head == alice.messages(room)["head"]
    assert len(joined) >= 3
    for socket, after in joined:
        await socket.reached(room, head)
        assert seqs(socket, room) == list(range(after + 1, head + 1)), f"joined after {after}"

    frames = {}
    for socket, _ in joined:
        for seq, raw in socket.raw_log(room).items():
            assert frames.setdefault(seq, raw) == raw, "byte-identical for every subscriber"
    for event in alice.whole_log(room):
        seq = event["payload"]["seq"]
        if seq in frames:
            assert json.loads(frames[seq]) == event


async def test_events_are_the_same_bytes_live_from_history_and_over_http(connect, alice: Account, bob: Account):
    room = make_room(alice, bob)
    live: Sock = await connect(alice)
    await live.subscribe(room)
    sender: Sock = await connect(bob)
    begin = live.cursors[room]
    seq = await sender.send(room, 'quotes " and \\ and \u2028 and 🦀', data={"z": 1, "a": [1.5, None, "é"]}, key=f"k-{tag()}")
    await sender.send(room, "in answer", reply_to=seq)
    await sender.ok("edit", {"room": room, "seq": seq, "body": "edited"})
    await sender.ok("react", {"room": room, "seq": seq, "emoji": "🦀"})
    await sender.ok("react", {"room": room, "seq": seq, "emoji": "🦀", "remove": True})
    last = (await sender.ok("edit", {"room": room, "seq": seq, "body": "again"}))["seq"]
    await live.reached(room, last)
    late: Sock = await connect(bob)
    await late.subscribe(room, begin)
    await late.reached(room, last)
    assert late.raw_log(room) == live.raw_log(room)

    over_http = alice.get(f"/rooms/{room}/messages", params={"after": begin})
    over_ws = await late.ok("history", {"room": room, "after": begin})
    assert over_http.json()["events"] == live.log(room)
    assert over_ws["events"] == live.log(room)
    for raw in live.raw_log(room).values():
        assert raw in over_http.text, "each event the exact frame a subscriber gets"


async def test_subscribers_of_all_kinds_get_the_senders_order(connect, alice: Account, bob: Account, fresh: str):
    """Messages one connection sends one after the other keep their order."""
    sender: Sock = await connect(bob)
    reader: Sock = await connect(alice)
    await reader.subscribe(fresh)
    last = await talk(sender, fresh, 300, "n")
    await reader.reached(fresh, last)
    bodies = [f["payload"]["body"] for f in reader.log(fresh)]
    assert bodies == [f"n {n}" for n in range(300)]


async def test_resume_after_a_reconnect(connect, alice: Account, bob: Account, fresh: str):
    reader: Sock = await connect(alice)
    sender: Sock = await connect(bob)
    await reader.subscribe(fresh)
    await reader.reached(fresh, await talk(sender, fresh, 10))
    at = reader.cursors[fresh]
    await reader.close()
    missed = await talk(sender, fresh, 50, "missed")
    again: Sock = await connect(alice)
    await again.subscribe(fresh, at)
    await again.reached(fresh, missed)
    assert [f["payload"]["body"] for f in again.log(fresh)] == [f"missed {n}" for n in range(50)]


# What ends a subscription


async def ended(socket: Sock, room: str, reason: str) -> None:
    payload = await socket.event("unsubscribed", room=room)
    assert payload["reason"] == reason


async def test_leave_ends_it(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    other_device: Sock = await connect(bob)
    await socket.subscribe(fresh)
    await other_device.subscribe(fresh)
    assert await socket.ok("leave", {"room": fresh}) == {}
    await ended(socket, fresh, "left")
    await ended(other_device, fresh, "left")
    owner: Sock = await connect(alice)
    await talk(owner, fresh, 2)
    await socket.alive()
    await socket.fails("subscribe", {"room": fresh}, "not_found")


async def test_leave_over_http_ends_it(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    bob.ok("DELETE", f"/rooms/{fresh}/members/{bob.id}")
    await ended(socket, fresh, "left")


async def test_removal_ends_it(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    owner: Sock = await connect(alice)
    await socket.subscribe(fresh)
    await owner.subscribe(fresh)
    alice.ok("DELETE", f"/rooms/{fresh}/members/{bob.id}")
    await ended(socket, fresh, "removed")
    event = await owner.event("member", action="removed")
    assert (event["user_id"], event["sender"]) == (bob.id, alice.id)
    await talk(owner, fresh, 2)
    await socket.fails("subscribe", {"room": fresh}, "not_found")
    await socket.fails("send", {"room": fresh, "body": "x"}, "not_found")


async def test_removal_that_nobody_waits_for_ends_it(connect, gateway: Gateway, alice: Account, bob: Account):
    """A request whose caller hangs up at once is carried out or not; who was removed by it is told in any case."""
    rooms = [make_room(alice, bob) for _ in range(20)]
    socket: Sock = await connect(bob)
    for room in rooms:
        await socket.subscribe(room)
    left = rooms
    for _ in range(100):
        for room in left:
            with tcp.create_connection(gateway.host_port) as raw:
                raw.sendall(
                    f"DELETE /api/v1/rooms/{room}/members/{bob.id} HTTP/1.1\r\n"
                    f"host: {gateway.host_port[0]}\r\nauthorization: Bearer {alice.access}\r\n\r\n".encode()
                )
        left = [room for room in left if bob.get(f"/rooms/{room}").status_code != 404]
        if not left:
            break
    removed = set(rooms) - set(left)
    assert removed, "none of the requests was carried out: this shows nothing"
    owner: Sock = await connect(alice)
    for room in removed:
        await ended(socket, room, "removed")
        await owner.send(room, "after it")
    await socket.alive()


async def test_ban_ends_it(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    owner: Sock = await connect(alice)
    await socket.subscribe(fresh)
    await owner.subscribe(fresh)
    alice.ok("PUT", f"/rooms/{fresh}/bans/{bob.id}", json={"reason": "test"})
    await ended(socket, fresh, "banned")
    event = await owner.event("member", action="banned")
    assert (event["user_id"], event["sender"]) == (bob.id, alice.id)
    await socket.fails("send", {"room": fresh, "body": "x"}, "not_found")
    await socket.fails("subscribe", {"room": fresh}, "not_found")


async def test_room_made_private_ends_guests_only(connect, alice: Account, bob: Account, carol: Account):
    room = make_room(alice, bob, public=True, allow_guests=True)
    member: Sock = await connect(bob)
    guest: Sock = await connect(carol)
    await member.subscribe(room)
    assert (await guest.subscribe(room))["role"] == "guest"
    owner: Sock = await connect(alice)
    first = await talk(owner, room, 1)
    await guest.reached(room, first)
    alice.ok("PATCH", f"/rooms/{room}", json={"settings": {"public": False}})
    await ended(guest, room, "private")
    last = await talk(owner, room, 2)
    await member.reached(room, last)
    assert not [f for f in member.frames if f["type"] == "unsubscribed"]
    await guest.fails("subscribe", {"room": room}, "not_found")


async def test_deleted_room_ends_it_for_all(connect, alice: Account, bob: Account, fresh: str):
    sockets = [await connect(alice), await connect(bob)]
    for socket in sockets:
        await socket.subscribe(fresh)
    alice.ok("DELETE", f"/rooms/{fresh}")
    for socket in sockets:
        await ended(socket, fresh, "deleted")
        await socket.fails("subscribe", {"room": fresh}, "not_found")
        await socket.fails("send", {"room": fresh, "body": "x"}, "not_found")


async def test_subscription_over_frees_its_place_and_can_be_renewed(connect, alice: Account, bob: Account, fresh: str):
    socket: Sock = await connect(bob)
    await socket.subscribe(fresh)
    alice.ok("DELETE", f"/rooms/{fresh}/members/{bob.id}")
    await ended(socket, fresh, "removed")
    add_member(alice, fresh, bob)
    head = (await socket.subscribe(fresh, 0))["head"]
    await socket.reached(fresh, head)


# Who may subscribe


async def test_room_it_may_not_see_is_not_found(connect, alice: Account, carol: Account, fresh: str):
    socket: Sock = await connect(carol)
    hidden = await socket.fails("subscribe", {"room": fresh}, "not_found")
    missing = await socket.fails("subscribe", {"room": f"no-such-{tag()}"}, "not_found")
    assert {k: v for k, v in hidden.items() if k != "message"} == {k: v for k, v in missing.items() if k != "message"}
    await socket.alive()


async def test_public_room_without_guests_is_forbidden_until_joined(connect, alice: Account, carol: Account):
    room = make_room(alice, public=True, allow_guests=False)
    socket: Sock = await connect(carol)
    await socket.fails("subscribe", {"room": room}, "forbidden")
    await socket.ok("join", {"room": room})
    assert (await socket.subscribe(room, 0))["role"] == "member"


@pytest.mark.parametrize("room", ["No Such Room", "", "a" * 65, "../etc", "-x", "röom"], ids=repr)
async def test_what_is_no_room_id_is_an_error(connect, alice: Account, room: str):
    socket: Sock = await connect(alice)
    await socket.fails("subscribe", {"room": room}, ("not_found", *BAD_FIELD))
    await socket.alive()


async def test_subscriptions_of_two_gateways_do_not_meet(start_gateway, connect, alice: Account):
    """A room of the same name on another gateway is another room: nothing is shared but the machine."""
    other: Gateway = start_gateway()
    stranger = register(Api(other))
    room = f"shared-{tag()}"
    make_room(alice, id=room)
    make_room(stranger, id=room)
    here: Sock = await connect(alice)
    there: Sock = await connect(stranger)
    await there.subscribe(room)
    await here.subscribe(room)
    await here.reached(room, await talk(here, room, 3))
    await there.alive()
    assert there.log(room) == []
