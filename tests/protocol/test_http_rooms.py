"""Rooms over HTTP: create, see, change, delete; members, roles, bans."""

import time

import pytest

from stackclient import Account, assert_problem, add_member, make_room, tag
from stackclient.spec import BAD_FIELD


def member_roles(who: Account, room: str) -> dict[str, str]:
    return {m["user"]["id"]: m["role"] for m in who.ok("GET", f"/rooms/{room}/members")["members"]}


# Create, see, change, delete


def test_room_as_created(alice: Account):
    room_id = f"room-{tag()}"
    response = alice.post("/rooms", json={"id": room_id, "title": "The room", "settings": {"public": True}})
    assert response.status_code == 201
    room = response.json()
    assert {"id", "title", "settings", "role", "first", "head", "read_seq", "created_at"} <= set(room)
    assert (room["id"], room["title"], room["role"]) == (room_id, "The room", "owner")
    assert room["settings"]["public"] is True
    assert room["first"] == 1 and room["head"] >= 1 and room["read_seq"] == 0
    assert abs(room["created_at"] - time.time() * 1000) < 60_000
    assert alice.ok("GET", f"/rooms/{room_id}") == room
    assert [r for r in alice.ok("GET", "/rooms")["rooms"] if r["id"] == room_id] == [room]


def test_room_without_an_id_gets_one(alice: Account):
    one = alice.ok("POST", "/rooms", json={"title": "Same title"})
    two = alice.ok("POST", "/rooms", json={"title": "Same title"})
    assert one["id"] != two["id"]
    assert alice.get(f"/rooms/{one['id']}").status_code == 200


@pytest.mark.parametrize("id", ["a", "0", "a.b_c-d", "a" * 64, "9-_."], ids=repr)
def test_ids_that_are_slugs(alice: Account, id: str):
    response = alice.post("/rooms", json={"id": id, "title": "x", "settings": {"public": False}})
    assert response.status_code == 201, response.text
    assert alice.get(f"/rooms/{id}").json()["id"] == id


@pytest.mark.parametrize("id", ["", "A", "-a", ".a", "_a", "a b", "a/b", "ä", "a" * 65, "a\n", "a\u0000"], ids=ascii)
def test_ids_that_are_not(alice: Account, id: str):
    assert_problem(alice.post("/rooms", json={"id": id, "title": "x"}), 422, "invalid_field", "id")


def test_taken_id_is_a_conflict(alice: Account, bob: Account):
    room = make_room(alice)
    assert_problem(alice.post("/rooms", json={"id": room, "title": "x"}), 409, "conflict")
    assert_problem(bob.post("/rooms", json={"id": room, "title": "x"}), 409, "conflict")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": 5},
        {"title": "x", "id": 5},
        {"title": "x", "settings": "public"},
        {"title": "x", "settings": {"public": "yes"}},
        {"title": "x", "settings": {"max_message_bytes": -1}},
        {"title": "x", "settings": {"slow_mode_s": "1"}},
    ],
    ids=str,
)
def test_create_refuses_bad_fields(alice: Account, body: dict):
    assert_problem(alice.post("/rooms", json=body), None, BAD_FIELD)


def test_change(alice: Account):
    room = make_room(alice, public=True, allow_guests=True)
    alice.ok("PATCH", f"/rooms/{room}", json={"title": "New title"})
    changed = alice.ok("GET", f"/rooms/{room}")
    assert changed["title"] == "New title"
    assert changed["settings"]["public"] is True and changed["settings"]["allow_guests"] is True
    alice.ok("PATCH", f"/rooms/{room}", json={"settings": {"allow_guests": False}})
    changed = alice.ok("GET", f"/rooms/{room}")
    assert changed["title"] == "New title"
    assert changed["settings"]["public"] is True and changed["settings"]["allow_guests"] is False


