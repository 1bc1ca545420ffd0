"""Register, login, logout, sessions, password, me."""

import asyncio
import secrets
import time

import pytest

from stackclient import (
    Account,
    Api,
    Gateway,
    assert_problem,
    expired,
    login,
    make_room,
    mint,
    register,
    set_cookies,
    tag,
    token_claims,
)
from stackclient.gateway import JWT_SECRET
from stackclient.spec import BAD_FIELD

PASSWORD = "seven lanterns over the orbit"


def new_user(**fields) -> dict:
    return {"username": f"user-{tag()}", "password": PASSWORD, **fields}


# Register


def test_register_by_cookie(api: Api):
    body = new_user(email=f"{tag()}@example.test", display_name="Ada Lovelace")
    response = api.post("/auth/register", json=body)
    assert response.status_code == 201
    answer = response.json()
    user = answer["user"]
    assert user["username"] == body["username"]
    assert user["email"] == body["email"]
    assert user["display_name"] == "Ada Lovelace"
    assert user["role"] == "member", "being first never grants admin"
    assert 0 < len(user["id"]) <= 24
    assert abs(user["created_at"] - time.time() * 1000) < 60_000
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in_s"] == 600
    assert "refresh_token" not in answer
    assert "password" not in response.text

    cookies = set_cookies(response)
    access, refresh = cookies["stack_access"], cookies["stack_refresh"]
    assert access["value"] == answer["access_token"]
    assert access.get("httponly") and access["path"] == "/" and access["samesite"].lower() == "lax"
    assert refresh.get("httponly") and refresh["samesite"].lower() == "strict"
    assert refresh["path"] != "/" and "/api/v1/auth/refresh".startswith(refresh["path"].rstrip("/"))
    assert "domain" not in access and "domain" not in refresh
    if "stack_csrf" in cookies:
        assert not cookies["stack_csrf"].get("httponly"), "readable by scripts"
    assert api.get("/me", cookies={"stack_access": access["value"]}).json()["id"] == user["id"]


def test_register_by_body(api: Api):
    response = api.post("/auth/register", json=new_user(token_delivery="body"))
    assert response.status_code == 201
    answer = response.json()
    assert answer["refresh_token"]
    assert set_cookies(response) == {}
    assert api.get("/me", token=answer["access_token"]).status_code == 200


def test_cookies_are_prefixed_and_secure_off_loopback(start_gateway):
    gateway: Gateway = start_gateway(STACK_PUBLIC_URL="https://chat.example.test")
    cookies = set_cookies(Api(gateway).post("/auth/register", json=new_user()))
    assert {"__Host-stack_access", "__Secure-stack_refresh"} <= set(cookies)
    assert "stack_access" not in cookies and "stack_refresh" not in cookies
    access, refresh = cookies["__Host-stack_access"], cookies["__Secure-stack_refresh"]
    assert access.get("secure") and access.get("httponly") and access["path"] == "/" and "domain" not in access
    assert refresh.get("secure") and refresh.get("httponly") and refresh["path"] != "/"


def test_ids_are_short_and_sorted_by_time(api: Api):
    ids = [register(api).id for _ in range(3)]
    assert all(0 < len(i) <= 24 for i in ids)
    assert sorted(ids) == ids


def test_taken_names_are_a_conflict(api: Api):
    email = f"{tag()}@example.test"
    body = new_user(email=email)
    assert api.post("/auth/register", json=body).status_code == 201
    assert_problem(api.post("/auth/register", json={**new_user(), "username": body["username"]}), 409, "conflict")
    assert_problem(api.post("/auth/register", json=new_user(email=email)), 409, "conflict")
    assert_problem(api.post("/auth/register", json=new_user(email=email.upper())), 409, "conflict")


def test_same_name_registered_at_once_is_one_account(gateway: Gateway, api: Api):
    body = new_user(token_delivery="body")

    async def all_at_once() -> list[int]:
        return await asyncio.gather(
            *(asyncio.to_thread(lambda: api.post("/auth/register", json=body).status_code) for _ in range(5))
        )

    assert sorted(asyncio.run(all_at_once())) == [201, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"password": "short"}, "password"),
        ({"password": "fourteen chars"}, "password"),
        ({"password": ""}, "password"),
        ({"username": ""}, "username"),
        ({"username": "a" * 500}, "username"),
        ({"username": "with\nnewline"}, "username"),
        ({"email": "no-at-sign"}, "email"),
        ({"token_delivery": "pigeon"}, "token_delivery"),
    ],
)
def test_register_refuses_bad_fields(api: Api, fields: dict, field: str):
    assert_problem(api.post("/auth/register", json=new_user(**fields)), None, BAD_FIELD, field)


def test_password_over_the_cap_is_refused(api: Api):
    response = api.post("/auth/register", json=new_user(password=secrets.token_hex(1024)))
    assert_problem(response, None, ("invalid_field", "payload_too_large"))


