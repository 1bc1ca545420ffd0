"""The closed sets of PROTOCOL.md: error codes with their HTTP status, event types, limits."""

ERROR_CODES = {
    "bad_request": 400,
    "invalid_field": 422,
    "unauthenticated": 401,
    "invalid_credentials": 401,
    "token_expired": 401,
    "token_reused": 401,
    "second_factor_required": 401,
    "forbidden": 403,
    "csrf_failed": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "limit_exceeded": 409,
    "gone": 410,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "internal": 500,
    "timeout": 504,
    "unavailable": 503,
}

LOG_EVENTS = {"message", "edited", "redacted", "reacted", "room", "member"}
"""Events that carry a `seq` and stand in the room's log."""

OTHER_EVENTS = {
    "unsubscribed",
    "gap",
    "typing",
    "presence",
    "read",
    "session",
    "drain",
    "device_online",
    "device_offline",
    "stream_start",
    "sdp_offer",
    "sdp_answer",
    "ice_candidate",
    "stream_end",
}

SUBPROTOCOL = "stack.v1.json"

FRAME_LIMIT = 64 * 1024
BODY_LIMIT = 16 * 1024
DATA_LIMIT = 32 * 1024
KEY_LIMIT = 64
SUBSCRIPTIONS_LIMIT = 256
CONNECTIONS_LIMIT = 32
HTTP_BODY_LIMIT = 1024 * 1024

MAX_ID = 2**53 - 1

BAD_FIELD = ("bad_request", "invalid_field")
"""A missing or mistyped field: PROTOCOL.md names both codes and does not say which of them it gets."""
