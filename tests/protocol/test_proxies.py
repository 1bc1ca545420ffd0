"""Behind nginx, Caddy and HAProxy as docs/proxies has them: the same promises, the client's own address, and nobody's claim of another."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stackclient import Api, Gateway, register, tag, upgrade_refused
from stackclient.gateway import REPOSITORY

# pytest runs what is imported with this module's gateway.
from test_slow_reader import test_slow_reader_gets_everything_in_order  # noqa: F401
from test_subscribe import fresh  # noqa: F401
from test_subscribe import test_events_are_the_same_bytes_live_from_history_and_over_http  # noqa: F401
from test_subscribe import test_resume_after_a_reconnect  # noqa: F401
from test_subscribe import test_seam_without_hole_or_repeat  # noqa: F401

CLIENT = "127.0.0.7"
"""Another address of this machine: the proxy comes from 127.0.0.1, which alone is trusted."""

CONFIGURATIONS = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}


class Proxied(Gateway):
    """A gateway whose clients come through a proxy, configured by the file that its users copy."""

    def __init__(self, proxy: str):
        self.port = free_port()
        super().__init__(STACK_TRUSTED_PROXIES="127.0.0.1/32", STACK_PUBLIC_URL=f"https://localhost:{self.port}")
        self.proxy = proxy
        self.front: subprocess.Popen[bytes] | None = None
        self.direct_url = ""

    def start(self) -> Proxied:
        super().start()
        self.direct_url = self.base_url
        cert, key = self.home / "cert.pem", self.home / "key.pem"
        make_certificate(cert, key)
        self.trust = ssl.create_default_context(cafile=str(cert))
        self.base_url = f"https://127.0.0.1:{self.port}"
        log = (self.home / "proxy.log").open("ab")
        self.front = subprocess.Popen(
            self.command(), cwd=self.home, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        self.wait_for_front()
        return self

    def configuration(self) -> str:
        """The documented file with this gateway's addresses and certificate in it."""
        name = CONFIGURATIONS[self.proxy]
        text = (REPOSITORY / "docs" / "proxies" / name).read_text()
        changes = {
            "127.0.0.1:8080": self.direct_url.removeprefix("http://"),
            "/etc/ssl/chat.example.com": str(self.home),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "\nchat.example.com {": f"\nhttps://127.0.0.1:{self.port} {{\n\tbind 127.0.0.1",
        }
        for documented, here in changes.items():
            text = text.replace(documented, here)
        return text

    def command(self) -> list[str]:
        home, file = self.home, self.home / CONFIGURATIONS[self.proxy]
        text = self.configuration()
        match self.proxy:
            case "nginx":
                temporary = "".join(
                    f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                )
                frame = f"pid {home}/nginx.pid;\nerror_log {home}/nginx.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}"
                file.write_text(f"{frame}{text}\n}}\n")
                return [program("nginx"), "-p", str(home), "-c", str(file), "-g", "daemon off; master_process off;"]
            case "caddy":
                # No port for its administration, and no other one for redirects.
                file.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
                return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(file)]
            case _:
                both = (home / "cert.pem").read_text() + (home / "key.pem").read_text()
                (home / "both.pem").write_text(both)
                file.write_text(text)
                return [program("haproxy"), "-db", "-f", str(file)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "XDG_DATA_HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home)}

    def wait_for_front(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            assert self.front is not None and self.front.poll() is None, (self.home / "proxy.log").read_text()
            try:
                if httpx.get(f"{self.base_url}/ping", verify=self.trust, trust_env=False).text == "pong":
                    return
            except httpx.TransportError:
                assert time.monotonic() < deadline, (self.home / "proxy.log").read_text()
            time.sleep(0.02)

    def dispose(self) -> None:
        if self.front is not None:
            self.front.terminate()
            try:
                self.front.wait(10)
            except subprocess.TimeoutExpired:
                self.front.kill()
                self.front.wait()
        super().dispose()


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, f"{name} is not installed; scripts/test installs it"
    return found


def free_port() -> int:
    """A port that was free a moment ago: a proxy cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(cert: Path, key: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    running = Proxied(request.param)
    try:
        running.start()
        yield running
    finally:
        running.dispose()


def seen_from(gateway: Proxied, url: str, **headers: str) -> str:
    """Which address a new session of somebody at CLIENT is said to be from."""
    transport = httpx.HTTPTransport(local_address=CLIENT, verify=gateway.trust or True)
    with httpx.Client(base_url=url, transport=transport, trust_env=False, headers=headers) as client:
        name = tag()
        account = {"username": name, "password": f"a long enough password {name}", "token_delivery": "body"}
        made = client.post("/api/v1/auth/register", json=account)
        assert made.status_code == 201, made.text
        authorization = {"authorization": f"Bearer {made.json()['access_token']}"}
        sessions = client.get("/api/v1/auth/sessions", headers=authorization).json()["sessions"]
        return next(session["ip"] for session in sessions if session["current"])


def test_the_clients_own_address_is_known(gateway: Proxied):
    assert seen_from(gateway, gateway.base_url) == CLIENT


@pytest.mark.parametrize("forged", ["203.0.113.9", "203.0.113.9, 127.0.0.1", "127.0.0.1", "unknown", "::1, 10.0.0.1"])
def test_a_forged_address_is_ignored(gateway: Proxied, forged: str):
    through = seen_from(gateway, gateway.base_url, **{"x-forwarded-for": forged})
    beside = seen_from(gateway, gateway.direct_url, **{"x-forwarded-for": forged})
    assert (through, beside) == (CLIENT, CLIENT)


def test_the_measures_stay_inside(gateway: Proxied):
    front = httpx.get(f"{gateway.base_url}/metrics", verify=gateway.trust or True, trust_env=False)
    assert front.status_code == 404
    direct = httpx.get(f"{gateway.direct_url}/metrics", trust_env=False)
    assert direct.status_code == 200 and "stack_sockets" in direct.text


def test_a_body_over_the_limit_is_the_gateways_to_refuse(gateway: Proxied):
    alice = register(Api(gateway))
    refused = alice.post("/rooms", json={"title": "x" * (1024 * 1024 + 1)})
    assert refused.status_code == 413
    assert refused.json()["code"] == "payload_too_large"


async def test_a_foreign_origin_stays_outside(gateway: Proxied):
    alice = register(Api(gateway))
    status, problem = await upgrade_refused(gateway, token=alice.access, origin="https://evil.example")
    assert (status, problem["code"] if problem else None) == (403, "forbidden")
