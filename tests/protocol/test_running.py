"""What the person who runs it meets: certificates and keys of every kind, their renewal, HTTP/2, and a service manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stackclient import Gateway
from stackclient.gateway import find_binary

PATIENCE_S = 20


def openssl(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, timeout=PATIENCE_S)
    return (done.stdout + done.stderr).decode(errors="replace")


def self_signed(folder: Path, kind: str = "ec") -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    option = "ec_paramgen_curve:P-256" if kind == "ec" else "rsa_keygen_bits:2048"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    request = f"req -x509 -newkey {kind} -pkeyopt {option} -nodes -days 2 -subj /CN=localhost -addext {names}"
    openssl(*request.split(), "-keyout", key, "-out", cert)
    return cert, key


def checked(cert: Path, key: Path) -> tuple[int, str]:
    """What the gateway says of a configuration with these files."""
    env = {**os.environ, "STACK_TLS_CERT": str(cert), "STACK_TLS_KEY": str(key)}
    done = subprocess.run(
        [find_binary(), "config", "check"], cwd=cert.parent, env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_keys_of_every_kind_are_taken(tmp_path: Path, kind: str):
    cert, pkcs8 = self_signed(tmp_path, kind)
    old = tmp_path / "old.pem"  # SEC1 for ec, PKCS#1 for rsa
    openssl(kind, "-in", pkcs8, "-out", old, *(["-traditional"] if kind == "rsa" else []))
    assert b"BEGIN EC PRIVATE KEY" in old.read_bytes() or b"BEGIN RSA PRIVATE KEY" in old.read_bytes()
    old_der, pkcs8_der, cert_der = tmp_path / "old.der", tmp_path / "pkcs8.der", tmp_path / "cert.der"
    openssl(kind, "-in", old, "-outform", "der", "-out", old_der, *(["-traditional"] if kind == "rsa" else []))
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", pkcs8, "-outform", "der", "-out", pkcs8_der)
    openssl("x509", "-in", cert, "-outform", "der", "-out", cert_der)
    for key in (pkcs8, old, old_der, pkcs8_der):
        assert checked(cert, key) == (0, ""), key
    assert checked(cert_der, pkcs8_der) == (0, "")


def test_a_faulty_certificate_or_key_stops_the_start_with_a_reason(tmp_path: Path):
    cert, key = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = self_signed(tmp_path / "other")
    sealed = tmp_path / "sealed.pem"
    openssl("pkcs8", "-topk8", "-in", key, "-out", sealed, "-passout", "pass:secret")
    for one, other, reason in (
        (cert, other_key, "is not the key of the certificate"),
        (cert, sealed, "sealed with a passphrase"),
        (cert, tmp_path, "cannot be read"),
        (tmp_path / "none.pem", key, "cannot be read"),
        (key, key, "has no certificate"),
    ):
        code, told = checked(one, other)
        assert code == 2
        assert reason in told, told


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    running = Gateway(STACK_TLS_MIN_VERSION="1.2").with_tls()
    try:
        running.start()
        yield running
    finally:
        running.dispose()


def certificate(gateway: Gateway) -> str:
    return ssl.get_server_certificate(gateway.host_port)


def test_a_signal_lets_it_read_the_certificate_again():
    gateway = Gateway().with_tls()
    try:
        gateway.start()
        cert, key = Path(str(gateway.env["STACK_TLS_CERT"])), Path(str(gateway.env["STACK_TLS_KEY"]))
        assert gateway.process is not None
        before = certificate(gateway)
        with httpx.Client(verify=gateway.trust, trust_env=False) as client:
            assert client.get(f"{gateway.base_url}/ping").text == "pong"
            with tempfile.TemporaryDirectory() as folder:
                new_cert, new_key = self_signed(Path(folder))
                expected = new_cert.read_text()
                # A key that does not belong to the certificate: the old ones stay.
                key.write_bytes(new_key.read_bytes())
                gateway.process.send_signal(signal.SIGHUP)
                wait_for(lambda: "everything stays as it is" in gateway.log_tail())
                assert certificate(gateway) == before
                cert.write_bytes(new_cert.read_bytes())
            gateway.process.send_signal(signal.SIGHUP)
            wait_for(lambda: certificate(gateway).split() == expected.split())
            # The connection from before lives.
            assert client.get(f"{gateway.base_url}/ping").text == "pong"
            metrics = client.get(f"{gateway.base_url}/metrics").text
        figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("stack_tls_"))
        assert int(figures["stack_tls_reload_failures_total"]) >= 1
        assert int(figures["stack_tls_certificate_not_after_seconds"]) > time.time()
    finally:
        gateway.dispose()


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


@pytest.mark.parametrize("asked, spoken", [("--http1.1", "1.1"), ("--http2", "2")])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_curl_speaks_both_versions_of_http(gateway: Gateway, asked: str, spoken: str, tls: str):
    command = ["curl", "-sS", asked, "--tlsv1.2", "--tls-max", tls, "--cacert", str(gateway.env["STACK_TLS_CERT"])]
    done = subprocess.run(
        [*command, "-w", " %{http_version}", f"{gateway.base_url}/ping"], capture_output=True, timeout=PATIENCE_S
    )
    assert done.stdout.decode() == f"pong {spoken}", done.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_by_its_ticket(gateway: Gateway, tmp_path: Path, version: str):
    host, port = gateway.host_port
    request = b"GET /ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    connect = ["s_client", version, "-ign_eof", "-connect", f"{host}:{port}", "-CAfile", str(gateway.env["STACK_TLS_CERT"])]
    first = openssl(*connect, "-sess_out", tmp_path / "session", stdin=request)
    assert "Verification: OK" in first and "\nNew, TLS" in first, first
    second = openssl(*connect, "-sess_in", tmp_path / "session", stdin=request)
    assert "\nReused, TLS" in second and "pong" in second, second


def issued(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate as an authority would issue it, its key, and the authority's own."""
    (folder / "ca").mkdir()
    ca, ca_key = self_signed(folder / "ca")
    _, key = self_signed(folder)
    request, extensions, cert = folder / "request.pem", folder / "extensions", folder / "issued.pem"
    extensions.write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n"
        "basicConstraints=CA:FALSE\ncrlDistributionPoints=URI:http://localhost/crl\n"
    )
    openssl("req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", request)
    sign = ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-days", "89", "-extfile", extensions]
    openssl(*sign, "-out", cert)
    return cert, key, ca


