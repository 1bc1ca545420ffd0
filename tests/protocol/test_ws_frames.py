"""What a frame may be: malformed ones close with 4000, oversized ones with 1009, everything else is answered and the socket lives."""

import json
import time

import pytest

from stackclient import Account, Closed, Sock
from stackclient.spec import BAD_FIELD, FRAME_LIMIT, MAX_ID

MALFORMED = {
    "not JSON": "{",
    "empty": "",
    "a word": "hello",
    "something after the object": '{"type":"ping","id":1,"payload":{}} x',
    "two objects": '{"type":"ping","id":1,"payload":{}}{"type":"ping","id":2,"payload":{}}',
    "NaN": '{"type":"ping","id":1,"payload":{"x":NaN}}',
    "single quotes": "{'type':'ping','id':1,'payload':{}}",
    "an array": '[{"type":"ping","id":1,"payload":{}}]',
    "a string": '"ping"',
    "a number": "7",
    "null": "null",
    "thousands of brackets": "[" * 30_000,
    "no type": '{"id":1,"payload":{}}',
    "an empty object": "{}",
    "a type that is a number": '{"type":7,"id":1,"payload":{}}',
    "a type that is null": '{"type":null,"id":1,"payload":{}}',
    "a type that is an array": '{"type":["ping"],"id":1,"payload":{}}',
    "a negative id": '{"type":"ping","id":-1,"payload":{}}',
    "a fractional id": '{"type":"ping","id":1.5,"payload":{}}',
    "a string id": '{"type":"ping","id":"1","payload":{}}',
    "an id of 2^53": '{"type":"ping","id":9007199254740992,"payload":{}}',
    "an id beyond 64 bits": '{"type":"ping","id":99999999999999999999,"payload":{}}',
    "a boolean id": '{"type":"ping","id":true,"payload":{}}',
    "an object id": '{"type":"ping","id":{},"payload":{}}',
    "a bad id on an unknown type": '{"type":"no_such_type","id":-1,"payload":{}}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_frame_closes_with_4000(connect, alice: Account, text: str):
    socket: Sock = await connect(alice)
    await socket.alive()
    await socket.text(text)
    assert await socket.closed() == 4000


async def test_binary_frame_closes_with_4000(connect, alice: Account):
    socket: Sock = await connect(alice)
    await socket.ws.send(b'{"type":"ping","id":1,"payload":{}}')
    assert await socket.closed() == 4000


async def test_text_that_is_not_utf8_closes(connect, alice: Account):
    """RFC 6455 says 1007, PROTOCOL.md "not JSON" says 4000: both are right."""
    socket: Sock = await connect(alice)
    await socket.ws.send(b'{"type":"ping","id":1,"payload":{"x":"\xff"}}', text=True)
    assert await socket.closed() in (1007, 4000)


@pytest.mark.parametrize("id_text", ["1.0", "1e3", "null"])
async def test_debatable_ids_close_or_are_taken(connect, alice: Account, id_text: str):
    """Ambiguous: is 1.0 an integer, is null an absent id? Both readings pass; a crash or silence does not."""
    socket: Sock = await connect(alice)
    if id_text != "null":
        socket.expect_answer(int(float(id_text)))
    await socket.text(f'{{"type":"ping","id":{id_text},"payload":{{}}}}')
    try:
        await socket.request("ping", {}, id=5)
    except Closed as closed:
        assert closed.code == 4000


@pytest.mark.parametrize("id", [0, 1, 2**31, 2**32, MAX_ID])
async def test_every_id_in_range_is_answered(connect, alice: Account, id: int):
    socket: Sock = await connect(alice)
    answer = await socket.request("ping", {}, id=id)
    assert answer["type"] == "ok"
    assert answer["id"] == id


async def test_unknown_type_is_an_error_and_the_socket_lives(connect, alice: Account):
    socket: Sock = await connect(alice)
    await socket.fails("no_such_type", {}, ("bad_request", "invalid_field", "not_found"))
    await socket.fails("", {}, ("bad_request", "invalid_field", "not_found"))
    await socket.fails("message", {"room": "general", "body": "x"}, ("bad_request", "invalid_field", "not_found"))
    await socket.alive()


async def test_unknown_type_without_id_is_told_without_id(connect, alice: Account):
    socket: Sock = await connect(alice)
    await socket.text('{"type":"no_such_type","payload":{}}')
    await socket.alive()
    errors = [f for f in socket.frames if f["type"] == "error"]
    assert len(errors) == 1
    assert "id" not in errors[0] or errors[0]["id"] is None


async def test_request_without_id_is_carried_out_silently(connect, alice: Account, room: str):
    socket: Sock = await connect(alice)
    await socket.text(json.dumps({"type": "send", "payload": {"room": room, "body": "without an id"}}))
    await socket.text(json.dumps({"type": "subscribe", "payload": {"room": room}}))
    await socket.alive()
    assert [f["type"] for f in socket.frames if f["type"] in ("ok", "error")] == ["ok"], "only the ping is answered"
    seq = await socket.send(room, "after it")
    bodies = [e["payload"].get("body") for e in alice.messages(room, after=seq - 2)["events"]]
    assert bodies == ["without an id", "after it"]
    await socket.until(lambda: seq in socket.raw_log(room), "the subscriber's event")
    socket.breaches.clear()  # The watch knows subscriptions only by the `ok` that this one does not get.


async def test_error_of_request_without_id_is_told(connect, alice: Account):
    socket: Sock = await connect(alice)
    await socket.text('{"type":"send","payload":{"room":"no-such-room","body":"x"}}')
    await socket.alive()
    errors = [f for f in socket.frames if f["type"] == "error"]
    assert [e["payload"]["code"] for e in errors] == ["not_found"]


async def test_unknown_fields_are_ignored(connect, alice: Account):
    socket: Sock = await connect(alice)
    answer = await socket.text_request(
        '{"type":"ping","id":9,"payload":{"what":[1,{"is":null}]},"this":{"type":"send"},"v":2}', 9
    )
    assert answer["type"] == "ok"


async def test_whitespace_and_order_do_not_matter(connect, alice: Account):
    socket: Sock = await connect(alice)
    answer = await socket.text_request(' \r\n\t{ "payload" : { } ,\n "id" : 3 , "type" : "ping" } \n', 3)
    assert answer["type"] == "ok"


@pytest.mark.parametrize("payload", [None, 5, "text", True, [], [{}]], ids=repr)
async def test_payload_that_is_no_object_is_an_error_where_fields_are_needed(connect, alice: Account, payload):
    socket: Sock = await connect(alice)
    answer = await socket.text_request(json.dumps({"type": "send", "id": 5, "payload": payload}), 5, "send")
    assert answer["type"] == "error"
    assert answer["payload"]["code"] in BAD_FIELD
    await socket.alive()


async def test_missing_payload(connect, alice: Account):
    """`send` needs fields; whether `ping` may leave its empty payload out is not said."""
    socket: Sock = await connect(alice)
    answer = await socket.text_request('{"type":"send","id":5}', 5, "send")
    assert answer["type"] == "error"
    assert answer["payload"]["code"] in BAD_FIELD
    await socket.text_request('{"type":"ping","id":6}', 6)
    await socket.alive()


MISTYPED = {
    "send without room": ("send", {"body": "x"}),
    "send without body": ("send", {"room": "R"}),
    "send with a numeric body": ("send", {"room": "R", "body": 5}),
    "send with a null body": ("send", {"room": "R", "body": None}),
    "send with a numeric room": ("send", {"room": 5, "body": "x"}),
    "send with a numeric key": ("send", {"room": "R", "body": "x", "key": 5}),
    "send with a textual reply_to": ("send", {"room": "R", "body": "x", "reply_to": "1"}),
    "send with a negative reply_to": ("send", {"room": "R", "body": "x", "reply_to": -1}),
    "subscribe without room": ("subscribe", {}),
    "subscribe with a textual cursor": ("subscribe", {"room": "R", "after": "0"}),
    "subscribe with a negative cursor": ("subscribe", {"room": "R", "after": -1}),
    "subscribe with a fractional cursor": ("subscribe", {"room": "R", "after": 0.5}),
    "unsubscribe without room": ("unsubscribe", {}),
    "edit without seq": ("edit", {"room": "R", "body": "x"}),
    "edit without body": ("edit", {"room": "R", "seq": 1}),
    "redact without seq": ("redact", {"room": "R"}),
    "react without emoji": ("react", {"room": "R", "seq": 1}),
    "react with a numeric emoji": ("react", {"room": "R", "seq": 1, "emoji": 1}),
    "join without room": ("join", {}),
    "leave without room": ("leave", {}),
    "history without room": ("history", {}),
    "history with a textual limit": ("history", {"room": "R", "limit": "many"}),
    "read without seq": ("read", {"room": "R"}),
    "read with a textual seq": ("read", {"room": "R", "seq": "1"}),
    "presence without status": ("presence", {}),
    "presence with an unknown status": ("presence", {"status": "invisible"}),
    "auth without token": ("auth", {}),
    "auth with a numeric token": ("auth", {"token": 5}),
}


@pytest.mark.parametrize(("kind", "payload"), MISTYPED.values(), ids=MISTYPED.keys())
async def test_missing_or_mistyped_fields_are_errors(connect, alice: Account, room: str, kind: str, payload: dict):
    if payload.get("room") == "R":
        payload = {**payload, "room": room}
    socket: Sock = await connect(alice)
    await socket.fails(kind, payload, BAD_FIELD)
    await socket.alive()


async def test_frame_at_the_limit_is_taken_and_over_it_closes_with_1009(connect, alice: Account):
    def ping(size: int, id: int) -> str:
        frame = f'{{"type":"ping","id":{id},"payload":{{"x":""}}}}'
        return frame.replace('""', '"' + "a" * (size - len(frame)) + '"')

    socket: Sock = await connect(alice)
    at_limit = ping(FRAME_LIMIT, 1)
    assert len(at_limit) == FRAME_LIMIT
    assert (await socket.text_request(at_limit, 1))["type"] == "ok"
    await socket.text(ping(FRAME_LIMIT + 1, 2))
    assert await socket.closed() == 1009


async def test_far_oversized_frame_closes_with_1009(connect, alice: Account):
    socket: Sock = await connect(alice)
    try:
        await socket.text("x" * (4 * 1024 * 1024))
    except Exception:  # The server may close while the rest is still being written.
        pass
    assert await socket.closed() == 1009


async def test_fragments_make_one_frame(connect, alice: Account):
    socket: Sock = await connect(alice)
    socket.expect_answer(1)
    await socket.ws.send(['{"type":"pi', 'ng","id":1,', '"payload":{}}'])
    await socket.until(lambda: [f for f in socket.frames if f.get("id") == 1], "the answer to the fragmented ping")


async def test_fragments_over_the_limit_together_close_with_1009(connect, alice: Account):
    socket: Sock = await connect(alice)
    try:
        await socket.ws.send(["a" * 16_000] * 5)
    except Exception:
        pass
    assert await socket.closed() == 1009


async def test_requests_in_flight_together_are_each_answered_once(connect, alice: Account):
    socket: Sock = await connect(alice)
    futures = [await socket.ask("ping", {}) for _ in range(500)]
    ids = {(await f)["id"] for f in futures}
    assert len(ids) == 500


async def test_protocol_ping_is_answered_by_pong(connect, alice: Account):
    socket: Sock = await connect(alice)
    pong = await socket.ws.ping(b"payload")
    await pong


async def test_connection_ends_with_the_closing_handshake(connect, alice: Account):
    """RFC 6455 7.1.1: once both have said Close, the server closes the TCP connection immediately; until it does, no client
    library, and no browser, tells its user that the socket is closed."""
    socket: Sock = await connect(alice)
    await socket.alive()
    begun = time.monotonic()
    await socket.text("{")
    assert await socket.closed() == 4000
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_by_the_client_is_answered(connect, alice: Account, code: int):
    """The closing handshake is completed; RFC 6455 only says that the code is typically echoed."""
    socket: Sock = await connect(alice)
    await socket.alive()
    await socket.ws.close(code)
    assert await socket.closed() in (code, 1000)
