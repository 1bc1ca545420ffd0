"""How a socket is opened and authenticated, and when it must close: origins, cookies, tickets, tokens, revocation."""

import asyncio
import time

import pytest

from stackclient import (
    OUR_ORIGIN,
    Account,
    Api,
    Closed,
    Gateway,
    Sock,
    dial,
    expired,
    expiring_in,
    login,
    make_room,
    mint,
    register,
    set_cookies,
    tag,
    token_claims,
    upgrade_refused,
)

FOREIGN_ORIGINS = [
    "https://evil.example",
    "http://localhost",
    "http://localhost:18081",
    "https://localhost:18080",
    "http://localhost:18080.evil.example",
    "http://evil.example#http://localhost:18080",
    "null",
]


@pytest.fixture(scope="module")
def cookies(api: Api, alice: Account) -> dict[str, str]:
    """The cookies of a session of alice's that was opened the way a browser does."""
    response = api.post("/auth/login", json={"login": alice.username, "password": alice.password})
    assert response.status_code == 200
    return {name: cookie["value"] for name, cookie in set_cookies(response).items()}


# Opening


async def test_subprotocol_is_spoken(connect, alice: Account):
    socket: Sock = await connect(alice)
    assert socket.ws.subprotocol == "stack.v1.json"


async def test_subprotocol_is_picked_among_others(connect, alice: Account):
    socket: Sock = await connect(alice, subprotocols=["other.v9", "stack.v1.json"])
    assert socket.ws.subprotocol == "stack.v1.json"
    await socket.alive()


async def test_bearer_needs_no_origin(connect, alice: Account):
    await (await connect(alice)).alive()


async def test_bearer_with_our_origin(connect, alice: Account):
    await (await connect(alice, origin=OUR_ORIGIN)).alive()


async def test_cookie_with_our_origin(connect, gateway: Gateway, cookies):
    await (await connect(cookies=cookies, origin=OUR_ORIGIN)).alive()


async def test_cookie_without_origin_is_403(gateway: Gateway, cookies):
    status, problem = await upgrade_refused(gateway, cookies=cookies)
    assert status == 403
    if problem:
        assert problem["code"] in ("forbidden", "csrf_failed")


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_foreign_origin_is_403_by_cookie(gateway: Gateway, cookies, origin: str):
    assert (await upgrade_refused(gateway, cookies=cookies, origin=origin))[0] == 403


async def test_foreign_origin_is_403_whatever_the_credentials(gateway: Gateway, alice: Account):
    evil = "https://evil.example"
    assert (await upgrade_refused(gateway, origin=evil))[0] == 403
    assert (await upgrade_refused(gateway, origin=evil, token=alice.access))[0] == 403
    assert (await upgrade_refused(gateway, origin=evil, token="nonsense"))[0] == 403
    ticket = alice.ticket()
    assert (await upgrade_refused(gateway, origin=evil, ticket=ticket))[0] == 403


async def test_plain_get_of_ws_is_answered_with_a_client_error(api: Api):
    assert 400 <= api.get("//ws").status_code < 500


async def test_token_in_the_url_does_not_authenticate(connect, gateway: Gateway, alice: Account):
    socket: Sock = await connect(gateway=gateway, query=f"access_token={alice.access}&token={alice.access}")
    try:
        answer = await socket.request("ping", {})
    except Closed:
        return
    assert answer["type"] == "error"
    assert answer["payload"]["code"] == "unauthenticated"


# Tickets


async def test_ticket_opens_one_socket(connect, gateway: Gateway, alice: Account):
    ticket = alice.ticket()
    first: Sock = await connect(gateway=gateway, ticket=ticket)
    await first.alive()
    second: Sock = await connect(gateway=gateway, ticket=ticket)
    await second.error_then_close(("unauthenticated", "token_expired"), 4001)
    await first.alive()


async def test_ticket_is_single_use_under_a_race(connect, gateway: Gateway, alice: Account):
    ticket = alice.ticket()
    sockets = await asyncio.gather(*(connect(gateway=gateway, ticket=ticket) for _ in range(8)))

    async def lives(socket: Sock) -> bool:
        try:
            await socket.alive()
            return True
        except Closed:
            return False

    assert sum(await asyncio.gather(*map(lives, sockets))) == 1


async def test_ticket_speaks_for_its_user(connect, gateway: Gateway, alice: Account, room: str):
    socket: Sock = await connect(gateway=gateway, ticket=alice.ticket())
    seq = await socket.send(room, "by ticket")
    assert alice.messages(room, after=seq - 1)["events"][0]["payload"]["sender"] == alice.id


