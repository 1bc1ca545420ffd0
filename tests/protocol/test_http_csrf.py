"""The CSRF rule as a table, for a session kept in cookies."""

import pytest

from stackclient import OUR_ORIGIN, Account, Api, assert_problem, set_cookies, tag

FOREIGN = "https://evil.example"
PASSWORD = "seven lanterns over the orbit"


@pytest.fixture(scope="module")
def browser(api: Api) -> dict[str, str]:
    """The cookies of a browser that signed in and asked for its CSRF token."""
    response = api.post(
        "/auth/register",
        json={"username": f"user-{tag()}", "password": PASSWORD},
        headers={"sec-fetch-site": "same-origin", "origin": OUR_ORIGIN},
    )
    assert response.status_code == 201
    cookies = {n: c["value"] for n, c in set_cookies(response).items()}
    answer = api.get("/auth/csrf", cookies=cookies)
    assert answer.status_code == 200
    cookie = set_cookies(answer)["stack_csrf"]
    assert cookie["value"] == answer.json()["csrf_token"]
    assert not cookie.get("httponly"), "readable by scripts"
    cookies["stack_csrf"] = cookie["value"]
    return cookies


TOKEN = "<the token>"

TABLE = {
    "nothing": ({}, False),
    "same-origin": ({"sec-fetch-site": "same-origin"}, True),
    "our origin": ({"origin": OUR_ORIGIN}, True),
    "both": ({"sec-fetch-site": "same-origin", "origin": OUR_ORIGIN}, True),
    "token": ({"x-csrf-token": TOKEN}, True),
    "wrong token": ({"x-csrf-token": "wrong"}, False),
    "empty token": ({"x-csrf-token": ""}, False),
    "cross-site": ({"sec-fetch-site": "cross-site"}, False),
    "same-site": ({"sec-fetch-site": "same-site"}, False),
    "cross-site with token": ({"sec-fetch-site": "cross-site", "x-csrf-token": TOKEN}, False),
    "cross-site with our origin": ({"sec-fetch-site": "cross-site", "origin": OUR_ORIGIN}, False),
    "foreign origin": ({"origin": FOREIGN}, False),
    "foreign origin with token": ({"origin": FOREIGN, "x-csrf-token": TOKEN}, False),
    "foreign origin with same-origin": ({"origin": FOREIGN, "sec-fetch-site": "same-origin"}, False),
    "null origin": ({"origin": "null"}, False),
    "our origin with a tail": ({"origin": OUR_ORIGIN + ".evil.example"}, False),
    "our origin on another port": ({"origin": "http://localhost:18081"}, False),
    "our origin over https": ({"origin": OUR_ORIGIN.replace("http:", "https:")}, False),
}


@pytest.mark.parametrize(("headers", "passes"), TABLE.values(), ids=TABLE.keys())
def test_unsafe_method_with_a_cookie(api: Api, browser: dict[str, str], headers: dict[str, str], passes: bool):
    headers = {k: browser["stack_csrf"] if v == TOKEN else v for k, v in headers.items()}
    response = api.patch("/me", cookies=browser, headers=headers, json={"display_name": "x"})
    if passes:
        assert response.is_success, response.text
    else:
        assert_problem(response, 403, "csrf_failed")


def test_token_without_its_cookie_fails(api: Api, browser: dict[str, str]):
    cookies = {k: v for k, v in browser.items() if k != "stack_csrf"}
    response = api.patch("/me", cookies=cookies, headers={"x-csrf-token": browser["stack_csrf"]}, json={})
    assert_problem(response, 403, "csrf_failed")


def test_made_up_pair_fails(api: Api, browser: dict[str, str]):
    """SECURITY.md: double submit, HMAC-bound to the session."""
    response = api.patch("/me", cookies={**browser, "stack_csrf": "made-up"}, headers={"x-csrf-token": "made-up"}, json={})
    assert_problem(response, 403, "csrf_failed")


def test_pair_of_another_session_fails(api: Api, browser: dict[str, str]):
    """SECURITY.md: double submit, HMAC-bound to the session."""
    response = api.post("/auth/register", json={"username": f"user-{tag()}", "password": PASSWORD})
    other = {n: c["value"] for n, c in set_cookies(response).items()}
    token = api.get("/auth/csrf", cookies=other).json()["csrf_token"]
    response = api.patch("/me", cookies={**browser, "stack_csrf": token}, headers={"x-csrf-token": token}, json={})
    assert_problem(response, 403, "csrf_failed")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_unsafe_method_is_guarded(api: Api, browser: dict[str, str], method: str):
    path = {"POST": "/rooms", "PUT": "/rooms/x/members/y", "PATCH": "/me", "DELETE": "/auth/sessions/x"}[method]
    assert_problem(api.request(method, path, cookies=browser, json={}), 403, "csrf_failed")


def test_safe_method_is_not_guarded(api: Api, browser: dict[str, str]):
    assert api.get("/me", cookies=browser).status_code == 200
    assert api.get("/me", cookies=browser, headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_bearer_without_a_cookie_is_not_guarded(api: Api, alice: Account):
    assert alice.patch("/me", json={"display_name": "x"}).is_success


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": FOREIGN},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site", "origin": OUR_ORIGIN},
        {"sec-fetch-site": "same-origin", "origin": FOREIGN},
    ],
    ids=str,
)
def test_login_and_register_are_refused_to_foreign_callers(api: Api, alice: Account, path: str, headers: dict[str, str]):
    body = {"login": alice.username, "username": f"user-{tag()}", "password": alice.password}
    response = api.post(path, json=body, headers=headers)
    assert_problem(response, 403, "csrf_failed")
    assert set_cookies(response) == {}


def test_program_without_headers_or_cookies_may_login(api: Api, alice: Account):
    response = api.post("/auth/login", json={"login": alice.username, "password": alice.password})
    assert response.status_code == 200


def test_login_with_a_leftover_cookie_needs_the_rule(api: Api, alice: Account, browser: dict[str, str]):
    body = {"login": alice.username, "password": alice.password}
    assert_problem(api.post("/auth/login", json=body, cookies=browser), 403, "csrf_failed")
    assert api.post("/auth/login", json=body, cookies=browser, headers={"origin": OUR_ORIGIN}).status_code == 200


# CORS


@pytest.mark.parametrize("origin", [FOREIGN, "null", OUR_ORIGIN + ".evil.example"])
def test_foreign_origin_gets_no_cors(api: Api, browser: dict[str, str], origin: str):
    response = api.get("/me", cookies=browser, headers={"origin": origin})
    assert "access-control-allow-origin" not in response.headers
    preflight = api.client.options(
        "/api/v1/me",
        headers={
            "origin": origin,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "content-type,x-csrf-token",
        },
    )
    assert preflight.status_code < 500
    assert "access-control-allow-origin" not in preflight.headers
    assert preflight.headers.get("access-control-allow-origin") != "*"


def test_our_origin_is_varied_on(api: Api, browser: dict[str, str]):
    response = api.get("/me", cookies=browser, headers={"origin": OUR_ORIGIN})
    assert response.status_code == 200
    assert response.headers.get("access-control-allow-origin") in (None, OUR_ORIGIN)
    if "access-control-allow-origin" in response.headers:
        assert "origin" in response.headers["vary"].lower()
