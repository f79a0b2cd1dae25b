"""The table of `script/faults`, and its command line."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from loadtest.faults.campaign import Outcome
from loadtest.faults.catalogue import FAULTS, in_random_order
from loadtest.faults.run import Results, main
from loadtest.faults.verdict import Verdict


def outcome(fault: str, *, accepted: int = 10, recovery: float = 1.0, lost: int = 0) -> Outcome:
    verdict = Verdict()
    verdict.find("lost", "orders", [f"order {number}" for number in range(lost)])
    return Outcome(fault=fault, accepted=accepted, recovery=recovery, verdict=verdict, errors=[])


def test_table_adds_up_each_fault_and_all_of_them() -> None:
    results = Results(seed=1)
    for one in (outcome("web-killed"), outcome("same-key", recovery=2.5), outcome("web-killed", recovery=4.26)):
        results.add(one)

    assert [line.split() for line in results.table().splitlines()[1:]] == [
        ["same-key", "1", "10", "0", "0", "0", "2.5", "s"],
        ["web-killed", "2", "20", "0", "0", "0", "4.3", "s"],
        ["all", "3", "30", "0", "0", "0", "4.3", "s"],
    ]
    assert results.right


def test_a_loss_is_not_right_and_is_named() -> None:
    results = Results(seed=1)
    results.add(outcome("web-killed", lost=2))
    assert not results.right
    assert results.findings == ["web-killed: lost: orders: 2 (order 0, order 1)"]


def test_a_late_recovery_is_not_right_and_is_marked() -> None:
    results = Results(seed=1)
    results.add(outcome("web-killed", recovery=30.1))
    assert not results.right
    assert "30.1 s LATE" in results.table()


def test_every_fault_has_its_turn_in_each_round() -> None:
    names = list(FAULTS)
    staged = [fault.name for fault in islice(in_random_order(names, random.Random(7)), 2 * len(names))]
    assert sorted(staged[: len(names)]) == sorted(staged[len(names) :]) == sorted(names)
    assert staged[: len(names)] != names


def test_list_says_what_each_fault_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--minutes", "soon"], ["--rate", "-1"], ["--only", "rain"]])
def test_bad_arguments_are_refused_before_anything_starts(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert arguments[1] in capsys.readouterr().err
