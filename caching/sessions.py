"""Sessions in the database. What a program of another version has put in, and cannot be read, is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.messages.storage.cookie import MessageDecoder
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.backends import db


def _is_key_of_user(value: Any) -> bool:
    return isinstance(value, str) and value.isdecimal()


def _are_messages(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value, cls=MessageDecoder)
        except (ValueError, TypeError, LookupError):
            return False
    return isinstance(value, list)


# What Django reads without looking. Everybody else says by themselves what they can read, see storefront.cart.
SHAPES: dict[str, Callable[[Any], bool]] = {SESSION_KEY: _is_key_of_user, SessionStorage.session_key: _are_messages}


class SessionStore(db.SessionStore):
    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        found = super().decode(session_data)
        if not isinstance(found, dict):
            return {}
        return {key: value for key, value in found.items() if key not in SHAPES or SHAPES[key](value)}
