"""Looks for orders that are stuck. A report that is written twice says the same again."""

from __future__ import annotations

from eventing import clocks
from eventing.periodic import periodic
from timeline import stuck


@periodic("Report stuck orders", every=60, name="monitoring.report_stuck_orders")
def report_stuck_orders() -> int:
    return stuck.report_stuck_orders(clocks.database_time())
