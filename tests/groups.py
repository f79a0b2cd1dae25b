"""Tests that share something expensive: they run in one process, one after another, and then it is closed.

A whole shop takes half a minute of a processor to start, and a tenth of one while it has nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

T = TypeVar("T")

# Most of the time a fault is waited for, so two laboratories share the catalogue: what services suffer, and the rest.
FAULT = "tests/faults/test_faults.py::test_nothing_is_lost_doubled_or_oversold"
SERVICES = ("broker", "confirms", "connections", "databases", "redis", "shards", "slow", "transaction")

# The beginning of a test's name, and its group; without one it is alone. All run a shop of processes. What takes
# longest begins first, so that the processes come to their ends together.
GROUPS = (
    *((f"{FAULT}[{what}", "laboratory of services") for what in SERVICES),
    (FAULT, "laboratory"),
    ("tests/faults/test_faults.py::test_a_shard_that_is_down", "laboratory of services"),
    ("tests/faults/test_faults.py::test_an_outbox", "laboratory of services"),
    ("tests/faults/test_beat", "shop"),
    ("tests/faults/test_degradation", "shop"),
    ("tests/faults/test_poison", "shop"),
    ("tests/flows/test_live_answers", "shop"),
    ("tests/flows/test_live_audit", "shop"),
    ("tests/flows/test_live_documents", "shop"),
    ("tests/flows/test_live_integration", "shop"),
    ("tests/flows/test_live_logs", "shop"),
    ("tests/flows/test_live_proxy", "shop"),
    ("tests/flows/test_live_replay", "shop"),
    ("tests/flows/test_live_roles", "shop"),
    ("tests/flows/test_live_system", "shop"),
    ("tests/flows/test_live_bench", ""),
    ("tests/flows/test_live_loadtest", ""),
    ("tests/flows/test_live_growth", ""),
    ("tests/browser/", "browser"),
)
# Modules whose tests share what one fixture makes, in the databases or as files: each process would make it anew.
WORLDS = (
    "tests/architecture/test_site.py",
    *(f"tests/integration/test_{name}.py" for name in ("api_bad_input", "audit", "seeded_shop", "topology")),
)
SHOPS = 2  # that run at the same time: more would only wait for each other, and their customers for them
AHEAD = 1  # tests that a process has at hand beside the one that it runs: it wants to know which one is next

_shared = ExitStack()


def place_of(nodeid: str) -> int:
    """Where a test stands in the order of GROUPS; all others come after these, in their own order."""
    return next((place for place, (start, _) in enumerate(GROUPS) if nodeid.startswith(start)), len(GROUPS))


def scope_of(nodeid: str) -> str:
    """The group of a test, its module if that has a world of its own, or the test itself."""
    module = nodeid.partition("::")[0]
    if module in WORLDS:
        return module
    return next((group for start, group in GROUPS if nodeid.startswith(start)), "") or nodeid


def runs_a_shop(nodeid: str) -> bool:
    return place_of(nodeid) < len(GROUPS) and scope_of(nodeid) != "browser"  # that one is a single process


def share(manager: AbstractContextManager[T]) -> T:
    """Open something that the tests of this group share."""
    return _shared.enter_context(manager)


def close_shared() -> None:
    """The group is done."""
    _shared.close()


class Division(LoadScopeScheduling):
    """Divides groups and single tests among processes.

    (The groups of `--dist loadgroup` do not reach the scheduler with this version of pytest.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= AHEAD:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = [work for other, work in self.assigned_work.items() if other is not node]
        if sum(any(_has_shop(unit) for unit in work.values()) for work in others) >= SHOPS:
            without = next((scope for scope, unit in self.workqueue.items() if not _has_shop(unit)), None)
            if without is not None:
                self.workqueue.move_to_end(without, last=False)
        super()._assign_work_unit(node)


def _has_shop(unit: Mapping[str, bool]) -> bool:
    """Whether tests of this unit (name → done) that are still to be done run a shop."""
    return any(runs_a_shop(nodeid) for nodeid, done in unit.items() if not done)
