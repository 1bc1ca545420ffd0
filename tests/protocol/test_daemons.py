"""The daemons beside a gateway, all of them processes that are killed in turn while people write.

At the end the archive is the rooms' logs, line for line, and every command and every reminder was answered once.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from stackclient import Account, Api, Gateway, make_room
from stackclient.gateway import find_binary
from stackclient.http import no_jar
from test_ipc import make_admin, make_bot

KILLS = int(os.environ.get("STACK_TEST_DAEMON_KILLS") or 18)
WRITERS = 3
BETWEEN_S = (0.1, 0.7)
PATIENCE_S = 60


class Daemon:
    """A process that may be killed and started again."""

    def __init__(self, gateway: Gateway, name: str, *arguments: str):
        self.command = [str(find_binary().with_name(name)), *arguments]
        self.home = gateway.home
        self.log_path = gateway.home / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.home, stdin=subprocess.DEVNULL, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended by itself:\n{self.log_path.read_text()[-4000:]}"
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)


class Writer(threading.Thread):
    """Says things, most of them to nobody and some to the bot; each until it is acknowledged, and under a key."""

    def __init__(self, gateway: Gateway, who: Account, rooms: list[str], index: int, rng: random.Random):
        super().__init__(daemon=True)
        self.gateway, self.who, self.rooms, self.index, self.rng = gateway, who, rooms, index, rng
        self.over = threading.Event()
        self.asked: dict[tuple[str, int], str] = {}
        """(room, seq) → the command."""
        self.said = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.say()
        except BaseException as failure:
            self.failure = failure

    def say(self) -> None:
        self.said += 1
        number = f"{self.index}-{self.said}"
        kind = self.rng.random()
        if kind < 0.06:
            body = f"!echo {number}"
        elif kind < 0.09:
            body = f"!remind 1s {number}"
        else:
            body = f"message {number} " + "ä\n" * self.rng.randrange(200)
        room = self.rng.choice(self.rooms)
        while True:
            with contextlib.suppress(httpx.TransportError):
                response = httpx.post(
                    f"{self.gateway.base_url}/api/v1/rooms/{room}/messages",
                    json={"body": body, "key": number},
                    headers={"authorization": f"Bearer {self.who.access}"},
                    timeout=10,
                    trust_env=False,
                    cookies=no_jar(),
                )
                if response.status_code == 201:
                    break
                assert response.status_code == 503, response.text
            time.sleep(0.05)
        if body.startswith("!"):
            self.asked[(room, response.json()["seq"])] = body


def archived(folder: Path) -> list[dict]:
    lines: list[bytes] = []
    for path in sorted(folder.glob("*.jsonl.gz*")):
        assert path.stat().st_mode & 0o777 == 0o600
        lines += gzip.decompress(path.read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def finished(folder: Path) -> dict[str, bytes]:
    # By room and name: files of two rooms may end at the same event.
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.jsonl.gz")}


def answers(log: list[dict], bot: str) -> Counter[tuple[int, str]]:
    """What the bot said: to which message, and whether as its answer or as the reminder."""
    found: Counter[tuple[int, str]] = Counter()
    for event in log:
        payload = event["payload"]
        if payload["sender"] == bot and event["type"] == "message":
            found[(payload["reply_to"], "reminder" if payload["body"].startswith("Reminder") else "answer")] += 1
    return found


def test_whatever_is_killed_nothing_is_lost_and_nothing_comes_twice(start_gateway, seeded: random.Random):
    gateway = start_gateway()
    api = Api(gateway)
    admin = make_admin(gateway, api)
    bot = make_bot(admin, ["read", "send"])
    rooms = [make_room(admin) for _ in range(2)]
    for room in rooms:
        admin.ok("PUT", f"/rooms/{room}/members/{bot.id}", json={"role": "member"})
    token = gateway.home / "token"
    token.touch(0o600)
    token.write_text(bot.token)
    (gateway.home / "bot.toml").write_text(
        """
        socket = "data/gateway.sock"
        token_file = "token"
        state_dir = "bot-state"
        max_age = "1h"
        [limits]
        user_burst = 10000
        room_burst = 10000
        reminders_per_user = 10000
        reminders = 10000
        [commands.echo]
        program = "/bin/echo"
        max_args = 1
        at_once = 4
        """
    )
    archive = gateway.home / "archive"
    archiver = Daemon(
        gateway, "stack-archiver", "--socket", "data/gateway.sock", "--token-file", "token", "--dir", "archive",
        "--rotate-bytes", "2000", "--gather", "0s", "--look-every", "1s",
    )  # fmt: skip
    helper = Daemon(gateway, "stack-bot", "--config", "bot.toml")
    daemons = [archiver, helper]
    writers = [Writer(gateway, admin, rooms, index, random.Random(seeded.random())) for index in range(WRITERS)]
    killed: Counter[str] = Counter()
    done: dict[str, bytes] = {}
    try:
        for daemon in daemons:
            daemon.start()
        # From its first look at a room on the bot answers everything.
        wait(lambda: helper.log_path.read_text().count("from now on") == len(rooms), "the bot reads no room")
        for writer in writers:
            writer.start()
        for _ in range(KILLS):
            time.sleep(seeded.uniform(*BETWEEN_S))
            victim = seeded.choice(["gateway", "archiver", "bot"])
            killed[victim] += 1
            if victim == "gateway":
                gateway.kill()
                gateway.start()
            else:
                daemon = archiver if victim == "archiver" else helper
                daemon.kill()
                now = finished(archive)
                assert {name: now[name] for name in done} == done, "a finished file was touched again"
                done = now
                daemon.start()
        for writer in writers:
            writer.over.set()
        for writer in writers:
            writer.join(30)
            assert writer.failure is None, writer.failure
        asked = {place: body for writer in writers for place, body in writer.asked.items()}

        api.close()
        api = admin.api = Api(gateway)
        expected = {
            room: Counter(
                {(seq, "answer"): 1 for (place, seq) in asked if place == room}
                | {(seq, "reminder"): 1 for (place, seq), body in asked.items() if place == room and "remind" in body}
            )
            for room in rooms
        }
        for room in rooms:
            wait(
                lambda room=room: answers(admin.whole_log(room), bot.id) >= expected[room],
                f"the bot has not answered everything:\n{helper.log_path.read_text()[-3000:]}",
            )
            log = admin.whole_log(room)
            assert answers(log, bot.id) == expected[room]
            wait(lambda room=room, log=log: cursor(archive, room) >= len(log), "the archive is behind")
        for daemon in daemons:
            assert daemon.stop() == 0, daemon.log_path.read_text()[-4000:]
        for room in rooms:
            assert archived(archive / room) == admin.whole_log(room)
        now = finished(archive)
        assert {name: now[name] for name in done} == done, "a finished file was touched again"
        events = sum(writer.said for writer in writers)
        print(f"{events} messages, {len(asked)} commands, {len(now)} finished files, killed: {dict(killed)}")
        assert now and asked
    finally:
        for writer in writers:
            writer.over.set()
        for daemon in daemons:
            if daemon.process and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
        api.close()


def cursor(archive: Path, room: str) -> int:
    return json.loads((archive / room / "cursor.json").read_text())["seq"]


def wait(holds, otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
