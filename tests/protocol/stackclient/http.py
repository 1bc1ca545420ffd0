"""HTTP as PROTOCOL.md has it: a client without a cookie jar of its own, so that every test says what it sends."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from http.cookies import SimpleCookie
from typing import Any

import httpx

from .gateway import Gateway
from .spec import ERROR_CODES

Cookies = dict[str, str]

TIMEOUT_S = 30


def no_jar() -> CookieJar:
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


class Api:
    """Requests to `/api/v1` (a path that starts with `//` is taken from the root: `//health`)."""

    def __init__(self, gateway: Gateway):
        self.gateway = gateway
        self.client = httpx.Client(
            base_url=gateway.base_url,
            verify=gateway.trust or True,
            timeout=TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            cookies=no_jar(),
        )

    def close(self) -> None:
        self.client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        cookies: Cookies | None = None,
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> httpx.Response:
        response = self.client.request(
            method, api_path(path), headers=request_headers(token, cookies, headers), **kwargs
        )
        assert response.headers.get("x-request-id"), f"{method} {path}: x-request-id is always returned"
        if response.status_code >= 400:
            assert_problem(response)
        return response

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("DELETE", path, **kwargs)


def api_path(path: str) -> str:
    return path[1:] if path.startswith("//") else "/api/v1" + path


def request_headers(
    token: str | None = None, cookies: Cookies | None = None, headers: dict[str, str] | None = None
) -> dict[str, str]:
    all_headers: dict[str, str] = {}
    if token is not None:
        all_headers["authorization"] = f"Bearer {token}"
    if cookies:
        all_headers["cookie"] = "; ".join(f"{k}={v}" for k, v in cookies.items())
    all_headers.update(headers or {})
    return all_headers


def set_cookies(response: httpx.Response) -> dict[str, dict[str, str]]:
    """The `Set-Cookie` headers: name → {value, and each attribute in lower case}."""
    found: dict[str, dict[str, str]] = {}
    for header in response.headers.get_list("set-cookie"):
        jar: SimpleCookie = SimpleCookie()
        jar.load(header)
        for name, morsel in jar.items():
            found[name] = {"value": morsel.value, **{k: v for k, v in morsel.items() if v}}
    return found


def assert_problem(
    response: httpx.Response, status: int | None = None, code: str | tuple[str, ...] | None = None, field: str | None = None
) -> dict[str, Any]:
    """The response is a problem of the documented shape, and the one expected."""
    told = f"{response.request.method} {response.request.url.raw_path.decode()} → {response.status_code} {response.text[:500]}"
    assert response.status_code >= 400, told
    media = response.headers.get("content-type", "").split(";")[0].strip()
    assert media == "application/problem+json", f"{media!r}: {told}"
    problem = response.json()
    for name in ("type", "title", "status", "detail", "code", "request_id"):
        assert name in problem, f"no {name!r}: {told}"
    assert problem["status"] == response.status_code, told
    assert problem["code"] in ERROR_CODES, f"not in the closed enum: {told}"
    assert ERROR_CODES[problem["code"]] == response.status_code, told
    assert problem["request_id"] == response.headers["x-request-id"], told
    if problem["code"] == "invalid_field":
        assert isinstance(problem.get("field"), str) and problem["field"], f"invalid_field adds `field`: {told}"
    if problem["code"] in ("rate_limited", "unavailable"):
        assert int(response.headers["retry-after"]) >= 0, told
    if problem["code"] == "rate_limited":
        assert isinstance(problem["retry_after_ms"], int) and problem["retry_after_ms"] > 0, told
    if status is not None:
        assert response.status_code == status, told
    if code is not None:
        codes = (code,) if isinstance(code, str) else code
        assert problem["code"] in codes, f"expected {codes}: {told}"
    if field is not None and problem["code"] == "invalid_field":
        assert problem["field"] == field, told
    return problem
