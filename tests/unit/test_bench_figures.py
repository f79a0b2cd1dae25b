"""How figures are summed up and compared with what is asked."""

from __future__ import annotations

import pytest

from lab.figures import FLOOR, Asked, Figure, as_json, table

FIGURES = [
    Figure(name=FLOOR, unit="orders/s", runs=[900, 1000, 1200]),
    Figure(name="accepted", unit="orders/s", runs=[150, 250, 240], asked=Asked(limit=0.2, of_floor=True)),
    Figure(name="p99", unit="ms", runs=[60], asked=Asked(limit=50, at_most=True)),
]


def test_the_median_counts_and_the_spread_is_told() -> None:
    assert FIGURES[0].value == 1000
    assert FIGURES[0].spread == pytest.approx(30)


@pytest.mark.parametrize(
    ("asked", "value", "floor", "met"),
    [
        (Asked(limit=5), 5, None, True),
        (Asked(limit=5), 4.9, None, False),
        (Asked(limit=5, at_most=True), 5, None, True),
        (Asked(limit=5, at_most=True), 5.1, None, False),
        (Asked(limit=0.2, of_floor=True), 200, 1000.0, True),
        (Asked(limit=0.2, of_floor=True), 199, 1000.0, False),
        (Asked(limit=0.2, of_floor=True), 200, None, None),
    ],
)
def test_what_is_asked(asked: Asked, value: float, floor: float | None, met: bool | None) -> None:
    assert asked.is_met(value, floor) is met


def test_the_table_says_what_was_missed() -> None:
    _, floor, accepted, late = table(FIGURES).splitlines()
    assert "1,000" in floor
    assert "0.240" in accepted
    assert "MISSED" not in accepted
    assert late.endswith("MISSED")


def test_the_report_compares_with_the_floor() -> None:
    floor, accepted, late = as_json(FIGURES)
    assert (floor["of_floor"], accepted["of_floor"], late["of_floor"]) == (1.0, 0.24, None)
    assert (floor["met"], accepted["met"], late["met"]) == (None, True, False)
