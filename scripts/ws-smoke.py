"""Registers, opens a WebSocket, creates a room, subscribes, sends, and waits for the answer and the event.

Prints one line for each step that went well and exits 0; otherwise says which step went wrong, and exits 1.
"""

import asyncio
import json
import secrets
import sys
from urllib.parse import urlsplit, urlunsplit

import httpx
import websockets

TIMEOUT_S = 10


class Failed(Exception):
    """A step that did not go well, in words."""


def well(text: str) -> None:
    print(f"ok  {text}", flush=True)


def answer(step: str, response: httpx.Response, status: int) -> dict:
    """The JSON object of an answer with the expected status."""
    if response.status_code != status:
        raise Failed(f"{step}: expected HTTP {status}, got {response.status_code}: {response.text[:500]}")
    if not response.content:
        return {}
    try:
        return response.json()
    except ValueError:
        raise Failed(f"{step}: the answer is not JSON: {response.text[:500]}") from None


class Socket:
    """A WebSocket whose frames may come in any order."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection
        self.kept: list[dict] = []

    async def request(self, request_id: int, kind: str, payload: dict) -> dict:
        """Sends a request and returns the payload of its `ok`."""
        await self.connection.send(json.dumps({"type": kind, "id": request_id, "payload": payload}))
        frame = await self.frame(f"an answer to {kind}", lambda frame: frame.get("id") == request_id)
        if frame["type"] != "ok":
            raise Failed(f"{kind}: {json.dumps(frame)}")
        return frame["payload"]

    async def frame(self, what: str, wanted) -> dict:
        """The first frame that is wanted; others are kept for later."""
        for index, frame in enumerate(self.kept):
            if wanted(frame):
                return self.kept.pop(index)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    frame = json.loads(await self.connection.recv())
                    if wanted(frame):
                        return frame
                    self.kept.append(frame)
        except TimeoutError:
            raise Failed(f"no {what} within {TIMEOUT_S} s; came: {json.dumps(self.kept)[:500]}") from None


async def smoke(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Failed(f"{url} is not an http or https URL")
    base = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    ws_url = urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, "/ws", "", ""))

    async with httpx.AsyncClient(base_url=base, timeout=TIMEOUT_S, trust_env=False) as http:
        name = f"smoke-{secrets.token_hex(6)}"
        body = {"username": name, "password": secrets.token_urlsafe(24), "token_delivery": "body"}
        account = answer("register", await http.post("/api/v1/auth/register", json=body), 201)
        http.headers["authorization"] = bearer = f"Bearer {account['access_token']}"
        well(f"registered {name}")

        connection = websockets.connect(
            ws_url,
            subprotocols=["stack.v1.json"],
            additional_headers={"authorization": bearer},
            open_timeout=TIMEOUT_S,
            close_timeout=TIMEOUT_S,
            proxy=None,
        )
        try:
            async with connection as opened:
                await talk(Socket(opened), http, account["user"]["id"], name)
        finally:
            await http.post("/api/v1/auth/logout")


async def talk(socket: Socket, http: httpx.AsyncClient, user_id: str, room: str) -> None:
    """One message, there and back."""
    await socket.request(1, "ping", {})
    well("opened a WebSocket")

    answer("create a room", await http.post("/api/v1/rooms", json={"id": room, "title": "Smoke test"}), 201)
    try:
        await socket.request(2, "subscribe", {"room": room})
        well(f"created and subscribed to the room {room}")

        text = f"hello {secrets.token_hex(8)}"
        sent = await socket.request(3, "send", {"room": room, "body": text})
        well(f"sent a message; it is durable as number {sent['seq']}")

        event = await socket.frame("message", lambda frame: frame["type"] == "message")
        expected = {"room": room, "seq": sent["seq"], "ts": sent["ts"], "sender": user_id, "body": text}
        if event.get("payload") != expected:
            raise Failed(f"received {json.dumps(event)}, expected {json.dumps(expected)}")
        well("received it")
    finally:
        await http.delete(f"/api/v1/rooms/{room}")


def main() -> int:
    url = sys.argv[1]
    try:
        asyncio.run(smoke(url))
    except Failed as failed:
        reason = str(failed)
    except (OSError, httpx.TransportError) as error:
        reason = f"no gateway answers at {url}: {error or type(error).__name__}"
    except websockets.WebSocketException as error:
        reason = f"the WebSocket failed: {error}"
    except (KeyError, TypeError, ValueError) as error:
        reason = f"an answer is not as the protocol says: {error!r}"
    else:
        print(f"all is well at {url}")
        return 0
    print(f"error: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
