"""Every command in every state of an order, and what must hold whatever happens to it."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.testing import Scenario
from orders import domain
from orders.commands import (
    CancelOrder,
    Command,
    ConfirmOrder,
    DeliverOrder,
    ExtendDeadline,
    FailPayment,
    PayOrder,
    PlaceOrder,
    RefundOrder,
    RejectOrder,
    ShipOrder,
    StartPayment,
)
from orders.domain import FINAL, Order, OrderError, Status, decide, evolve, fold
from orders.events import (
    Address,
    CancelReason,
    Check,
    Event,
    Line,
    OrderCancelled,
    OrderCheckPassed,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPaymentFailed,
    OrderPaymentStarted,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
    RejectReason,
    ShortItem,
)

ID = 42
CUSTOMER = 7
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
DUE = NOON + timedelta(minutes=30)
TEA = Line(sku="tea", name="Green tea", quantity=2, unit_price=450)
CUP = Line(sku="cup", name="Cup", quantity=1, unit_price=1200)

place = PlaceOrder(order_id=ID, customer_id=CUSTOMER, currency="EUR", lines=(TEA, CUP), payment_due_at=DUE, at=NOON)
place_with_coupon = replace(place, coupon_code="SPRING", discount=100)
confirm_stock = ConfirmOrder(order_id=ID, check=Check.STOCK, at=LATER)
confirm_coupon = ConfirmOrder(order_id=ID, check=Check.COUPON, at=LATER)
reject = RejectOrder(
    order_id=ID,
    reason=RejectReason.OUT_OF_STOCK,
    short=(ShortItem(sku="tea", wanted=2, available=1),),
    detail="",
    at=LATER,
)
start_payment = StartPayment(order_id=ID, payment_id="p1", at=LATER)
start_another = replace(start_payment, payment_id="p2")
fail_payment = FailPayment(order_id=ID, payment_id="p1", at=LATER)
pay = PayOrder(order_id=ID, payment_id="p1", amount=2100, currency="EUR", at=LATER)
pay_again = replace(pay, payment_id="p2")
ship = ShipOrder(order_id=ID, tracking="T1", at=LATER)
ship_elsewhere = replace(ship, tracking="T2")
deliver = DeliverOrder(order_id=ID, at=LATER)
cancel = CancelOrder(order_id=ID, reason=CancelReason.CUSTOMER, at=LATER)
cancel_by_operator = replace(cancel, reason=CancelReason.OPERATOR)
timeout = CancelOrder(order_id=ID, reason=CancelReason.PAYMENT_TIMEOUT, at=DUE)
early_timeout = replace(timeout, at=DUE - timedelta(microseconds=1))
refund = RefundOrder(order_id=ID, at=LATER)
extend = ExtendDeadline(order_id=ID, payment_due_at=DUE + timedelta(hours=1), at=LATER)

placed = OrderPlaced(
    customer_id=CUSTOMER,
    currency="EUR",
    lines=(TEA, CUP),
    coupon_code=None,
    discount=0,
    payment_due_at=DUE,
    at=NOON,
)
placed_with_coupon = replace(placed, coupon_code="SPRING", discount=100)
stock_passed = OrderCheckPassed(customer_id=CUSTOMER, check=Check.STOCK, at=LATER)
coupon_passed = OrderCheckPassed(customer_id=CUSTOMER, check=Check.COUPON, at=LATER)
confirmed = OrderConfirmed(customer_id=CUSTOMER, at=LATER)
rejected = OrderRejected(
    customer_id=CUSTOMER,
    reason=RejectReason.OUT_OF_STOCK,
    short=(ShortItem(sku="tea", wanted=2, available=1),),
    detail="",
    at=LATER,
)
started = OrderPaymentStarted(customer_id=CUSTOMER, payment_id="p1", hold_until=DUE + domain.PAYMENT_HOLD, at=LATER)
another_started = replace(started, payment_id="p2")
failed = OrderPaymentFailed(customer_id=CUSTOMER, payment_id="p1", at=LATER)
paid = OrderPaid(customer_id=CUSTOMER, payment_id="p1", amount=2100, currency="EUR", at=LATER)
shipped = OrderShipped(customer_id=CUSTOMER, tracking="T1", at=LATER)
delivered = OrderDelivered(customer_id=CUSTOMER, at=LATER)
cancelled = OrderCancelled(customer_id=CUSTOMER, reason=CancelReason.CUSTOMER, at=LATER)
cancelled_by_operator = replace(cancelled, reason=CancelReason.OPERATOR)
timed_out = OrderCancelled(customer_id=CUSTOMER, reason=CancelReason.PAYMENT_TIMEOUT, at=DUE)
extended = OrderDeadlineExtended(customer_id=CUSTOMER, payment_due_at=DUE + timedelta(hours=1), at=LATER)
refunded = OrderRefunded(customer_id=CUSTOMER, payment_id="p1", amount=2100, currency="EUR", at=LATER)


@pytest.fixture
def order() -> Scenario[Order, Command]:
    return Scenario(decide, evolve, Order())


# --- Every command in every state ---------------------------------------------------------------------------------

STATES: dict[str, tuple[Event, ...]] = {
    "nothing": (),
    "placed": (placed,),
    "confirmed": (placed, confirmed),
    "rejected": (placed, rejected),
    "paid": (placed, confirmed, paid),
    "shipped": (placed, confirmed, paid, shipped),
    "delivered": (placed, confirmed, paid, shipped, delivered),
    "cancelled": (placed, confirmed, cancelled),
    "refunded": (placed, confirmed, paid, refunded),
}

COMMANDS: dict[str, Command] = {
    "place": place,
    "place another": place_with_coupon,
    "confirm stock": confirm_stock,
    "confirm coupon": confirm_coupon,
    "reject": reject,
    "start payment": start_payment,
    "start another payment": start_another,
    "fail payment": fail_payment,
    "pay": pay,
    "pay again": pay_again,
    "ship": ship,
    "ship elsewhere": ship_elsewhere,
    "deliver": deliver,
    "cancel": cancel,
    "cancel by operator": cancel_by_operator,
    "timeout": timeout,
    "early timeout": early_timeout,
    "refund": refund,
    "extend": extend,
}

Outcome = Event | type[OrderError] | None
NOTHING = None

# One row a command, one column a state in the order of STATES.
TABLE: dict[str, tuple[Outcome, ...]] = {
    "place": (placed, *[NOTHING] * 8),
    "place another": (placed_with_coupon, *[domain.OrderAlreadyPlaced] * 8),
    "confirm stock": (domain.OrderNotFound, confirmed, *[NOTHING] * 7),
    "confirm coupon": (domain.OrderNotFound, *[NOTHING] * 8),
    "reject": (
        domain.OrderNotFound,
        rejected,
        domain.AlreadyConfirmed,
        NOTHING,
        domain.AlreadyConfirmed,
        domain.AlreadyConfirmed,
        domain.AlreadyConfirmed,
        NOTHING,
        domain.AlreadyConfirmed,
    ),
    "start payment": (
        domain.OrderNotFound,
        domain.NotYetConfirmed,
        started,
        domain.OrderClosed,
        NOTHING,
        NOTHING,
        NOTHING,
        domain.OrderClosed,
        NOTHING,
    ),
    "start another payment": (
        domain.OrderNotFound,
        domain.NotYetConfirmed,
        another_started,
        domain.OrderClosed,
        domain.OrderAlreadyPaid,
        domain.OrderAlreadyPaid,
        domain.OrderAlreadyPaid,
        domain.OrderClosed,
        domain.OrderAlreadyPaid,
    ),
    "fail payment": (domain.OrderNotFound, *[NOTHING] * 8),
    "pay": (
        domain.OrderNotFound,
        domain.NotYetConfirmed,
        paid,
        domain.OrderClosed,
        NOTHING,
        NOTHING,
        NOTHING,
        domain.OrderClosed,
        NOTHING,
    ),
    "pay again": (
        domain.OrderNotFound,
        domain.NotYetConfirmed,
        replace(paid, payment_id="p2"),
        domain.OrderClosed,
        domain.OrderAlreadyPaid,
        domain.OrderAlreadyPaid,
        domain.OrderAlreadyPaid,
        domain.OrderClosed,
        domain.OrderAlreadyPaid,
    ),
    "ship": (
        domain.OrderNotFound,
        domain.NotYetPaid,
        domain.NotYetPaid,
        domain.OrderClosed,
        shipped,
        NOTHING,
        NOTHING,
        domain.OrderClosed,
        domain.OrderClosed,
    ),
    "ship elsewhere": (
        domain.OrderNotFound,
        domain.NotYetPaid,
        domain.NotYetPaid,
        domain.OrderClosed,
        replace(shipped, tracking="T2"),
        domain.AlreadyShipped,
        domain.AlreadyShipped,
        domain.OrderClosed,
        domain.OrderClosed,
    ),
    "deliver": (
        domain.OrderNotFound,
        domain.NotYetShipped,
        domain.NotYetShipped,
        domain.OrderClosed,
        domain.NotYetShipped,
        delivered,
        NOTHING,
        domain.OrderClosed,
        domain.OrderClosed,
    ),
    "cancel": (
        domain.OrderNotFound,
        cancelled,
        cancelled,
        domain.OrderClosed,
        domain.CannotCancelPaid,
        domain.CannotCancelShipped,
        domain.CannotCancelShipped,
        NOTHING,
        domain.OrderClosed,
    ),
    "cancel by operator": (
        domain.OrderNotFound,
        cancelled_by_operator,
        cancelled_by_operator,
        domain.OrderClosed,
        domain.CannotCancelPaid,
        domain.CannotCancelShipped,
        domain.CannotCancelShipped,
        NOTHING,
        domain.OrderClosed,
    ),
    "timeout": (domain.OrderNotFound, timed_out, timed_out, *[NOTHING] * 6),
    "early timeout": (domain.OrderNotFound, domain.PaymentNotDue, domain.PaymentNotDue, *[NOTHING] * 6),
    "refund": (
        domain.OrderNotFound,
        domain.NotYetPaid,
        domain.NotYetPaid,
        domain.OrderClosed,
        refunded,
        domain.CannotRefundShipped,
        domain.CannotRefundShipped,
        domain.OrderClosed,
        NOTHING,
    ),
    "extend": (domain.OrderNotFound, extended, extended, *[domain.NoDeadline] * 6),
}


@pytest.mark.parametrize(
    "state, command, outcome",
    [
        pytest.param(state, command, outcome, id=f"{command} when {state}")
        for command, outcomes in TABLE.items()
        for state, outcome in zip(STATES, outcomes, strict=True)
    ],
)
def test_every_command_in_every_state(
    order: Scenario[Order, Command], state: str, command: str, outcome: Outcome
) -> None:
    when = order.given(*STATES[state]).when(COMMANDS[command])
    if outcome is NOTHING:
        when.then()
    elif isinstance(outcome, type):
        when.refused(outcome)
    else:
        when.then(outcome)


def test_the_table_has_every_command_and_every_state() -> None:
    assert TABLE.keys() == COMMANDS.keys()
    assert {type(command) for command in COMMANDS.values()} == set(Command.__args__)
    assert {fold(events).status for events in STATES.values()} == {None, *Status}


# --- Deadline -----------------------------------------------------------------------------------------------------


def test_the_clock_waits_for_the_extended_deadline(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, extended).when(timeout).refused(domain.PaymentNotDue)
    late = replace(timeout, at=extended.payment_due_at)
    order.given(placed, confirmed, extended).when(late).then(replace(timed_out, at=extended.payment_due_at))


def test_the_same_extension_again_causes_nothing(order: Scenario[Order, Command]) -> None:
    order.given(placed, extended).when(extend).then()


def test_a_placement_that_is_repeated_after_an_extension_is_still_the_same(order: Scenario[Order, Command]) -> None:
    order.given(placed, extended).when(place).then()


def test_an_order_that_is_overdue_and_not_yet_cancelled_can_get_more_time(order: Scenario[Order, Command]) -> None:
    late = replace(extend, at=DUE + timedelta(minutes=5))
    order.given(placed, confirmed).when(late).then(replace(extended, at=late.at))


@pytest.mark.parametrize(
    "until, at",
    [
        (DUE - timedelta(seconds=1), LATER),
        (DUE + timedelta(minutes=1), DUE + timedelta(minutes=1)),
        (DUE + timedelta(minutes=1), DUE + timedelta(minutes=2)),
        (NOON + domain.MAX_PAYMENT_TERM + timedelta(microseconds=1), LATER),
    ],
)
def test_a_deadline_is_moved_into_the_future_only_and_not_too_far(
    order: Scenario[Order, Command], until: datetime, at: datetime
) -> None:
    order.given(placed).when(replace(extend, payment_due_at=until, at=at)).refused(domain.InvalidDeadline)


def test_a_deadline_may_be_as_long_as_the_longest_payment_term(order: Scenario[Order, Command]) -> None:
    until = NOON + domain.MAX_PAYMENT_TERM
    order.given(placed).when(replace(extend, payment_due_at=until)).then(replace(extended, payment_due_at=until))


# --- Payments under way -------------------------------------------------------------------------------------------


def test_the_clock_waits_for_a_payment_that_was_started_before_the_deadline(order: Scenario[Order, Command]) -> None:
    started_last_moment = replace(started, at=DUE - timedelta(seconds=12))
    order.given(placed, confirmed, started_last_moment).when(timeout).refused(domain.PaymentNotDue)
    order.given(placed, confirmed, started_last_moment).when(pay).then(paid)


def test_the_clock_cancels_after_the_payment_has_failed(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, started).when(fail_payment).then(failed)
    order.given(placed, confirmed, started, failed).when(timeout).then(timed_out)


def test_the_clock_waits_for_a_payment_no_longer_than_the_hold(order: Scenario[Order, Command]) -> None:
    late = replace(timeout, at=started.hold_until)
    order.given(placed, confirmed, started).when(late).then(replace(timed_out, at=late.at))
    too_early = replace(late, at=late.at - timedelta(microseconds=1))
    order.given(placed, confirmed, started).when(too_early).refused(domain.PaymentNotDue)


def test_the_failure_of_an_older_payment_does_not_end_the_wait_for_a_newer_one(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, started, another_started).when(fail_payment).then(failed)
    order.given(placed, confirmed, started, another_started, failed).when(timeout).refused(domain.PaymentNotDue)


def test_a_failure_that_is_repeated_or_of_an_unknown_payment_causes_nothing(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, started, failed).when(fail_payment).then()
    order.given(placed, confirmed, another_started).when(fail_payment).then()


def test_a_payment_that_is_started_twice_is_one(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, started).when(start_payment).then()


@pytest.mark.parametrize("at", [NOON - timedelta(hours=37), LATER, DUE + timedelta(minutes=50)], ids=str)
def test_the_deadline_says_how_long_a_payment_is_waited_for_whatever_the_clock_of_who_asks_says(
    order: Scenario[Order, Command], at: datetime
) -> None:
    held = replace(another_started, at=at, hold_until=DUE + domain.PAYMENT_HOLD)
    order.given(placed, confirmed).when(replace(start_another, at=at)).then(held)


@pytest.mark.parametrize("cancelling, event", [(cancel, cancelled), (cancel_by_operator, cancelled_by_operator)])
def test_people_may_cancel_an_order_whose_payment_is_under_way(
    order: Scenario[Order, Command], cancelling: CancelOrder, event: OrderCancelled
) -> None:
    order.given(placed, confirmed, started).when(cancelling).then(event)


def test_an_order_expires_at_its_deadline_or_when_the_last_payment_is_not_waited_for_any_more() -> None:
    assert fold([placed, confirmed]).expires_at == DUE
    assert fold([placed, confirmed, started]).expires_at == started.hold_until
    assert fold([placed, confirmed, started, failed]).expires_at == DUE
    assert fold([placed, confirmed, started, replace(extended, payment_due_at=DUE + timedelta(days=1))]).expires_at == (
        DUE + timedelta(days=1)
    )
    assert fold([placed, confirmed, started, paid]).expires_at is None
    assert fold([placed, confirmed, started, cancelled]).expires_at is None


# --- Placing ------------------------------------------------------------------------------------------------------


def test_an_order_needs_at_least_one_line(order: Scenario[Order, Command]) -> None:
    order.given().when(replace(place, lines=())).refused(domain.EmptyOrder)


def test_an_order_may_have_a_hundred_lines(order: Scenario[Order, Command]) -> None:
    lines = tuple(replace(TEA, sku=f"tea-{number}") for number in range(100))
    order.given().when(replace(place, lines=lines)).then(replace(placed, lines=lines))


def test_an_order_may_not_have_more_than_a_hundred_lines(order: Scenario[Order, Command]) -> None:
    lines = tuple(replace(TEA, sku=f"tea-{number}") for number in range(101))
    order.given().when(replace(place, lines=lines)).refused(domain.TooManyLines)


def test_a_product_may_not_stand_in_two_lines(order: Scenario[Order, Command]) -> None:
    order.given().when(replace(place, lines=(TEA, CUP, TEA))).refused(domain.RepeatedProduct)


@pytest.mark.parametrize("quantity", [0, -1, 1000, 1.0, 1.5, True, "1", None])
def test_a_quantity_is_a_whole_number_from_1_to_999(order: Scenario[Order, Command], quantity: Any) -> None:
    order.given().when(replace(place, lines=(replace(TEA, quantity=quantity),))).refused(domain.InvalidQuantity)


@pytest.mark.parametrize("quantity", [1, 999])
def test_the_smallest_and_the_largest_quantity_are_accepted(order: Scenario[Order, Command], quantity: int) -> None:
    lines = (replace(TEA, quantity=quantity),)
    order.given().when(replace(place, lines=lines)).then(replace(placed, lines=lines))


@pytest.mark.parametrize("unit_price", [-1, 10**12 + 1, 4.5, False])
def test_a_price_is_a_whole_number_of_minor_units(order: Scenario[Order, Command], unit_price: Any) -> None:
    order.given().when(replace(place, lines=(replace(TEA, unit_price=unit_price),))).refused(domain.InvalidPrice)


def test_a_product_may_be_free(order: Scenario[Order, Command]) -> None:
    lines = (replace(TEA, unit_price=0),)
    order.given().when(replace(place, lines=lines)).then(replace(placed, lines=lines))


def test_the_dearest_possible_order_fits_into_63_bits() -> None:
    assert domain.MAX_LINES * domain.MAX_QUANTITY * domain.MAX_UNIT_PRICE < 2**63


@pytest.mark.parametrize("discount", [-1, 2101, 0.5])
def test_a_discount_is_between_nothing_and_the_sum_of_the_lines(order: Scenario[Order, Command], discount: Any) -> None:
    order.given().when(replace(place_with_coupon, discount=discount)).refused(domain.InvalidDiscount)


def test_a_discount_may_be_the_whole_sum(order: Scenario[Order, Command]) -> None:
    order.given().when(replace(place_with_coupon, discount=2100)).then(replace(placed_with_coupon, discount=2100))


@pytest.mark.parametrize("currency", ["", "EU", "EURO", "eur", "E R", "ÄÖÜ", "EUR\n", "12A"])
def test_a_currency_is_three_capital_letters(order: Scenario[Order, Command], currency: str) -> None:
    order.given().when(replace(place, currency=currency)).refused(domain.InvalidCurrency)


@pytest.mark.parametrize(
    "term", [timedelta(0), timedelta(seconds=-1), timedelta(days=30, microseconds=1)], ids=["none", "past", "too long"]
)
def test_a_deadline_lies_within_thirty_days_after_the_placement(
    order: Scenario[Order, Command], term: timedelta
) -> None:
    order.given().when(replace(place, payment_due_at=NOON + term)).refused(domain.InvalidDeadline)


def test_a_deadline_may_be_thirty_days_away(order: Scenario[Order, Command]) -> None:
    due = NOON + timedelta(days=30)
    order.given().when(replace(place, payment_due_at=due)).then(replace(placed, payment_due_at=due))


def test_an_empty_coupon_code_is_no_coupon(order: Scenario[Order, Command]) -> None:
    order.given().when(replace(place, coupon_code="")).then(placed)


# --- Checks -------------------------------------------------------------------------------------------------------


def test_an_order_without_a_coupon_is_confirmed_by_its_stock_alone(order: Scenario[Order, Command]) -> None:
    order.given(placed).when(confirm_stock).then(confirmed)


def test_the_first_of_two_checks_leaves_an_order_with_a_coupon_open(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon).when(confirm_stock).then(stock_passed)


def test_the_first_check_may_be_the_coupon(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon).when(confirm_coupon).then(coupon_passed)


def test_the_last_of_two_checks_confirms_an_order_with_a_coupon(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon, stock_passed).when(confirm_coupon).then(confirmed)


def test_the_checks_may_pass_in_the_other_order(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon, coupon_passed).when(confirm_stock).then(confirmed)


def test_a_check_that_has_passed_already_changes_nothing(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon, stock_passed).when(confirm_stock).then()


def test_an_order_is_rejected_when_one_check_passed_and_the_other_failed(order: Scenario[Order, Command]) -> None:
    coupon_refused = replace(reject, reason=RejectReason.COUPON_REFUSED, short=(), detail="used up")
    order.given(placed_with_coupon, stock_passed).when(coupon_refused).then(
        replace(rejected, reason=RejectReason.COUPON_REFUSED, short=(), detail="used up")
    )


def test_an_order_with_a_coupon_cannot_be_paid_between_its_checks(order: Scenario[Order, Command]) -> None:
    order.given(placed_with_coupon, stock_passed).when(replace(pay, amount=2000)).refused(domain.NotYetConfirmed)


# --- Payment and the clock ----------------------------------------------------------------------------------------


def test_the_discount_is_taken_off_what_has_to_be_paid(order: Scenario[Order, Command]) -> None:
    history = (placed_with_coupon, stock_passed, confirmed)
    order.given(*history).when(replace(pay, amount=2000)).then(replace(paid, amount=2000))


@pytest.mark.parametrize("amount", [0, 2099, 2101])
def test_another_amount_than_the_total_is_refused(order: Scenario[Order, Command], amount: int) -> None:
    order.given(placed, confirmed).when(replace(pay, amount=amount)).refused(domain.PaymentMismatch)


def test_another_currency_than_the_orders_is_refused(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed).when(replace(pay, currency="USD")).refused(domain.PaymentMismatch)


def test_an_order_that_costs_nothing_is_paid_with_nothing(order: Scenario[Order, Command]) -> None:
    gift = replace(placed_with_coupon, discount=2100)
    order.given(gift, stock_passed, confirmed).when(replace(pay, amount=0)).then(replace(paid, amount=0))


def test_unpaid_order_is_cancelled_on_timeout(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed).when(timeout).then(timed_out)


def test_payment_that_arrived_first_wins_over_timeout(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, paid).when(timeout).then()


def test_timeout_that_arrived_first_wins_over_payment(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed, timed_out).when(pay).refused(domain.OrderClosed)


def test_a_payment_after_the_deadline_counts_while_nobody_has_cancelled(order: Scenario[Order, Command]) -> None:
    late = replace(pay, at=DUE + timedelta(hours=1))
    order.given(placed, confirmed).when(late).then(replace(paid, at=late.at))


def test_timeout_before_the_deadline_is_refused_until_it_has_passed(order: Scenario[Order, Command]) -> None:
    order.given(placed, confirmed).when(early_timeout).refused(domain.PaymentNotDue)


# --- Messages -----------------------------------------------------------------------------------------------------


def message_of(events: tuple[Event, ...], command: Command) -> tuple[str, str]:
    with pytest.raises(OrderError) as refused:
        decide(fold(events), command)
    return refused.value.code, str(refused.value)


def test_an_error_says_its_docstring_and_its_code() -> None:
    assert message_of((), replace(place, lines=())) == ("empty_order", "An order needs at least one line.")


@pytest.mark.parametrize(
    "events, command, message",
    [
        (
            (),
            replace(place, lines=(replace(TEA, quantity=0),)),
            "A quantity must be a whole number within limits: expected 1..999 of tea, got 0.",
        ),
        (
            (),
            replace(place, lines=(TEA,) * 101),
            "An order has too many lines: expected 1..100, got 101.",
        ),
        (
            (),
            replace(place, discount=2101),
            (
                "A discount must be a whole number of minor units and no more than the sum of the lines:"
                " expected 0..2100, got 2101."
            ),
        ),
        (
            (placed, confirmed),
            replace(pay, amount=5, currency="USD"),
            "The payment is not the order's total: expected 2100 EUR, got 5 USD.",
        ),
        (
            (placed, confirmed, paid),
            pay_again,
            "The order is already paid by another payment: by p1, not by p2.",
        ),
        (
            (placed, confirmed, paid),
            cancel,
            "The order is paid and can no longer be cancelled.",
        ),
        (
            (placed, rejected),
            cancel,
            "The order has come to an end and nothing more can be done with it: it is rejected.",
        ),
    ],
)
def test_an_error_carries_the_numbers_needed_to_understand_it(
    events: tuple[Event, ...], command: Command, message: str
) -> None:
    assert message_of(events, command)[1] == message


def test_every_error_has_a_message_and_a_code_of_its_own() -> None:
    errors = [value for value in vars(domain).values() if isinstance(value, type) and issubclass(value, OrderError)]
    assert all(error.__doc__ and error.__doc__.endswith(".") for error in errors)
    assert len({error().code for error in errors}) == len(errors)


# --- Whatever happens ---------------------------------------------------------------------------------------------

STEPS = {
    None: {Status.PLACED},
    Status.PLACED: {Status.PLACED, Status.CONFIRMED, Status.REJECTED, Status.CANCELLED},
    Status.CONFIRMED: {Status.CONFIRMED, Status.PAID, Status.CANCELLED},
    Status.PAID: {Status.SHIPPED, Status.REFUNDED},
    Status.SHIPPED: {Status.DELIVERED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What became of a sequence of commands."""

    order: Order
    events: list[Event]
    accepted: list[Command]


