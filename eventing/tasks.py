"""The Celery tasks of the backbone: events for subscribers, and the upkeep of dead letters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import structlog
from celery import Task, current_app, shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.signals import task_prerun
from django.conf import settings

from eventing import clocks, deadletters, queues, redrives, retention, subscribers, topology
from eventing.conf import conf
from eventing.delivery import Delivery, backoff_seconds, deliver
from eventing.errors import EventingError
from eventing.fan_out import on_each
from eventing.periodic import periodic
from eventing.publishing import TASK, Publisher
from eventing.wire import Envelope, Message, request_ids

UpTo = Annotated[int, msgspec.Meta(ge=1, le=10_000)]

logger = structlog.get_logger(__name__)

SEND_SECONDS = 20.0  # with a last try of CONFIRM_SECONDS it is below a task's soft time limit
SEND_PAUSE_SECONDS = 0.5


class WrongShape(EventingError):
    """What arrived in the place of an event is none."""


@task_prerun.connect
def forget_the_task_before(**kwargs: Any) -> None:
    """Lines of a task that knows no request are not those of the last one that did, whose end Celery has logged."""
    structlog.contextvars.clear_contextvars()


@task_prerun.connect
def note_clock(task: Task, **kwargs: Any) -> None:
    clocks.note(str(task.request.hostname))


@shared_task(bind=True, name=TASK)
def deliver_message(self: Task, *args: Any, **kwargs: Any) -> None:
    try:
        message = msgspec.convert(kwargs, Message[Any])
    except msgspec.ValidationError as error:
        logger.warning("delivery.dead", subscriber=str(kwargs.get("subscriber")), error=repr(error))
        body = msgspec.json.encode({"args": args, "kwargs": kwargs})
        deadletters.park(deadletters.unreadable(body, TASK), str(kwargs.get("subscriber", "")), error, "", attempts=1)
        return
    received = [deadletters.received(event) for event in message.events]
    structlog.contextvars.bind_contextvars(request_id=request_ids(received))
    # The broker counts what it handed out again, and forgets it when the event is sent again.
    message = message.again(received, attempts=deadletters.redeliveries(self.request.get("x-delivery-count")))
    envelopes = _readable(message)
    if len(envelopes) > 1 and (self.request.delivery_info or {}).get("redelivered"):
        # Its last worker died with it. An event that kills workers must take only itself to the dead letters.
        logger.warning("delivery.split", subscriber=message.subscriber, events=len(envelopes))
        _send([message.again([envelope], attempts=0) for envelope in envelopes])
        return
    if not envelopes:
        return
    try:
        outcome = deliver(envelopes, Delivery.of(message))
        if outcome.messages:
            _send([message.again(batch) for batch in outcome.messages], countdown=backoff_seconds(message.attempt))
    except SoftTimeLimitExceeded as error:
        # It came between two events: the broker hands the whole message out again, and the inboxes know what is done.
        raise Reject(error, requeue=True) from error


@periodic("Collect dead letters of the broker", every=30, name="eventing.collect_dead_letters")
def collect_dead_letters(limit: UpTo = 500) -> int:
    """Move the broker's dead letters into the table of dead letters; returns how many messages.

    Also notes which redriven dead letters were handled, and continues redrive runs whose worker died. A message that
    could not be written down stays with the broker. Without the dead-letter exchange every rejected message would stay
    in its queue, which neither publisher nor consumer notices, so this task declares what is missing.
    """
    deadletters.note_handled()
    redrives.resume_stalled()
    if not conf.EVENTING_DURABLE_BROKER:
        return 0
    with current_app.connection_for_read() as connection, queues.answering(connection):
        topology.declare(connection)
        return deadletters.collect(connection, limit)


@periodic("Prune inboxes", at=(2, 40), name="eventing.prune_inbox")
def prune_inbox(batch: UpTo = 2_000, batches: UpTo = 50) -> int:
    """Forget old inbox rows of every database, at most `batch * batches` of each; returns how many."""

    def prune(alias: str) -> int:
        pruned = 0
        for _ in range(batches):
            deleted = retention.prune_inbox(clocks.database_time(alias), alias, batch)
            pruned += deleted
            if deleted < batch:
                break
        return pruned

    return sum(on_each(settings.DATABASES, prune, task="prune_inbox").values.values())


@periodic(retention.PRUNE, every=3600, name="eventing.prune")
def prune(batch: UpTo = 1_000) -> int:
    """Delete the rows that no table keeps any longer; returns how many."""
    return retention.prune(clocks.database_time(), batch)


@shared_task(name=redrives.TASK)
def redrive(run_id: int, step: int) -> None:
    """One second's worth of a redrive run."""
    with Publisher() as publisher:
        following = redrives.work(run_id, step, publisher)
    if following is not None:
        redrives.post(run_id, following, countdown=1)


def _readable(message: Message[Envelope]) -> list[Envelope]:
    """The events that can be delivered; the others become dead letters here, and do not stop them."""
    error: EventingError | None = None
    try:
        subscribers.get(message.subscriber)
    except EventingError as unknown:
        error = unknown
    readable = []
    for envelope in message.events:
        broken = error or (WrongShape(_why(envelope)) if envelope.category == deadletters.UNREADABLE else None)
        if broken is None:
            readable.append(envelope)
        else:
            logger.warning("delivery.dead", subscriber=message.subscriber, event_id=envelope.id, error=repr(broken))
            deadletters.park(envelope, message.subscriber, broken, "", attempts=message.attempt, replay=message.replay)
    return readable


def _why(unreadable: Envelope) -> str:
    return str(unreadable.metadata["headers"].get("why", "not an event"))


def _send(messages: Sequence[Message[Envelope]], *, countdown: int | None = None) -> None:
    """Send messages. While the broker takes nothing this waits: its own message must not become a dead letter.

    After SEND_SECONDS it is given back, and its events come again.
    """
    until = time.monotonic() + SEND_SECONDS
    left = deque(messages)
    with Publisher() as publisher:
        while left:
            try:
                publisher.send(left[0], countdown=countdown)
                left.popleft()
            except publisher.errors as error:
                logger.warning(
                    "delivery.not_sent_again", subscriber=left[0].subscriber, messages=len(left), error=repr(error)
                )
                if time.monotonic() > until:
                    raise Reject(error, requeue=True) from error
                time.sleep(SEND_PAUSE_SECONDS)
