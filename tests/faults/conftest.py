"""One laboratory for all fault tests: starting a broker and a shop takes longer than most faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.faults.campaign import Campaign
from lab.faults.lab import Lab, Services, private_services
from tests.groups import share

FREEZE_SECONDS = 14.0  # a third of that of `script/faults`; the clock looks at the orders every 5 s
RATE = 4.0  # orders a second: half of what `script/faults` lets come, because other tests run meanwhile


class Laboratory:
    """Hands out the same shop until a test has found harm in it, or its group is done; the next one gets a new shop."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._campaign: Campaign | None = None
        self._shop = ExitStack()
        self._shops = 0

    def campaign(self) -> Campaign:
        if self._services is None:
            group = share(ExitStack())
            group.callback(self._close)
            self._services = group.enter_context(private_services())
            group.callback(self.discard)
        if self._campaign is None:
            self._shops += 1
            name = f"faults_{self._shops}"
            folder = self._services.folder / name
            lab = self._shop.enter_context(Lab(self._services, folder, name=name, freeze_seconds=FREEZE_SECONDS))
            self._campaign = Campaign(lab, rate=RATE)
            self._campaign.prepare()
        return self._campaign

    def discard(self) -> None:
        self._shop.close()
        self._campaign = None

    def _close(self) -> None:
        self._services = None


@pytest.fixture(scope="session")
def laboratory() -> Laboratory:
    return Laboratory()


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
