"""Two sides race for the same order, a thousand times: one of them wins, each time."""

from __future__ import annotations

import pytest

from lab.races import RACES, Race, run
from payments.models import SandboxCharge

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.django_db(transaction=True, databases="__all__")]

TRIALS = 1000


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)
def test_exactly_one_side_wins(race: Race) -> None:
    result = run(race, TRIALS)

    assert result.wrong == []
    assert result.outcomes.total() == TRIALS
    if "gateway" in race.name:
        captures = SandboxCharge.objects.filter(kind=SandboxCharge.Kind.CAPTURE)
        assert captures.count() == TRIALS
        assert set(captures.values_list("calls", flat=True)) == {2 if "lost answer" in race.name else 1}
