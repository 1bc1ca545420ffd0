"""A full disk: `send` fails with `unavailable`, reads go on, and writing goes on by itself when there is room again."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackclient import Account, Api, Gateway, make_room, register


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, text=True)
    if mount.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount one: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def post(account: Account, room: str, body: str, key: str) -> int:
    response = account.post(f"/rooms/{room}/messages", json={"body": body, "key": key})
    if response.status_code == 503:
        assert response.json()["code"] == "unavailable"
        assert "retry-after" in response.headers
    return response.status_code


def test_full_disk_refuses_writes_and_nothing_else(small_disk: Path):
    # A small cache, so that reads meet the disk.
    gateway = Gateway(STACK_STORAGE_CACHE_MIB="1")
    gateway.data_dir = small_disk / "data"
    gateway.start()
    api = Api(gateway)
    try:
        alice = register(api)
        room = make_room(alice)
        said = [secrets.token_hex(8000) for _ in range(3000)]
        kept = 0
        while post(alice, room, said[kept], f"key-{kept}") == 201:
            kept += 1
        assert kept > 100
        for _ in range(3):
            assert post(alice, room, "never", "never") == 503
            page = alice.ok("GET", f"/rooms/{room}/messages?after=1&limit=1")
            assert page["events"][0]["payload"]["body"] == said[0]
            assert page["head"] == kept + 1

        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        assert post(alice, room, said[kept], f"key-{kept}") == 201
        gateway.kill()
        gateway.start()
        api.close()
        api = alice.api = Api(gateway)
        page = alice.ok("GET", f"/rooms/{room}/messages?after=1&limit=500")
        bodies = [event["payload"]["body"] for event in page["events"]]
        assert bodies == said[: len(bodies)]
        assert page["head"] == kept + 2
    finally:
        api.close()
        gateway.dispose()
