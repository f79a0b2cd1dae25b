"""The two-level cache: what is loaded once, how it is invalidated, and what a broken Redis changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.db import connections

from caching import two_level
from caching.two_level import READS, TwoLevelCache
from eventing.databases import give_back_connections
from tests.waiting import wait_until, wait_until_changes_are_heard


@pytest.fixture(autouse=True)
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any test takes on a busy machine."""
    monkeypatch.setattr(two_level, "MEMORY_SECONDS", 600)


@pytest.fixture
def numbers() -> Iterator[TwoLevelCache[int]]:
    name = f"numbers-{uuid4().hex[:8]}"
    wait_until_changes_are_heard()
    made: TwoLevelCache[int] = TwoLevelCache(name, int, seconds=lambda: 60, before_waiting=give_back_connections)
    yield made
    del two_level._caches[name]


class Source:
    """Something to load from, which counts how often."""

    def __init__(self, value: int | None = 7) -> None:
        self.value = value
        self.loaded = 0

    def __call__(self) -> int | None:
        self.loaded += 1
        return self.value


def reads(numbers: TwoLevelCache[int]) -> dict[str, float]:
    """How often each level has answered."""
    samples = [sample for metric in READS.collect() for sample in metric.samples if sample.name.endswith("_total")]
    return {sample.labels["level"]: sample.value for sample in samples if sample.labels["cache"] == numbers.name}


def test_memory_answers_before_redis_and_redis_before_the_source(numbers: TwoLevelCache[int]) -> None:
    source = Source()
    assert [numbers.get("a", source), numbers.get("a", source)] == [7, 7]
    two_level.clear_memory()  # as another process would see it
    assert numbers.get("a", source) == 7
    assert source.loaded == 1
    assert reads(numbers) == {"database": 1, "memory": 1, "redis": 1}


def test_a_thousand_who_ask_at_once_load_once(numbers: TwoLevelCache[int]) -> None:
    begun, may_end = threading.Event(), threading.Event()
    loaded: list[int] = []

    def load() -> int:
        loaded.append(1)
        begun.set()
        assert may_end.wait(30)
        return 7

    with ThreadPoolExecutor(100) as threads:
        answers = [threads.submit(numbers.get, "a", load) for _ in range(1000)]
        assert begun.wait(30)
        may_end.set()
        assert {answer.result(30) for answer in answers} == {7}
    assert len(loaded) == 1


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_threads_that_wait_for_what_another_loads_leave_it_the_connections(
    numbers: TwoLevelCache[int],
) -> None:
    others = settings.DATABASE_POOL_SIZE
    loading, have_connections = threading.Event(), threading.Barrier(others + 1)

    def read() -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 7")
            return int(cursor.fetchone()[0])

    def load() -> int:
        loading.set()
        have_connections.wait(timeout=10)
        return read()

    def ask(*, first: bool) -> int | None:
        try:
            if not first:
                read()
                have_connections.wait(timeout=10)
            return numbers.get("a", load)
        finally:
            connections.close_all()

    connections.close_all()
    with ThreadPoolExecutor(others + 1) as pool:
        answers = [pool.submit(ask, first=True)]
        assert loading.wait(10)
        answers += [pool.submit(ask, first=False) for _ in range(others)]
    assert [answer.result() for answer in answers] == [7] * (others + 1)


def test_processes_wait_for_the_one_that_loads(numbers: TwoLevelCache[int]) -> None:
    """Two caches of the same name are what two processes have."""
    other: TwoLevelCache[int] = TwoLevelCache(numbers.name, int, seconds=lambda: 60)
    begun, may_end = threading.Event(), threading.Event()
    source = Source(8)

    def load() -> int:
        begun.set()
        assert may_end.wait(30)
        return 7

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(numbers.get, "a", load)
        assert begun.wait(30)
        second = threads.submit(other.get, "a", source)
        may_end.set()
        assert [first.result(30), second.result(30)] == [7, 7]
    assert source.loaded == 0


