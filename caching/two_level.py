"""A two-level cache: the memory of this process for about a second, then Redis for a little longer.

    get -> memory -> Redis -> load, by one thread of one process; the others wait for its result

How old can an answer be? A writer calls `invalidate`, which deletes the entry in Redis and in the memory of every
process within milliseconds. A process that misses the message, because Redis is unavailable, sees the change when its
memory expires, after MEMORY_SECONDS. A process that has read before a change and writes to Redis after it deletes that
entry when it receives the message; if it dies in between, the entry lives for its time: `seconds`, or NEGATIVE_SECONDS
for what does not exist. Handlers decide nothing on what comes from here; orders are priced with it, because that is
what customers were shown.

Without Redis every process has its memory, and loads once a second for each key.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial
from hashlib import blake2b
from typing import Any, Generic, TypeVar, cast

import cachetools
import msgspec
import redis
import structlog
from django.conf import settings
from django.core.cache import cache
from msgspec import json
from prometheus_client import Counter
from redis.exceptions import RedisError

from caching.backend import BREAKER, Typed
from caching.breakers import CircuitOpen

T = TypeVar("T")

MEMORY_SECONDS = 1.0
NEGATIVE_SECONDS = 60  # for what does not exist
MAX_NEGATIVES = 1000  # of one cache, that a process writes to Redis within that time
PLAIN_KEY = re.compile(r"[!-~]{1,100}")
JITTER = 0.2  # lifetimes are randomly cut by up to so much, so that entries do not expire together
LEASE_SECONDS = 2  # how long others wait for the process that loads
POLL_SECONDS = 0.01
RECONNECT_SECONDS = 1.0
LISTEN_SECONDS = 2.0

READS = Counter("wharf_cache_reads", "Where answers came from: memory, Redis or the database.", ["cache", "level"])

logger = structlog.get_logger(__name__)


def bounded(key: str) -> str:
    """The key as it is stored: what is long, or more than plain characters, by its hash."""
    if PLAIN_KEY.fullmatch(key):
        return key
    return f"#{blake2b(key.encode(errors='replace'), digest_size=16).hexdigest()}"


class Absent:
    """There is no such thing, which is cached, too."""


ABSENT = Absent()


class _Kept(msgspec.Struct, Generic[T], frozen=True):
    """An answer as Redis has it; None is cached, too."""

    value: T | None


class TwoLevelCache(Generic[T]):
    """The cache of one `kind` of thing. `name` begins its keys; `seconds()` is how long Redis keeps an entry, 0 for not
    at all: then everything is loaded each time. The memory of a process has room for so many `entries`.

    `before_waiting` is called by a thread that is about to wait for another one's load, to release what it may need.
    """

    def __init__(
        self,
        name: str,
        kind: Any,
        *,
        seconds: Callable[[], float],
        entries: int = 10_000,
        before_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._typed: Typed[_Kept[T]] = Typed(_Kept[kind])
        self._seconds = seconds
        self._before_waiting = before_waiting
        self._lock = threading.Lock()
        self._memory: cachetools.TLRUCache[str, T | Absent] = cachetools.TLRUCache(
            entries, lambda key, value, now: now + _jittered(MEMORY_SECONDS), time.monotonic
        )
        self._loading: dict[str, Future[T | Absent]] = {}
        self._absent: cachetools.TTLCache[str, bool] = cachetools.TTLCache(MAX_NEGATIVES, NEGATIVE_SECONDS)
        _caches[name] = self

    def get(self, key: str, load: Callable[[], T | None]) -> T | None:
        """What `load` returns, or returned a little while ago. What it raises goes to all that wait for it."""
        if not self._seconds():
            return load()
        key = bounded(key)
        _invalidations.listen()
        with self._lock:
            found = self._memory.get(key)
            future = self._loading.get(key)
            mine = found is None and future is None
            if mine:
                future = self._loading[key] = Future()
        if found is not None:
            self._count("memory")
        elif mine:
            found = self._fetch(key, load, cast("Future[T | Absent]", future))
        else:
            self._before_waiting()
            found = cast("Future[T | Absent]", future).result()
            self._count("memory")
        return None if isinstance(found, Absent) else found

    def _fetch(self, key: str, load: Callable[[], T | None], future: Future[T | Absent]) -> T | Absent:
        try:
            found = self._from_redis(key, load, future)
        except BaseException as error:
            future.set_exception(error)
            raise
        else:
            future.set_result(found)
            with self._lock:
                if self._loading.get(key) is future:
                    self._memory[key] = found
            return found
        finally:
            with self._lock:
                if self._loading.get(key) is future:
                    del self._loading[key]

    def _from_redis(self, key: str, load: Callable[[], T | None], future: Future[T | Absent]) -> T | Absent:
        full, lease = f"{self.name}:{key}", f"{self.name}:{key}:loading"
        until = time.monotonic() + LEASE_SECONDS
        while (found := self._typed.get(full)) is None:
            if cache.add(lease, 1, LEASE_SECONDS) or cache.get(lease) is None or time.monotonic() > until:
                if (found := self._typed.get(full)) is None:
                    return self._load(full, lease, key, load, future)
                cache.delete(lease)  # its last holder has written the answer between the two reads
                break
            time.sleep(POLL_SECONDS)  # Redis does not notify anybody of a new key
        self._count("redis")
        return ABSENT if found.value is None else found.value

    def _load(
        self, full: str, lease: str, key: str, load: Callable[[], T | None], future: Future[T | Absent]
    ) -> T | Absent:
        self._count("database")
        try:
            loaded = load()
            found: T | Absent = ABSENT if loaded is None else loaded
            # Else it has changed meanwhile, or a client requests one thing after another that does not exist.
            if self._loading.get(key) is future and (loaded is not None or self._may_note(key)):
                self._typed.set(full, _Kept(loaded), _jittered(NEGATIVE_SECONDS if loaded is None else self._seconds()))
        finally:
            cache.delete(lease)  # after an error, too: no thread loads any more
        return found

    def _may_note(self, key: str) -> bool:
        """Whether this process has room for one more thing that does not exist: so many in NEGATIVE_SECONDS."""
        with self._lock:
            self._absent.expire()
            if len(self._absent) >= MAX_NEGATIVES and key not in self._absent:
                return False
            self._absent[key] = True
            return True

    def invalidate(self, keys: Collection[str]) -> None:
        """These have changed, and the change is committed: evict them in all processes."""
        keys = [bounded(key) for key in keys]
        self.evict(keys)
        _invalidations.publish(self.name, keys)

    def evict(self, keys: Collection[str]) -> None:
        """Remove these from Redis and from the memory of this process."""
        keys = [bounded(key) for key in keys]
        cache.delete_many([f"{self.name}:{key}" for key in keys])
        self.evict_from_memory(keys)

    def evict_from_memory(self, keys: Collection[str]) -> None:
        """Remove these from the memory of this process; what is being loaded may be old and is not kept."""
        with self._lock:
            for key in keys:
                self._memory.pop(key, None)
                self._loading.pop(key, None)
        for listener in _listeners.get(self.name, ()):
            listener(keys)

    def clear_memory(self) -> None:
        with self._lock:
            self._memory.clear()
            self._loading.clear()

    def _count(self, level: str) -> None:
        READS.labels(self.name, level).inc()


class _Invalidations:
    """The channel through which the processes that share a Redis notify each other of changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening = False
        self._tried = threading.Event()  # set when it listens, or has found that it cannot for now
        self._client: redis.Redis | None = None

    @property
    def _channel(self) -> str:
        return f"{settings.EVENTING_NAMESPACE}:changed"

    def publish(self, name: str, keys: Collection[str]) -> None:
        if not _shares_redis():
            return
        if self._client is None:
            self._client = redis.Redis.from_url(settings.REDIS_URL, **settings.CACHES["default"].get("OPTIONS", {}))
        try:
            BREAKER.call(partial(self._client.publish, self._channel, json.encode([name, list(keys)])))
        except (CircuitOpen, RedisError) as error:
            logger.warning("cache.invalidation_not_published", cache=name, error=str(error))

    def listen(self) -> None:
        """From now on this process receives invalidations, if Redis is available."""
        if self._listening or not _shares_redis():
            return
        with self._lock:
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, name="cache-changes", daemon=True).start()
                self._tried.wait(LISTEN_SECONDS)  # what is loaded before that would be evicted at once

    def _listen(self) -> None:
        while True:
            try:
                with redis.Redis.from_url(settings.REDIS_URL).pubsub() as pubsub:
                    pubsub.subscribe(self._channel)
                    for message in pubsub.listen():
                        self._receive(message)
            except Exception as error:  # whatever it is: without listening, old entries would be shown from now on
                logger.warning("cache.not_listening", error=repr(error))
                self._tried.set()
                time.sleep(RECONNECT_SECONDS)

    def _receive(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            try:
                name, keys = json.decode(message["data"], type=tuple[str, list[str]])
            except msgspec.MsgspecError as error:  # of a program of another version: anything may have changed
                logger.warning("cache.unreadable", key=self._channel, error=str(error))
                clear_memory()
                return
            if name in _caches:
                _caches[name].evict(keys)  # from Redis as well: this process may have just put there what is old now
        else:  # the subscription begins: earlier invalidations were missed
            clear_memory()
            self._tried.set()


def on_evict(name: str, listener: Callable[[Collection[str]], None]) -> None:
    """Call `listener(keys)` in this process when these entries of the cache `name` are evicted."""
    _listeners.setdefault(name, []).append(listener)


def clear_memory() -> None:
    """Empty the memory of this process."""
    for each in list(_caches.values()):
        each.clear_memory()


def _shares_redis() -> bool:
    return bool(settings.REDIS_URL) and not settings.EMBEDDED


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1)


_caches: dict[str, TwoLevelCache[Any]] = {}
_listeners: dict[str, list[Callable[[Collection[str]], None]]] = {}
_invalidations = _Invalidations()
