"""A program that knows nothing of this project but an exchange, and reads its events with plain AMQP."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import pytest

from tests.live import Live
from tests.waiting import wait_until

pytestmark = pytest.mark.services


@pytest.fixture
def channel() -> Iterator[amqp.Channel]:
    url = urlsplit(os.environ["CELERY_BROKER_URL"])
    with amqp.Connection(
        host=f"{url.hostname}:{url.port or 5672}",
        userid=unquote(url.username or "guest"),
        password=unquote(url.password or "guest"),
        virtual_host=unquote(url.path[1:]) or "/",
    ) as connection:
        yield connection.channel()


def test_a_foreign_program_gets_each_event_of_an_order_once_as_a_cloud_event(live: Live, channel: amqp.Channel) -> None:
    live.product("FOREIGN", 3)
    queue, _, _ = channel.queue_declare(exclusive=True)
    channel.queue_bind(queue, f"{live.env['EVENTING_NAMESPACE']}_integration.events", routing_key="order.*")
    client = live.client()
    number = client.place(("FOREIGN", 2))
    client.wait_for(number, "confirmed")
    client.pay(number)
    client.wait_for(number, "paid")
    history = client.events(number)
    assert {"order.placed", "order.confirmed", "order.paid"} <= {event["type"] for event in history}

    received: list[tuple[amqp.Message, dict[str, Any]]] = []

    def take() -> list[str]:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            event = json.loads(message.body)
            if event["subject"] == f"order-{number}":  # other orders may come of age meanwhile
                received.append((message, event))
        return [event["id"] for _, event in received]

    wait_until(lambda: len(take()) >= len(history), seconds=20)
    assert sorted(take()) == [f"order-{number}@{version}" for version, _ in enumerate(history, start=1)]

    by_version = {event["sequence"]: (message, event) for message, event in received}
    for version, told in enumerate(history, start=1):
        message, event = by_version[version]
        assert message.properties["content_type"] == "application/cloudevents+json"
        assert message.delivery_info["routing_key"] == told["type"]
        assert event["specversion"] == "1.0"
        assert event["type"] == told["type"]
        assert event["source"]
        assert event["datacontenttype"] == "application/json"
        assert event["dataschema"].rpartition("/")[0] == f"{event['source']}/{told['type']}"
        assert event["correlationid"] == told["correlation_id"]
        assert datetime.fromisoformat(event["time"]) == datetime.fromisoformat(told["recorded_at"])
    placed = by_version[1][1]["data"]
    assert [(line["sku"], line["quantity"]) for line in placed["lines"]] == [("FOREIGN", 2)]
