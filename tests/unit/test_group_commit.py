"""What several threads submit at once is written at once, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from eventing.group_commit import GroupCommit
from tests.waiting import wait_until

SECONDS = 10


class Paper:
    """Writes what it is told to, once it may, and keeps the groups in which it came."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.at_it = 0
        self.may_write = threading.Event()

    def write(self, items: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(items))
        self.at_it += 1
        assert self.may_write.wait(SECONDS)
        self.at_it -= 1
        return [ValueError(item) if item < 0 else item * 10 for item in items]


def submitted(pool: ThreadPoolExecutor, group: GroupCommit[int, int], paper: Paper, *items: int) -> list[Future[int]]:
    """Each item in a thread of its own, in this order; who is to write has begun."""
    futures = []
    for item in items:
        before = len(group._waiting), group._writing
        futures.append(pool.submit(group.submit, item))
        wait_until(lambda before=before: (len(group._waiting), group._writing) != before)
        wait_until(lambda: paper.at_it == group._writing)
    return futures


def test_who_is_alone_writes_at_once() -> None:
    paper = Paper()
    paper.may_write.set()

    assert GroupCommit(paper.write).submit(1) == 10

    assert paper.groups == [[1]]


def test_what_comes_during_a_write_is_written_together_afterwards() -> None:
    paper = Paper()
    group = GroupCommit(paper.write)
    with ThreadPoolExecutor(4) as pool:
        futures = submitted(pool, group, paper, 1, 2, 3, 4)
        paper.may_write.set()

    assert [future.result() for future in futures] == [10, 20, 30, 40]
    assert paper.groups == [[1], [2, 3, 4]]


def test_a_group_is_not_larger_than_allowed() -> None:
    paper = Paper()
    group = GroupCommit(paper.write, most=2)
    with ThreadPoolExecutor(6) as pool:
        futures = submitted(pool, group, paper, 1, 2, 3, 4, 5, 6)
        paper.may_write.set()

    assert [future.result() for future in futures] == [10, 20, 30, 40, 50, 60]
    assert paper.groups == [[1], [2, 3], [4, 5], [6]]


def test_a_further_one_writes_when_a_crowd_waits() -> None:
    paper = Paper()
    group = GroupCommit(paper.write, writers=2, crowd=3, patience=SECONDS)
    with ThreadPoolExecutor(10) as pool:
        futures = submitted(pool, group, paper, 1, 2, 3)
        assert paper.groups == [[1]]
        futures += submitted(pool, group, paper, 4)
        assert paper.groups == [[1], [2, 3, 4]]
        futures += submitted(pool, group, paper, 5, 6, 7, 8)
        assert paper.at_it == 2, "there is no third place"
        paper.may_write.set()

    assert [future.result() for future in futures] == [number * 10 for number in range(1, 9)]
    assert paper.groups == [[1], [2, 3, 4], [5, 6, 7, 8]]


def test_a_further_one_writes_when_somebody_has_waited_for_long() -> None:
    paper = Paper()
    group = GroupCommit(paper.write, writers=2, crowd=3)
    with ThreadPoolExecutor(2) as pool:
        futures = submitted(pool, group, paper, 1, 2)
        wait_until(lambda: paper.at_it == 2)
        paper.may_write.set()

    assert [future.result() for future in futures] == [10, 20]
    assert paper.groups == [[1], [2]]


def test_an_error_is_raised_where_it_belongs() -> None:
    paper = Paper()
    group = GroupCommit(paper.write)
    with ThreadPoolExecutor(3) as pool:
        _, bad, good = submitted(pool, group, paper, 1, -2, 3)
        paper.may_write.set()

    assert good.result() == 30
    with pytest.raises(ValueError, match="-2"):
        bad.result()


def test_a_write_that_fails_fails_for_all_who_are_in_it_and_for_nobody_else() -> None:
    paper = Paper()

    def write(items: Sequence[int]) -> list[int | Exception]:
        outcomes = paper.write(items)
        if 2 in items:
            raise OSError("the pen is broken")
        return outcomes

    group: GroupCommit[int, int] = GroupCommit(write, most=2)
    with ThreadPoolExecutor(4) as pool:
        first, second, third, fourth = submitted(pool, group, paper, 1, 2, 3, 4)
        paper.may_write.set()

    assert (first.result(), fourth.result()) == (10, 40)
    for failed in (second, third):
        with pytest.raises(OSError, match="pen"):
            failed.result()
