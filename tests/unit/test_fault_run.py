"""The table of `script/faults`, and its command line."""

from __future__ import annotations

import random
from contextlib import nullcontext
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.faults.campaign import Outcome
from lab.faults.catalogue import FAULTS, Fault, in_random_order
from lab.faults.command import Results, main
from lab.oracle import Verdict


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


def test_faults_that_were_asked_for_and_not_staged_are_known() -> None:
    results = Results(seed=1, asked=["web-killed", "same-key", "redis-stopped"])
    results.add(outcome("same-key"))
    assert results.right
    assert results.not_staged == ["web-killed", "redis-stopped"]


class Laboratory:
    """In place of services and shop: it stages nothing, and takes its time for it."""

    def __init__(self, *_: object, **__: object) -> None:
        self.staged: list[str] = []

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepare(self) -> None:
        pass

    def install(self) -> None:
        pass

    def stage(self, fault: Fault) -> Outcome:
        return outcome(fault.name)


@pytest.mark.parametrize("only, staged", [(["--only", "web-killed", "same-key", "redis-stopped"], 3), ([], 1)])
def test_what_is_named_is_staged_whatever_the_time_and_what_is_left_out_is_said(
    only: list[str], staged: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("lab.faults.command.private_services", lambda: nullcontext(SimpleNamespace(folder=tmp_path)))
    monkeypatch.setattr("lab.faults.command.Lab", Laboratory)
    monkeypatch.setattr("lab.faults.command.Campaign", Laboratory)
    monkeypatch.setattr("lab.faults.command.Interrupts", Laboratory)
    moments = count(step=30)
    monkeypatch.setattr("lab.faults.command.time", SimpleNamespace(monotonic=lambda: next(moments)))

    assert main(["--minutes", "0.6", *only]) == 0

    printed = capsys.readouterr().out
    assert printed.count("orders accepted") == staged
    left_out = len(FAULTS) - 1
    assert (f"Not staged: {left_out} of {len(FAULTS)} faults (" in printed) == (not only)
    assert ("Not staged" in printed) == (not only)


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