def test_long_passwords_are_taken(api: Api):
    account = register(api, password=secrets.token_hex(32))
    assert login(account).id == account.id
    wrong = api.post("/auth/login", json={"login": account.username, "password": account.password[:-1]})
    assert_problem(wrong, 401, "invalid_credentials")


@pytest.mark.parametrize("missing", ["username", "password"])
def test_register_needs_its_fields(api: Api, missing: str):
    body = new_user()
    del body[missing]
    assert_problem(api.post("/auth/register", json=body), None, BAD_FIELD, missing)


# Login


def test_login_by_username_and_email(api: Api):
    email = f"{tag()}@example.test"
    account = register(api, email=email)
    for name in (account.username, email, email.upper()):
        response = api.post(
            "/auth/login", json={"login": name, "password": account.password, "token_delivery": "body"}
        )
        assert response.status_code == 200, name
        assert response.json()["user"]["id"] == account.id
        assert response.json()["refresh_token"]


def test_login_by_cookie(api: Api, alice: Account):
    response = api.post("/auth/login", json={"login": alice.username, "password": alice.password})
    assert response.status_code == 200
    assert "refresh_token" not in response.json()
    assert {"stack_access", "stack_refresh"} <= set(set_cookies(response))


def test_each_login_is_a_session_of_its_own(alice: Account):
    one, two = login(alice), login(alice)
    assert len({alice.session_id, one.session_id, two.session_id}) == 3


def test_wrong_password_and_unknown_user_are_alike(api: Api, alice: Account):
    wrong = api.post("/auth/login", json={"login": alice.username, "password": "not the right lantern"})
    unknown = api.post("/auth/login", json={"login": f"nobody-{tag()}", "password": "not the right lantern"})
    assert_problem(wrong, 401, "invalid_credentials")
    assert_problem(unknown, 401, "invalid_credentials")
    one, other = wrong.json(), unknown.json()
    one.pop("request_id"), other.pop("request_id")
    assert one == other
    assert set_cookies(wrong) == {}


@pytest.mark.parametrize("body", [{}, {"login": "x"}, {"password": "x"}, {"login": 5, "password": "x"}, {"login": None, "password": None}])
def test_login_needs_its_fields(api: Api, body: dict):
    assert_problem(api.post("/auth/login", json=body), None, BAD_FIELD)


# Logout and sessions


def test_logout_ends_the_session_and_its_family(api: Api):
    account = register(api)
    other = login(account)
    response = account.post("/auth/logout")
    assert response.status_code == 204
    assert response.content == b""
    assert_problem(account.get("/me"), 401, ("unauthenticated", "token_expired"))
    assert api.post("/auth/refresh", json={"refresh_token": account.refresh}).status_code == 401
    assert other.get("/me").status_code == 200
    assert api.post("/auth/refresh", json={"refresh_token": other.refresh}).status_code == 200
    # A token of the same session signed later is no better: the session is gone.
    again = api.get("/me", token=mint(account.access, exp=int(time.time()) + 300))
    assert again.status_code == 401


def test_logout_by_cookie_takes_the_cookies_away(api: Api):
    cookies = {n: c["value"] for n, c in set_cookies(api.post("/auth/register", json=new_user())).items()}
    response = api.post("/auth/logout", cookies=cookies, headers={"sec-fetch-site": "same-origin"})
    assert response.status_code == 204
    cleared = set_cookies(response)
    for name in ("stack_access", "stack_refresh"):
        assert name in cleared
        assert cleared[name]["value"] == "" or cleared[name].get("max-age") == "0"
    assert api.get("/me", cookies=cookies).status_code == 401


def test_sessions_are_listed(api: Api):
    account = register(api)
    other = login(account)
    sessions = account.ok("GET", "/auth/sessions")["sessions"]
    assert {s["id"] for s in sessions} == {account.session_id, other.session_id}
    assert [s["id"] for s in sessions if s["current"]] == [account.session_id]
    for session in sessions:
        assert {"id", "device", "ip", "created_at", "last_seen_at", "current"} <= set(session)
        assert session["ip"] == "127.0.0.1"
        assert abs(session["created_at"] - time.time() * 1000) < 120_000


def test_revoked_session_is_gone(api: Api):
    account = register(api)
    other = login(account)
    assert account.delete(f"/auth/sessions/{other.session_id}").is_success
    assert other.get("/me").status_code == 401
    assert api.post("/auth/refresh", json={"refresh_token": other.refresh}).status_code == 401
    assert [s["id"] for s in account.ok("GET", "/auth/sessions")["sessions"]] == [account.session_id]
    assert_problem(account.delete("/auth/sessions/nosuchsession"), 404, "not_found")


def test_own_session_may_be_revoked(api: Api):
    account = register(api)
    assert account.delete(f"/auth/sessions/{account.session_id}").is_success
    assert account.get("/me").status_code == 401