@pytest.mark.parametrize("ticket", ["nonsense", "a" * 2000])
async def test_bad_ticket_is_an_error_then_4001(connect, gateway: Gateway, ticket: str):
    socket: Sock = await connect(gateway=gateway, ticket=ticket)
    await socket.error_then_close(("unauthenticated", "token_expired"), 4001)


async def test_access_token_is_no_ticket(connect, gateway: Gateway, alice: Account):
    socket: Sock = await connect(gateway=gateway, ticket=alice.access)
    await socket.error_then_close(("unauthenticated", "token_expired"), 4001)


def test_ticket_needs_a_signed_in_caller(api: Api):
    assert api.post("/auth/ticket").status_code == 401


# First frame `auth`


async def test_first_frame_auth(connect, gateway: Gateway, alice: Account):
    socket: Sock = await connect(gateway=gateway)
    answer = await socket.ok("auth", {"token": alice.access})
    claims = token_claims(alice.access)
    assert answer["user_id"] == alice.id == claims["sub"]
    assert answer["session_id"] == claims["sid"]
    assert answer["expires_at"] == claims["exp"] * 1000
    await socket.alive()


async def test_no_auth_in_time_closes_with_1008(connect, gateway: Gateway):
    socket: Sock = await connect(gateway=gateway)
    begun = time.monotonic()
    assert await socket.closed(9) == 1008
    assert 4.0 <= time.monotonic() - begun <= 8.0, "no auth within 5 s"


async def test_nothing_is_done_before_auth(connect, gateway: Gateway, alice: Account, room: str):
    """Whether the socket closes at once or waits for `auth` is not said; that nothing is done is."""
    head = alice.messages(room)["head"]
    socket: Sock = await connect(gateway=gateway)
    try:
        answer = await socket.request("send", {"room": room, "body": "unauthenticated"})
        assert answer["type"] == "error"
        assert answer["payload"]["code"] == "unauthenticated"
    except Closed:
        assert await socket.closed() in (1008, 4001)
    assert alice.messages(room)["head"] == head


async def test_malformed_first_frame_closes_with_4000(connect, gateway: Gateway):
    socket: Sock = await connect(gateway=gateway)
    await socket.text("{")
    assert await socket.closed() == 4000


