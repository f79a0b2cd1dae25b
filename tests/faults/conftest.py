"""One laboratory for all fault tests: starting a broker and a shop takes longer than most faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.faults.campaign import Campaign
from lab.faults.lab import Lab, private_services
from tests.groups import share

FREEZE_SECONDS = 14.0  # a third of that of `script/faults`; the clock looks at the orders every 5 s
RATE = 4.0  # orders a second: half of what `script/faults` lets come, because other tests run meanwhile


class Laboratory:
    """Hands out the same shop until a test has found harm in it; the next one gets a new shop."""

    def __init__(self, stack: ExitStack) -> None:
        self.services = stack.enter_context(private_services())
        self._stack = stack.enter_context(ExitStack())
        self._campaign: Campaign | None = None
        self._shops = 0

    def campaign(self) -> Campaign:
        if self._campaign is None:
            self._shops += 1
            name = f"faults_{self._shops}"
            lab = self._stack.enter_context(
                Lab(self.services, self.services.folder / name, name=name, freeze_seconds=FREEZE_SECONDS)
            )
            self._campaign = Campaign(lab, rate=RATE)
            self._campaign.prepare()
        return self._campaign

    def discard(self) -> None:
        self._stack.close()
        self._campaign = None


@pytest.fixture(scope="session")
def laboratory() -> Laboratory:
    return Laboratory(share(ExitStack()))


@pytest.fixture
def campaign(request: pytest.FixtureRequest, laboratory: Laboratory) -> Iterator[Campaign]:
    """A shop on private services, whole and quiet."""
    failed_before = request.session.testsfailed
    yield laboratory.campaign()
    if request.session.testsfailed > failed_before:
        laboratory.discard()


@pytest.fixture
def lab(campaign: Campaign) -> Lab:
    return campaign.lab