def test_others_sessions_are_not_mine_to_revoke(alice: Account, bob: Account):
    response = alice.delete(f"/auth/sessions/{bob.session_id}")
    assert_problem(response, None, ("not_found", "forbidden"))
    assert bob.get("/me").status_code == 200
    ids = [s["id"] for s in alice.ok("GET", "/auth/sessions")["sessions"]]
    assert bob.session_id not in ids


def test_forwarded_address_is_not_believed(api: Api):
    """`X-Forwarded-*` is ignored unless the peer is a configured proxy."""
    account = register(api)
    body = {"login": account.username, "password": account.password, "token_delivery": "body"}
    api.post("/auth/login", json=body, headers={"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"})
    assert {s["ip"] for s in account.ok("GET", "/auth/sessions")["sessions"]} == {"127.0.0.1"}


# Password


def test_password_change(api: Api):
    account = register(api)
    other = login(account)
    new = "an entirely new lantern 42"
    response = account.post("/auth/password", json={"current_password": account.password, "new_password": new})
    assert response.status_code == 204
    assert account.get("/me").status_code == 200, "the caller's own session stays"
    assert other.get("/me").status_code == 401
    assert api.post("/auth/refresh", json={"refresh_token": other.refresh}).status_code == 401
    assert api.post("/auth/refresh", json={"refresh_token": account.refresh}).status_code == 200
    old = api.post("/auth/login", json={"login": account.username, "password": account.password})
    assert_problem(old, 401, "invalid_credentials")
    account.password = new
    assert login(account).id == account.id


def test_password_change_needs_the_current_one(alice: Account, api: Api):
    wrong = alice.post("/auth/password", json={"current_password": "not the right lantern", "new_password": PASSWORD})
    assert_problem(wrong, 401, "invalid_credentials")
    missing = alice.post("/auth/password", json={"new_password": PASSWORD})
    assert_problem(missing, None, ("invalid_credentials", *BAD_FIELD))
    short = alice.post("/auth/password", json={"current_password": alice.password, "new_password": "short"})
    assert_problem(short, 422, "invalid_field", "new_password")
    assert login(alice).id == alice.id


# Me


def test_me(api: Api):
    account = register(api, email=f"{tag()}@example.test", display_name="Me")
    me = account.ok("GET", "/me")
    assert {"id", "username", "display_name", "role", "created_at", "email", "settings"} <= set(me)
    assert {k: me[k] for k in account.user} == account.user


def test_me_is_changed(api: Api):
    account = register(api)
    account.ok("PATCH", "/me", json={"display_name": "A New Name"})
    assert account.ok("GET", "/me")["display_name"] == "A New Name"
    assert account.ok("GET", "/me")["username"] == account.username


def test_role_and_id_are_not_for_the_user_to_change(api: Api):
    account = register(api)
    account.patch("/me", json={"role": "admin", "id": "x", "created_at": 0})
    me = account.ok("GET", "/me")
    assert (me["role"], me["id"], me["created_at"]) == ("member", account.id, account.user["created_at"])


def test_role_is_not_given_at_registration(api: Api):
    assert register(api, role="admin", id="chosen").user["role"] == "member"


def test_email_is_for_its_owner_only(api: Api, alice: Account):
    email = f"{tag()}@example.test"
    account = register(api, email=email)
    room = make_room(alice, account)
    response = alice.get(f"/rooms/{room}/members")
    assert account.id in response.text
    assert email not in response.text


# Callers


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic dXNlcjpwYXNz",
        "Bearer a b",
        "Bearer ..",
        "Bearer \u00ff\u00fe",
        "\u00ff",
        "Bearer,",
        "Token abc",
        "Bearer " + "a" * 4000,
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
    ids=ascii,
)
def test_malformed_authorization_is_401(api: Api, header: str):
    response = api.client.get("/api/v1/me", headers={"authorization": header.encode("latin-1")})
    assert_problem(response, 401, "unauthenticated")


def test_without_credentials_is_401(api: Api):
    for method, path in [
        ("GET", "/me"),
        ("PATCH", "/me"),
        ("GET", "/rooms"),
        ("POST", "/rooms"),
        ("GET", "/rooms/general"),
        ("GET", "/rooms/general/messages"),
        ("POST", "/rooms/general/messages"),
        ("GET", "/rooms/general/members"),
        ("GET", "/rooms/general/presence"),
        ("GET", "/auth/sessions"),
        ("POST", "/auth/password"),
        ("POST", "/auth/ticket"),
    ]:
        kwargs = {} if method == "GET" else {"json": {}}
        assert_problem(api.request(method, path, **kwargs), 401, "unauthenticated")


def test_expired_token_is_told_as_such(api: Api, alice: Account):
    assert_problem(api.get("/me", token=expired(alice.access)), 401, "token_expired")


def test_suite_mints_tokens_the_gateway_takes(api: Api, alice: Account):
    """The control for every test with a minted token that must be refused."""
    assert api.get("/me", token=mint(alice.access)).status_code == 200
    assert api.get("/me", token=mint(alice.access, secret=JWT_SECRET + "x")).status_code == 401
    assert token_claims(mint(alice.access))["sid"] == alice.session_id
