"""Events for programs in any language: each is published once as a CloudEvent to a topic exchange.

The routing key is the event's type, so a program binds its own queue to the types that it wants, for instance
`order.*`. Format: CloudEvents 1.0 in JSON, structured mode.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from eventing import topology
from eventing.conf import conf
from eventing.confirms import ConfirmedProducer
from eventing.errors import Transient
from eventing.recorded import Recorded
from eventing.subscribers import Subscriber

CONTENT_TYPE = "application/cloudevents+json"


class NotPublished(Transient):
    """The broker was away, or did not confirm: the event is published again later."""


integration = Subscriber(
    "integration", database=lambda recorded: conf.EVENTING_INTEGRATION_DATABASE, outside_effects=True
)


def cloud_event(recorded: Recorded[Any]) -> dict[str, Any]:
    """The event in the form that other programs read. Events of one `id` differ in `hash` (see `Recorded`)."""
    stream = recorded.stream
    return {
        "specversion": "1.0",
        "id": f"{stream}@{recorded.version}",
        "source": conf.EVENTING_SOURCE,
        "type": recorded.event.TYPE,
        "subject": stream,
        "time": recorded.recorded_at,
        "datacontenttype": "application/json",
        "dataschema": f"{conf.EVENTING_SOURCE}/{recorded.event.TYPE}/{recorded.event.SCHEMA_VERSION}",
        "sequence": recorded.version,
        **({} if recorded.hash is None else {"hash": recorded.hash.hex()}),
        "correlationid": recorded.metadata.correlation_id,
        "causationid": recorded.metadata.causation_id or "",
        "data": recorded.event,
    }


class _OfThread(threading.local):
    """Each thread of a worker has a connection of its own, and keeps it."""

    def __init__(self) -> None:
        self.confirmed = ConfirmedProducer()


_connections = _OfThread()


@integration.on_any
def publish(batch: Sequence[Recorded[Any]]) -> None:
    """Publish before the inbox rows commit: after a crash in between, a program sees the same `id` again."""
    exchange = topology.integration_exchange().name
    confirmed = _connections.confirmed

    def send() -> None:
        channel = confirmed.producer.channel  # itself: what kombu's Producer adds to a publication takes longer
        for recorded in batch:
            event = cloud_event(recorded)
            message = channel.prepare_message(
                msgspec.json.encode(event),
                content_type=CONTENT_TYPE,
                content_encoding="utf-8",
                properties={"message_id": event["id"], "delivery_mode": 2},
            )
            channel.basic_publish(message, exchange=exchange, routing_key=event["type"])
            confirmed.published()

    try:
        confirmed.publish_all(send)
    except confirmed.errors as error:
        raise NotPublished(str(error) or type(error).__name__) from error
