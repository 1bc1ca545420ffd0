"""Refresh: rotation, grace, reuse, and what becomes of the family and its sockets."""

import asyncio
import threading
import time

import httpx
import pytest

from stackclient import (
    OUR_ORIGIN,
    Account,
    Api,
    Gateway,
    Sock,
    assert_problem,
    login,
    register,
    set_cookies,
    tag,
)
from stackclient.http import no_jar

DEAD = ("unauthenticated", "token_expired", "token_reused", "invalid_credentials")
"""What a refresh token that leads nowhere may be told; the sentence names only `token_reused`, for reuse."""


def refresh(api: Api, token: str) -> httpx.Response:
    return api.post("/auth/refresh", json={"refresh_token": token})


def refreshed(api: Api, token: str) -> dict:
    response = refresh(api, token)
    assert response.status_code == 200, response.text
    return response.json()


def lives(api: Api, access: str) -> bool:
    return api.get("/me", token=access).status_code == 200


def test_rotation_by_body(api: Api):
    account = register(api)
    response = refresh(api, account.refresh)
    assert response.status_code == 200
    pair = response.json()
    assert pair["token_type"] == "Bearer"
    assert pair["expires_in_s"] == 600
    assert pair["access_token"] != account.access
    assert pair["refresh_token"] != account.refresh
    assert set_cookies(response) == {}, "delivered as the old one was"
    assert lives(api, pair["access_token"])
    assert lives(api, account.access), "rotation does not revoke the session"
    assert len(account.ok("GET", "/auth/sessions")["sessions"]) == 1, "one session still"


def test_rotation_by_cookie(api: Api):
    response = api.post(
        "/auth/register", json={"username": f"user-{tag()}", "password": "seven lanterns over the orbit"}
    )
    first = {n: c["value"] for n, c in set_cookies(response).items()}
    response = api.post("/auth/refresh", cookies=first, headers={"sec-fetch-site": "same-origin"})
    assert response.status_code == 200
    assert "refresh_token" not in response.json(), "delivered as the old one was"
    second = {n: c["value"] for n, c in set_cookies(response).items()}
    assert second["stack_refresh"] != first["stack_refresh"]
    assert second["stack_access"] == response.json()["access_token"]
    assert api.get("/me", cookies={"stack_access": second["stack_access"]}).status_code == 200
    repeat = api.post("/auth/refresh", cookies=first, headers={"origin": OUR_ORIGIN})
    assert repeat.status_code == 200
    assert set_cookies(repeat)["stack_refresh"]["value"] == second["stack_refresh"], "and the cookie again"


def test_refresh_by_cookie_needs_the_csrf_rule(api: Api):
    response = api.post(
        "/auth/register", json={"username": f"user-{tag()}", "password": "seven lanterns over the orbit"}
    )
    cookies = {"stack_refresh": set_cookies(response)["stack_refresh"]["value"]}
    assert_problem(api.post("/auth/refresh", cookies=cookies), 403, "csrf_failed")
    cross = api.post("/auth/refresh", cookies=cookies, headers={"sec-fetch-site": "cross-site"})
    assert_problem(cross, 403, "csrf_failed")
    assert api.post("/auth/refresh", cookies=cookies, headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_repeat_within_the_grace_gets_the_same_successor(api: Api):
    account = register(api)
    first = refreshed(api, account.refresh)
    for _ in range(3):
        assert refreshed(api, account.refresh)["refresh_token"] == first["refresh_token"]
    third = refreshed(api, first["refresh_token"])
    assert lives(api, third["access_token"])


def test_fifty_parallel_refreshes_have_one_successor(gateway: Gateway, api: Api):
    account = register(api)

    async def fifty() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(
            base_url=gateway.base_url, trust_env=False, timeout=30, limits=limits, cookies=no_jar()
        ) as client:
            return await asyncio.gather(
                *(client.post("/api/v1/auth/refresh", json={"refresh_token": account.refresh}) for _ in range(50))
            )

    answers = asyncio.run(fifty())
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["refresh_token"] for a in answers}) == 1
    for answer in answers[::10]:
        assert lives(api, answer.json()["access_token"])
    assert lives(api, account.access)
    final = refreshed(api, answers[0].json()["refresh_token"])
    assert lives(api, final["access_token"])


