"""Redis as a cache: while it is unavailable every read is a miss, never an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import msgspec
import structlog
from django.core.cache import cache
from django.core.cache.backends.redis import RedisCache, RedisSerializer
from redis.exceptions import RedisError

from caching.breakers import Breaker, CircuitOpen

# An unreachable server costs a few requests a time-out each, then none for a while. All threads share the breaker.
BREAKER = Breaker("cache", failures=3, seconds=5, counted=RedisError)

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

logger = structlog.get_logger(__name__)


class Typed(Generic[T]):
    """Values of one type in the cache. What cannot be read as that type, say of another version, is a miss."""

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
    """What cannot be read, say because an older program wrote it, is a miss."""

    def loads(self, data: Any) -> Any:
        try:
            return super().loads(data)
        except Exception as error:  # unpickling raises whatever it stumbles over
            logger.warning("cache.unreadable", error=repr(error))
            return None


def _fail_open(method: Callable[Concatenate[Any, P], R], fallback: Callable[P, R]) -> Callable[Concatenate[Any, P], R]:
    """The method, with the answer of `fallback` to the same arguments while Redis does not answer."""

    @wraps(method)
    def guarded(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return BREAKER.call(partial(method, self, *args, **kwargs))
        except CircuitOpen:
            return fallback(*args, **kwargs)
        except RedisError as error:
            logger.warning("cache.unavailable", error=str(error))
            return fallback(*args, **kwargs)

    return guarded


class FailOpenRedisCache(RedisCache):
    """Answers every read with "not there" while Redis does not answer. A counter then begins anew with each `incr`."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {"serializer": "caching.backend.Serializer", **params.get("OPTIONS", {})}
        super().__init__(server, {**params, "OPTIONS": options})

    get = _fail_open(RedisCache.get, lambda key, default=None, version=None: default)
    get_many = _fail_open(RedisCache.get_many, lambda *_, **__: {})
    has_key = _fail_open(RedisCache.has_key, lambda *_, **__: False)
    add = _fail_open(RedisCache.add, lambda *_, **__: False)
    set = _fail_open(RedisCache.set, lambda *_, **__: None)
    set_many = _fail_open(RedisCache.set_many, lambda data, *_, **__: list(data))
    touch = _fail_open(RedisCache.touch, lambda *_, **__: False)
    incr = _fail_open(RedisCache.incr, lambda key, delta=1, version=None: delta)
    delete = _fail_open(RedisCache.delete, lambda *_, **__: False)
    delete_many = _fail_open(RedisCache.delete_many, lambda *_, **__: None)
    clear = _fail_open(RedisCache.clear, lambda: None)
