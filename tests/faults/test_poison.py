"""An event that kills every worker that touches it ends as a dead letter; the others of its batch are handled once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.faults.patient import seen
from tests.live import Live
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.services]


def run(live: Live, what: str) -> None:
    process = live.spawn("-m", "tests.faults.patient", what, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


@pytest.fixture
def patient(live: Live) -> Iterator[subprocess.Popen[str]]:
    worker = live.spawn("-m", "tests.faults.patient", "worker", stdout=sys.stderr)
    yield worker
    worker.terminate()
    worker.wait(timeout=120)
    run(live, "clean-up")


def test_an_event_that_kills_its_worker_takes_only_itself_to_the_dead_letters(
    live: Live, patient: subprocess.Popen[str]
) -> None:
    run(live, "send")

    wait_until(lambda: bool(live.call(seen, collect=True)["letters"]), seconds=60)
    wait_until(lambda: live.call(seen)["inbox"] == [1, 3], seconds=20)

    found = live.call(seen)
    assert found["effects"] == ["tea", "water"]
    [letter] = found["letters"]
    assert (letter["version"], letter["subscriber"], letter["error"]) == (2, "patient", "GivenUpByBroker")
    assert "delivery_limit" in letter["message"]
    assert letter["attempts"] == 7  # once with its batch, once alone, and five times again
    assert letter["status"] == "open"
    assert patient.poll() is None
