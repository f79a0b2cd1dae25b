"""Races for one order, driven many times: whoever comes first, exactly one side wins and nothing is left over.

Both sides work through the same orders in the same sequence, each in a thread of its own, and start together on each
of them. What their events lead to is delivered afterwards.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, islice
from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone

from checkout import service as checkout
from eventing.inline import Inline, deliver_until_settled
from eventing.testing import publish_all
from eventing.wire import Envelope, Message
from lab import command
from lab.oracle import Order
from lab.programs import questions
from lab.programs.shop import handle_all, metadata, placements
from orders import handlers
from orders.commands import CancelOrder, Command, ConfirmOrder, PayOrder, RefundOrder, ShipOrder, StartPayment
from orders.domain import OrderError
from orders.events import CancelReason, Check, OrderCancelled, OrderPaid, OrderRefunded, OrderShipped
from payments import handlers as payments
from payments.commands import RequestPayment
from payments.gateway import Captured, Declined, GatewayUnavailable, SandboxGateway
from payments.handlers import PaymentError
from sharding import numbers, shards

ACTOR = "races"
PRICE = 1_000
TOKEN = "tok_ok"  # noqa: S105  (the sandbox's word for a card)
TERM = timedelta(minutes=30)
STEP = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
SWEEP_BATCH = 5
ENDINGS = [event.TYPE for event in (OrderPaid, OrderCancelled, OrderShipped, OrderRefunded)]

_customers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    """An order to race for, and the message about its payment that is on its way, if there is one."""

    order_id: int
    customer_id: int
    due: datetime
    trial: int
    message: Message[Envelope] | None = None


Act = Callable[[Prize], bool | None]  # whether it has won; None if that shows later


@dataclass(frozen=True, slots=True)
class Race:
    """`prepare` makes so many orders ready to start; `final` are the ways in which the race for one may end.

    With `has_payments` the money is asked of a gateway; otherwise orders only get commands that say so.
    """

    name: str
    prepare: Callable[[int], list[Prize]]
    sides: tuple[Act, Act]
    final: Set[tuple[str, ...]]
    has_payments: bool = False
    gateway: str = "payments.gateway.SandboxGateway"


@dataclass(slots=True)
class Result:
    """How the orders of a race ended; `wrong` says what is wrong with which of them."""

    trials: int
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(race: Race, trials: int) -> Result:
    """Drive both sides of a race over so many orders."""
    with override_settings(PAYMENT_GATEWAY=race.gateway):
        prizes = race.prepare(trials)
        connections.close_all()  # the pool has one for each side
        barrier = threading.Barrier(2)

        def side(act: Act) -> list[bool | None]:
            won = []
            try:
                for prize in prizes:
                    barrier.wait(timeout=60)
                    won.append(act(prize))
                return won
            except BaseException:
                barrier.abort()
                raise
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as threads:
            claims = zip(*threads.map(side, race.sides), strict=True)
        deliver()
    result = Result(trials=trials)
    orders = questions.orders([prize.customer_id for prize in prizes], ENDINGS)
    for prize, claimed in zip(prizes, claims, strict=True):
        order = orders.get(prize.order_id)
        result.outcomes[" → ".join(order.endings).replace("order.", "") if order and order.endings else "nothing"] += 1
        problem = judge(race, order)
        if not problem and None not in claimed and sum(map(bool, claimed)) != 1:
            problem = f"{sum(map(bool, claimed))} sides believe to have won"
        if problem:
            result.wrong.append(f"order {numbers.to_text(prize.order_id)}: {problem}")
    return result


def judge(race: Race, order: Order | None) -> str:
    """What is wrong with the order, or nothing."""
    ways = tuple(ending.removeprefix("order.") for ending in order.endings) if order else ()
    if order is None or ways not in race.final:
        return f"it was {', then '.join(ways) or 'left alone'}"
    if order.status != ways[-1]:
        return f"its row says {order.status} after {ways[-1]}"
    if race.has_payments and not order.money_agrees():
        return f"it is {order.status}, with {order.captured - order.refunded} kept of {order.total}"
    return ""


def deliver() -> None:
    """Deliver what is in the outboxes, and what follows from it, to those who take part in the races."""
    Inline(settings.DATABASES, skip=("integration", "inventory", "coupons", "notifications")).deliver()


# --- Orders to race for ---------------------------------------------------------------------------------------------


def confirmed(trials: int) -> list[Prize]:
    due = timezone.now() + TERM
    commands: list[Command] = []
    prizes = []
    for trial, place in enumerate(placements(islice(_customers, trials), ["RACE"], due, price=PRICE)):
        prizes.append(Prize(order_id=place.order_id, customer_id=place.customer_id, due=due, trial=trial))
        commands += [place, ConfirmOrder(order_id=place.order_id, check=Check.STOCK, at=place.at)]
    handle_all(commands, actor=ACTOR)
    deliver()
    return prizes


def paid(trials: int) -> list[Prize]:
    prizes = confirmed(trials)
    handle_all((pay(prize) for prize in prizes), actor=ACTOR)
    deliver()
    return prizes


def paying(trials: int) -> list[Prize]:
    """Confirmed orders whose payment is on its way to the gateway."""
    prizes = {prize.order_id: prize for prize in confirmed(trials)}
    now = timezone.now()
    payment_ids = {order_id: str(uuid4()) for order_id in prizes}
    handle_all(
        (StartPayment(order_id=order_id, payment_id=name, at=now) for order_id, name in payment_ids.items()),
        actor=ACTOR,
    )
    for order_id, payment_id in payment_ids.items():
        request = RequestPayment(
            order_id=order_id,
            payment_id=payment_id,
            customer_id=prizes[order_id].customer_id,
            amount=PRICE,
            currency="EUR",
            token=TOKEN,
            at=now,
        )
        payments.request_payment(request, metadata(ACTOR))
    ready = []
    for message in publish_all(settings.DATABASES):
        if message.subscriber == "payments":
            for envelope in message.events:
                alone = message.again([envelope], attempts=0)
                ready.append(replace(prizes[envelope.stream_id], message=alone))
    return ready


# --- What the sides do ----------------------------------------------------------------------------------------------


def wins(*commands: Command) -> bool:
    """Whether the order does something about each of the commands, given one after the other."""
    try:
        return all(handlers.handle(command, metadata(ACTOR)) for command in commands)
    except OrderError:
        return False


def pay(prize: Prize) -> PayOrder:
    payment_id = f"race-{prize.trial}"
    return PayOrder(
        order_id=prize.order_id,
        payment_id=payment_id,
        amount=PRICE,
        currency="EUR",
        at=prize.due - timedelta(seconds=1),
    )


def cancel(prize: Prize, reason: CancelReason, at: datetime) -> CancelOrder:
    return CancelOrder(order_id=prize.order_id, reason=reason, at=at)


def ship(prize: Prize, tracking: str) -> ShipOrder:
    return ShipOrder(order_id=prize.order_id, tracking=tracking, at=timezone.now())


def payment(prize: Prize) -> bool:
    return wins(pay(prize))


def request(prize: Prize) -> bool:
    """The customer pays a second before the deadline; the money is captured long after it."""
    try:
        checkout.pay(prize.order_id, prize.customer_id, TOKEN, metadata(ACTOR), prize.due - SECOND)
    except (OrderError, PaymentError):
        return False
    return True


def time_out(prize: Prize) -> bool:
    return wins(cancel(prize, CancelReason.PAYMENT_TIMEOUT, prize.due))


def sweep(prize: Prize) -> None:
    """The clock's task, on the order's shard; it takes whatever is overdue there."""
    handlers.cancel_overdue(prize.due, shards.alias_of(prize.order_id), SWEEP_BATCH)


def sweep_by_a_wrong_clock(prize: Prize) -> bool:
    """The sweep at the deadline, on a machine whose clock is five minutes fast or slow."""
    now = prize.due + (STEP if prize.trial % 2 else -STEP)
    return wins(cancel(prize, CancelReason.PAYMENT_TIMEOUT, now))


def capture(prize: Prize) -> None:
    """What the worker of payments does with the message; an answer that was lost is asked for again."""
    if prize.message is not None:
        deliver_until_settled([prize.message])


class ForgetfulGateway(SandboxGateway):
    """Takes the money, and the first answer about it gets lost on the way. Only one thread may ask it."""

    lost: ClassVar[set[str]] = set()

    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined:
        answer = super().capture(idempotency_key=idempotency_key, token=token, amount=amount, currency=currency)
        if idempotency_key not in self.lost:
            self.lost.add(idempotency_key)
            raise GatewayUnavailable("the answer was lost")
        return answer


def cancel_as_customer(prize: Prize) -> bool:
    return wins(cancel(prize, CancelReason.CUSTOMER, timezone.now()))


PAID, CANCELLED, SHIPPED, REFUNDED = ("paid",), ("cancelled",), ("paid", "shipped"), ("paid", "refunded")

RACES = (
    Race("payment against timeout", confirmed, (payment, time_out), {PAID, CANCELLED}),
    Race("payment against timeout, clock 5 min off", confirmed, (payment, sweep_by_a_wrong_clock), {PAID, CANCELLED}),
    Race(
        "customer's cancel against payment and shipping",
        confirmed,
        (cancel_as_customer, lambda prize: wins(pay(prize), ship(prize, "T1"))),
        {CANCELLED, SHIPPED},
    ),
    Race(
        "two operators: ship against refund",
        paid,
        (
            lambda prize: wins(ship(prize, "T1")),
            lambda prize: wins(RefundOrder(order_id=prize.order_id, at=timezone.now())),
        ),
        {SHIPPED, REFUNDED},
    ),
    Race(
        "two operators: two tracking numbers",
        paid,
        (lambda prize: wins(ship(prize, "T1")), lambda prize: wins(ship(prize, "T2"))),
        {SHIPPED},
    ),
    Race(
        "gateway's capture against cancel", paying, (capture, cancel_as_customer), {PAID, CANCELLED}, has_payments=True
    ),
    Race(
        "request before the deadline against timeout",
        confirmed,
        (request, time_out),
        {PAID, CANCELLED},
        has_payments=True,
    ),
    Race(
        "gateway's lost answer against timeout",
        paying,
        (capture, time_out),
        {PAID},
        has_payments=True,
        gateway="lab.races.ForgetfulGateway",
    ),
    Race("two sweeps at once", confirmed, (sweep, sweep), {CANCELLED}),
)


@contextmanager
def databases() -> Iterator[None]:
    """Empty databases for the races, named as those of tests are, which are removed afterwards."""
    names = setup_databases(verbosity=0, interactive=False)
    try:
        shards.install()
        yield
    finally:
        connections.close_all()
        teardown_databases(names, verbosity=0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("races", __doc__, json=False)
    parser.add_argument("--trials", type=command.number(int, 1), default=1000, help="orders a race (default: 1000)")
    options = parser.parse_args(arguments)
    width = max(len(race.name) for race in RACES)
    wrong: list[str] = []
    with databases():
        print(f"{'race':{width}}  trials  wrong  how they ended")
        for race in RACES:
            result = run(race, options.trials)
            ended = ", ".join(f"{number} {way}" for way, number in result.outcomes.most_common())
            print(f"{race.name:{width}}  {result.trials:6}  {len(result.wrong):5}  {ended}", flush=True)
            wrong += [f"{race.name}: {problem}" for problem in result.wrong]
    for problem in wrong[:20]:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0