def test_fifty_parallel_refreshes_by_cookie(gateway: Gateway, api: Api):
    response = api.post(
        "/auth/register", json={"username": f"user-{tag()}", "password": "seven lanterns over the orbit"}
    )
    cookie = f"stack_refresh={set_cookies(response)['stack_refresh']['value']}"

    async def fifty() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=gateway.base_url,
            trust_env=False,
            timeout=30,
            limits=httpx.Limits(max_connections=50),
            cookies=no_jar(),
            headers={"cookie": cookie, "origin": OUR_ORIGIN},
        ) as client:
            return await asyncio.gather(*(client.post("/api/v1/auth/refresh") for _ in range(50)))

    answers = asyncio.run(fifty())
    assert {a.status_code for a in answers} == {200}
    assert len({set_cookies(a)["stack_refresh"]["value"] for a in answers}) == 1


async def test_old_token_after_the_successor_was_used_revokes_the_family(connect, api: Api):
    account = register(api)
    bystander = login(account)
    socket: Sock = await connect(account)
    other: Sock = await connect(bystander)
    await socket.alive()
    second = refreshed(api, account.refresh)
    third = refreshed(api, second["refresh_token"])
    await socket.alive()

    begun = time.monotonic()
    assert_problem(refresh(api, account.refresh), 401, "token_reused")
    assert await socket.closed(3) == 4001
    assert time.monotonic() - begun <= 1.0
    assert [f["payload"]["state"] for f in socket.frames if f["type"] == "session"][-1:] == ["revoked"]
    for access in (account.access, second["access_token"], third["access_token"]):
        assert not lives(api, access)
    for token in (account.refresh, second["refresh_token"], third["refresh_token"]):
        assert_problem(refresh(api, token), 401, DEAD)
    await other.alive()
    assert lives(api, bystander.access), "another session of the same user is another family"


async def test_reuse_after_the_grace_revokes_the_family(start_gateway, connect):
    gateway: Gateway = start_gateway(STACK_AUTH_REFRESH_GRACE_S="1")
    api = Api(gateway)
    account = register(api)
    socket: Sock = await connect(account)
    successor = refreshed(api, account.refresh)
    assert refreshed(api, account.refresh)["refresh_token"] == successor["refresh_token"]
    await socket.stays_open(2.1)  # The grace passes; rotation itself closes nothing.
    assert_problem(refresh(api, account.refresh), 401, "token_reused")
    assert await socket.closed(3) == 4001
    assert not lives(api, successor["access_token"])
    assert_problem(refresh(api, successor["refresh_token"]), 401, DEAD)
    assert login(account).id == account.id


async def test_unused_successor_outlives_the_grace(start_gateway, connect):
    gateway: Gateway = start_gateway(STACK_AUTH_REFRESH_GRACE_S="1")
    api = Api(gateway)
    account = register(api)
    socket: Sock = await connect(account)
    successor = refreshed(api, account.refresh)
    await socket.stays_open(2.1)
    assert lives(api, refreshed(api, successor["refresh_token"])["access_token"])
    await socket.alive()


@pytest.mark.parametrize("token", ["nonsense", "", "a" * 5000, "é🦀"], ids=ascii)
def test_unknown_refresh_token_is_refused(api: Api, token: str):
    response = refresh(api, token)
    assert_problem(response, None, (*DEAD, "invalid_field", "bad_request", "payload_too_large"))


def test_access_token_is_no_refresh_token(api: Api, alice: Account):
    assert_problem(refresh(api, alice.access), 401, DEAD)


def test_refresh_token_is_no_access_token(api: Api, alice: Account):
    assert_problem(api.get("/me", token=alice.refresh), 401, "unauthenticated")


def test_refresh_without_anything(api: Api):
    assert_problem(api.post("/auth/refresh"), None, ("unauthenticated", "bad_request", "invalid_field"))
    assert_problem(api.post("/auth/refresh", json={}), None, ("unauthenticated", "bad_request", "invalid_field"))


def test_logout_during_refresh_ends_it_either_way(gateway: Gateway, api: Api):
    """Whichever comes first, nothing of the session lives on."""
    account = register(api)
    for _ in range(6):
        session = login(account)
        answers: list[httpx.Response] = []
        barrier = threading.Barrier(2)

        def rotate(session: Account = session) -> None:
            barrier.wait(10)
            answers.append(refresh(api, session.refresh))

        thread = threading.Thread(target=rotate)
        thread.start()
        barrier.wait(10)
        assert session.post("/auth/logout").status_code == 204
        thread.join(20)
        (answer,) = answers
        assert answer.status_code in (200, 401)
        if answer.status_code == 200:
            assert not lives(api, answer.json()["access_token"])
            assert refresh(api, answer.json()["refresh_token"]).status_code == 401
        assert refresh(api, session.refresh).status_code == 401
    assert lives(api, account.access)
