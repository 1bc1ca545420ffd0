"""With rate limits on, as they are by default: what is refused, how it is told, and that it ends."""

import time

import pytest
from websockets.exceptions import ConnectionClosed

from stackclient import Account, Api, Closed, Gateway, Sock, assert_problem, make_room, register, tag


@pytest.fixture
def limited(start_gateway) -> Gateway:
    return start_gateway(STACK_RATE_ENABLED=None)


async def test_messages_are_limited_and_recover(limited: Gateway, connect):
    """10 in 10 s by user and room."""
    alice = register(Api(limited))
    room, other = make_room(alice), make_room(alice)
    socket: Sock = await connect(alice)
    answers = [await socket.request("send", {"room": room, "body": f"{n}"}) for n in range(16)]
    kinds = [a["type"] for a in answers]
    assert kinds[:10] == ["ok"] * 10
    refused = [a["payload"] for a in answers if a["type"] == "error"]
    assert refused, "16 messages at once pass a limit of 10 in 10 s"
    for error in refused:
        assert error["code"] == "rate_limited"
        assert error["retryable"] is True
        assert 0 < error["retry_after_ms"] <= 10_000
    await socket.alive()
    acknowledged = [a["payload"]["seq"] for a in answers if a["type"] == "ok"]
    logged = [e["payload"]["seq"] for e in alice.whole_log(room) if e["type"] == "message"]
    assert logged == acknowledged, "what was refused is not in the log"
    await socket.send(other, "another room has its own")

    http = alice.post(f"/rooms/{room}/messages", json={"body": "x"})
    if http.status_code == 429:
        assert_problem(http, 429, "rate_limited")
        wait_ms = http.json()["retry_after_ms"]
        assert abs(int(http.headers["retry-after"]) * 1000 - wait_ms) <= 1000
    await socket.stays_open(refused[-1]["retry_after_ms"] / 1000 + 0.3)
    await socket.send(room, "after the wait")


async def test_repeated_key_is_answered_when_the_rate_is_used_up(limited: Gateway, connect):
    alice = register(Api(limited))
    room = make_room(alice)
    socket: Sock = await connect(alice)
    key = tag()
    first = await socket.ok("send", {"room": room, "body": "x", "key": key})
    refused = None
    while refused is None or refused["type"] == "ok":
        refused = await socket.request("send", {"room": room, "body": "x"})
    assert refused["payload"]["code"] == "rate_limited"
    assert await socket.ok("send", {"room": room, "body": "another", "key": key}) == first


async def test_a_hundred_refusals_in_a_row_close_with_4029(limited: Gateway, connect):
    """An answer in between begins the row anew."""
    alice = register(Api(limited))
    room = make_room(alice)
    socket: Sock = await connect(alice)

    def refusals() -> list[dict]:
        return [f["payload"] for f in socket.frames if f["type"] == "error"]

    for n in range(90):
        await socket.request("send", {"room": room, "body": f"{n}"})
    assert len(refusals()) >= 70
    await socket.alive()
    before = len(socket.frames)
    try:
        for n in range(500):
            await socket.ask("send", {"room": room, "body": f"{n}"})
    except Closed:
        pass
    assert await socket.closed() == 4029
    row = 0
    for frame in socket.frames[before:]:
        row = row + 1 if frame["type"] == "error" else 0
    assert row == 100
    for error in refusals():
        assert error["code"] == "rate_limited"
        assert error["retryable"] is True
        assert 0 < error["retry_after_ms"] <= 10_000
    again: Sock = await connect(alice)
    await again.alive()


async def test_frames_of_any_kind_are_limited(limited: Gateway, connect):
    """1500 in 10 s of one user, over all their sockets; another user has their own."""
    api = Api(limited)
    alice, bob = register(api), register(api)
    sockets = [await connect(alice), await connect(alice)]
    other: Sock = await connect(bob)
    answers: list[dict] = []
    begun = time.monotonic()
    while len(answers) < 6000 and not any(a["type"] == "error" for a in answers):
        for socket in sockets:
            futures = [await socket.ask("ping") for _ in range(50)]
            answers += [await future for future in futures]
    took = time.monotonic() - begun
    oks = sum(a["type"] == "ok" for a in answers)
    assert 1500 <= oks <= 1500 + 150 * (took + 1)
    refused = [a["payload"] for a in answers if a["type"] == "error"]
    assert refused, f"{oks} frames in {took:.1f} s"
    for error in refused:
        assert error["code"] == "rate_limited"
        assert error["retryable"] is True
        assert 0 < error["retry_after_ms"] <= 10_000
    await other.alive()


def test_logins_are_limited(limited: Gateway):
    """5 failures in 30 min per account, 10 in 3 min per address."""
    api = Api(limited)
    account = register(api)
    wrong = {"login": account.username, "password": "not the right lantern"}
    for tries in range(1, 13):
        response = api.post("/auth/login", json=wrong)
        if response.status_code == 429:
            break
        assert_problem(response, 401, "invalid_credentials")
    assert_problem(response, 429, "rate_limited")
    assert 4 <= tries <= 11
    assert int(response.headers["retry-after"]) >= 1
    assert account.get("/me").status_code == 200, "who is signed in is not locked out"


def test_unknown_accounts_are_limited_too(limited: Gateway):
    api = Api(limited)
    wrong = {"login": f"nobody-{tag()}", "password": "not the right lantern"}
    statuses = [api.post("/auth/login", json=wrong).status_code for _ in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert set(statuses) == {401, 429}


def test_api_is_limited_per_caller(limited: Gateway):
    """300 in 10 s."""
    api = Api(limited)
    one, other = register(api), register(api)
    begun = time.monotonic()
    refused = None
    for n in range(900):
        response = one.get("/me")
        if response.status_code == 429:
            refused = response
            break
        assert response.status_code == 200
    assert refused is not None, f"900 requests in {time.monotonic() - begun:.1f} s"
    assert n >= 250
    assert_problem(refused, 429, "rate_limited")
    assert other.get("/me").status_code == 200, "another caller has its own"
    assert api.get("//health").status_code == 200


def test_refreshes_are_limited(limited: Gateway):
    """30 in a minute per session."""
    api = Api(limited)
    account = register(api)
    token = account.refresh
    for n in range(45):
        response = api.post("/auth/refresh", json={"refresh_token": token})
        if response.status_code == 429:
            break
        assert response.status_code == 200
        token = response.json()["refresh_token"]
    assert_problem(response, 429, "rate_limited")
    assert n >= 28
    assert account.get("/me").status_code == 200, "a refusal ends no session"


def test_limits_are_off_where_configured(api: Api, alice: Account):
    room = make_room(alice)
    for n in range(40):
        alice.ok("POST", f"/rooms/{room}/messages", json={"body": f"{n}"})


async def test_a_flood_of_pings_is_a_flood_of_frames(limited: Gateway, connect):
    """Whoever pings thousands of times is told so and then closed, as with any other frame."""
    alice = register(Api(limited))
    socket: Sock = await connect(alice)
    for _ in range(3000):
        try:
            await socket.ws.ping()
        except ConnectionClosed:
            break
    assert await socket.closed() == 4029
