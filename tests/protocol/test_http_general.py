"""What holds of every HTTP answer: problems, request ids, content types, sizes, methods; and the endpoints outside /api."""

import json
import socket

import pytest

from stackclient import Account, Api, Gateway, assert_problem, make_room
from stackclient.spec import (
    BODY_LIMIT,
    CONNECTIONS_LIMIT,
    DATA_LIMIT,
    FRAME_LIMIT,
    HTTP_BODY_LIMIT,
    KEY_LIMIT,
    SUBSCRIPTIONS_LIMIT,
    SUBPROTOCOL,
)

JSON = {"content-type": "application/json"}


# Problems and request ids


def test_problem_shape(api: Api, alice: Account):
    assert_problem(alice.get("/rooms/no-such-room"), 404, "not_found")
    assert_problem(api.get("/me"), 401, "unauthenticated")


@pytest.mark.parametrize("id", ["abc-123", "A1", "0af7651916cd43dd8448eb211c80319c", "550e8400-e29b-41d4-a716-446655440000"])
def test_sane_request_id_is_kept(api: Api, alice: Account, id: str):
    good = alice.get("/me", headers={"x-request-id": id})
    assert good.headers["x-request-id"] == id
    bad = api.get("/me", headers={"x-request-id": id})
    assert bad.headers["x-request-id"] == id
    assert bad.json()["request_id"] == id


@pytest.mark.parametrize("id", ["", "with space", "<script>", "a" * 1000, "semi;colon", "quo\"te", "\u00e9", "{}"], ids=ascii)
def test_other_request_id_is_replaced(api: Api, id: str):
    response = api.client.get("/api/v1/me", headers={"x-request-id": id.encode("latin-1")})
    assert_problem(response, 401)
    got = response.headers["x-request-id"]
    assert got and got != id


def test_generated_request_ids_differ(api: Api):
    ids = {api.get("//health").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_internals_are_not_told(api: Api, alice: Account):
    for response in (
        alice.post("/rooms", content=b"{", headers=JSON),
        alice.post("/rooms", json={"title": 5}),
        alice.get("/rooms/no-such-room"),
        api.get("/me", token="x"),
    ):
        for word in (".rs", "panicked", "redb", "serde", "axum", "src/", "stack backtrace"):
            assert word not in response.text


# Routes and methods


def test_version_in_the_path_may_be_left_out(api: Api, alice: Account):
    assert api.client.get("/api/me", headers={"authorization": f"Bearer {alice.access}"}).json() == alice.ok("GET", "/me")
    assert_problem(api.client.get("/api/me"), 401, "unauthenticated")


@pytest.mark.parametrize("path", ["/api/v1/no-such-thing", "/api/v1/", "/api/v1/rooms/a/b/c/d", "/api/no-such-thing", "/api/v1/auth"])
def test_unknown_path_is_404(api: Api, alice: Account, path: str):
    assert_problem(api.client.get(path, headers={"authorization": f"Bearer {alice.access}"}), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/login"),
        ("PUT", "/auth/login"),
        ("GET", "/auth/refresh"),
        ("GET", "/auth/logout"),
        ("DELETE", "/me"),
        ("PUT", "/rooms"),
        ("DELETE", "/rooms/x/messages"),
        ("POST", "/rooms/x/presence"),
        ("DELETE", "/auth/sessions"),
    ],
)
def test_wrong_method_is_405(alice: Account, method: str, path: str):
    response = alice.request(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers.get("allow"), "RFC 9110: a 405 names the allowed methods"


def test_head_answers_like_get(alice: Account):
    response = alice.api.client.head("/api/v1/me", headers={"authorization": f"Bearer {alice.access}"})
    assert response.status_code in (200, 405)
    assert response.content == b""


# Content types and bodies


@pytest.mark.parametrize("media", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"])
def test_json_content_types(alice: Account, media: str):
    response = alice.post("/rooms", content=b'{"title":"x"}', headers={"content-type": media})
    assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    "media",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "text/json", "nonsense", ""],
)
def test_other_content_types_are_415(alice: Account, media: str):
    response = alice.post("/rooms", content=b'{"title":"x"}', headers={"content-type": media})
    assert_problem(response, 415, "unsupported_media_type")


