"""`stack-gateway ready`, which health checks ask: by TCP, under TLS and by a Unix socket."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from stackclient import Gateway
from stackclient.gateway import find_binary

PATIENCE_S = 30


def environment(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STACK_")} | settings


def ready(listen: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(find_binary()), "--json", "--listen", listen, "ready"]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_health_check_is_answered(with_tls: bool):
    gateway = Gateway()
    if with_tls:
        gateway.with_tls()
    settings = {name: value for name, value in gateway.env.items() if value and name.startswith(("STACK_TLS", "STACK_PUB"))}
    try:
        gateway.start()
        listen = "{}:{}".format(*gateway.host_port)
        done = ready(listen, settings)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"ready": True}
        gateway.stop()
        done = ready(listen, settings)
        assert done.returncode == 1
        assert f"the gateway is not ready: no answer from {listen}: " in done.stderr
    finally:
        gateway.dispose()


def test_a_health_check_is_answered_at_a_unix_socket(tmp_path: Path):
    listen, settings = f"unix:{tmp_path}/web.sock", {"STACK_PUBLIC_URL": "http://localhost:8080"}
    command = [str(find_binary()), "serve", "--listen", listen, "--data-dir", str(tmp_path / "data")]
    assert ready(listen, settings).returncode == 1
    with subprocess.Popen(command, env=environment(settings), stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while (done := ready(listen, settings)).returncode != 0:
                assert process.poll() is None and time.monotonic() < deadline, done.stderr
        finally:
            process.kill()
