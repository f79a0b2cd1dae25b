"""Payments: captures, refunds and closed accounts, whatever comes first and however often."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from caching.breakers import Breaker
from eventing import store, subscribers
from eventing.models import DeadLetter
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.testing import deliver_shuffled, drain
from orders.events import CATEGORY as ORDER
from orders.events import CancelReason, OrderCancelled, OrderRefunded, OrderRejected, RejectReason
from payments import gateway, handlers, selectors
from payments.commands import RequestPayment
from payments.events import (
    CATEGORY,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from payments.gateway import Captured, Declined, GatewayRefused, GatewayUnavailable, Refunded, SandboxGateway
from payments.models import Account, Payment, SandboxCharge
from payments.selectors import PaymentState, Progress
from sharding import numbers
from sharding.router import database_of
from tests.integration.parallel import at_once

pytestmark = pytest.mark.django_db(databases="__all__")
on_several_connections = pytest.mark.django_db(databases="__all__", transaction=True)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CUSTOMER = 7
OK = "tok_ok"
AMOUNT = 2599
METADATA = Metadata(correlation_id="test")


@pytest.fixture
def order_id() -> int:
    return numbers.new_order_id(CUSTOMER, NOW)


def pay(order_id: int, token: str = OK, at: datetime = NOW) -> str:
    command = RequestPayment(
        order_id=order_id,
        payment_id=str(uuid4()),
        customer_id=CUSTOMER,
        amount=AMOUNT,
        currency="EUR",
        token=token,
        at=at,
    )
    handlers.request_payment(command, METADATA)
    return command.payment_id


def happens(order_id: int, event: Any) -> None:
    """The order ends; payments hears of it with the next delivery."""
    with transaction.atomic(using="default"):
        write = NewEvents(stream_id=order_id, expected_version=0, events=[event], metadata=METADATA)
        store.append(ORDER, [write], using="default")


def close(*order_ids: int) -> None:
    alias = database_of("payments")
    with transaction.atomic(using=alias):
        handlers.close_accounts(
            [
                handlers.Closing(order_id=order_id, customer_id=CUSTOMER, reason="order_cancelled", metadata=METADATA)
                for order_id in order_ids
            ]
        )


CANCELLED = OrderCancelled(customer_id=CUSTOMER, reason=CancelReason.PAYMENT_TIMEOUT, at=NOW)
REJECTED = OrderRejected(customer_id=CUSTOMER, reason=RejectReason.OUT_OF_STOCK, short=(), detail="", at=NOW)
REFUNDED = OrderRefunded(customer_id=CUSTOMER, payment_id="p", amount=AMOUNT, currency="EUR", at=NOW)


def others() -> set[str]:
    """All subscribers but the one under test."""
    return {subscriber.name for subscriber in subscribers.all_subscribers()} - {"payments"}


def settle() -> None:
    drain(skip=others())


def stream(order_id: int) -> list[Recorded[Any]]:
    return store.load(CATEGORY, order_id, using=database_of("payments"))


def happened(order_id: int) -> list[type]:
    return [type(recorded.event) for recorded in stream(order_id)]


def moved(order_id: int) -> tuple[int, int]:
    """How much the gateway took for an order, and gave back."""
    payments = [str(payment.id) for payment in Payment.objects.filter(order_id=order_id)]
    charges = SandboxCharge.objects.filter(
        key__in=[f"{kind}-{payment}" for kind in ("capture", "refund") for payment in payments]
    )
    return (
        sum(charge.amount for charge in charges if charge.result == SandboxCharge.Result.CAPTURED),
        sum(charge.amount for charge in charges if charge.result == SandboxCharge.Result.REFUNDED),
    )


def snapshot() -> list[list[Any]]:
    """Everything that payments has written, as far as it must not change."""
    return [
        list(Account.objects.order_by("pk").values()),
        list(Payment.objects.order_by("pk").values()),
        list(SandboxCharge.objects.order_by("pk").values()),
    ]


def test_a_payment_is_captured_and_announced(order_id: int) -> None:
    payment_id = pay(order_id)
    assert selectors.state(order_id).progress is Progress.IN_PROGRESS

    settle()

    requested, captured = stream(order_id)
    assert requested.event == PaymentRequested(
        payment_id=payment_id, customer_id=CUSTOMER, amount=AMOUNT, currency="EUR", at=NOW
    )
    assert captured.event == PaymentCaptured(
        payment_id=payment_id, customer_id=CUSTOMER, amount=AMOUNT, currency="EUR", at=captured.event.at
    )
    assert captured.metadata == Metadata(correlation_id="test", causation_id=requested.id, actor="payments")
    assert selectors.state(order_id) == PaymentState(
        progress=Progress.CAPTURED, payment_id=payment_id, amount=AMOUNT, currency="EUR"
    )
    assert Account.objects.values_list("version", "captured_total", "refunded_total").get() == (2, AMOUNT, 0)
    assert moved(order_id) == (AMOUNT, 0)


@pytest.mark.parametrize(
    "token, reason, message",
    [
        ("tok_declined", "card_declined", "The bank declined the payment."),
        ("tok_unheard_of", "unknown_token", "The payment method is not known."),
    ],
)
def test_a_declined_payment_leaves_the_order_payable(order_id: int, token: str, reason: str, message: str) -> None:
    declined_id = pay(order_id, token)
    settle()
    assert selectors.state(order_id) == PaymentState(
        progress=Progress.DECLINED,
        payment_id=declined_id,
        amount=AMOUNT,
        currency="EUR",
        reason=reason,
        message=message,
    )
    assert moved(order_id) == (0, 0)

    paid_id = pay(order_id)
    settle()

    assert happened(order_id) == [PaymentRequested, PaymentDeclined, PaymentRequested, PaymentCaptured]
    assert [(str(payment.id), payment.attempt, payment.status) for payment in selectors.payments_of(order_id)] == [
        (declined_id, 1, "declined"),
        (paid_id, 2, "captured"),
    ]
    assert moved(order_id) == (AMOUNT, 0)


def test_an_order_without_payments_has_no_state(order_id: int) -> None:
    assert selectors.state(order_id) == PaymentState(progress=Progress.NONE)
    assert selectors.payments_of(order_id) == []


def test_a_slow_gateway_is_waited_for(order_id: int) -> None:
    pay(order_id, "tok_slow")
    settle()
    assert happened(order_id) == [PaymentRequested, PaymentCaptured]


def test_a_gateway_that_fails_first_is_asked_again_and_takes_the_money_once(order_id: int) -> None:
    pay(order_id, "tok_error_then_ok")
    settle()
    assert happened(order_id) == [PaymentRequested, PaymentCaptured]
    assert moved(order_id) == (AMOUNT, 0)
    assert SandboxCharge.objects.get().calls == 2


def test_money_taken_in_a_call_whose_process_died_is_not_taken_again(order_id: int) -> None:
    pay(order_id)
    handlers.capture(stream(order_id)[0])  # what it returns is never run

    settle()

    assert happened(order_id) == [PaymentRequested, PaymentCaptured]
    assert moved(order_id) == (AMOUNT, 0)
    assert SandboxCharge.objects.get().calls == 2


def test_money_taken_in_a_call_whose_process_died_goes_back_when_the_order_was_cancelled(order_id: int) -> None:
    pay(order_id)
    handlers.capture(stream(order_id)[0])
    close(order_id)

    settle()

    assert happened(order_id) == [PaymentRequested, PaymentCaptured, RefundRequested, PaymentRefunded]
    assert moved(order_id) == (AMOUNT, AMOUNT)


class AbsentGateway:
    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined:
        raise GatewayUnavailable("nobody there")

    def refund(self, *, idempotency_key: str, reference: str, amount: int, currency: str) -> Refunded:
        raise GatewayUnavailable("nobody there")


def test_a_gateway_that_stays_away_ends_as_a_dead_letter_that_can_be_redriven(order_id: int, settings: Any) -> None:
    settings.PAYMENT_GATEWAY = f"{__name__}.AbsentGateway"
    pay(order_id)

    settle()

    letter = DeadLetter.objects.get()
    assert (letter.subscriber, letter.event_id, letter.attempts) == (
        "payments",
        stream(order_id)[0].id,
        settings.EVENTING_MAX_ATTEMPTS,
    )
    assert selectors.state(order_id).progress is Progress.IN_PROGRESS


def test_a_second_payment_is_refused_while_one_is_in_progress(order_id: int) -> None:
    pay(order_id)
    before = snapshot()
    with pytest.raises(handlers.PaymentInProgress):
        pay(order_id)
    assert snapshot() == before
    assert happened(order_id) == [PaymentRequested]


def test_a_paid_order_is_not_paid_again(order_id: int) -> None:
    pay(order_id)
    settle()
    before = snapshot()
    with pytest.raises(handlers.AlreadyPaid):
        pay(order_id)
    assert snapshot() == before
    assert happened(order_id) == [PaymentRequested, PaymentCaptured]


@pytest.mark.parametrize("final", [CANCELLED, REJECTED, REFUNDED])
def test_an_order_that_came_to_nothing_is_not_paid(order_id: int, final: Any) -> None:
    happens(order_id, final)
    settle()
    before = snapshot()
    with pytest.raises(handlers.OrderClosed):
        pay(order_id)
    assert snapshot() == before
    assert happened(order_id) == []


@pytest.mark.parametrize("token", ["", "   ", "t" * 101, "tok\x00ok", "tok\nok", "tok\ud800"])
def test_an_invalid_token_is_refused(order_id: int, token: str) -> None:
    with pytest.raises(handlers.InvalidPaymentToken):
        pay(order_id, token)
    assert snapshot() == [[], [], []]
    assert happened(order_id) == []


@pytest.mark.parametrize(
    "error, code",
    [
        (handlers.PaymentInProgress, "payment_in_progress"),
        (handlers.AlreadyPaid, "already_paid"),
        (handlers.OrderClosed, "order_closed"),
        (handlers.InvalidPaymentToken, "invalid_payment_token"),
    ],
)
def test_refusals_have_a_stable_code_and_a_sentence_for_people(error: type[handlers.PaymentError], code: str) -> None:
    assert error.code == error().code == code
    assert str(error()) == error.__doc__


@pytest.mark.parametrize("final", [CANCELLED, REJECTED, REFUNDED])
def test_captured_money_goes_back_when_the_order_comes_to_nothing(order_id: int, final: Any) -> None:
    payment_id = pay(order_id)
    settle()
    happens(order_id, final)

    settle()

    assert happened(order_id) == [PaymentRequested, PaymentCaptured, RefundRequested, PaymentRefunded]
    assert stream(order_id)[2].event == RefundRequested(
        payment_id=payment_id,
        customer_id=CUSTOMER,
        amount=AMOUNT,
        currency="EUR",
        reason=final.TYPE.replace(".", "_"),
        at=stream(order_id)[2].event.at,
    )
    assert selectors.state(order_id).progress is Progress.REFUNDED
    assert Account.objects.values_list("captured_total", "refunded_total").get() == (AMOUNT, AMOUNT)
    assert moved(order_id) == (AMOUNT, AMOUNT)


def test_a_refund_is_asked_for_in_the_append_that_captures_for_a_closed_account(order_id: int) -> None:
    pay(order_id)
    close(order_id)
    write_down = handlers.capture(stream(order_id)[0])

    with transaction.atomic(using=database_of("payments")):
        write_down()

    _, captured, refund = stream(order_id)
    assert (type(captured.event), type(refund.event)) == (PaymentCaptured, RefundRequested)
    assert captured.recorded_at == refund.recorded_at
    assert selectors.state(order_id).progress is Progress.REFUNDING


def test_a_refund_whose_gateway_fails_first_is_made_once(order_id: int) -> None:
    pay(order_id, "tok_error_then_ok")
    settle()
    close(order_id)

    settle()

    assert happened(order_id)[2:] == [RefundRequested, PaymentRefunded]
    assert moved(order_id) == (AMOUNT, AMOUNT)
    assert SandboxCharge.objects.get(kind=SandboxCharge.Kind.REFUND).calls == 2


def test_a_declined_payment_of_a_cancelled_order_needs_no_refund(order_id: int) -> None:
    pay(order_id, "tok_declined")
    close(order_id)
    settle()
    assert happened(order_id) == [PaymentRequested, PaymentDeclined]
    assert moved(order_id) == (0, 0)


def test_closing_twice_refunds_once(order_id: int) -> None:
    pay(order_id)
    settle()
    close(order_id)
    close(order_id)
    settle()
    close(order_id)
    settle()
    assert happened(order_id) == [PaymentRequested, PaymentCaptured, RefundRequested, PaymentRefunded]


def test_closing_an_unheard_of_order_leaves_a_tombstone_and_no_event(order_id: int) -> None:
    happens(order_id, CANCELLED)
    settle()
    assert Account.objects.values_list("order_id", "closed", "closed_reason", "version").get() == (
        order_id,
        True,
        "order_cancelled",
        0,
    )
    assert happened(order_id) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("token", ["tok_ok", "tok_error_then_ok", "tok_declined"])
def test_everything_delivered_twice_and_shuffled_ends_in_the_same_state(
    seed: int, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without pauses between the attempts an open circuit would use them all up.
    monkeypatch.setattr(gateway, "BREAKER", Breaker("patient", failures=1_000, seconds=1, counted=GatewayUnavailable))
    order_ids = [numbers.new_order_id(CUSTOMER, NOW + timedelta(seconds=second)) for second in range(6)]
    for order_id in order_ids:
        pay(order_id, token)
    for order_id in order_ids[::2]:
        happens(order_id, CANCELLED)

    deliver_shuffled(random.Random(seed), skip=others())

    assert not DeadLetter.objects.exists()
    for number, order_id in enumerate(order_ids):
        cancelled = number % 2 == 0
        recorded = stream(order_id)
        assert [item.version for item in recorded] == list(range(1, len(recorded) + 1))
        if token == "tok_declined":
            assert happened(order_id) == [PaymentRequested, PaymentDeclined]
            assert moved(order_id) == (0, 0)
        elif cancelled:
            assert happened(order_id) == [PaymentRequested, PaymentCaptured, RefundRequested, PaymentRefunded]
            assert moved(order_id) == (AMOUNT, AMOUNT)
        else:
            assert happened(order_id) == [PaymentRequested, PaymentCaptured]
            assert moved(order_id) == (AMOUNT, 0)
    assert not Account.objects.exclude(refunded_total__in=[0, F("captured_total")]).exists()


def test_many_accounts_are_closed_in_a_constant_number_of_statements() -> None:
    def statements(count: int, at: datetime) -> int:
        order_ids = [numbers.new_order_id(CUSTOMER, at + timedelta(seconds=second)) for second in range(count)]
        for order_id in order_ids:
            pay(order_id)
        settle()
        with CaptureQueriesContext(connections[database_of("payments")]) as queries:
            close(*order_ids)
        return len(queries)

    assert statements(20, NOW + timedelta(days=1)) == statements(2, NOW)


def test_the_database_refuses_a_second_payment_and_a_refund_of_more_than_was_captured(order_id: int) -> None:
    pay(order_id)
    with pytest.raises(IntegrityError), transaction.atomic(using=database_of("payments")):
        Payment.objects.create(order_id=order_id, attempt=2, amount=1, currency="EUR", token="t", requested_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic(using=database_of("payments")):
        Account.objects.update(refunded_total=1)


def test_recent_payments_come_newest_first_in_pages(order_id: int) -> None:
    for minutes in (0, 1, 1, 2):
        pay(numbers.new_order_id(minutes, NOW), at=NOW + timedelta(minutes=minutes))

    seen = selectors.recent(3)
    rest = selectors.recent(3, before=(seen[-1].requested_at, seen[-1].id))

    assert [payment.requested_at.minute for payment in seen + rest] == [2, 1, 1, 0]
    assert len({payment.id for payment in seen + rest}) == 4


# --- The sandbox gateway ------------------------------------------------------------------------------------------


def capture(key: str = "k1", token: str = OK, amount: int = AMOUNT) -> Captured | Declined:
    return SandboxGateway().capture(idempotency_key=key, token=token, amount=amount, currency="EUR")


def test_the_sandbox_answers_a_repeated_key_with_the_first_answer() -> None:
    assert capture() == capture()
    assert capture("k2", "tok_declined") == capture("k2", "tok_declined") == Declined(reason="card_declined")
    assert list(SandboxCharge.objects.order_by("key").values_list("key", "result", "calls")) == [
        ("k1", "captured", 2),
        ("k2", "declined", 2),
    ]


def test_the_sandbox_refuses_a_key_that_was_used_for_something_else() -> None:
    capture()
    with pytest.raises(GatewayRefused, match="k1 was used before with another amount"):
        capture(amount=1)
    assert SandboxCharge.objects.get().calls == 1


def test_the_sandbox_gives_back_no_more_than_it_took() -> None:
    captured = capture()
    assert isinstance(captured, Captured)

    def refund(key: str, amount: int) -> Refunded:
        return SandboxGateway().refund(idempotency_key=key, reference=captured.reference, amount=amount, currency="EUR")

    assert refund("r1", 2000) == refund("r1", 2000)
    with pytest.raises(GatewayRefused, match="2599, of which 2000 went back already: 600 more is too much"):
        refund("r2", 600)
    refund("r3", 599)


def test_the_sandbox_gives_nothing_back_for_an_unknown_capture() -> None:
    with pytest.raises(GatewayRefused, match="there is no capture ch_0 in EUR"):
        SandboxGateway().refund(idempotency_key="r1", reference="ch_0", amount=1, currency="EUR")


def test_the_sandbox_is_not_called_inside_a_transaction() -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=database_of("payments")):
        capture()


# --- Several processes at once ------------------------------------------------------------------------------------


@on_several_connections
def test_a_capture_that_races_a_cancellation_is_refunded_exactly_once() -> None:
    order_ids = [numbers.new_order_id(CUSTOMER, NOW + timedelta(seconds=second)) for second in range(20)]
    for order_id in order_ids:
        pay(order_id)
    answers = {order_id: handlers.capture(stream(order_id)[0]) for order_id in order_ids}

    def write_down(order_id: int) -> None:
        with transaction.atomic(using=database_of("payments")):
            answers[order_id]()

    for order_id in order_ids:
        # Both deliveries come twice, as after a crash of a worker.
        deliveries: list[Callable[[], object]] = [partial(write_down, order_id), partial(close, order_id)]
        assert at_once(deliveries * 2, using=database_of("payments")) == []
    settle()

    for order_id in order_ids:
        assert happened(order_id) == [PaymentRequested, PaymentCaptured, RefundRequested, PaymentRefunded]
        assert moved(order_id) == (AMOUNT, AMOUNT)


@on_several_connections
def test_batches_of_closings_in_different_orders_do_not_block_each_other() -> None:
    order_ids = [numbers.new_order_id(CUSTOMER, NOW + timedelta(seconds=second)) for second in range(40)]
    shuffled = random.Random(1).sample(order_ids, len(order_ids))
    batches = [partial(close, *ids) for ids in (order_ids, shuffled, order_ids[::-1])]

    assert at_once(batches, using=database_of("payments")) == []

    assert Account.objects.filter(closed=True).count() == len(order_ids)


@on_several_connections
def test_a_double_click_makes_one_payment(order_id: int) -> None:
    errors = at_once([lambda: pay(order_id)] * 4, using=database_of("payments"))
    settle()

    assert [type(error) for error in errors] == [handlers.PaymentInProgress] * 3
    assert happened(order_id) == [PaymentRequested, PaymentCaptured]
    assert moved(order_id) == (AMOUNT, 0)


@on_several_connections
def test_processes_that_ask_with_the_same_key_at_once_take_the_money_once() -> None:
    answers: list[Captured | Declined] = []

    assert at_once([lambda: answers.append(capture(token="tok_slow"))] * 3, using=database_of("payments")) == []

    assert len(answers) == 3
    assert len(set(answers)) == 1
    assert SandboxCharge.objects.values_list("result", "calls").get() == ("captured", 3)