def test_max_message_bytes_of_a_room(alice: Account):
    room = make_room(alice, max_message_bytes=100)
    assert alice.post(f"/rooms/{room}/messages", json={"body": "x" * 100}).status_code == 201
    assert_problem(alice.post(f"/rooms/{room}/messages", json={"body": "x" * 101}), 413, "payload_too_large")


def test_only_the_owner_changes_and_deletes(alice: Account, bob: Account, carol: Account):
    room = make_room(alice, bob, public=True)
    for who in (bob, carol):
        assert_problem(who.patch(f"/rooms/{room}", json={"title": "mine"}), 403, "forbidden")
        assert_problem(who.delete(f"/rooms/{room}"), 403, "forbidden")
    assert alice.ok("GET", f"/rooms/{room}")["title"] == "A room"


def test_delete(alice: Account, bob: Account):
    room = make_room(alice, bob)
    assert alice.delete(f"/rooms/{room}").is_success
    for who in (alice, bob):
        assert_problem(who.get(f"/rooms/{room}"), 404, "not_found")
        assert_problem(who.get(f"/rooms/{room}/messages"), 404, "not_found")
        assert_problem(who.post(f"/rooms/{room}/messages", json={"body": "x"}), 404, "not_found")
        assert room not in [r["id"] for r in who.ok("GET", "/rooms")["rooms"]]


# Who sees what


