"""Faults of processes that are alive and do nothing. Each kind is frozen over the deadline of orders that are paid."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from lab.compose import read_services
from lab.faults.lab import Lab
from lab.faults.ledger import Ledger, Promise
from lab.faults.staging import FAULTS, WAIT_SECONDS, Fault, FaultFailed, Stage, Staging
from lab.faults.traffic import SKUS, Customer, new_customers
from lab.stack import ROOT

ORDERS = 3
TRIES = 5  # on a busy machine an order may be due before it can be paid
LONGEST_TERM = 12.0

PLACE = """
from datetime import timedelta
from eventing.recorded import Metadata
from checkout import service as checkout
placement = checkout.place({customer}, [({sku!r}, 1)], None, key={key!r}, metadata=Metadata(correlation_id={key!r}),
                           payment_term=timedelta(seconds={term}))
answer = placement.order_id, sum(line.quantity * line.unit_price for line in placement.placed.lines)
"""


def place_due_soon(lab: Lab, customer: Customer, term: float) -> Promise:
    """An order that the clock cancels after `term` seconds, unless it is paid."""
    order_id, total = lab.shell.run(
        PLACE.format(customer=customer.customer_id, sku=SKUS[0], key=uuid4().hex, term=term)
    )
    promise = Promise(
        order_id=order_id,
        customer_id=customer.customer_id,
        items={SKUS[0]: 1},
        coupon=None,
        total=total,
        may_expire=True,
    )
    customer.ledger.accept(promise)
    return promise


def pay_all(customer: Customer, promises: Sequence[Promise]) -> bool:
    """Whether any of the payments was accepted."""
    return sum(customer.pay(promise) for promise in promises) > 0


def freezing(service: str) -> Stage:
    """Orders are paid seconds before their deadline, and the service is frozen until long after it."""

    def stage(lab: Lab, ledger: Ledger) -> Staging:
        [customer] = new_customers(lab, ledger, 1)
        for _ in range(TRIES):
            term = min(LONGEST_TERM, lab.freeze_seconds / 2)
            promises = [place_due_soon(lab, customer, term) for _ in range(ORDERS)]
            for promise in promises:
                customer.wait_for(promise, "confirmed", "cancelled", seconds=WAIT_SECONDS)
            paid = service == "web" and pay_all(customer, promises)  # nobody can pay while it is frozen
            with lab.frozen(service):
                if paid or (service != "web" and pay_all(customer, promises)):
                    yield lab.freeze_seconds
                    return
        raise FaultFailed(f"{TRIES} times no order could be paid within {term:.0f} s")

    return stage


def add_to_catalogue() -> None:
    for service in read_services(ROOT / "docker-compose.yml").values():
        if not service.one_shot:
            name = f"{service.name}-frozen"
            summary = f"{service.name} is frozen for 40 s, over the deadline of orders that are being paid"
            FAULTS[name] = Fault(name=name, summary=summary, stage=freezing(service.name))


add_to_catalogue()