def live(commands: list[Command]) -> Life:
    """Decide the commands one after another; checks at each step that only what may happen does."""
    order, events, accepted = Order(), [], []
    for command in commands:
        try:
            caused = decide(order, command)
        except OrderError:
            continue
        for event in caused:
            after = evolve(order, event)
            assert after.status in STEPS[order.status], f"{order.status} -> {after.status} by {command}"
            order = after
        events += caused
        accepted += [command] if caused else []
    return Life(order=order, events=events, accepted=accepted)


moments = st.integers(0, 48).map(lambda hours: NOON + timedelta(hours=hours))  # around the deadlines below
lines = st.lists(
    st.builds(
        Line,
        sku=st.sampled_from(["tea", "cup", "pot"]),
        name=st.just("Something"),
        quantity=st.integers(-1, 1001),
        unit_price=st.integers(-1, 5000),
    ),
    max_size=3,
).map(tuple)
placements = st.builds(
    PlaceOrder,
    order_id=st.just(ID),
    customer_id=st.just(CUSTOMER),
    currency=st.sampled_from(["EUR", "usd"]),
    lines=lines,
    coupon_code=st.sampled_from([None, "SPRING"]),
    discount=st.integers(-1, 5000),
    payment_due_at=st.just(NOON + timedelta(hours=24)),
    at=moments,
)
wild_commands = st.one_of(
    placements,
    st.sampled_from(list(COMMANDS.values())),
    st.builds(ConfirmOrder, order_id=st.just(ID), check=st.sampled_from(Check), at=moments),
    st.builds(
        PayOrder,
        order_id=st.just(ID),
        payment_id=st.sampled_from(["p1", "p2"]),
        amount=st.sampled_from([0, 2000, 2100]),
        currency=st.just("EUR"),
        at=moments,
    ),
    st.builds(CancelOrder, order_id=st.just(ID), reason=st.sampled_from(CancelReason), at=moments),
)
lives = st.builds(
    lambda first, then: [first, *then],
    st.sampled_from([place, place_with_coupon]),
    st.lists(wild_commands, max_size=20),
) | st.lists(wild_commands, max_size=20)