def test_private_room_is_not_found_for_those_outside(alice: Account, carol: Account):
    room = make_room(alice)
    for method, path, body in [
        ("GET", "", None),
        ("PATCH", "", {"title": "x"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("PUT", f"/members/{carol.id}", {"role": "member"}),
        ("DELETE", f"/members/{carol.id}", None),
        ("GET", "/messages", None),
        ("POST", "/messages", {"body": "x"}),
        ("GET", "/presence", None),
        ("GET", "/bans", None),
        ("PUT", f"/bans/{alice.id}", {}),
        ("DELETE", f"/bans/{alice.id}", None),
    ]:
        kwargs = {"json": body} if body is not None else {}
        hidden = carol.request(method, f"/rooms/{room}{path}", **kwargs)
        missing = carol.request(method, f"/rooms/no-such-room{path}", **kwargs)
        assert_problem(hidden, 404, "not_found")
        assert_problem(missing, 404, "not_found")
        one, other = hidden.json(), missing.json()
        one.pop("request_id"), other.pop("request_id")
        assert str(one).replace(room, "") == str(other).replace("no-such-room", ""), "nothing tells them apart"
    assert room not in [r["id"] for r in carol.ok("GET", "/rooms")["rooms"]]


def test_public_room_is_seen_and_joinable(alice: Account, carol: Account):
    room = make_room(alice, public=True, allow_guests=False)
    seen = carol.ok("GET", f"/rooms/{room}")
    assert seen["role"] is None
    assert room in [r["id"] for r in carol.ok("GET", "/rooms")["rooms"]]
    for method, path in [("GET", "/messages"), ("GET", "/members"), ("GET", "/presence")]:
        assert_problem(carol.request(method, f"/rooms/{room}{path}"), 403, "forbidden")
    assert_problem(carol.post(f"/rooms/{room}/messages", json={"body": "x"}), 403, "forbidden")
    carol.ok("PUT", f"/rooms/{room}/members/{carol.id}", json={"role": "member"})
    assert carol.ok("GET", f"/rooms/{room}")["role"] == "member"
    carol.ok("POST", f"/rooms/{room}/messages", json={"body": "hello"})
    carol.ok("PUT", f"/rooms/{room}/members/{carol.id}", json={"role": "member"})
    carol.ok("DELETE", f"/rooms/{room}/members/{carol.id}")
    assert carol.ok("GET", f"/rooms/{room}")["role"] is None


def test_guests_read_where_allowed(alice: Account, carol: Account):
    room = make_room(alice, public=True, allow_guests=True)
    for path in ("", "/messages", "/members", "/presence"):
        assert carol.get(f"/rooms/{room}{path}").status_code == 200
    assert_problem(carol.post(f"/rooms/{room}/messages", json={"body": "x"}), 403, "forbidden")


def test_one_joins_only_as_member(alice: Account, carol: Account):
    room = make_room(alice, public=True)
    for role in ("owner", "moderator"):
        assert_problem(carol.put(f"/rooms/{room}/members/{carol.id}", json={"role": role}), 403, "forbidden")
    assert carol.id not in member_roles(alice, room)


# Members


def test_members_are_listed(alice: Account, bob: Account):
    room = make_room(alice, bob)
    members = alice.ok("GET", f"/rooms/{room}/members")["members"]
    assert {m["user"]["id"]: m["role"] for m in members} == {alice.id: "owner", bob.id: "member"}
    for member in members:
        assert {"id", "username", "display_name", "role", "created_at"} <= set(member["user"])
        assert "email" not in member["user"]
        assert abs(member["joined_at"] - time.time() * 1000) < 120_000


@pytest.mark.parametrize("role", ["owner", "moderator", "member", "guest"])
def test_owner_gives_roles(alice: Account, bob: Account, role: str):
    room = make_room(alice, bob)
    add_member(alice, room, bob, role)
    assert member_roles(alice, room)[bob.id] == role
    assert bob.ok("GET", f"/rooms/{room}")["role"] == role


def test_unknown_role_is_refused(alice: Account, bob: Account):
    room = make_room(alice, bob)
    for role in ("admin", "", 5, None):
        assert_problem(alice.put(f"/rooms/{room}/members/{bob.id}", json={"role": role}), None, BAD_FIELD, "role")


def test_unknown_user_is_not_found(alice: Account):
    room = make_room(alice)
    assert_problem(alice.put(f"/rooms/{room}/members/nosuchuser", json={"role": "member"}), None, ("not_found", "invalid_field"))
    assert_problem(alice.delete(f"/rooms/{room}/members/nosuchuser"), 404, "not_found")


def test_member_changes_no_roles(alice: Account, bob: Account, carol: Account):
    room = make_room(alice, bob)
    for user, role in ((carol, "member"), (bob, "owner"), (alice, "member")):
        assert_problem(bob.put(f"/rooms/{room}/members/{user.id}", json={"role": role}), 403, "forbidden")
    assert_problem(bob.delete(f"/rooms/{room}/members/{alice.id}"), 403, "forbidden")
    assert member_roles(alice, room) == {alice.id: "owner", bob.id: "member"}


def test_moderator_does_not_make_owners_or_touch_one(alice: Account, bob: Account, carol: Account):
    room = make_room(alice, carol)
    add_member(alice, room, bob, "moderator")
    assert_problem(bob.put(f"/rooms/{room}/members/{bob.id}", json={"role": "owner"}), 403, "forbidden")
    assert_problem(bob.put(f"/rooms/{room}/members/{carol.id}", json={"role": "owner"}), 403, "forbidden")
    assert_problem(bob.delete(f"/rooms/{room}/members/{alice.id}"), 403, "forbidden")
    assert_problem(bob.put(f"/rooms/{room}/bans/{alice.id}", json={}), 403, "forbidden")
    assert_problem(bob.delete(f"/rooms/{room}"), 403, "forbidden")


def test_last_owner_stays(alice: Account, bob: Account):
    room = make_room(alice, bob)
    assert_problem(alice.delete(f"/rooms/{room}/members/{alice.id}"), 409, "conflict")
    # Stepping down would leave the room as ownerless as leaving does.
    assert_problem(alice.put(f"/rooms/{room}/members/{alice.id}", json={"role": "member"}), None, ("conflict", "forbidden"))
    assert member_roles(alice, room)[alice.id] == "owner"
    add_member(alice, room, bob, "owner")
    alice.ok("DELETE", f"/rooms/{room}/members/{alice.id}")
    assert member_roles(bob, room) == {bob.id: "owner"}


def test_guest_member_never_sends(alice: Account, bob: Account):
    room = make_room(alice)
    add_member(alice, room, bob, "guest")
    assert_problem(bob.post(f"/rooms/{room}/messages", json={"body": "x"}), 403, "forbidden")
    assert bob.get(f"/rooms/{room}/messages").status_code == 200


def test_removed_member_is_outside(alice: Account, bob: Account):
    room = make_room(alice, bob)
    alice.ok("DELETE", f"/rooms/{room}/members/{bob.id}")
    assert_problem(bob.get(f"/rooms/{room}"), 404, "not_found")
    event = alice.whole_log(room)[-1]
    assert event["type"] == "member"
    assert (event["payload"]["action"], event["payload"]["user_id"], event["payload"]["sender"]) == ("removed", bob.id, alice.id)


# Bans


def banned_ids(who: Account, room: str) -> str:
    return who.get(f"/rooms/{room}/bans").text


def test_ban_removes_and_keeps_out_until_lifted(alice: Account, bob: Account):
    room = make_room(alice, bob, public=True)
    alice.ok("PUT", f"/rooms/{room}/bans/{bob.id}", json={"reason": "noise"})
    assert bob.id not in member_roles(alice, room)
    assert bob.id in banned_ids(alice, room)
    assert "noise" in banned_ids(alice, room)
    join = {"json": {"role": "member"}}
    assert_problem(bob.put(f"/rooms/{room}/members/{bob.id}", **join), 403, "forbidden")
    assert_problem(bob.post(f"/rooms/{room}/messages", json={"body": "x"}), 403, "forbidden")
    assert_problem(bob.get(f"/rooms/{room}/messages"), 403, "forbidden")
    alice.ok("DELETE", f"/rooms/{room}/bans/{bob.id}")
    assert bob.id not in banned_ids(alice, room)
    bob.ok("PUT", f"/rooms/{room}/members/{bob.id}", **join)
    bob.ok("POST", f"/rooms/{room}/messages", json={"body": "back"})


def test_banned_is_no_guest(alice: Account, bob: Account):
    room = make_room(alice, public=True, allow_guests=True)
    assert bob.get(f"/rooms/{room}/messages").status_code == 200
    alice.ok("PUT", f"/rooms/{room}/bans/{bob.id}", json={})
    assert_problem(bob.get(f"/rooms/{room}/messages"), 403, "forbidden")


def test_ban_expires(alice: Account, bob: Account):
    room = make_room(alice, bob, public=True)
    expires_at = int(time.time() * 1000) + 1500
    alice.ok("PUT", f"/rooms/{room}/bans/{bob.id}", json={"expires_at": expires_at})
    join = {"json": {"role": "member"}}
    first = bob.put(f"/rooms/{room}/members/{bob.id}", **join)
    assert_problem(first, 403, "forbidden")
    while not (response := bob.put(f"/rooms/{room}/members/{bob.id}", **join)).is_success:
        assert_problem(response, 403, "forbidden")
        assert time.time() * 1000 < expires_at + 3000, "the ban does not expire"
    assert time.time() * 1000 >= expires_at - 50
    bob.ok("POST", f"/rooms/{room}/messages", json={"body": "back"})


def test_member_bans_nobody(alice: Account, bob: Account, carol: Account):
    room = make_room(alice, bob, carol, public=True)
    assert_problem(bob.put(f"/rooms/{room}/bans/{carol.id}", json={}), 403, "forbidden")
    assert_problem(bob.get(f"/rooms/{room}/bans"), 403, "forbidden")
    assert_problem(bob.delete(f"/rooms/{room}/bans/{carol.id}"), 403, "forbidden")


def test_last_owner_is_not_banned(alice: Account, bob: Account):
    room = make_room(alice, bob)
    assert_problem(alice.put(f"/rooms/{room}/bans/{alice.id}", json={}), None, ("conflict", "forbidden", "invalid_field"))
    assert alice.ok("GET", f"/rooms/{room}")["role"] == "owner"