def test_body_without_content_type_is_415(alice: Account):
    response = alice.post("/rooms", content=b'{"title":"x"}')
    assert_problem(response, 415, "unsupported_media_type")


def test_login_with_a_form_is_415(api: Api, alice: Account):
    response = api.post("/auth/login", data={"login": alice.username, "password": alice.password})
    assert_problem(response, 415, "unsupported_media_type")


def test_request_without_a_body_needs_no_content_type(alice: Account):
    assert alice.post("/auth/ticket").is_success


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"{'a':1}", b'{"title":"x"', b'{"title":"x"}}', b"\xff\xfe", b'{"title":"\xff"}'], ids=ascii)
def test_what_is_not_json_is_400(alice: Account, body: bytes):
    assert_problem(alice.post("/rooms", content=body, headers=JSON), None, ("bad_request", "invalid_field"))


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true", b'[{"title":"x"}]'], ids=ascii)
def test_json_that_is_no_object_is_refused(alice: Account, body: bytes):
    assert_problem(alice.post("/rooms", content=body, headers=JSON), None, ("bad_request", "invalid_field"))


def test_unknown_fields_are_ignored(alice: Account):
    room = make_room(alice)
    body = {"body": "x", "seq": 1, "ts": 0, "sender": "someone", "unknown": {"a": [1]}}
    seq = alice.ok("POST", f"/rooms/{room}/messages", json=body)["seq"]
    payload = alice.messages(room, after=seq - 1)["events"][0]["payload"]
    assert payload["sender"] == alice.id
    assert payload["seq"] == seq
    assert "unknown" not in payload


def test_body_of_one_mebibyte_is_read_and_more_is_413(alice: Account):
    def body(size: int) -> bytes:
        frame = b'{"title":"x","padding":""}'
        return frame[:-2] + b"p" * (size - len(frame)) + b'"}'

    assert len(body(HTTP_BODY_LIMIT)) == HTTP_BODY_LIMIT
    assert alice.post("/rooms", content=body(HTTP_BODY_LIMIT), headers=JSON).status_code == 201
    over = alice.post("/rooms", content=body(HTTP_BODY_LIMIT + 1), headers=JSON)
    assert_problem(over, 413, "payload_too_large")


def test_chunked_body_over_the_limit_is_413(alice: Account):
    def chunks():
        yield b'{"title":"'
        for _ in range(17):
            yield b"p" * 65_536
        yield b'"}'

    assert_problem(alice.post("/rooms", content=chunks(), headers=JSON), 413, "payload_too_large")


def test_deep_json_is_refused_and_the_server_lives(alice: Account):
    body = b'{"title":"x","settings":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert 400 <= alice.post("/rooms", content=body, headers=JSON).status_code < 500
    assert alice.get("/me").status_code == 200


def test_invalid_field_names_the_field(alice: Account):
    problem = assert_problem(alice.post("/rooms", json={"id": "Not A Slug", "title": "x"}), 422, "invalid_field")
    assert problem["field"] == "id"


