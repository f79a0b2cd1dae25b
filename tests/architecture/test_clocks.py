"""Whose clock decides: what runs periodically asks a database, as its worker's clock may be days ahead."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from eventing import periodic

OWN_CLOCK = re.compile(r"timezone\.now\(|datetime\.now\(|time\.time\(|\bNow\(\)")


def test_no_module_of_periodic_tasks_looks_at_the_workers_clock() -> None:
    modules = {Path(inspect.getfile(one.work)) for one in periodic.by_task().values()}

    assert len(modules) >= 5
    assert [str(module) for module in sorted(modules) if OWN_CLOCK.search(module.read_text())] == []
