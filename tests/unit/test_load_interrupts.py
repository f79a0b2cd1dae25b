"""What Ctrl-C does to a load test: it ends the load, or the program."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lab.harness import interrupts
from lab.harness.interrupts import STOP_SIGNALS, Interrupts
from lab.load import command


def test_scenarios_that_were_not_run_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run", interrupted)
    monkeypatch.setattr(Interrupts, "install", lambda self: None)

    assert command.main(["--scenario", "flash-sale", "--scenario", "browsing", "--headless"]) == 1

    assert "Not run: flash-sale, browsing." in capsys.readouterr().err


@pytest.fixture
def installed() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    made = Interrupts()
    made.install()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_while_customers_come_it_ends_the_load_and_the_verdict_follows(installed: Interrupts) -> None:
    with installed.ending_the_load():
        press()
        press()  # an echo of the same
    assert installed.seen


def test_once_more_ends_the_program(installed: Interrupts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ECHO_SECONDS", 0.0)
    with installed.ending_the_load():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_at_any_other_time_it_ends_the_program_and_tidying_up_is_not_disturbed(
    installed: Interrupts, number: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        press(number)
    press(number)
    assert not installed.seen
