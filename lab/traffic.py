"""Customers who act at a rate, each in a thread of their own, and what they notice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from lab.client import UNANSWERED, Customer, GaveUp, RequestFailed
from lab.oracle import Promise

C = TypeVar("C")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One act. `seconds` until it was done, `customer` the place of who did it among the others."""

    seconds: float
    customer: int
    failure: str = ""


@dataclass(slots=True)
class Traffic(Generic[C]):
    """A context manager: meanwhile customers act at a rate in all, or one act after the other (rate 0).

    They pause while `going` is clear. At the end, acts under way come to their ends.
    """

    customers: Sequence[C]
    act: Callable[[C], object]
    rate: float = 0.0
    requests: list[Request] = field(default_factory=list)
    going: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.going.set()
        for number in range(len(self.customers)):
            thread = threading.Thread(target=self._run, args=[number], daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.going.set()
        for thread in self._threads:
            thread.join()

    @property
    def failures(self) -> list[str]:
        return [request.failure for request in self.requests if request.failure]

    def take(self) -> list[Request]:
        """What was done since the last time."""
        taken, self.requests = self.requests, []
        return taken

    def _run(self, number: int) -> None:
        while not self._over.is_set():
            self.going.wait()
            if self.rate and self._over.wait(random.expovariate(self.rate / len(self.customers))):
                return
            if not self.going.is_set():
                continue
            began, failure = time.perf_counter(), ""
            try:
                self.act(self.customers[number])
            except (RequestFailed, GaveUp, *UNANSWERED) as error:
                failure = str(error) or type(error).__name__
            except Exception as error:
                self.requests.append(Request(seconds=0, customer=number, failure=f"{type(error).__name__}: {error}"))
                raise
            self.requests.append(Request(seconds=time.perf_counter() - began, customer=number, failure=failure))


class Shopping:
    """What one customer does: places orders of some products, and pays and cancels some of them later."""

    def __init__(self, customer: Customer, skus: Sequence[str], coupon: str) -> None:
        self._customer, self._skus, self._coupon = customer, skus, coupon
        self._plans: list[tuple[Promise, Callable[[Promise], bool]]] = []

    def go_on(self) -> None:
        customer = self._customer
        promise = customer.place(
            {sku: random.randint(1, 2) for sku in random.sample(self._skus, random.randint(1, 3))},
            coupon=self._coupon if random.random() < 0.25 else None,
        )
        plan = random.choice([customer.pay, customer.pay, customer.cancel, customer.pay_and_cancel, None])
        if plan is not None:
            self._plans.append((promise, plan))
        # Ask now and then, so that some are cancelled before, some after they are confirmed.
        self._plans = [(one, ask) for one, ask in self._plans if not (random.random() < 0.5 and ask(one))]


def all_at_once(customers: Sequence[C], act: Callable[[C], T]) -> list[T]:
    """Each customer does this in a thread of their own, starting together; raises what the first of them raises."""
    start = threading.Barrier(len(customers))

    def work(customer: C) -> T:
        start.wait(timeout=60)
        return act(customer)

    with ThreadPoolExecutor(len(customers)) as threads:
        return list(threads.map(work, customers))


@contextmanager
def meanwhile(act: Callable[[], object], *, every: float) -> Iterator[None]:
    """Do something again and again, in a thread, with so many seconds between; raises at the end what it has raised."""
    over = threading.Event()

    def work() -> None:
        act()
        while not over.wait(every):
            act()

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work)
        try:
            yield
        finally:
            over.set()
    working.result()
