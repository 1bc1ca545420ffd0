"""The same promises under TLS: what must not differ from plain TCP is run once more, against a gateway with a certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from stackclient import Gateway

# pytest runs what is imported with this module's gateway.
from test_slow_reader import test_requests_behind_answers_that_waited_are_answered_as_the_reader_takes_them  # noqa: F401
from test_slow_reader import test_slow_reader_gets_everything_in_order  # noqa: F401
from test_subscribe import fresh  # noqa: F401
from test_subscribe import test_events_are_the_same_bytes_live_from_history_and_over_http  # noqa: F401
from test_subscribe import test_resume_after_a_reconnect  # noqa: F401
from test_subscribe import test_seam_without_hole_or_repeat  # noqa: F401


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    running = Gateway().with_tls()
    try:
        running.start()
        yield running
    finally:
        running.dispose()


def test_only_tls_1_3_is_spoken(gateway: Gateway):
    assert gateway.trust is not None
    old = ssl.create_default_context(cafile=gateway.env["STACK_TLS_CERT"])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError, match="(?i)protocol.version"):
        httpx.get(f"{gateway.base_url}/ping", verify=old, trust_env=False)
    assert httpx.get(f"{gateway.base_url}/ping", verify=gateway.trust, trust_env=False).text == "pong"


def test_browsers_are_told_to_stay_under_tls(gateway: Gateway):
    answer = httpx.get(f"{gateway.base_url}/ping", verify=gateway.trust, trust_env=False)
    assert answer.headers["strict-transport-security"].startswith("max-age=")
