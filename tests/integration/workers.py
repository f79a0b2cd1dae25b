"""A worker of Celery's in this process, which works on what the test has published."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from celery import current_app
from celery.worker import WorkController
from celery.worker import state as worker_state

from eventing import topology


@contextmanager
def working(queue: str) -> Iterator[WorkController]:
    """A worker of Celery's in a thread, as the embedded profile has one."""
    controller: WorkController = current_app.WorkController(
        pool="threads",
        concurrency=1,
        queues=[topology.qualified(queue)],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )

    def run() -> None:
        with suppress(SystemExit):  # how a worker says that it has stopped
            controller.start()

    thread = threading.Thread(target=run, name="worker")
    thread.start()
    try:
        yield controller
    finally:
        worker_state.should_stop = 0
        thread.join(timeout=30)
        worker_state.should_stop = None
    assert not thread.is_alive()
