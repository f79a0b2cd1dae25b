"""What the processes of a running system write: JSON, under the id of the request that set it off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import UUID

import pytest

from tests.live import Live
from tests.waiting import wait_until

pytestmark = pytest.mark.services


def lines(live: Live, service: str) -> Iterator[dict[str, Any]]:
    """What a service has logged so far; what its log begins with may come from before Django was there."""
    for line in (live.processes.log_dir / f"{service}.log").read_text().splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def test_web_logs_json_under_the_id_of_the_request(live: Live) -> None:
    with pytest.raises(HTTPError) as missing:
        urlopen(f"{live.url}/products/NOWHERE/", timeout=10)  # noqa: S310  (our own http URL)
    assert missing.value.code == HTTPStatus.NOT_FOUND

    def ids(name: str) -> set[str]:
        return {line[name] for line in lines(live, "web") if "/products/NOWHERE/" in str(line.get("request"))}

    wait_until(lambda: bool(ids("request_id")))
    assert all(UUID(request_id) for request_id in ids("request_id"))
    assert ids("correlation_id") == ids("request_id")


def test_relay_and_workers_log_json_under_the_id_of_the_request_that_placed_the_order(live: Live) -> None:
    live.product("LOGS", 1)
    client = live.client()
    number = client.place(("LOGS", 1))
    client.wait_for(number, "confirmed")
    [request_id] = {event["correlation_id"] for event in client.events(number)}

    for service in ("relay", "worker-inventory", "worker-orders"):
        wait_until(lambda service=service: under(live, service, request_id))  # type: ignore[misc]


def under(live: Live, service: str, request_id: str) -> bool:
    """Whether there is a line under this id; one about events of several requests has all of their ids."""
    return any(
        request_id in line.get("request_id", "") and request_id in line.get("correlation_id", "")
        for line in lines(live, service)
    )
