"""Starts a gateway process on port 0 with its own data directory, and ends it by its id."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

OUR_ORIGIN = "http://localhost:18080"
"""The public URL every gateway of the suite is started with: plain-HTTP loopback, so cookies carry no prefix."""

JWT_SECRET = "protocol-suite-secret-0123456789abcdef-not-for-use"

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20

_LISTENING = re.compile(r"listening on (https?://\S+)")


def find_binary() -> Path:
    named = os.environ.get("STACK_GATEWAY")
    if named:
        return Path(named)
    for profile in ("debug", "release"):
        candidate = REPOSITORY / "target" / profile / "stack-gateway"
        if candidate.exists():
            return candidate
    raise FileNotFoundError("no stack-gateway binary: build it, or name one in STACK_GATEWAY")


class Gateway:
    """One gateway on one data directory; may be killed and started again on the same one."""

    def __init__(self, **env: str | None):
        self.home = Path(tempfile.mkdtemp(prefix="stack-"))
        self.data_dir = self.home / "data"
        self.env: dict[str, str | None] = {
            "STACK_RATE_ENABLED": "false",
            "STACK_PUBLIC_URL": OUR_ORIGIN,
            "AUTH_JWT_SECRET": JWT_SECRET,
            **env,
        }
        self.process: subprocess.Popen[str] | None = None
        self.base_url = ""
        self.trust: ssl.SSLContext | None = None
        """What its clients trust, when it speaks TLS."""
        self.listener: socket.socket | None = None
        """What it listens on, when that is held open across its restarts, as by a service manager."""

    def with_listener(self) -> Gateway:
        """Opens its listening socket here, so that nobody is refused while it is restarted."""
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        return self

    def with_tls(self) -> Gateway:
        """Gives it a certificate of its own, for a public URL under TLS."""
        cert, key = self.home / "cert.pem", self.home / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        subprocess.run(
            [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
            check=True,
            capture_output=True,
        )
        self.env.update(STACK_TLS_CERT=str(cert), STACK_TLS_KEY=str(key), STACK_PUBLIC_URL="https://localhost:18443")
        self.trust = ssl.create_default_context(cafile=str(cert))
        return self

    @property
    def log_path(self) -> Path:
        return self.home / "gateway.log"

    @property
    def ws_url(self) -> str:
        return "ws" + self.base_url.removeprefix("http") + "/ws"

    @property
    def host_port(self) -> tuple[str, int]:
        host, port = self.base_url.split("://")[1].rsplit(":", 1)
        return host, int(port)

    def arguments(self) -> list[str]:
        return ["serve", "--data-dir", str(self.data_dir)]

    def start(self) -> Gateway:
        assert self.process is None, "already running"
        env = {k: v for k, v in os.environ.items() if not k.startswith("STACK_") and k != "AUTH_JWT_SECRET"}
        env.update({k: v for k, v in self.env.items() if v is not None})
        command = [str(find_binary()), *self.arguments(), "--listen", "127.0.0.1:0"]
        if self.listener is not None:
            # A service manager's descriptors begin at 3, and the id is that of the process that takes them.
            script = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            command = ["sh", "-c", script, "sh", *command]
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                env=env,
                stdin=self.listener or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        ready = threading.Event()
        found: list[str] = []
        threading.Thread(target=self._drain_stdout, args=(self.process, ready, found), daemon=True).start()
        if not ready.wait(START_TIMEOUT_S) or not found:
            self.kill()
            raise RuntimeError(f"the gateway did not say where it listens; its log:\n{self.log_tail()}")
        self.base_url = found[0].rstrip("/")
        return self

    def _drain_stdout(self, process: subprocess.Popen[str], ready: threading.Event, found: list[str]) -> None:
        assert process.stdout is not None
        with (self.home / "gateway.out").open("a") as out:
            for line in process.stdout:
                out.write(line)
                match = _LISTENING.search(line)
                if match and not found:
                    found.append(match.group(1))
                    ready.set()
        ready.set()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: what a power cut leaves, as far as a process can tell."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_S)
            self.process = None

    def terminate(self) -> None:
        """SIGTERM without waiting."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        return code

    def stop(self) -> int:
        self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> Gateway:
        if self.process is not None:
            self.stop()
        return self.start()

    def log_tail(self, chars: int = 4000) -> str:
        return self.log_path.read_text(errors="replace")[-chars:] if self.log_path.exists() else ""

    def panics(self) -> list[str]:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return [line for line in text.splitlines() if "panicked at" in line]

    def dispose(self) -> None:
        """Ends the process and removes its data; fails if it had died or panicked by itself."""
        died = self.process is not None and self.process.poll() is not None
        panics = self.panics()
        tail = self.log_tail()
        self.kill()
        if self.listener is not None:
            self.listener.close()
        shutil.rmtree(self.home, ignore_errors=True)
        assert not died, f"the gateway ended by itself; its log:\n{tail}"
        assert not panics, f"the gateway panicked: {panics}"
