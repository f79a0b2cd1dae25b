"""What strangers send becomes no unbounded key, log line or entry: paths, queries, headers, cookies."""

from __future__ import annotations

import logging
import resource
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.conf import settings
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client

from caching.two_level import MAX_NEGATIVES, TwoLevelCache, bounded
from config.edge import Edge
from config.responses import cached
from eventing.models import Event
from sharding import shards
from tests.integration.shop_api import Api, stock_the_shop

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

REQUESTS = 600
LONG = "x" * 60_000


def console(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are logged, as the console gets them."""
    from logging.config import DictConfigurator

    written: list[str] = []
    formatters: Any = settings.LOGGING["formatters"]
    formatter: Any = DictConfigurator({"version": 1}).configure_custom(dict(formatters["structlog"]))  # type: ignore[no-untyped-call]

    class Console(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(formatter.format(record))

    monkeypatch.setattr(logging.getLogger(), "handlers", [Console()])  # pytest's would keep the records
    return written


def get(path: str, query: str = "") -> int:
    """A request as it comes from a server, with the cache of answers in front."""
    status: list[str] = []
    environ: dict[str, Any] = Client()._base_environ(PATH_INFO=path, QUERY_STRING=query, HTTP_HOST="localhost")
    chunks = Edge(cached(WSGIHandler()))(environ, lambda line, headers, exc_info=None: status.append(line))
    b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return int(status[0].split()[0])


def grown() -> int:
    """The most memory that this process has ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def test_many_long_paths_leave_neither_memory_nor_long_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = console(monkeypatch)
    for number in range(100):  # until everything is loaded
        get(f"/products/{number}/")
    before = grown()
    lines.clear()
    for number in range(REQUESTS):
        name = f"{number}{LONG}"
        assert get(f"/products/{name}/") == 404
        assert get(f"/api/v1/products/{name}") == 404
    assert grown() - before < 30  # their paths alone are 72 MB
    assert max(map(len, lines)) < 3000


@pytest.mark.parametrize(
    "path",
    [
        "/products/a b/",
        "/products/%00/",
        f"/products/{LONG}/",
        f"/orders/{LONG}/",
        f"/pictures/{LONG}.svg",
        "/orders/x/",
    ],
)
def test_what_cannot_be_an_identifier_is_no_address(path: str) -> None:
    assert Client().get(path).status_code == 404


def test_keys_are_short_and_a_key_is_its_own_form() -> None:
    for key in ("BOOK", LONG, "a b", "é", "\ud800", "#" * 101):
        assert len(bounded(key)) <= 100
        assert bounded(bounded(key)) == bounded(key)
    assert bounded(f"{LONG}1") != bounded(f"{LONG}2")


def test_things_that_do_not_exist_do_not_fill_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: TwoLevelCache[int] = TwoLevelCache(f"nothing-{uuid4().hex}", int, seconds=lambda: 5.0)
    written: list[str] = []
    store = cache.set

    def noted(key: str, *args: Any, **kwargs: Any) -> None:
        written.append(key)
        store(key, *args, **kwargs)

    monkeypatch.setattr("caching.backend.cache", _Noting(noted))
    for number in range(MAX_NEGATIVES + 50):
        assert nothing.get(str(number), lambda: None) is None
    assert len(written) == MAX_NEGATIVES
    assert nothing.get("there", lambda: 1) == 1
    assert len(written) == MAX_NEGATIVES + 1


class _Noting:
    def __init__(self, noted: Any) -> None:
        self.set = noted

    def __getattr__(self, name: str) -> Any:
        return getattr(cache, name)


def test_no_id_that_a_client_gives_its_request_is_kept_in_events() -> None:
    stock_the_shop()
    api = Api.of("ann")
    body = {"lines": [{"sku": "BOOK", "quantity": 1}]}
    headers = {"X_Request_ID": LONG, "X_Correlation_ID": LONG}
    assert api.post("/orders", body, Idempotency_Key=uuid4().hex, **headers).status_code == 202
    kept = [
        event.metadata["correlation_id"] for alias in shards.aliases() for event in Event.objects.using(alias).all()
    ]
    assert len(kept) == 1
    assert len(kept[0]) <= 36


@pytest.mark.parametrize("header", ["User-Agent", "Accept-Language", "Referer", "X-Forwarded-For", "Accept-Encoding"])
def test_no_header_makes_a_long_line(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    lines = console(monkeypatch)
    assert Client().get("/nowhere/", headers={header: LONG}).status_code == 404
    assert max(map(len, lines)) < 3000


@pytest.mark.parametrize("key", [LONG, '"\\000\\000\\000\\000\\000\\000\\000\\000"', "é" * 32, "' OR 1=1 --"])
def test_what_cannot_be_the_key_of_a_session_is_none(key: str) -> None:
    assert Client(headers={"Cookie": f"sessionid={key}"}).get("/cart/").status_code == 200


def test_compose_bounds_the_log_of_every_service() -> None:
    services = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text())["services"]
    assert all(service["logging"]["options"] == {"max-size": "20m", "max-file": "5"} for service in services.values())
