"""The settings of this library. Each name begins with EVENTING_; a project that sets none gets these defaults."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from django.conf import settings

T = TypeVar("T")


class Setting(Generic[T]):
    """What Django's settings say under this name, else the default."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type[Any]) -> T:
        value: T = getattr(settings, self.name, self.default)
        return value


class Conf:
    # Names and places.
    EVENTING_NAMESPACE = Setting("")  # a prefix for every name on the broker
    EVENTING_SOURCE = Setting("urn:eventing")  # the source in CloudEvents for other programs
    EVENTING_INTEGRATION_DATABASE = Setting("default")  # where its inbox is
    EVENTING_PARTITIONS = Setting("")  # a function that decides about partitions, see eventing.operations
    # Relay and messages.
    EVENTING_DURABLE_BROKER = Setting(True)  # False for Celery's in-memory transport
    EVENTING_POLL_SECONDS = Setting(0.02)
    EVENTING_RELAY_BATCH = Setting(500)  # outbox rows of one poll
    EVENTING_MESSAGE_EVENTS = Setting(200)  # events of one message, at most
    EVENTING_MESSAGE_BYTES = Setting(256 * 1024)
    EVENTING_WRITERS = Setting(2)  # threads of a process that commit groups to one database at the same time
    # Failures.
    EVENTING_MAX_ATTEMPTS = Setting(12)  # after so many an event is a dead letter
    EVENTING_MAX_BACKOFF_SECONDS = Setting(300)
    EVENTING_DELIVERY_LIMIT = Setting(5)  # how often the broker hands out a message whose worker dies
    # How long it is known which events were handled; audits look back no further.
    EVENTING_INBOX_RETENTION_DAYS = Setting(30)
    # Back-pressure, see eventing.pressure; 0 turns each off.
    EVENTING_QUEUE_HIGH_WATER = Setting(1000)  # messages (batches of events)
    EVENTING_MAX_LAG_SECONDS = Setting(30.0)
    # How long a fan-out query waits for a database.
    EVENTING_READ_SECONDS = Setting(2.0)


conf = Conf()
