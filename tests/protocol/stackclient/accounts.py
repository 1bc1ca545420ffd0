"""Accounts and tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from .gateway import JWT_SECRET
from .http import Api


def tag() -> str:
    """A short random name part, so that tests that share a gateway do not meet."""
    return secrets.token_hex(5)


@dataclass
class Account:
    """A signed-in user: one session of it."""

    api: Api
    username: str
    password: str
    id: str
    access: str
    refresh: str | None
    user: dict[str, Any] = field(default_factory=dict)

    @property
    def session_id(self) -> str:
        return token_claims(self.access)["sid"]

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self.api.request(method, path, token=self.access, **kwargs)

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

    def ok(self, method: str, path: str, **kwargs: Any) -> Any:
        """The answer's JSON (None without one); any 2xx will do."""
        response = self.request(method, path, **kwargs)
        assert response.is_success, f"{method} {path} → {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    def messages(self, room: str, **params: Any) -> dict[str, Any]:
        return self.ok("GET", f"/rooms/{room}/messages", params=params)

    def whole_log(self, room: str, after: int = 0) -> list[dict[str, Any]]:
        """Every event with `seq > after`, page by page."""
        events: list[dict[str, Any]] = []
        while True:
            page = self.messages(room, after=after, limit=500)
            events += page["events"]
            if not page["events"]:
                assert after == page["head"], "an empty page before the head"
                return events
            after = page["events"][-1]["payload"]["seq"]
            if after == page["head"]:
                return events

    def ticket(self) -> str:
        answer = self.ok("POST", "/auth/ticket")
        assert answer["expires_in_s"] == 30
        return answer["ticket"]


def register(api: Api, name: str = "user", **extra: Any) -> Account:
    username = extra.pop("username", None) or f"{name}-{tag()}"
    password = extra.pop("password", None) or f"{secrets.token_hex(4)} lantern {secrets.token_hex(4)} orbit"
    body = {"username": username, "password": password, "token_delivery": "body", **extra}
    response = api.post("/auth/register", json=body)
    assert response.status_code == 201, response.text
    return _account(api, username, password, response)


def login(account: Account, api: Api | None = None, **extra: Any) -> Account:
    """A further session of the same user."""
    api = api or account.api
    body = {"login": account.username, "password": account.password, "token_delivery": "body", **extra}
    response = api.post("/auth/login", json=body)
    assert response.status_code == 200, response.text
    return _account(api, account.username, account.password, response)


def _account(api: Api, username: str, password: str, response: httpx.Response) -> Account:
    answer = response.json()
    return Account(
        api=api,
        username=username,
        password=password,
        id=answer["user"]["id"],
        access=answer["access_token"],
        refresh=answer.get("refresh_token"),
        user=answer["user"],
    )


def _unb64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token_claims(token: str) -> dict[str, Any]:
    return json.loads(_unb64(token.split(".")[1]))


def mint(like: str, *, secret: str = JWT_SECRET, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token like `like`, with the given claims replaced (None: left out) and a fresh `jti`, signed with HS256."""
    head = {**json.loads(_unb64(like.split(".")[0])), **(header or {})}
    body = {**token_claims(like), "jti": secrets.token_hex(8), **claims}
    body = {k: v for k, v in body.items() if v is not None}
    signed = _b64(json.dumps(head).encode()) + "." + _b64(json.dumps(body).encode())
    if head["alg"] == "none":
        return signed + "."
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return signed + "." + _b64(digest)


def expired(like: str) -> str:
    """A well signed token whose time ended an hour ago, beyond any leeway."""
    now = int(time.time())
    return mint(like, iat=now - 7200, exp=now - 3600)


def expiring_in(like: str, seconds: int) -> str:
    """A well signed token that ends in so many whole seconds (`exp` has no fractions)."""
    now = int(time.time())
    return mint(like, iat=now - 60, exp=now + seconds)
