"""The embedded profile: web server, relay, worker and beat as threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from wsgiref.types import WSGIApplication

import structlog
from celery import Celery
from celery.app.trace import setup_worker_optimizations
from celery.beat import Service
from celery.worker import WorkController
from celery.worker import state as worker_state
from django.conf import settings
from waitress import wasyncore

from config import demo_server
from config.celery import app
from eventing import relay, topology
from eventing.beat import LeaderScheduler
from eventing.pressure import Load

logger = structlog.get_logger(__name__)

WORKER_THREADS = 4
JOIN_SECONDS = 10
WAKE_SECONDS = 0.5


@dataclass(slots=True)
class Role:
    """A thread, and how to ask it to end."""

    name: str
    run: Callable[[], object]
    stop: Callable[[], object]
    thread: threading.Thread = field(init=False)

    def start(self, on_failure: Callable[[str], None]) -> None:
        def guarded() -> None:
            try:
                self.run()
            except SystemExit:  # how a Celery worker says that it has stopped
                pass
            except Exception:
                # One role less is not the shop any more: say why, and end the process.
                logger.exception("embedded.role_failed", role=self.name)
                on_failure(self.name)

        self.thread = threading.Thread(target=guarded, name=self.name, daemon=True)
        self.thread.start()


def web(application: WSGIApplication, host: str, port: int) -> Role:
    """The web server, which has its port already: raises OSError if that is taken."""
    server = demo_server.create(application, host, port)

    def stop() -> None:
        # Requests in hand are answered; then the loop is emptied by itself, as nobody else may touch its sockets.
        server.task_dispatcher.shutdown(timeout=JOIN_SECONDS / 2)
        server.trigger.pull_trigger(partial(wasyncore.close_all, server._map, ignore_all=True))

    return Role("web", server.run, stop)


def worker(celery: Celery = app) -> Role:
    """A Celery worker without signal handlers, in a pool of threads."""
    setup_worker_optimizations(celery)
    controller: WorkController = celery.WorkController(
        pool="threads",
        concurrency=WORKER_THREADS,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )

    def stop() -> None:
        # The worker's loop looks at this and ends itself; 0 is its exit code.
        worker_state.should_stop = 0

    return Role("worker", controller.start, stop)


def beat(celery: Celery = app) -> Role:
    service = Service(celery, scheduler_cls=LeaderScheduler, max_interval=settings.CELERY_BEAT_MAX_LOOP_INTERVAL)
    return Role("beat", lambda: service.start(embedded_process=True), service.stop)


def relays() -> Role:
    stop = threading.Event()

    def run() -> None:
        for thread in relay.start_threads(settings.DATABASES, stop, Load()):
            thread.join()

    return Role("relay", run, stop.set)


def run(front: Role, stop: threading.Event) -> str | None:
    """Run `front` (see `web`) and the other roles until `stop` is set or one fails; returns the name of that one.

    The web server stops first, so that no request is cut off from what it relies on.
    """
    failed: list[str] = []

    def on_failure(name: str) -> None:
        failed.append(name)
        stop.set()

    with app.connection_for_write() as connection:
        # The in-memory broker drops what it has no queue for, so the queues come first.
        topology.declare(connection)
    others = [relays(), worker(), beat()]
    for role in [*others, front]:
        role.start(on_failure)
    while not stop.wait(WAKE_SECONDS):
        """A wait without an end could miss a signal that comes just before it."""
    front.stop()
    front.thread.join(timeout=JOIN_SECONDS)
    for role in others:
        role.stop()
    for role in others:
        role.thread.join(timeout=JOIN_SECONDS)
    return failed[0] if failed else None
