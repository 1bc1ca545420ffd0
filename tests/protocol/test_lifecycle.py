"""Restart, SIGKILL and SIGTERM: what outlives the process, and how it says goodbye."""

import time

import pytest

from stackclient import Account, Api, Gateway, Sock, assert_problem, login, make_room, register, tag


@pytest.fixture
def people(start_gateway):
    gateway: Gateway = start_gateway()
    api = Api(gateway)
    yield gateway, register(api, "alice"), register(api, "bob")
    api.close()


def again(gateway: Gateway, how: str, *accounts: Account) -> None:
    """Ends the gateway as told, starts it on the same data, and points the accounts at it."""
    if how == "SIGKILL":
        gateway.kill()
    else:
        assert gateway.stop() == 0
    gateway.start()
    for account in accounts:
        account.api = Api(gateway)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_everything_acknowledged_outlives_the_process(people, connect, how: str):
    gateway, alice, bob = people
    room = make_room(alice, bob)
    alice.ok("PATCH", f"/rooms/{room}", json={"title": "Kept"})
    socket: Sock = await connect(bob)
    key = tag()
    keyed = await socket.send(room, "keyed", key=key, data=[1])
    edited = await socket.send(room, "to edit")
    await socket.ok("edit", {"room": room, "seq": edited, "body": "edited"})
    redacted = await socket.send(room, "to redact")
    await socket.ok("redact", {"room": room, "seq": redacted})
    await socket.ok("react", {"room": room, "seq": keyed, "emoji": "👍"})
    await socket.ok("read", {"room": room, "seq": edited})
    deleted = make_room(alice)
    alice.ok("DELETE", f"/rooms/{deleted}")
    gone = login(alice)
    gone.post("/auth/logout")
    spent = bob.api.post("/auth/refresh", json={"refresh_token": bob.refresh}).json()
    log = alice.whole_log(room)
    before = alice.ok("GET", f"/rooms/{room}")

    again(gateway, how, alice, bob, gone)

    assert alice.whole_log(room) == log
    assert alice.ok("GET", f"/rooms/{room}") == before
    assert bob.ok("GET", f"/rooms/{room}")["read_seq"] == edited
    assert_problem(alice.get(f"/rooms/{deleted}"), 404, "not_found")
    assert gone.get("/me").status_code == 401, "a revoked session stays revoked"
    assert alice.ok("GET", "/me")["id"] == alice.id
    socket = await connect(bob)
    assert await socket.send(room, "another body", key=key) == keyed
    head = log[-1]["payload"]["seq"]
    next_one = await socket.ok("send", {"room": room, "body": "next"})
    assert next_one["seq"] == head + 1
    assert next_one["ts"] >= log[-1]["payload"]["ts"]
    await socket.subscribe(room, 0)
    await socket.reached(room, head + 1)
    assert socket.log(room)[:-1] == log
    pair = bob.api.post("/auth/refresh", json={"refresh_token": spent["refresh_token"]})
    assert pair.status_code == 200
    assert_problem(bob.api.post("/auth/refresh", json={"refresh_token": bob.refresh}), 401, "token_reused")


async def test_tokens_outlive_a_restart_without_a_configured_secret(start_gateway):
    gateway: Gateway = start_gateway(AUTH_JWT_SECRET=None)
    account = register(Api(gateway))
    again(gateway, "SIGKILL", account)
    assert account.ok("GET", "/me")["id"] == account.id


async def test_presence_is_healed_by_a_restart(people, connect):
    gateway, alice, bob = people
    room = make_room(alice, bob)
    socket: Sock = await connect(bob)
    await socket.subscribe(room)
    await socket.ok("presence", {"status": "busy"})
    again(gateway, "SIGKILL", alice, bob)
    listed = {u["user_id"]: u for u in alice.ok("GET", f"/rooms/{room}/presence")["users"]}
    assert bob.id not in listed or listed[bob.id]["status"] == "offline"


async def test_sigterm_drains(people, connect):
    gateway, alice, bob = people
    room = make_room(alice, bob)
    sockets = [await connect(alice), await connect(bob), await connect(bob)]
    await sockets[0].subscribe(room)
    for socket in sockets:
        await socket.alive()
    pending = [await sockets[1].ask("send", {"room": room, "body": f"{n}"}) for n in range(50)]
    begun = time.monotonic()
    gateway.terminate()
    acknowledged = []
    for socket in sockets:
        assert await socket.closed(20) == 1001
        drains = [f["payload"] for f in socket.frames if f["type"] == "drain"]
        assert len(drains) == 1
        assert isinstance(drains[0]["reconnect_in_ms"], int) and drains[0]["reconnect_in_ms"] >= 0
    for future in pending:
        if future.exception() is None and future.result()["type"] == "ok":
            acknowledged.append(future.result()["payload"]["seq"])
    assert gateway.wait() == 0
    assert time.monotonic() - begun < 20
    gateway.start()
    alice.api = Api(gateway)
    logged = {e["payload"]["seq"] for e in alice.whole_log(room)}
    assert set(acknowledged) <= logged


async def test_sigterm_with_idle_connections_ends_in_time(people, connect):
    """Someone who neither reads nor closes does not hold the process up."""
    gateway, alice, bob = people
    unauthenticated: Sock = await connect(gateway=gateway)
    idle: Sock = await connect(alice)
    await idle.alive()
    assert gateway.stop() == 0
    assert await idle.closed() == 1001
    await unauthenticated.closed()
