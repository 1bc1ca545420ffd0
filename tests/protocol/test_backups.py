"""Backups while people write: each is restored, and is a prefix of what was acknowledged. And backups in a bucket, on a
server that is moto, a mock of S3, with a client of S3 that is not ours.

STACK_TEST_BACKUPS_S takes a backup every second for so long; without it a few are taken one behind the other.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from stackclient import Account, Api, Gateway, login, make_room, register
from stackclient.gateway import find_binary

SECONDS = int(os.environ.get("STACK_TEST_BACKUPS_S") or 0)
AT_LEAST = 3
WRITERS = 4
ROOMS = 3


def command(gateway: Gateway, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """What the gateway's own command line says, with the gateway's own settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("STACK_")}
    env.update({k: v for k, v in gateway.env.items() if v is not None})
    return subprocess.run(
        [str(find_binary()), *arguments, "--data-dir", str(gateway.data_dir), "--log", "warn", "--json"],
        cwd=gateway.home,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        **kwargs,
    )


def told(gateway: Gateway, *arguments: str) -> list[Any]:
    done = command(gateway, *arguments)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


class Writer(threading.Thread):
    """Says things in every room in turn, and keeps what was acknowledged."""

    def __init__(self, who: Account, rooms: list[str], index: int):
        super().__init__(daemon=True)
        self.who, self.rooms, self.index = who, rooms, index
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.under_way: tuple[str, str] | None = None
        self.ends = threading.Event()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            number = 0
            while not self.ends.is_set():
                room = self.rooms[number % len(self.rooms)]
                body = f"{self.index} says {number} in {room}"
                self.under_way = (room, body)
                seq = self.who.ok("POST", f"/rooms/{room}/messages", json={"body": body})["seq"]
                self.acknowledged[room, seq] = body
                number += 1
        except BaseException as fault:  # noqa: BLE001 - told by the test
            self.fault = fault


def test_each_backup_under_load_is_a_prefix_of_what_was_acknowledged(start_gateway: Any, tmp_path: Path) -> None:
    gateway = start_gateway()
    owner = register(Api(gateway), "owner")
    rooms = [make_room(owner) for _ in range(ROOMS)]
    writers = [Writer(login(owner, Api(gateway)), rooms, index) for index in range(WRITERS)]
    for writer in writers:
        writer.start()

    backups: list[tuple[Path, dict[tuple[str, int], str]]] = []
    began = time.monotonic()
    while len(backups) < AT_LEAST or time.monotonic() - began < SECONDS:
        before: dict[tuple[str, int], str] = {}
        for writer in writers:
            before.update(writer.acknowledged.copy())
        path = tmp_path / f"{len(backups)}.redb"
        told(gateway, "snapshot", str(path))
        backups.append((path, before))
        if SECONDS:
            time.sleep(max(0.0, began + len(backups) - time.monotonic()))
    for writer in writers:
        writer.ends.set()
    for writer in writers:
        writer.join()
        assert writer.fault is None, writer.fault
    acknowledged: dict[tuple[str, int], str] = {}
    for writer in writers:
        acknowledged.update(writer.acknowledged)

    events = 0
    for path, before in backups:
        restored = Gateway(**gateway.env)
        try:
            restored.data_dir.mkdir()
            shutil.copy(gateway.data_dir / "auth.key", restored.data_dir)
            to = restored.data_dir / "stack.redb"
            told(restored, "restore", str(path), "--to", str(to))
            verified = told(restored, "verify", str(to))[0]
            heads = {room["id"]: room["head"] for room in verified["rooms"]}
            restored.start()
            reader = login(owner, Api(restored))
            for room in rooms:
                log = [event["payload"] for event in reader.whole_log(room)]
                assert [event["seq"] for event in log] == list(range(1, heads[room] + 1))
                last = max((seq for at, seq in before if at == room), default=0)
                assert heads[room] >= last, f"{path}: {room} ends at {heads[room]}, {last} was acknowledged before"
                for event in log:
                    if "body" in event:
                        assert acknowledged.get((room, event["seq"])) == event["body"], f"{path}: {event}"
                events += len(log)
        finally:
            restored.dispose()
        path.unlink()
    took = time.monotonic() - began
    print(f"{len(backups)} backups, {len(acknowledged)} messages acknowledged, {events} events compared, {took:.0f} s")
    assert len({len(before) for _, before in backups}) > 1, "nothing was written meanwhile"


BUCKET = "backups"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of S3."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server: str) -> Any:
    """The bucket, by somebody else's client."""
    keys = {"aws_access_key_id": "AKTEST", "aws_secret_access_key": "a secret of the server"}
    s3 = boto3.resource("s3", endpoint_url=server, region_name="us-east-1", **keys)
    bucket = s3.create_bucket(Bucket=BUCKET)
    yield bucket
    for upload in bucket.multipart_uploads.all():
        upload.abort()
    bucket.objects.all().delete()


