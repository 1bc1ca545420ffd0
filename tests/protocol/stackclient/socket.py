"""The WebSocket client. Besides sending and receiving it watches what PROTOCOL.md promises of every connection:

- every frame is one object with a `type` and a `payload`; `ok` carries an `id`, events never do;
- an `error` is `{code, message, retryable, …}` with a code of the closed enum;
- in every subscribed room the log's events come in `seq` order from the cursor on, without a hole and without a repeat,
  and none comes before the `ok` or after the subscription's end.

A breach is kept in `breaches` and fails the test when the socket is closed by `connect`'s fixture.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .gateway import Gateway
from .http import request_headers
from .spec import ERROR_CODES, LOG_EVENTS, OTHER_EVENTS, SUBPROTOCOL

ANSWER_TIMEOUT_S = 20

Frame = dict[str, Any]


class Closed(Exception):
    """The server closed the socket while an answer was awaited."""

    def __init__(self, code: int | None):
        super().__init__(f"closed with {code}")
        self.code = code


async def dial(
    gateway: Gateway,
    *,
    token: str | None = None,
    cookies: dict[str, str] | None = None,
    origin: str | None = None,
    ticket: str | None = None,
    query: str | None = None,
    headers: dict[str, str] | None = None,
    subprotocols: Sequence[str] | None = (SUBPROTOCOL,),
    **kwargs: Any,
) -> ClientConnection:
    """A bare connection, with nobody reading it."""
    url = gateway.ws_url
    if ticket is not None:
        url += f"?ticket={ticket}"
    if query is not None:
        url += f"?{query}"
    return await connect(
        url,
        origin=origin,
        additional_headers=request_headers(token, cookies, headers),
        subprotocols=subprotocols,
        compression=None,
        max_size=None,
        ping_interval=None,
        proxy=None,
        open_timeout=ANSWER_TIMEOUT_S,
        close_timeout=2,
        ssl=gateway.trust,
        **kwargs,
    )


async def upgrade_refused(gateway: Gateway, **kwargs: Any) -> tuple[int, dict[str, Any] | None]:
    """Status (and problem, if it is one) of an upgrade that must be refused with an HTTP answer."""
    try:
        ws = await dial(gateway, **kwargs)
    except InvalidStatus as refused:
        response = refused.response
        media = response.headers.get("content-type", "")
        body = json.loads(response.body) if response.body and "json" in media else None
        return response.status_code, body
    await ws.close()
    return 101, None


class Sock:
    """A connection with a reader behind it that keeps every frame in the order of arrival."""

    def __init__(self, ws: ClientConnection):
        self.ws = ws
        self.raw: list[str] = []
        self.frames: list[Frame] = []
        self.breaches: list[str] = []
        self.cursors: dict[str, int] = {}
        """Room → last `seq` received, while subscribed."""
        self._ended: set[str] = set()
        self._asked: dict[int, tuple[str, dict[str, Any]]] = {}
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._changed = asyncio.Event()
        self._next_id = 1
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, gateway: Gateway, **kwargs: Any) -> Sock:
        return cls(await dial(gateway, max_queue=None, **kwargs))

    # Receiving

    async def _read(self) -> None:
        try:
            while True:
                message = await self.ws.recv()
                if isinstance(message, bytes):
                    self.breaches.append(f"a binary frame: {message[:80]!r}")
                    continue
                self._take(message)
        except ConnectionClosed:
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Closed(self.ws.close_code))
                    future.exception()
            self._changed.set()

    def _take(self, message: str) -> None:
        frame = json.loads(message)
        self.raw.append(message)
        self.frames.append(frame)
        self._watch(frame, message)
        if frame.get("type") in ("ok", "error") and frame.get("id") in self._waiting:
            future = self._waiting.pop(frame["id"])
            if not future.done():
                future.set_result(frame)
        self._changed.set()

    def _breach(self, what: str, message: str) -> None:
        self.breaches.append(f"{what}: {message[:300]}")

    def _watch(self, frame: Frame, message: str) -> None:
        kind, payload = frame.get("type"), frame.get("payload")
        if not isinstance(kind, str) or not isinstance(payload, dict):
            self._breach("a frame is an object with `type` and `payload`", message)
            return
        if kind == "ok":
            self._watch_ok(frame, payload, message)
        elif kind == "error":
            if payload.get("code") not in ERROR_CODES:
                self._breach("an error code outside the enum", message)
            if not isinstance(payload.get("message"), str) or not isinstance(payload.get("retryable"), bool):
                self._breach("an error is {code, message, retryable, …}", message)
            self._asked.pop(frame.get("id", -1), None)
        elif kind not in LOG_EVENTS | OTHER_EVENTS:
            self._breach("an undocumented event", message)
        elif "id" in frame:
            self._breach("events carry no `id`", message)
        elif kind in LOG_EVENTS:
            self._watch_log(payload, message)
        elif kind == "gap":
            self.cursors[payload["room"]] = payload["to"]
        elif kind == "unsubscribed":
            self.cursors.pop(payload["room"], None)
            self._ended.add(payload["room"])

    def _watch_ok(self, frame: Frame, payload: dict[str, Any], message: str) -> None:
        if "id" not in frame:
            self._breach("an `ok` answers an `id`", message)
            return
        asked, sent = self._asked.pop(frame["id"], (None, {}))
        if asked is None:
            self._breach("an answer to nothing that was asked, or a second one", message)
        elif asked == "subscribe":
            room = payload["room"]
            self.cursors[room] = sent["after"] if "after" in sent else payload["head"]
            self._ended.discard(room)
        elif asked == "unsubscribe":
            self.cursors.pop(sent["room"], None)
            self._ended.add(sent["room"])

    def _watch_log(self, payload: dict[str, Any], message: str) -> None:
        room, seq = payload["room"], payload["seq"]
        if room in self.cursors:
            if seq != self.cursors[room] + 1:
                self._breach(f"{room}: {seq} follows {self.cursors[room]}", message)
            self.cursors[room] = seq
        elif room in self._ended:
            self._breach(f"{room}: an event after the subscription's end", message)
        else:
            self._breach(f"{room}: an event without or before the `ok` of its subscription", message)

    def log(self, room: str) -> list[Frame]:
        """The log events of a room received so far."""
        return [f for f in self.frames if f["type"] in LOG_EVENTS and f["payload"]["room"] == room]

    def raw_log(self, room: str) -> dict[int, str]:
        """`seq` → the bytes of the frame, as received."""
        return {
            frame["payload"]["seq"]: raw
            for frame, raw in zip(self.frames, self.raw, strict=True)
            if frame["type"] in LOG_EVENTS and frame["payload"]["room"] == room
        }

    async def until(self, true: Callable[[], Any], what: str, timeout: float = ANSWER_TIMEOUT_S) -> Any:
        """Waits for frames until `true()` is; returns what it gave."""
        deadline = time.monotonic() + timeout
        while True:
            self._changed.clear()
            found = true()
            if found:
                return found
            if self._reader.done():
                raise AssertionError(f"closed with {self.ws.close_code} while waiting for {what}")
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"{what} did not come; the last frames: {self.raw[-5:]}") from None

    async def event(
        self, kind: str, *, since: int = 0, timeout: float = ANSWER_TIMEOUT_S, **fields: Any
    ) -> dict[str, Any]:
        """The payload of the first event of that type with these fields, from the frame with index `since` on."""

        def found() -> list[dict[str, Any]]:
            return [
                f["payload"]
                for f in self.frames[since:]
                if f["type"] == kind and all(f["payload"].get(k) == v for k, v in fields.items())
            ]

        return (await self.until(found, f"{kind} {fields}", timeout))[0]

    async def reached(self, room: str, seq: int, timeout: float = ANSWER_TIMEOUT_S) -> None:
        """Waits until the subscription's cursor stands at `seq` or beyond."""
        await self.until(lambda: self.cursors.get(room, -1) >= seq, f"{room} {seq}", timeout)

    # Sending

    def expect_answer(self, id: int, kind: str = "ping") -> asyncio.Future[Frame]:
        """Tells the watch of a request that goes out by other means than `ask`."""
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[id] = (kind, {})
        self._waiting[id] = future
        return future

    async def text(self, text: str) -> None:
        """A text frame as it stands, to which no answer is expected."""
        await self.ws.send(text)

    async def text_request(self, text: str, id: int, kind: str = "ping") -> Frame:
        """A text frame as it stands, which is a request with this `id`; gives its answer."""
        future = self.expect_answer(id, kind)
        await self.ws.send(text)
        return await asyncio.wait_for(future, ANSWER_TIMEOUT_S)

    async def ask(self, kind: str, payload: Any = None, *, id: int | None = None) -> asyncio.Future[Frame]:
        """Sends a request and gives the future of its answer, so that requests can be in flight together."""
        if id is None:
            id = self._next_id
            self._next_id += 1
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        payload = {} if payload is None else payload
        self._asked[id] = (kind, payload if isinstance(payload, dict) else {})
        self._waiting[id] = future
        try:
            await self.ws.send(json.dumps({"type": kind, "id": id, "payload": payload}))
        except ConnectionClosed:
            self._waiting.pop(id, None)
            raise Closed(self.ws.close_code) from None
        if self._reader.done() and not future.done():
            future.set_exception(Closed(self.ws.close_code))
            future.exception()
        return future

    async def request(self, kind: str, payload: Any = None, *, id: int | None = None) -> Frame:
        """Sends a request and gives its `ok` or `error`."""
        future = await self.ask(kind, payload, id=id)
        try:
            return await asyncio.wait_for(future, ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise AssertionError(f"no answer to {kind} {payload}; the last frames: {self.raw[-5:]}") from None

    async def ok(self, kind: str, payload: Any = None) -> dict[str, Any]:
        answer = await self.request(kind, payload)
        assert answer["type"] == "ok", f"{kind} {str(payload)[:200]} → {answer}"
        return answer["payload"]

    async def fails(
        self, kind: str, payload: Any, code: str | tuple[str, ...], field: str | None = None
    ) -> dict[str, Any]:
        """The request is answered by an `error` of that code (one of those codes)."""
        answer = await self.request(kind, payload)
        told = f"{kind} {str(payload)[:200]} → {answer}"
        assert answer["type"] == "error", told
        error = answer["payload"]
        codes = (code,) if isinstance(code, str) else code
        assert error["code"] in codes, f"expected {codes}: {told}"
        if field is not None and error["code"] == "invalid_field":
            assert error.get("field") == field, told
        return error

    async def subscribe(self, room: str, after: int | None = None) -> dict[str, Any]:
        return await self.ok("subscribe", {"room": room} if after is None else {"room": room, "after": after})

    async def send(self, room: str, body: str, **fields: Any) -> int:
        """Sends a message and gives its `seq`."""
        answer = await self.ok("send", {"room": room, "body": body, **fields})
        assert answer["room"] == room
        return answer["seq"]

    async def alive(self) -> None:
        """The connection answers."""
        await self.ok("ping", {})

    # The end

    async def closed(self, timeout: float = ANSWER_TIMEOUT_S) -> int | None:
        """Waits for the server to close; gives the close code."""
        try:
            await asyncio.wait_for(asyncio.shield(self._reader), timeout)
        except TimeoutError:
            raise AssertionError(f"not closed within {timeout} s; the last frames: {self.raw[-5:]}") from None
        return self.ws.close_code

    async def stays_open(self, seconds: float) -> None:
        """Watches the socket for so long; it must neither close nor fall silent."""
        done, _ = await asyncio.wait({self._reader}, timeout=seconds)
        assert not done, f"closed with {self.ws.close_code}; the last frames: {self.raw[-5:]}"
        await self.alive()

    async def error_then_close(self, code: str | tuple[str, ...], close: int, timeout: float = ANSWER_TIMEOUT_S) -> None:
        """The server says an `error` of that code and closes."""
        got = await self.closed(timeout)
        errors = [f["payload"]["code"] for f in self.frames if f["type"] == "error"]
        codes = (code,) if isinstance(code, str) else code
        assert got == close, f"closed with {got}, errors {errors}"
        assert errors and errors[-1] in codes, f"expected an error {codes} before the close, got {self.raw}"

    async def close(self) -> None:
        if not self._reader.done():  # Closing what the server closed trips over asyncio's finished transport.
            await self.ws.close()
        await self._reader

    def check(self) -> None:
        assert not self.breaches, "\n".join(self.breaches[:10])
