"""Bounds how often somebody may try something. Counts in the cache: without one, everybody may."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from django.core.cache import cache
from django.http import HttpRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So many attempts in so many seconds, counted from the first."""

    name: str
    attempts: int
    seconds: int

    def spend(self, *who: str) -> bool:
        """Count an attempt; False if there were too many."""
        key = self._key(who)
        if cache.add(key, 1, self.seconds):
            return True
        count = cache.get(key)
        if count is None:  # expired in this moment, or there is no cache to ask
            return True
        if not isinstance(count, int):  # of a program of another version
            cache.set(key, 1, self.seconds)
            return True
        if count >= self.attempts:
            return False
        try:
            cache.incr(key)
        except ValueError:  # expired since
            return True
        return True

    def forgive(self, *who: str) -> None:
        """Start counting anew."""
        cache.delete(self._key(who))

    def _key(self, who: tuple[str, ...]) -> str:
        digest = hashlib.blake2b("\0".join(who).encode(errors="replace"), digest_size=16).hexdigest()
        return f"throttle:{self.name}:{digest}"


SIGN_IN = Limit(name="sign-in", attempts=10, seconds=300)
PASSWORD = Limit(name="password", attempts=10, seconds=300)
REGISTER = Limit(name="register", attempts=60, seconds=3600)


def address_of(request: HttpRequest) -> str:
    """Where the request comes from; behind a proxy of ours, what that says (config.edge)."""
    return str(request.META.get("REMOTE_ADDR", ""))
