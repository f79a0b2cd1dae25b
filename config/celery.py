"""The Celery application; its queues are those of the subscribers (see eventing.topology)."""

import os
from functools import cached_property
from typing import Any

from celery import Celery
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


app = Celery("wharf", fixups=[lambda app: Fixup(app).install()])
app.config_from_object("django.conf:settings", namespace="CELERY")
# Threads that did not create the application (the embedded worker's) must find it too.
app.set_default()
app.autodiscover_tasks()
