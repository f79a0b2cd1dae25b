"""A subscriber of a test's own in a real worker: its handler writes down what it is called with, or dies of it.

python -m tests.faults.patient worker | send | clean-up
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if __name__ == "__main__":
    django.setup()

from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from config.celery import app
from eventing import registry, topology
from eventing.models import DeadLetter, InboxEntry
from eventing.publishing import Publisher
from eventing.recorded import Recorded
from eventing.subscribers import Subscriber
from eventing.tasks import collect_dead_letters
from eventing.wire import Envelope, Message

NAME = "patient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    TYPE: ClassVar[str] = "dose.given"
    SCHEMA_VERSION: ClassVar[int] = 1
    substance: str


def take(batch: Sequence[Recorded[Any]]) -> None:
    for recorded in batch:
        # Of all tables this is one in which the effect of an event can be seen.
        ContentType.objects.create(app_label="dose", model=f"{recorded.event.substance}-{os.getpid()}")
    if any(recorded.event.substance == "poison" for recorded in batch):
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    registry.register(Dose)
    Subscriber(NAME, database=lambda recorded: "default").on(Dose)(take)
    topology.install(app)
    with app.connection_for_write() as connection:
        topology.declare(connection)


def work() -> None:
    options = ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "--queues", topology.qualified(NAME), "--loglevel", "warning", *options])


def send() -> None:
    doses = [
        Envelope(
            stream_id=7,
            category="dose",
            version=version,
            type=Dose.TYPE,
            schema_version=1,
            data={"substance": substance},
            metadata={"correlation_id": "test"},
            recorded_at=timezone.now(),
        )
        for version, substance in enumerate(["water", "poison", "tea"], start=1)
    ]
    with Publisher() as publisher:
        publisher.send(Message(subscriber=NAME, events=doses, published_at=timezone.now()))


def clean_up() -> None:
    with app.connection_for_write() as connection:
        topology.work_queue(NAME)(connection.default_channel).delete()
    ContentType.objects.filter(app_label="dose").delete()
    # No database has committed these events, which an audit of the same shop would find.
    InboxEntry.objects.filter(category="dose").delete()
    DeadLetter.objects.filter(category="dose").delete()


def seen(*, collect: bool = False) -> dict[str, Any]:
    """What has become of the doses; with `collect`, after the broker's own dead letters were collected."""
    if collect:
        collect_dead_letters()
    effects = ContentType.objects.filter(app_label="dose").values_list("model", flat=True)
    letters = DeadLetter.objects.filter(category="dose")
    return {
        "effects": sorted(name.split("-")[0] for name in effects),
        "inbox": sorted(InboxEntry.objects.filter(category="dose").values_list("version", flat=True)),
        "letters": list(letters.values("version", "subscriber", "error", "attempts", "message", "status")),
    }


if __name__ == "__main__":
    install()
    {"worker": work, "send": send, "clean-up": clean_up}[sys.argv[1]]()