def read_answer(tcp: socket.socket) -> tuple[int, bytes]:
    """Status and head of the next answer on the connection; its body is read and dropped."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = tcp.recv(65_536)
        assert data, f"the connection was closed instead of an answer: {received!r}"
        received += data
    head, body = received.split(b"\r\n\r\n", 1)
    (length,) = [int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")]
    while len(body) < length:
        body += tcp.recv(65_536)
    return int(head.split()[1]), head.lower()


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("POST /api/v1/rooms", "Content-Type: text/plain\r\n", 415),
        ("POST /api/v1/no-such-thing", "Content-Type: application/json\r\n", 404),
        ("PUT /api/v1/rooms", "Content-Type: application/json\r\n", 405),
        ("POST /api/v1/rooms", "Content-Type: application/json\r\nAuthorization: Bearer x\r\n", 401),
        ("POST /api/v1/rooms", "Content-Type: application/json\r\nCookie: stack_access=x\r\n", 403),
    ],
    ids=["415", "404", "405", "401", "csrf"],
)
def test_refusal_before_the_body_leaves_the_connection_usable_or_says_close(
    gateway: Gateway, alice: Account, target: str, headers: str, status: int
):
    """The body comes after the refusal. The next request on the connection is answered, unless the answer said `close`;
    a connection that ends without a word loses the next request of whoever reuses it."""
    if "Authorization" not in headers and "Cookie" not in headers:
        headers += f"Authorization: Bearer {alice.access}\r\n"
    body = b'{"title":"x"}'
    with socket.create_connection(gateway.host_port, timeout=5) as tcp:
        tcp.sendall(f"{target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode())
        got, head = read_answer(tcp)
        assert got == status
        if b"connection: close" in head:
            return
        tcp.sendall(body)
        tcp.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(tcp)[0] == 200


# Health, version, headers


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
def test_health(api: Api, path: str):
    assert api.get("/" + path).status_code == 200


def test_readiness_names_its_dependencies(api: Api):
    assert isinstance(api.get("//readyz").json(), dict), "a check per dependency"


def test_ping(api: Api):
    assert api.get("//ping").text.strip() == "pong"


def test_metrics(api: Api, alice: Account):
    room = make_room(alice)
    alice.ok("POST", f"/rooms/{room}/messages", json={"body": "x"})
    response = api.get("//metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    for name in ("stack_commit_events", "stack_commit_seconds"):
        assert f"# TYPE {name} histogram" in response.text
        assert f"{name}_bucket" in response.text and f"{name}_count" in response.text
    assert alice.id not in response.text and room not in response.text


def numbers(value) -> set:
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers, value))
    return {value} if isinstance(value, int | float) else set()


def test_version_tells_protocols_and_limits(api: Api):
    version = api.get("//version").json()
    assert {"version", "commit", "protocols", "limits"} <= set(version)
    assert SUBPROTOCOL in json.dumps(version["protocols"])
    told = numbers(version["limits"])
    for limit in (FRAME_LIMIT, BODY_LIMIT, DATA_LIMIT, KEY_LIMIT, SUBSCRIPTIONS_LIMIT, CONNECTIONS_LIMIT):
        assert limit in told, f"{limit} is not among the limits of /version"


def test_limits_in_version_are_the_configured_ones(start_gateway):
    gateway: Gateway = start_gateway(STACK_LIMITS_CONNECTIONS_PER_USER="7")
    assert 7 in numbers(Api(gateway).get("//version").json()["limits"])


def test_security_headers(api: Api, alice: Account):
    for response in (alice.get("/me"), api.get("/me"), api.client.get("/")):
        assert response.headers.get("x-content-type-options") == "nosniff"
    page = api.client.get("/")
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "cache-control" in alice.get("/me").headers, "answers with personal content say how they may be cached"


def test_answers_are_json(alice: Account):
    assert alice.get("/me").headers["content-type"].split(";")[0] == "application/json"


# Below HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/v1/me HTTP/1.1\r\n\r\n",
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda d: ascii(d[:40]),
)
def test_what_is_not_http_does_no_harm(gateway: Gateway, api: Api, data: bytes):
    with socket.create_connection(gateway.host_port, timeout=5) as tcp:
        try:
            tcp.sendall(data)
            tcp.shutdown(socket.SHUT_WR)
            answer = tcp.recv(100)
        except OSError:  # Cut off in the middle of it, which is as good.
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5")
    assert api.get("//health").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/rooms/%00", "/api/v1/rooms/%ff", "/api/v1/rooms/%2e%2e%2fme", "/api/v1/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/v1/rooms/" + "a" * 5000])
def test_odd_paths_are_client_errors(api: Api, alice: Account, path: str):
    """Outside /api a path may also lead to the client's page; never to a file of the machine."""
    response = api.client.get(path, headers={"authorization": f"Bearer {alice.access}"})
    assert response.status_code < 500
    assert "root:" not in response.text
    if path.startswith("/api/v1/rooms"):
        assert_problem(response)
