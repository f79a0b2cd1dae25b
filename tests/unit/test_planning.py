"""Which buckets should move: as few as will do, so that databases have about as many rows each."""

from __future__ import annotations

from collections import Counter

import pytest

from resharding.planning import EMPTY, TOLERANCE, PlannedMove, plan
from sharding.numbers import BUCKETS


def databases(count: int) -> tuple[str, ...]:
    return tuple(f"orders_{number}" for number in range(count))


def spread(count: int) -> list[str]:
    return [f"orders_{bucket * count // BUCKETS}" for bucket in range(BUCKETS)]


def after(owners: list[str], steps: list[PlannedMove]) -> list[str]:
    owners = list(owners)
    for step in steps:
        assert owners[step.bucket] == step.source
        owners[step.bucket] = step.target
    return owners


def loads(owners: list[str], rows: dict[int, int]) -> Counter[str]:
    total: Counter[str] = Counter()
    for bucket, owner in enumerate(owners):
        total[owner] += rows.get(bucket, 0) + EMPTY
    return total


@pytest.mark.parametrize(("before", "now", "moves"), [(8, 16, 64), (16, 64, 96), (8, 64, 112)])
def test_more_databases_take_their_share_and_nothing_else_moves(before: int, now: int, moves: int) -> None:
    rows = dict.fromkeys(range(BUCKETS), 8_000)

    steps = plan(spread(before), rows, databases(now))

    assert len(steps) == moves
    assert set(Counter(after(spread(before), steps)).values()) == {BUCKETS // now}


def test_nothing_moves_when_all_have_about_as_much() -> None:
    assert plan(spread(8), dict.fromkeys(range(BUCKETS), 8_000), databases(8)) == []
    assert plan(spread(8), {}, databases(8)) == []
    # The first orders of a young shop say nothing about the next.
    assert plan(spread(8), {0: 30, 1: 20}, databases(8)) == []


def test_a_bucket_with_a_very_large_customer_gets_room() -> None:
    rows = dict.fromkeys(range(BUCKETS), 8_000) | {3: 200_000}

    steps = plan(spread(8), rows, databases(8))

    owners = after(spread(8), steps)
    assert owners[3] == "orders_0"  # the others make room, which moves fewer rows
    before, now = loads(spread(8), rows), loads(owners, rows)
    assert max(now.values()) - min(now.values()) < (max(before.values()) - min(before.values())) / 4
    assert len({step.bucket for step in steps}) == len(steps)


def test_a_database_that_is_given_up_loses_all_its_buckets() -> None:
    rows = dict.fromkeys(range(BUCKETS), 1_000)

    steps = plan(spread(4), rows, databases(3))

    owners = after(spread(4), steps)
    assert "orders_3" not in owners
    assert len(steps) == 32
    now = loads(owners, rows)
    assert max(now.values()) - min(now.values()) <= 2 * TOLERANCE * sum(now.values()) / 3
