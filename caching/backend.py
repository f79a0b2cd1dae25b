"""Redis as a cache whose absence is a miss, never an error."""

from __future__ import annotations

from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from django.core.cache import cache
from django.core.cache.backends.redis import RedisCache, RedisSerializer
from redis.exceptions import RedisError

from caching.breakers import Breaker, CircuitOpen

# An unreachable server costs a few requests a time-out each, and then nobody for a while. All threads share it.
BREAKER = Breaker("cache", failures=3, seconds=5, counted=RedisError)

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class Typed(Generic[T]):
    """Values of one type in the cache, which says nothing of them but what they hold.

    What cannot be read as that type is not there: a program of another version has put it in, or somebody else.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def get(self, key: str) -> T | None:
        found = cache.get(key)
        if found is None:
            return None
        try:
            return self._decoder.decode(found)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            logger.warning("cache.unreadable", key=key, error=str(error))
            return None

    def set(self, key: str, value: T, seconds: float) -> None:
        cache.set(key, msgspec.msgpack.encode(value), seconds)


class Serializer(RedisSerializer):
    """What cannot be read, say because an older program wrote it, is not there."""

    def loads(self, data: Any) -> Any:
        try:
            return super().loads(data)
        except Exception as error:  # unpickling raises whatever it stumbles over
            logger.warning("cache.unreadable", error=repr(error))
            return None


class FailOpenRedisCache(RedisCache):
    """Answers every read with "not there" while Redis does not answer."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {"serializer": "caching.backend.Serializer", **params.get("OPTIONS", {})}
        super().__init__(server, {**params, "OPTIONS": options})

    def _try(self, operation: str, fallback: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return BREAKER.call(partial(getattr(super(), operation), *args, **kwargs))
        except CircuitOpen:
            return fallback
        except RedisError as error:
            logger.warning("cache.unavailable", error=str(error))
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

    def delete_many(self, *args: Any, **kwargs: Any) -> None:
        self._try("delete_many", None, *args, **kwargs)

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
