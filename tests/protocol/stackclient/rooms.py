"""Rooms, set up over HTTP."""

from __future__ import annotations

from typing import Any

from .accounts import Account, tag


def make_room(owner: Account, *members: Account, id: str | None = None, title: str = "A room", **settings: Any) -> str:
    """A room of `owner` with these members; private unless `public=True`."""
    settings.setdefault("public", False)
    room = id or f"room-{tag()}"
    response = owner.post("/rooms", json={"id": room, "title": title, "settings": settings})
    assert response.status_code == 201, response.text
    assert response.json()["id"] == room
    for member in members:
        add_member(owner, room, member)
    return room


def add_member(owner: Account, room: str, user: Account, role: str = "member") -> None:
    owner.ok("PUT", f"/rooms/{room}/members/{user.id}", json={"role": role})