def test_what_comes_just_before_the_lease_is_free_is_not_loaded_again(
    numbers: TwoLevelCache[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken:
        """The cache, in which another process brings its answer and gives the lease back before ours is taken."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cache, name)

        def add(self, key: str, *arguments: Any) -> bool:
            numbers._typed.set(f"{numbers.name}:a", two_level._Kept(8), 60)
            return bool(cache.add(key, *arguments))

    monkeypatch.setattr(two_level, "cache", Overtaken())
    source = Source()

    assert (numbers.get("a", source), source.loaded) == (8, 0)
    assert cache.get(f"{numbers.name}:a:loading") is None


def test_who_loads_and_dies_holds_nobody_up_for_long(
    numbers: TwoLevelCache[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_level, "LEASE_SECONDS", 1)
    cache.add(f"{numbers.name}:a:loading", 1, 60)
    assert numbers.get("a", Source()) == 7


def test_that_something_does_not_exist_is_remembered_until_it_does(numbers: TwoLevelCache[int]) -> None:
    source = Source(None)
    assert [numbers.get("a", source), numbers.get("a", source)] == [None, None]
    two_level.clear_memory()
    assert numbers.get("a", source) is None
    assert source.loaded == 1

    source.value = 7
    numbers.invalidate(["a"])
    assert numbers.get("a", source) == 7


def test_an_error_goes_to_all_who_wait_and_is_not_kept(numbers: TwoLevelCache[int]) -> None:
    def fail() -> int:
        raise LookupError

    with pytest.raises(LookupError):
        numbers.get("a", fail)
    assert cache.get(f"{numbers.name}:a:loading") is None  # nobody waits for it
    assert numbers.get("a", Source()) == 7


def test_what_changes_while_it_is_loaded_is_loaded_again(numbers: TwoLevelCache[int]) -> None:
    def old() -> int:
        numbers.invalidate(["a"])  # somebody commits a change just now
        return 1

    assert numbers.get("a", old) == 1
    assert numbers.get("a", Source(2)) == 2


def test_entries_that_came_together_do_not_go_together() -> None:
    lives = {two_level._jittered(60) for _ in range(100)}
    assert len(lives) == 100
    assert all(48 <= life <= 60 for life in lives)


def test_memory_ends_after_its_time(numbers: TwoLevelCache[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_level, "MEMORY_SECONDS", 0.05)
    source = Source()
    numbers.get("a", source)
    numbers._typed.set(f"{numbers.name}:a", two_level._Kept(8), 60)
    wait_until(lambda: numbers.get("a", source) == 8)


def test_without_seconds_nothing_is_kept() -> None:
    source = Source()
    never: TwoLevelCache[int] = TwoLevelCache("never", int, seconds=lambda: 0)
    assert [never.get("a", source), never.get("a", source)] == [7, 7]
    assert source.loaded == 2


@pytest.mark.services
def test_other_processes_hear_of_a_change(numbers: TwoLevelCache[int]) -> None:
    source = Source()
    numbers.get("a", source)
    source.value = 8
    cache.delete(f"{numbers.name}:a")  # as the process that has changed it does, before it tells the others

    two_level._invalidations.publish(numbers.name, ["a"])

    wait_until(lambda: numbers.get("a", source) == 8)


@pytest.mark.services
def test_a_message_that_nobody_understands_leaves_no_process_deaf(
    numbers: TwoLevelCache[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_level, "RECONNECT_SECONDS", 0.05)
    source = Source()
    numbers.get("a", source)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.publish(two_level._invalidations._channel, b"what is this?")
    source.value = 8
    cache.delete(f"{numbers.name}:a")

    def is_heard() -> bool:
        two_level._invalidations.publish(numbers.name, ["a"])
        return numbers.get("a", source) == 8

    wait_until(is_heard)


def test_without_redis_each_process_has_its_memory(
    numbers: TwoLevelCache[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        """What FailOpenRedisCache says while Redis does not answer."""

        def get(self, key: str) -> None: ...

        def add(self, *args: Any) -> bool:
            return False

        def set(self, *args: Any) -> None: ...

        def delete(self, key: str) -> None: ...

        def delete_many(self, keys: list[str]) -> None: ...

    monkeypatch.setattr(two_level, "cache", Away())
    monkeypatch.setattr("caching.backend.cache", Away())
    source = Source()
    assert [numbers.get("a", source), numbers.get("a", source)] == [7, 7]
    assert source.loaded == 1
