"""Events for programs in any language: each is published once as a CloudEvent to a topic exchange.

The routing key is the event's type, so a program binds its own queue to the types that it wants, for instance
`order.*`. Format: CloudEvents 1.0 in JSON, structured mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from celery import current_app
from django.conf import settings
from kombu.exceptions import KombuError

from eventing import topology
from eventing.errors import Transient
from eventing.recorded import Recorded, stream_name
from eventing.subscribers import Subscriber

CONTENT_TYPE = "application/cloudevents+json"
CONFIRM_SECONDS = 10


class NotPublished(Transient):
    """The broker was away, or did not confirm: the event is published again later."""


integration = Subscriber(
    "integration", database=lambda recorded: settings.EVENTING_INTEGRATION_DATABASE, outside_effects=True
)


def cloud_event(recorded: Recorded[Any]) -> dict[str, Any]:
    """The event in the form that other programs read."""
    return {
        "specversion": "1.0",
        "id": recorded.id,
        "source": settings.EVENTING_SOURCE,
        "type": recorded.event.TYPE,
        "subject": stream_name(recorded.category, recorded.stream_id),
        "time": recorded.recorded_at,
        "datacontenttype": "application/json",
        "dataschema": f"{settings.EVENTING_SOURCE}/{recorded.event.TYPE}/{recorded.event.SCHEMA_VERSION}",
        "sequence": recorded.version,
        "correlationid": recorded.metadata.correlation_id,
        "causationid": recorded.metadata.causation_id or "",
        "data": recorded.event,
    }


@integration.on_any
def publish(batch: Sequence[Recorded[Any]]) -> None:
    """Publish before the inbox rows commit: after a crash in between, a program sees the same `id` again."""
    exchange = topology.integration_exchange()
    with current_app.producer_pool.acquire(block=True, timeout=CONFIRM_SECONDS) as producer:
        connection = producer.connection
        try:
            for recorded in batch:
                producer.publish(
                    msgspec.json.encode(cloud_event(recorded)),
                    exchange=exchange,
                    routing_key=recorded.event.TYPE,
                    content_type=CONTENT_TYPE,
                    content_encoding="utf-8",
                    message_id=recorded.id,
                    delivery_mode=2,
                    declare=[exchange],
                    confirm_timeout=CONFIRM_SECONDS,
                )
        except (KombuError, *connection.connection_errors, *connection.channel_errors) as error:
            connection.collect()  # a broken connection must not go back into the pool
            raise NotPublished(str(error) or type(error).__name__) from error
