"""Edges: gateways that hold client connections for another one, their origin."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path

from .gateway import START_TIMEOUT_S, Gateway


def bus_url(origin: Gateway) -> str:
    """Where an origin publishes, on this machine."""
    return f"zmq+ipc://{origin.home}/bus.sock"


class Edge(Gateway):
    """An edge process; its base_url is where clients connect to."""

    def __init__(self, origin: Gateway, bus: str | None = None, **env: str | None):
        super().__init__(STACK_BUS_SUBSCRIBE=bus or bus_url(origin), AUTH_JWT_SECRET=None, **env)
        self.origin_url = f"unix:{Path(origin.data_dir) / 'gateway.sock'}"

    def arguments(self) -> list[str]:
        return ["edge", "--origin", self.origin_url]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.HTTPError, OSError):
            return False

    def linked(self) -> Edge:
        """Waits until the origin is linked."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            assert time.monotonic() < deadline, f"the edge finds no origin; its log:\n{self.log_tail()}"
            time.sleep(0.02)
        return self


class BehindEdge(Gateway):
    """A gateway that is reached by an edge: for the suite to run against, which cannot tell."""

    def __init__(self, **env: str | None):
        super().__init__(**env)
        self.env.setdefault("STACK_BUS_URL", bus_url(self))
        self.edge: Edge | None = None

    def start(self) -> Gateway:
        super().start()
        if self.edge is None:
            self.edge = Edge(self, STACK_LOG=self.env.get("STACK_LOG"))
        self.edge.start()
        self.edge.linked()
        self.base_url = self.edge.base_url
        return self

    def kill(self) -> None:
        super().kill()
        if self.edge is not None:
            self.edge.kill()

    def terminate(self) -> None:
        assert self.edge is not None
        self.edge.terminate()

    def wait(self) -> int:
        assert self.edge is not None
        code = self.edge.wait()
        super().terminate()
        return code or super().wait()

    def panics(self) -> list[str]:
        return super().panics() + (self.edge.panics() if self.edge is not None else [])

    def dispose(self) -> None:
        edge = self.edge
        super().dispose()
        if edge is not None:
            edge.dispose()
