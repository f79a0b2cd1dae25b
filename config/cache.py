"""Redis as a cache whose absence is a miss, never an error."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)

PAUSE_SECONDS = 5.0


class FailOpenRedisCache(RedisCache):
    """Answers every read with "not there" while Redis does not answer, and asks again after a pause.

    The pause keeps an unreachable server from costing each request a time-out.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def _try(self, operation: str, fallback: Any, *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() < self._closed_until:
            return fallback
        try:
            return getattr(super(), operation)(*args, **kwargs)
        except RedisError as error:
            with self._lock:
                self._closed_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("cache.unavailable", error=str(error), pause_seconds=PAUSE_SECONDS)
            return fallback

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("add", False, *args, **kwargs))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._try("get", default, key, default=default, version=version)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._try("set", None, *args, **kwargs)

    def touch(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("touch", False, *args, **kwargs))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """A counter begins anew for every question while Redis is away; ValueError if there is no such key."""
        return int(self._try("incr", delta, key, delta=delta, version=version))

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("delete", False, *args, **kwargs))

    def get_many(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = self._try("get_many", {}, *args, **kwargs)
        return result

    def set_many(self, data: dict[Any, Any], *args: Any, **kwargs: Any) -> list[Any]:
        result: list[Any] = self._try("set_many", list(data), data, *args, **kwargs)
        return result

    def has_key(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._try("has_key", False, *args, **kwargs))

    def clear(self) -> None:
        self._try("clear", None)
