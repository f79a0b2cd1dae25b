"""Races for one order, driven many times: whoever comes first, exactly one side wins and nothing is left over.

    script/races --trials 1000

Both sides work through the same orders in the same sequence, each in a thread of its own, and start together on each
of them. What their events lead to is delivered afterwards.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import setup_databases, teardown_databases
from django.utils import timezone

from checkout import service as checkout
from eventing import store
from eventing.inline import Inline, Message, deliver_until_settled
from eventing.recorded import Recorded
from eventing.testing import publish_all
from lab.bulk import handle_all, metadata
from orders import handlers, selectors
from orders.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    PayOrder,
    PlaceOrder,
    RefundOrder,
    ShipOrder,
    StartPayment,
)
from orders.domain import OrderError, Status
from orders.events import CATEGORY, CancelReason, Check, Line, OrderCancelled, OrderPaid, OrderRefunded, OrderShipped
from orders.selectors import OrderRow
from payments import handlers as payments
from payments import selectors as payments_selectors
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
READ_SECONDS = 60  # for a thousand orders
ATTEMPTS = 10  # to pay an order, of which there are fewer
DECISIVE = (OrderPaid, OrderCancelled, OrderShipped, OrderRefunded)

_customers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    """An order to race for, and the message about its payment that is on its way, if there is one."""

    order_id: int
    due: datetime
    trial: int
    message: Message | None = None


Act = Callable[[Prize], bool | None]  # whether it has won; None if that shows later


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """`prepare` makes so many orders ready to start; `final` are the ways in which the race for one may end."""

    name: str
    prepare: Callable[[int], list[Prize]]
    sides: tuple[Act, Act]
    final: frozenset[tuple[str, ...]]
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
    for end, claimed in zip(ends(prizes), claims, strict=True):
        result.outcomes[" → ".join(end.ways) or "nothing"] += 1
        problem = judge(race, end)
        if not problem and None not in claimed and sum(map(bool, claimed)) != 1:
            problem = f"{sum(map(bool, claimed))} sides believe to have won"
        if problem:
            result.wrong.append(f"order {numbers.to_text(end.order_id)}: {problem}")
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What became of an order.

    `ways`: what decided the race, in sequence. `row`: None if there is no such order. `kept`: what was captured and not
    given back; None if there is no payment.
    """

    order_id: int
    ways: tuple[str, ...]
    row: OrderRow | None
    kept: int | None


def ends(prizes: Sequence[Prize]) -> Iterator[End]:
    """In the order of the prizes; two queries for each shard, and one for all payments."""
    by_shard: dict[str, list[int]] = defaultdict(list)
    for prize in prizes:
        by_shard[shards.alias_of(prize.order_id)].append(prize.order_id)
    histories: dict[int, list[Recorded[Any]]] = {}
    for alias, order_ids in by_shard.items():
        histories |= store.load_many(CATEGORY, order_ids, using=alias)
    with override_settings(DATABASE_READ_SECONDS=READ_SECONDS):
        rows = {row.id: row for row in selectors.several([prize.order_id for prize in prizes]).items}
    money: dict[int, list[Any]] = defaultdict(list)
    for payment in payments_selectors.recent(ATTEMPTS * len(prizes)):
        money[payment.order_id].append(payment)
    for prize in prizes:
        decided = [r.event for r in histories.get(prize.order_id, ()) if isinstance(r.event, DECISIVE)]
        yield End(
            order_id=prize.order_id,
            ways=tuple(event.TYPE.removeprefix("order.") for event in decided),
            row=rows.get(prize.order_id),
            kept=kept(money[prize.order_id]) if money[prize.order_id] else None,
        )


def kept(attempts: Sequence[Any]) -> int:
    captured = sum(one.amount for one in attempts if one.gateway_reference)
    return captured - sum(one.amount for one in attempts if one.refund_reference)


def judge(race: Race, end: End) -> str:
    """What is wrong with the order, or nothing."""
    if end.row is None or end.ways not in race.final:
        return f"it was {', then '.join(end.ways) or 'left alone'}"
    status, total = end.row.status, end.row.total
    if status != end.ways[-1]:
        return f"its row says {status} after {end.ways[-1]}"
    if end.kept is not None and end.kept != (total if status == Status.PAID else 0):
        return f"it is {status}, with {end.kept} kept of {total}"
    return ""


