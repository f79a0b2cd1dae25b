"""The Celery application; its queues are those of the subscribers (see eventing.topology)."""

import os
from functools import cached_property
from typing import Any

from celery import Celery, signals
from celery.fixups.django import DjangoFixup, DjangoWorkerFixup
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


class WorkerFixup(DjangoWorkerFixup):
    """Gives connections back after each task. Celery's own would end the pools of its processes each time, too.

    It still ends what a new process has inherited from its parent.
    """

    def close_database(self, **kwargs: Any) -> None:
        for connection in connections.all(initialized_only=True):
            connection.close()


class Fixup(DjangoFixup):
    @cached_property
    def worker_fixup(self) -> DjangoWorkerFixup:
        return WorkerFixup(self.app)


@signals.setup_logging.connect
def keep_logging(**kwargs: Any) -> None:
    """Who listens here has Celery leave logging as the settings have it: it has a level and a format of its own."""


@signals.worker_init.connect
@signals.beat_init.connect
def refuse_wrong_databases(sender: Any, **kwargs: Any) -> None:
    """Before a worker divides itself, so that what was opened to look is closed again."""
    from sharding import installation  # needs the applications to be loaded
    from sharding.errors import WrongDatabases

    try:
        installation.refuse_mistakes()
    except WrongDatabases as error:
        raise SystemExit(str(error)) from error
    finally:
        connections.close_all()


app = Celery("wharf", fixups=[lambda app: Fixup(app).install()])
app.config_from_object("django.conf:settings", namespace="CELERY")
# Threads that did not create the application (the embedded worker's) must find it too.
app.set_default()
app.autodiscover_tasks()