def test_testssl_finds_nothing_above_low(tmp_path: Path, start_gateway):
    cert, key, ca = issued(tmp_path)
    # Whoever speaks 1.2 offers more that could be found.
    gateway = start_gateway(
        STACK_TLS_CERT=str(cert), STACK_TLS_KEY=str(key), STACK_TLS_MIN_VERSION="1.2", STACK_PUBLIC_URL="https://localhost:18443"
    )
    found = tmp_path / "found.json"
    _, port = gateway.host_port
    quiet = ["--quiet", "--warnings", "off", "--color", "0"]
    subprocess.run(
        ["testssl", *quiet, "--add-ca", ca, "--jsonfile", found, f"localhost:{port}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
    )
    findings = json.loads(found.read_text())
    assert len(findings) > 100, "it has looked"
    # WARN is said where this machine's OpenSSL is too new to try something old.
    bad = [finding for finding in findings if finding["severity"] not in {"OK", "INFO", "LOW", "WARN"}]
    assert not bad, bad


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Pebble, which issues certificates like Let's Encrypt, and a DNS for it in which every name is this machine."""
    api, management, dns, dns_management, gateway = free_ports(5)
    cert, key, ca = issued(tmp_path)
    addresses = {"listenAddress": f"127.0.0.1:{api}", "managementListenAddress": f"127.0.0.1:{management}"}
    ports = {"httpPort": 1, "tlsPort": gateway, "ocspResponderURL": "", "externalAccountBindingRequired": False}
    config = tmp_path / "pebble.json"
    config.write_text(json.dumps({"pebble": {**addresses, **ports, "certificate": str(cert), "privateKey": str(key)}}))
    names = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{dns}"]
    unused = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{dns_management}"]
    env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    log = (tmp_path / "pebble.log").open("wb")
    pebble = ["pebble", "-config", str(config), "-dnsserver", f"127.0.0.1:{dns}"]
    commands = [pebble, [*names, *unused]]
    running = [subprocess.Popen(one, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL) for one in commands]
    try:
        trust = ssl.create_default_context(cafile=str(ca))
        wait_for(lambda: reaches(f"https://127.0.0.1:{api}/dir", trust))
        root = httpx.get(f"https://127.0.0.1:{management}/roots/0", verify=trust, trust_env=False).text
        yield {"directory": f"https://localhost:{api}/dir", "ca": ca, "root": root, "port": gateway, "running": running}
    finally:
        for one in running:
            one.kill()
            one.wait()
        log.close()


def reaches(url: str, trust: ssl.SSLContext) -> bool:
    try:
        return httpx.get(url, verify=trust, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


DOMAIN = "chat.example.com"


def shown_to(trust: ssl.SSLContext, port: int) -> bytes | None:
    """The certificate that is shown, if it is one of the authority's for our domain."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
            with trust.wrap_socket(plain, server_hostname=DOMAIN) as stream:
                return stream.getpeercert(binary_form=True)
    except OSError:
        return None


def test_an_authority_issues_the_certificate(tmp_path: Path, authority: dict[str, Any]):
    port = authority["port"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("STACK_")}
    env.update(
        STACK_PUBLIC_URL=f"https://{DOMAIN}",
        STACK_TLS_ACME_DOMAINS=DOMAIN,
        STACK_TLS_ACME_CONTACT="ops@example.com",
        STACK_TLS_ACME_DIRECTORY=authority["directory"],
        STACK_TLS_ACME_CA=str(authority["ca"]),
    )
    command = [find_binary(), "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path / "data")]
    trust = ssl.create_default_context(cadata=authority["root"])
    kept: list[bytes | None] = []
    with (tmp_path / "gateway.log").open("wb") as log:
        # The second time nobody is there to issue one.
        for _ in range(2):
            process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
            try:
                wait_for(lambda: shown_to(trust, port) is not None)
                kept.append(shown_to(trust, port))
            finally:
                process.terminate()
                assert process.wait(PATIENCE_S) == 0
            authority["running"][0].kill()
    assert kept[0] == kept[1]
    assert (tmp_path / "data" / "acme").stat().st_mode & 0o077 == 0


class Manager:
    """A service manager: hears what the gateway tells it."""

    def __init__(self, folder: Path):
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(PATIENCE_S)

    def hears(self, word: str) -> str:
        while True:
            told = self.socket.recv(1000).decode()
            if told.startswith(word):
                return told


def test_a_service_manager_opens_the_sockets_and_is_told(tmp_path: Path):
    manager = Manager(tmp_path)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(tmp_path / "web.sock"))
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    unix.listen()

    def hand_over() -> None:
        # Between fork and exec: they stand at 3 and 4, as systemd has it.
        high = [os.dup2(one.fileno(), 100 + at) for at, one in enumerate((tcp, unix))]
        for at, fd in enumerate(high):
            os.dup2(fd, 3 + at, inheritable=True)

    env = {name: value for name, value in os.environ.items() if not name.startswith("STACK_")}
    env.update(NOTIFY_SOCKET=str(manager.path), LISTEN_FDS="2", WATCHDOG_USEC="200000")
    process = subprocess.Popen(
        # What is configured as an address is not listened on then.
        ["sh", "-c", 'LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" --listen 127.0.0.1:1 --data-dir data', str(find_binary())],
        cwd=tmp_path,
        env=env,
        preexec_fn=hand_over,
        close_fds=False,
        stdout=subprocess.DEVNULL,
    )
    try:
        manager.hears("READY=1")
        assert httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).text == "pong"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "web.sock"))) as client:
            assert client.get("http://localhost/ping").text == "pong"
        for _ in range(3):
            manager.hears("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert "\nMONOTONIC_USEC=" in manager.hears("RELOADING=1")
        assert manager.hears("READY=1").endswith("STATUS=")
        (tmp_path / "stack.toml").write_text("colour = 1\n")
        process.send_signal(signal.SIGHUP)
        manager.hears("RELOADING=1")
        assert "the configuration has faults" in manager.hears("READY=1")
        process.terminate()
        manager.hears("STOPPING=1")
        assert process.wait(PATIENCE_S) == 0
        assert (tmp_path / "web.sock").exists(), "it is the service manager's"
    finally:
        process.kill()
        process.wait()
        for one in (tcp, unix, manager.socket):
            one.close()