@given(lives)
def test_an_order_only_ever_takes_the_steps_of_its_life_cycle(commands: list[Command]) -> None:
    life = live(commands)
    assert life.order == fold(life.events)


@given(lives)
def test_the_total_is_the_sum_of_the_lines_less_the_discount(commands: list[Command]) -> None:
    order = live(commands).order
    assert order.total == sum(line.quantity * line.unit_price for line in order.lines) - order.discount
    assert 0 <= order.total <= order.subtotal


@given(lives, lives)
def test_nothing_follows_a_final_event(commands: list[Command], more: list[Command]) -> None:
    order = live(commands).order
    if order.status not in FINAL:
        return
    for command in more:
        with suppress(OrderError):
            assert decide(order, command) == []


@given(lives)
def test_a_command_that_was_accepted_once_causes_nothing_when_repeated(commands: list[Command]) -> None:
    life = live(commands)
    for command in life.accepted:
        assert decide(life.order, command) == []


@given(lives)
def test_a_paid_order_was_paid_exactly_its_total(commands: list[Command]) -> None:
    life = live(commands)
    payments = [(event.amount, event.currency) for event in life.events if isinstance(event, OrderPaid)]
    assert payments in ([], [(life.order.total, life.order.currency)])


HOME = Address(name="Zoë Ångström", street="Kaivokatu 1", postal_code="", city="Helsinki", country="FI")


def test_order_goes_to_its_address(order: Scenario) -> None:
    order.given().when(replace(place, ship_to=HOME)).then(replace(placed, ship_to=HOME))


def test_same_order_to_another_address_is_another_order(order: Scenario) -> None:
    order.given(placed).when(replace(place, ship_to=HOME)).refused(domain.OrderAlreadyPlaced)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 101},
        {"street": "x" * 201},
        {"postal_code": "1" * 21},
        {"city": "Hel\nsinki"},
        {"city": "Hel\u2028sinki"},
        {"country": "fi"},
        {"country": "FIN"},
    ],
)
def test_address_that_cannot_be_is_refused_without_repeating_it(order: Scenario, change: dict[str, str]) -> None:
    wrong = replace(place, ship_to=replace(HOME, **change))
    order.given().when(wrong).refused(domain.InvalidAddress)
    with pytest.raises(domain.InvalidAddress) as refusal:
        decide(Order(), wrong)
    assert not any(text.strip() and text in str(refusal.value) for text in change.values())
