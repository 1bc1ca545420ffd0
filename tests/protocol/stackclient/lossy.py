"""A bus in the middle that loses messages on purpose."""

from __future__ import annotations

import random
import threading

import zmq


class LossyProxy:
    """Hears a ZeroMQ publisher and says the same again, but for a part of the events."""

    def __init__(self, source: str, url: str, lost: float, seed: int):
        self.url = f"zmq+{url}"
        self.lost = self.passed = 0
        self._share = lost
        self._random = random.Random(seed)
        self._context = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.RCVHWM, 0)
        self._sub.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        self._sub.connect(source.removeprefix("zmq+"))
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.SNDHWM, 0)
        self._pub.bind(url)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._sub, zmq.POLLIN)
        while not self._over.is_set():
            if not poller.poll(100):
                continue
            message = self._sub.recv()
            if message.startswith(b"room.") and self._random.random() < self._share:
                self.lost += 1
                continue
            self.passed += 1
            self._pub.send(message)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(linger=0)