def bad_tokens(good: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    other = "an entirely different secret of enough bytes 0123456789"
    now = int(time.time())
    refused = ("unauthenticated",)
    return {
        "expired": (expired(good), ("token_expired",)),
        "nonsense": ("nonsense", refused),
        "empty": ("", (*refused, "invalid_field", "bad_request")),
        "two dots": ("..", refused),
        "foreign secret": (mint(good, secret=other), refused),
        "alg none": (mint(good, header={"alg": "none"}), refused),
        "alg HS512 in the header": (mint(good, header={"alg": "HS512"}), refused),
        "foreign issuer": (mint(good, iss="elsewhere"), refused),
        "foreign audience": (mint(good, aud="elsewhere"), refused),
        "no audience": (mint(good, aud=None), refused),
        "no issuer": (mint(good, iss=None), refused),
        "no sub": (mint(good, sub=None), refused),
        "no sid": (mint(good, sid=None), refused),
        "no exp": (mint(good, exp=None), refused),
        "unknown session": (mint(good, sid="nosuchsession"), refused),
        "textual exp": (mint(good, exp=str(now + 600)), refused),
        "cut short": (good[:-4], refused),
    }


BAD_TOKENS = list(bad_tokens("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.x"))
BAD_BEARERS = [name for name in BAD_TOKENS if name != "empty"]


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_bad_token_by_first_frame_is_an_error_then_4001(connect, gateway: Gateway, alice: Account, name: str):
    token, codes = bad_tokens(alice.access)[name]
    socket: Sock = await connect(gateway=gateway)
    await socket.ask("auth", {"token": token})
    await socket.error_then_close(codes, 4001)
    assert [f["id"] for f in socket.frames if f["type"] == "error"] == [1], "the error answers the `auth`"


@pytest.mark.parametrize("name", BAD_BEARERS)
async def test_bad_token_by_bearer_is_an_error_then_4001(connect, gateway: Gateway, alice: Account, name: str):
    token, codes = bad_tokens(alice.access)[name]
    socket: Sock = await connect(gateway=gateway, token=token)
    await socket.error_then_close(codes, 4001)


@pytest.mark.parametrize("name", ["expired", "nonsense", "foreign secret"])
async def test_bad_token_by_cookie_is_an_error_then_4001(connect, gateway: Gateway, alice: Account, name: str):
    token, codes = bad_tokens(alice.access)[name]
    socket: Sock = await connect(gateway=gateway, cookies={"stack_access": token}, origin=OUR_ORIGIN)
    await socket.error_then_close(codes, 4001)


@pytest.mark.parametrize("name", BAD_BEARERS)
def test_bad_token_over_http_is_401(api: Api, alice: Account, name: str):
    token, codes = bad_tokens(alice.access)[name]
    response = api.get("/me", token=token)
    assert response.status_code == 401
    assert response.json()["code"] in (codes if name == "expired" else ("unauthenticated",))


async def test_token_of_an_unknown_user_is_refused(connect, gateway: Gateway, alice: Account):
    socket: Sock = await connect(gateway=gateway, token=mint(alice.access, sub="nosuchuser"))
    await socket.error_then_close("unauthenticated", 4001)


# Again `auth`, and the end of the token


async def test_socket_closes_at_exp_with_4001(connect, gateway: Gateway, alice: Account):
    token = expiring_in(alice.access, 3)
    socket: Sock = await connect(gateway=gateway, token=token)
    await socket.alive()
    assert await socket.closed(6) == 4001
    late = time.time() - token_claims(token)["exp"]
    assert -0.1 <= late <= 1.0, f"closed {late:+.3f} s from exp: at `exp`, without leeway"


async def test_reauth_extends_the_socket(connect, gateway: Gateway, alice: Account):
    token = expiring_in(alice.access, 3)
    later = expiring_in(alice.access, 300)
    socket: Sock = await connect(gateway=gateway)
    first = await socket.ok("auth", {"token": token})
    second = await socket.ok("auth", {"token": later})
    assert first["expires_at"] == token_claims(token)["exp"] * 1000
    assert second["expires_at"] == token_claims(later)["exp"] * 1000
    await socket.stays_open(token_claims(token)["exp"] - time.time() + 1.0)


async def test_failed_reauth_changes_nothing(connect, gateway: Gateway, alice: Account, bob: Account, room: str):
    token = expiring_in(alice.access, 4)
    socket: Sock = await connect(gateway=gateway, token=token)
    await socket.subscribe(room)
    await socket.fails("auth", {"token": "nonsense"}, "unauthenticated")
    await socket.fails("auth", {"token": expired(alice.access)}, "token_expired")
    await socket.fails("auth", {"token": bob.access}, "forbidden")
    seq = await socket.send(room, "still here")
    await socket.reached(room, seq)
    assert socket.log(room)[-1]["payload"]["sender"] == alice.id
    assert await socket.closed(8) == 4001
    late = time.time() - token_claims(token)["exp"]
    assert -0.1 <= late <= 1.0, f"closed {late:+.3f} s from exp"


async def test_configured_ttl_is_the_tokens_life(start_gateway, connect):
    gateway: Gateway = start_gateway(STACK_AUTH_ACCESS_TOKEN_TTL_S="3")
    api = Api(gateway)
    response = api.post(
        "/auth/register",
        json={"username": f"brief-{tag()}", "password": "a lantern over 7 orbits", "token_delivery": "body"},
    )
    assert response.status_code == 201
    assert response.json()["expires_in_s"] == 3
    token = response.json()["access_token"]
    claims = token_claims(token)
    assert claims["exp"] - claims["iat"] == 3
    socket: Sock = await connect(gateway=gateway, token=token)
    assert await socket.closed(6) == 4001
    fresh = api.post("/auth/refresh", json={"refresh_token": response.json()["refresh_token"]})
    assert fresh.status_code == 200
    again: Sock = await connect(gateway=gateway, token=fresh.json()["access_token"])
    await again.alive()


def test_claims_of_an_access_token(alice: Account):
    claims = token_claims(alice.access)
    assert claims["iss"] == "stack"
    assert claims["aud"] in ("stack-web", ["stack-web"])
    assert claims["exp"] - claims["iat"] == 600
    for name in ("sub", "sid", "jti"):
        assert claims[name]


# Revocation


async def revoked_within_a_second(sockets: list[Sock], begun: float) -> None:
    for socket in sockets:
        assert await socket.closed(3) == 4001
    took = time.monotonic() - begun
    assert took <= 1.0, f"took {took:.3f} s"
    for socket in sockets:
        states = [f["payload"]["state"] for f in socket.frames if f["type"] == "session"]
        assert "revoked" in states, f"no `session` revoked frame: {socket.raw[-3:]}"
        assert socket.frames[-1]["type"] == "session"


async def test_revoked_session_closes_its_sockets_and_no_others(connect, gateway: Gateway, api: Api):
    one = register(api)
    two = login(one)
    by_bearer: Sock = await connect(two)
    by_ticket: Sock = await connect(gateway=gateway, ticket=two.ticket())
    by_auth: Sock = await connect(gateway=gateway)
    await by_auth.ok("auth", {"token": two.access})
    await by_bearer.alive()
    await by_ticket.alive()
    other: Sock = await connect(one)
    await other.alive()

    begun = time.monotonic()
    one.ok("DELETE", f"/auth/sessions/{two.session_id}")
    await revoked_within_a_second([by_bearer, by_ticket, by_auth], begun)
    await other.alive()

    assert two.get("/me").status_code == 401
    assert one.get("/me").status_code == 200
    refused: Sock = await connect(two)
    await refused.error_then_close(("unauthenticated", "token_expired"), 4001)


async def test_logout_closes_the_sessions_sockets(connect, api: Api):
    one = register(api)
    socket: Sock = await connect(one)
    await socket.alive()
    begun = time.monotonic()
    assert one.post("/auth/logout").status_code == 204
    await revoked_within_a_second([socket], begun)


async def test_password_change_closes_the_other_sessions_sockets(connect, api: Api):
    one = register(api)
    two = login(one)
    mine: Sock = await connect(one)
    others: Sock = await connect(two)
    await mine.alive()
    await others.alive()
    response = one.post(
        "/auth/password", json={"current_password": one.password, "new_password": "a wholly new lantern 42"}
    )
    assert response.status_code == 204
    await revoked_within_a_second([others], time.monotonic())
    await mine.alive()


async def test_revoked_socket_does_nothing_more(connect, api: Api):
    """What is sent after the revocation was acknowledged is not carried out."""
    one = register(api)
    two = login(one)
    room = make_room(one)
    socket: Sock = await connect(two)
    await socket.alive()
    one.ok("DELETE", f"/auth/sessions/{two.session_id}")
    try:
        answer = await socket.request("send", {"room": room, "body": "too late"})
        assert answer["type"] == "error"
    except Closed:
        pass
    bodies = [e["payload"].get("body") for e in one.messages(room)["events"]]
    assert "too late" not in bodies


# Too many connections


@pytest.fixture
def two_connections(start_gateway) -> Gateway:
    return start_gateway(STACK_LIMITS_CONNECTIONS_PER_USER="2")


async def test_connection_over_the_limit_is_refused_and_the_older_live(connect, two_connections: Gateway):
    api = Api(two_connections)
    user, other = register(api), register(api)
    first: Sock = await connect(user)
    second: Sock = await connect(user)
    await first.alive()
    await second.alive()

    third: Sock = await connect(user)
    await third.error_then_close("limit_exceeded", 4008)
    by_frame: Sock = await connect(gateway=two_connections)
    await by_frame.ask("auth", {"token": user.access})
    await by_frame.error_then_close("limit_exceeded", 4008)
    by_ticket: Sock = await connect(gateway=two_connections, ticket=user.ticket())
    await by_ticket.error_then_close("limit_exceeded", 4008)

    await first.alive()
    await second.alive()
    await (await connect(other)).alive()

    await second.close()
    await connects_at_last(connect, user)


async def connects_at_last(connect, user: Account) -> Sock:
    """A closed connection frees its place; the server may need a moment to notice."""
    deadline = time.monotonic() + 5
    while True:
        socket: Sock = await connect(user)
        try:
            await socket.alive()
            return socket
        except Closed:
            assert socket.ws.close_code == 4008
            assert time.monotonic() < deadline, "the place of a closed connection is not freed"


async def test_dropped_connection_frees_its_place(connect, two_connections: Gateway):
    """Without a closing handshake: the TCP connection just goes."""
    user = register(Api(two_connections))
    for _ in range(2):
        ws = await dial(two_connections, token=user.access)
        await ws.send('{"type":"ping","id":1,"payload":{}}')
        await ws.recv()
        ws.transport.abort()
    await connects_at_last(connect, user)


async def test_thirty_two_connections_by_default(connect, api: Api):
    user = register(api)
    sockets = [await connect(user) for _ in range(32)]
    for socket in sockets:
        await socket.alive()
    last: Sock = await connect(user)
    await last.error_then_close("limit_exceeded", 4008)
    for socket in sockets:
        await socket.alive()


async def test_session_is_told_before_it_expires_or_not_at_all(connect, gateway: Gateway, alice: Account):
    """`session` expiring is documented, when it comes is not; if it comes it names the end."""
    token = expiring_in(alice.access, 2)
    socket: Sock = await connect(gateway=gateway, token=token)
    assert await socket.closed(5) == 4001
    for frame in socket.frames:
        if frame["type"] == "session" and frame["payload"]["state"] == "expiring":
            assert frame["payload"]["expires_at"] == token_claims(token)["exp"] * 1000
