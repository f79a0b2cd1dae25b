"""An event that kills every worker that touches it ends as a dead letter; the others of its batch are handled once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.live import Live
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.services]

# A subscriber of the test's own in a real worker: its handler writes down what it is called with, or dies of it.
SUBSCRIBER = """
import os, signal
from dataclasses import dataclass
from typing import ClassVar
import django
django.setup()
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from config.celery import app
from eventing import registry, topology
from eventing.subscribers import Subscriber

@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    TYPE: ClassVar[str] = "dose.given"
    SCHEMA_VERSION: ClassVar[int] = 1
    substance: str

registry.register(Dose)
patient = Subscriber("patient", database=lambda recorded: "default")

@patient.on(Dose)
def take(batch):
    for recorded in batch:
        # Of all tables this is one in which the effect of an event can be seen.
        ContentType.objects.create(app_label="dose", model=f"{recorded.event.substance}-{os.getpid()}")
    if any(recorded.event.substance == "poison" for recorded in batch):
        os.kill(os.getpid(), signal.SIGKILL)

topology.install(app)
with app.connection_for_write() as connection:
    topology.declare(connection)
"""

WORKER = (
    SUBSCRIBER
    + """
app.worker_main(["worker", "--queues", topology.qualified("patient"), "--concurrency", "1", "--without-gossip",
                 "--without-mingle", "--without-heartbeat", "--loglevel", "warning"])
"""
)

SEND = (
    SUBSCRIBER
    + """
from django.utils import timezone
from eventing.publishing import Publisher
from eventing.wire import Envelope
doses = [Envelope(stream_id=7, category="dose", version=version, type="dose.given", schema_version=1,
                  data={"substance": substance}, metadata={"correlation_id": "test"}, recorded_at=timezone.now())
         for version, substance in enumerate(["water", "poison", "tea"], start=1)]
with Publisher() as publisher:
    publisher.send("patient", doses, published_at=timezone.now())
"""
)

CLEAN_UP = (
    SUBSCRIBER
    + """
from eventing.models import DeadLetter, InboxEntry
with app.connection_for_write() as connection:
    topology.work_queue("patient")(connection.default_channel).delete()
ContentType.objects.filter(app_label="dose").delete()
# No database has committed these events, which an audit of the same shop would find.
InboxEntry.objects.filter(category="dose").delete()
DeadLetter.objects.filter(category="dose").delete()
"""
)

SEEN = """
from django.contrib.contenttypes.models import ContentType
from eventing.models import DeadLetter, InboxEntry
answer = {
    "effects": sorted(name.split("-")[0] for name in
                      ContentType.objects.filter(app_label="dose").values_list("model", flat=True)),
    "inbox": sorted(InboxEntry.objects.filter(category="dose").values_list("version", flat=True)),
    "letters": list(DeadLetter.objects.filter(category="dose").values("version", "subscriber", "error", "attempts",
                                                                       "message", "status")),
}
"""

COLLECT = "from eventing.tasks import collect_dead_letters\ncollect_dead_letters()\n"


def run(live: Live, code: str) -> None:
    process = live.spawn("-c", code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


@pytest.fixture
def patient(live: Live) -> Iterator[subprocess.Popen[str]]:
    worker = live.spawn("-c", WORKER, stdout=sys.stderr)
    yield worker
    worker.terminate()
    worker.wait(timeout=120)
    run(live, CLEAN_UP)


def test_an_event_that_kills_its_worker_takes_only_itself_to_the_dead_letters(
    live: Live, patient: subprocess.Popen[str]
) -> None:
    run(live, SEND)

    wait_until(lambda: bool(live.shell(COLLECT + SEEN)["letters"]), seconds=60)
    wait_until(lambda: live.shell(SEEN)["inbox"] == [1, 3], seconds=20)

    seen = live.shell(SEEN)
    assert seen["effects"] == ["tea", "water"]
    [letter] = seen["letters"]
    assert (letter["version"], letter["subscriber"], letter["error"]) == (2, "patient", "GivenUpByBroker")
    assert "delivery_limit" in letter["message"]
    assert letter["attempts"] == 7  # once with its batch, once alone, and five times again
    assert letter["status"] == "open"
    assert patient.poll() is None
