"""A process of a shop calls functions for others, and says what went wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from lab.harness.shell import Shell, ShellError

pytestmark = pytest.mark.once


class NotToBeUnpickled(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)


def place_of_data() -> str:
    return str(settings.DATA_DIR)


def fail() -> None:
    raise NotToBeUnpickled("no", "never")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    threading.Event().wait()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell({"PROFILE": "embedded", "DEMO_DIR": str(tmp_path)}) as made:
        yield made


def test_a_function_is_called_in_a_process_of_the_shop(shell: Shell, tmp_path: Path) -> None:
    assert shell.call(place_of_data) == str(tmp_path)
    assert shell.call(os.getpid) == shell.call(os.getpid) != os.getpid()


def test_what_fails_there_is_told_and_the_next_call_works(shell: Shell) -> None:
    with pytest.raises(ShellError, match="NotToBeUnpickled: no"):
        shell.call(fail)
    assert shell.call(os.getppid) == os.getpid()


def test_a_process_that_dies_is_told_and_another_one_takes_its_place(shell: Shell) -> None:
    assert shell.exit_code(die) == -signal.SIGKILL
    assert shell.exit_code(os.getpid) == 0
    with pytest.raises(ShellError, match=r"the process of die has ended with -9"):
        shell.call(die)
    assert shell.call(os.getppid) == os.getpid()


def test_what_hangs_is_ended(shell: Shell) -> None:
    first = shell.call(os.getpid)
    began = time.monotonic()
    with pytest.raises(ShellError, match=r"hang has not answered within 0.2 s"):
        shell.call_within(0.2, hang)
    assert time.monotonic() - began < 20
    assert shell.call(os.getpid) != first
