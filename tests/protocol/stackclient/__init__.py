"""A client of the gateway written only from docs/PROTOCOL.md, for the black-box suite.

`Gateway` runs the process, `Api` speaks HTTP, `Sock` speaks the WebSocket and checks on every frame it receives
what PROTOCOL.md promises of every frame.
"""

from .accounts import Account, expired, expiring_in, login, mint, register, tag, token_claims
from .edge import BehindEdge, Edge
from .gateway import OUR_ORIGIN, Gateway
from .http import Api, Cookies, assert_problem, set_cookies
from .rooms import add_member, make_room
from .socket import Closed, Sock, dial, upgrade_refused
from .spec import ERROR_CODES, LOG_EVENTS

__all__ = [
    "Account",
    "Api",
    "BehindEdge",
    "Closed",
    "Cookies",
    "ERROR_CODES",
    "Edge",
    "Gateway",
    "LOG_EVENTS",
    "OUR_ORIGIN",
    "Sock",
    "add_member",
    "assert_problem",
    "dial",
    "expired",
    "expiring_in",
    "login",
    "make_room",
    "mint",
    "register",
    "set_cookies",
    "tag",
    "token_claims",
    "upgrade_refused",
]
