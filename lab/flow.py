"""Customers who order at a rate, for as long as it takes to measure what they notice."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.client import Client, RequestFailed

# Customers with tokens, one in each of these buckets.
NEW_CUSTOMERS = """
from django.contrib.auth.models import User
from django.db.models import Max
from django.utils import timezone
from api import tokens
last = User.objects.aggregate(last=Max("pk"))["last"] or 0
answer = []
for number, bucket in enumerate({buckets!r}, start=1):
    customer_id = (last // 128 + number) * 128 + bucket
    User.objects.create(pk=customer_id, username=f"moves-{{customer_id}}")
    answer.append(tokens.issue(customer_id, timezone.now()))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One placement. `seconds` until its answer, `customer` the place of its client among the others."""

    seconds: float
    customer: int
    failure: str = ""


@dataclass(slots=True)
class Flow:
    """Customers who order at a rate, or as fast as they get answers (rate 0), while `going` is set."""

    clients: Sequence[Client]
    sku: str
    rate: float = 0.0
    requests: list[Request] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    going: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Flow]:
        threads = [
            threading.Thread(target=self._order, args=[number], daemon=True) for number in range(len(self.clients))
        ]
        for thread in threads:
            thread.start()
        self.going.set()
        try:
            yield self
        finally:
            self._stop.set()
            self.going.set()
            for thread in threads:
                thread.join()

    def _order(self, number: int) -> None:
        client = self.clients[number]
        while not self._stop.is_set():
            self.going.wait()
            if self.rate and self._stop.wait(random.expovariate(self.rate / len(self.clients))):
                return
            if not self.going.is_set():
                continue
            began, failure = time.perf_counter(), ""
            try:
                self.placed.append(client.place((self.sku, 1)))
            except (RequestFailed, OSError, http.client.HTTPException) as error:
                failure = str(error) or type(error).__name__
            self.requests.append(Request(seconds=time.perf_counter() - began, customer=number, failure=failure))

    def take(self) -> list[Request]:
        """What was asked since the last time."""
        taken, self.requests = self.requests, []
        return taken
