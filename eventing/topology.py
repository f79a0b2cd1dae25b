"""The exchanges and queues on the broker.

    domain.events (topic) ──<subscriber>──> quorum queue <subscriber>
    quorum queue <subscriber> ──delivery limit──> domain.dead (topic) ──> dead-letters
    integration.events (topic) ──<event type>──> queues of other programs

A namespace (tests, several installations on one broker) is a prefix of every name with `_`, which keeps a routing key
one word: `#.billing` must not match the key of another namespace.

A broker that has lost its data comes back without any of this, and any part of it can be deleted. So workers declare
it after each connect, publishers when the broker refuses a message for want of it, and a periodic task for the rest.
"""

from __future__ import annotations

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    CELERY_DELAYED_DELIVERY_EXCHANGE,
    MAX_NUMBER_OF_BITS_TO_USE,
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

from eventing import subscribers, wire
from eventing.conf import conf

TASKS = "tasks"  # the queue of background tasks that are not reactions to events


def qualified(name: str) -> str:
    """A name in the namespace of this installation."""
    return f"{conf.EVENTING_NAMESPACE}_{name}" if conf.EVENTING_NAMESPACE else name


def unqualified(name: str) -> str:
    """The name of a queue of this installation without its namespace; any other name as it is."""
    return name.removeprefix(qualified(""))


def domain_exchange() -> Exchange:
    return Exchange(qualified("domain.events"), type="topic", durable=True)


def dead_exchange() -> Exchange:
    return Exchange(qualified("domain.dead"), type="topic", durable=True)


def integration_exchange() -> Exchange:
    return Exchange(qualified("integration.events"), type="topic", durable=True)


def work_queue(name: str) -> Queue:
    """The queue of a subscriber: replicated, with a limit on how often a message may kill its worker."""
    return Queue(
        qualified(name),
        domain_exchange(),
        routing_key=qualified(name),
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": conf.EVENTING_DELIVERY_LIMIT,
            "x-dead-letter-exchange": dead_exchange().name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def dead_letter_queue() -> Queue:
    """Where the broker puts what it will not hand out again."""
    return Queue(
        qualified("dead-letters"), dead_exchange(), routing_key="#", queue_arguments={"x-queue-type": "quorum"}
    )


def work_queues() -> list[Queue]:
    return [work_queue(subscriber.name) for subscriber in subscribers.all_subscribers()] + [work_queue(TASKS)]


def delayed_names() -> list[str]:
    """The levels of delayed delivery: each is an exchange and a queue of this name."""
    return [level_name(level) for level in range(MAX_NUMBER_OF_BITS_TO_USE)]


def exchange_names() -> list[str]:
    """Every exchange that messages of this installation pass."""
    own = [exchange.name for exchange in (domain_exchange(), dead_exchange(), integration_exchange())]
    return [*own, *delayed_names(), CELERY_DELAYED_DELIVERY_EXCHANGE]


def queue_names() -> list[str]:
    """Every queue that messages of this installation pass."""
    return [dead_letter_queue().name, *(queue.name for queue in work_queues()), *delayed_names()]


def install(app: Celery) -> None:
    """Set Celery's queues, how messages are written, and what its workers do after each connect."""
    from eventing.workers import Backbone

    wire.register_serializer()
    app.steps["consumer"].add(Backbone)
    app.conf.task_queues = app.amqp.queues = work_queues()  # Celery reads the first once, and keeps the second
    app.conf.task_default_queue = qualified(TASKS)
    app.conf.task_default_exchange = domain_exchange().name
    app.conf.task_default_exchange_type = "topic"
    app.conf.task_default_routing_key = qualified(TASKS)
    app.conf.task_create_missing_queues = False


def declare(connection: Connection) -> list[str]:
    """Declare everything that publishers and workers rely on; safe to repeat. Returns the queues' names.

    The delayed-delivery exchanges come along because a message with a countdown that is published before they exist
    is refused.
    """
    channel = connection.default_channel
    queues = [dead_letter_queue(), *work_queues()]
    integration_exchange()(channel).declare()
    for queue in queues:
        queue(channel).declare()
    if conf.EVENTING_DURABLE_BROKER:  # the in-memory broker's workers keep what is delayed themselves
        declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        for queue in work_queues():
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    return [queue.name for queue in queues]


def delete(connection: Connection) -> None:
    """Remove the queues and exchanges of this namespace; tests clean up with it."""
    channel = connection.default_channel
    for queue in [dead_letter_queue(), *work_queues()]:
        queue(channel).delete()
    for exchange in (domain_exchange(), dead_exchange(), integration_exchange()):
        exchange(channel).delete()