def in_bucket(server: str, home: Path, **more: str) -> dict[str, str]:
    secret = home / "s3.key"
    secret.write_text("a secret of the server\n")
    return {
        "STACK_BACKUP_TO": f"s3://{BUCKET}/some/prefix",
        "STACK_BACKUP_EVERY": "1d",
        "STACK_BACKUP_KEEP": "2",
        "STACK_BACKUP_S3_ENDPOINT": server,
        "STACK_BACKUP_S3_ACCESS_KEY_ID": "AKTEST",
        "STACK_BACKUP_S3_SECRET_ACCESS_KEY_FILE": str(secret),
        **more,
    }


def say_much(gateway: Gateway) -> Account:
    """More than one part of an upload holds."""
    who = register(Api(gateway), "who")
    room = make_room(who)
    for _ in range(240):
        who.ok("POST", f"/rooms/{room}/messages", json={"body": "x", "data": {"much": "x" * 31_000, "noise": os.urandom(600).hex()}})
    return who


def test_backups_in_a_bucket(start_gateway: Any, server: str, bucket: Any, tmp_path: Path) -> None:
    key = tmp_path / "backup.key"
    made = subprocess.run(["age-keygen", "-o", str(key)], capture_output=True, text=True, check=True)
    public = made.stderr.split("Public key: ")[1].strip()
    bucket.put_object(Key="some/prefix/notes.txt", Body=b"mine")
    bucket.put_object(Key="some/other/stack-20200101T000000.000Z.redb", Body=b"somebody else's")
    gateway = start_gateway(**in_bucket(server, tmp_path, STACK_BACKUP_RECIPIENTS=public))
    say_much(gateway)
    names = [told(gateway, "backup", "now")[0]["name"] for _ in range(3)]
    listed = [entry["name"] for entry in told(gateway, "backup", "list")]
    assert listed == [names[2], names[1]]
    keys = {entry.key for entry in bucket.objects.all()}
    here = {f"some/prefix/{name}" for name in listed}
    assert keys == here | {"some/prefix/notes.txt", "some/other/stack-20200101T000000.000Z.redb"}
    assert not list(bucket.multipart_uploads.all())

    # It is whole for whoever fetches it otherwise, and for us.
    sealed, plain = tmp_path / "sealed", tmp_path / "plain"
    bucket.download_file(f"some/prefix/{names[2]}", str(sealed))
    assert sealed.stat().st_size > 8 << 20, "it was to be more than one part"
    subprocess.run(["age", "-d", "-i", str(key), "-o", str(plain), str(sealed)], check=True)
    other = told(gateway, "verify", str(plain))[0]
    url = f"s3://{BUCKET}/some/prefix/{names[2]}"
    own = told(gateway, "verify", url, "--identity", str(key))[0]
    assert (own["rooms"], own["events"]) == (other["rooms"], other["events"]) and own["events"] > 240
    told(gateway, "restore", url, "--identity", str(key), "--to", str(tmp_path / "restored.redb"))
    assert command(gateway, "verify", f"s3://{BUCKET}/no/such").returncode == 1
    # What goes to a bucket is for the same keys, by hand too.
    told(gateway, "snapshot", f"s3://{BUCKET}/copy.redb")
    assert command(gateway, "verify", f"s3://{BUCKET}/copy.redb").returncode == 1
    told(gateway, "verify", f"s3://{BUCKET}/copy.redb", "--identity", str(key))
    assert "a secret of the server" not in gateway.log_path.read_text()


class Faulty(http.server.BaseHTTPRequestHandler):
    """Passes requests on, and refuses every part of an upload behind the first."""

    protocol_version = "HTTP/1.1"
    behind: str
    refused: int

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "partNumber=" in self.path and "partNumber=1&" not in self.path + "&":
            type(self).refused += 1
            self.send_response(403)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(self.behind)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        text = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("content-length", answer.getheader("content-length") if self.command == "HEAD" else str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def log_message(self, *_: Any) -> None:
        pass


def test_an_upload_that_fails_midway_leaves_nothing(start_gateway: Any, server: str, bucket: Any, tmp_path: Path) -> None:
    class Proxy(Faulty):
        behind = server.removeprefix("http://")
        refused = 0

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        gateway = start_gateway()
        say_much(gateway)
        gateway.env.update(in_bucket(f"http://127.0.0.1:{proxy.server_port}", tmp_path))
        done = command(gateway, "backup", "now")
        assert done.returncode == 1 and f"the bucket {BUCKET} cannot be used" in done.stderr, done.stderr
        assert Proxy.refused > 0
        assert not list(bucket.objects.all()) and not list(bucket.multipart_uploads.all())
    finally:
        proxy.shutdown()
        proxy.server_close()
    # Nobody is there any more.
    done = command(gateway, "backup", "now")
    assert done.returncode == 1 and "refused" in done.stderr, done.stderr
    assert not [name for name in os.listdir(gateway.data_dir) if "copy" in name]