def deliver() -> None:
    """Deliver what is in the outboxes, and what follows from it, to those who take part in the races."""
    Inline(settings.DATABASES, skip=("integration", "inventory", "coupons", "notifications")).deliver()


# --- Orders to race for ---------------------------------------------------------------------------------------------


def confirmed(trials: int) -> list[Prize]:
    now = timezone.now()
    prizes = []
    commands: list[Command] = []
    for trial in range(trials):
        customer_id = next(_customers)
        # Each a moment of its own: orders of one bucket and millisecond may get the same number.
        order_id = numbers.new_order_id(customer_id, now - timedelta(milliseconds=trial))
        prize = Prize(order_id=order_id, due=now + TERM, trial=trial)
        line = Line(sku="RACE", name="Race", quantity=1, unit_price=PRICE)
        place = PlaceOrder(
            order_id=prize.order_id,
            customer_id=customer_id,
            currency="EUR",
            lines=(line,),
            payment_due_at=prize.due,
            at=now,
        )
        prizes.append(prize)
        commands += [place, ConfirmOrder(order_id=prize.order_id, check=Check.STOCK, at=now)]
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
            customer_id=order_id,  # only passed on to messages, which nobody gets here
            amount=PRICE,
            currency="EUR",
            token=TOKEN,
            at=now,
        )
        payments.request_payment(request, metadata(ACTOR))
    ready = []
    for message in publish_all(settings.DATABASES):
        if message.subscriber == "payments":
            for envelope in message.envelopes:
                on_its_way = Message(message.subscriber, [envelope], message.published_at)
                ready.append(replace(prizes[envelope.stream_id], message=on_its_way))
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
    order = selectors.get(prize.order_id)
    if order is None:
        return False
    try:
        checkout.pay(prize.order_id, order.customer_id, TOKEN, metadata(ACTOR), prize.due - SECOND)
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


PAID_OR_CANCELLED = frozenset({("paid",), ("cancelled",)})

RACES = (
    Race(
        name="payment against timeout",
        prepare=confirmed,
        sides=(payment, time_out),
        final=PAID_OR_CANCELLED,
    ),
    Race(
        name="payment against timeout, clock 5 min off",
        prepare=confirmed,
        sides=(payment, sweep_by_a_wrong_clock),
        final=PAID_OR_CANCELLED,
    ),
    Race(
        name="customer's cancel against payment and shipping",
        prepare=confirmed,
        sides=(
            lambda prize: wins(cancel(prize, CancelReason.CUSTOMER, timezone.now())),
            lambda prize: wins(pay(prize), ship(prize, "T1")),
        ),
        final=frozenset({("cancelled",), ("paid", "shipped")}),
    ),
    Race(
        name="two operators: ship against refund",
        prepare=paid,
        sides=(
            lambda prize: wins(ship(prize, "T1")),
            lambda prize: wins(RefundOrder(order_id=prize.order_id, at=timezone.now())),
        ),
        final=frozenset({("paid", "shipped"), ("paid", "refunded")}),
    ),
    Race(
        name="two operators: two tracking numbers",
        prepare=paid,
        sides=(lambda prize: wins(ship(prize, "T1")), lambda prize: wins(ship(prize, "T2"))),
        final=frozenset({("paid", "shipped")}),
    ),
    Race(
        name="gateway's capture against cancel",
        prepare=paying,
        sides=(capture, lambda prize: wins(cancel(prize, CancelReason.CUSTOMER, timezone.now()))),
        final=PAID_OR_CANCELLED,
    ),
    Race(
        name="request before the deadline against timeout",
        prepare=confirmed,
        sides=(request, time_out),
        final=PAID_OR_CANCELLED,
    ),
    Race(
        name="gateway's lost answer against timeout",
        prepare=paying,
        sides=(capture, time_out),
        final=frozenset({("paid",)}),
        gateway="lab.races.ForgetfulGateway",
    ),
    Race(
        name="two sweeps at once",
        prepare=confirmed,
        sides=(sweep, sweep),
        final=frozenset({("cancelled",)}),
    ),
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
    parser = argparse.ArgumentParser(prog="script/races", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="orders a race (default: 1000)")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error("there must be at least one trial")
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
