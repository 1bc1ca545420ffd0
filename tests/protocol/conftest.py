"""Fixtures: a gateway per module (or per test through `start_gateway`), people who live on it, sockets that are closed again."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from stackclient import Account, Api, BehindEdge, Gateway, Sock, make_room, register

Connect = Callable[..., Awaitable[Sock]]

GATEWAY = BehindEdge if os.environ.get("STACK_TEST_EDGE") else Gateway
"""With STACK_TEST_EDGE the suite reaches its gateways by an edge each."""


def pytest_configure() -> None:
    """A suite that is told to end (a time-out in CI) still ends its gateways."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """The module's gateway, without rate limits."""
    running = GATEWAY()
    try:
        running.start()
        yield running
    finally:
        running.dispose()


@pytest.fixture(scope="module")
def api(gateway: Gateway) -> Iterator[Api]:
    client = Api(gateway)
    yield client
    client.close()


@pytest.fixture(scope="module")
def alice(api: Api) -> Account:
    return register(api, "alice")


@pytest.fixture(scope="module")
def bob(api: Api) -> Account:
    return register(api, "bob")


@pytest.fixture(scope="module")
def carol(api: Api) -> Account:
    return register(api, "carol")


@pytest.fixture
def start_gateway() -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway of the test's own: `start_gateway(STACK_RATE_ENABLED="true")`."""
    started: list[Gateway] = []

    def start(**env: str | None) -> Gateway:
        one = GATEWAY(**env)
        started.append(one)
        return one.start()

    yield start
    for one in started:
        one.dispose()


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Opens sockets: `await connect(alice)`, `await connect(gateway=…, ticket=…)`; closes and checks them at the end."""
    opened: list[Sock] = []

    async def open_socket(who: Account | None = None, *, gateway: Gateway | None = None, **kwargs: Any) -> Sock:
        if who is not None:
            kwargs.setdefault("token", who.access)
            gateway = gateway or who.api.gateway
        gateway = gateway or request.getfixturevalue("gateway")
        opened.append(await Sock.open(gateway, **kwargs))
        return opened[-1]

    yield open_socket
    for one in opened:
        await one.close()
    for one in opened:
        one.check()


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that a failure can be repeated with: STACK_TEST_SEED, printed by the failing test."""
    seed = int(os.environ.get("STACK_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"STACK_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def room(alice: Account, bob: Account) -> str:
    """A private room of alice's in which bob is a member and carol is not."""
    return make_room(alice, bob)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on, as far as can be known."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
