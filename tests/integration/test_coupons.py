"""Coupons: quoted, redeemed and released, whatever comes first, how often, and how many workers there are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext

from coupons import handlers, selectors
from coupons.commands import Command, RedeemCoupon, ReleaseCoupon
from coupons.domain import (
    CouponAlreadyUsed,
    CouponCurrencyMismatch,
    CouponError,
    CouponExpired,
    CouponNotYetValid,
    CouponUsedUp,
    DuplicateCoupon,
    InvalidCoupon,
    Kind,
    SpendTooLow,
    UnknownCoupon,
)
from coupons.events import REDEMPTION, CouponRedeemed, CouponRefused, CouponReleased
from coupons.models import Coupon, Redemption
from coupons.selectors import Quote
from coupons.subscribers import follow_orders
from eventing import store, subscribers
from eventing.models import DeadLetter
from eventing.models import Event as StoredEvent
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.testing import deliver_shuffled, drain
from orders.events import CATEGORY as ORDER
from orders.events import (
    CancelReason,
    Line,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    RejectReason,
)
from sharding.router import database_of
from tests.integration.parallel import at_once
from tests.integration.statements import counted

pytestmark = pytest.mark.django_db(databases="__all__")
on_several_connections = pytest.mark.django_db(databases=[database_of("coupons")], transaction=True)

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
METADATA = Metadata(correlation_id="test")
CANCELLED = OrderCancelled(customer_id=7, reason=CancelReason.CUSTOMER, at=NOW)
REJECTED = OrderRejected(customer_id=7, reason=RejectReason.OUT_OF_STOCK, short=(), detail="", at=NOW)
REFUNDED = OrderRefunded(customer_id=7, payment_id="p", amount=100, currency="EUR", at=NOW)
PLACED = OrderPlaced(
    customer_id=7,
    currency="EUR",
    lines=(
        Line(sku="mug", name="Mug", quantity=3, unit_price=500),
        Line(sku="pen", name="Pen", quantity=1, unit_price=500),
    ),
    coupon_code="FIVE",
    discount=500,
    payment_due_at=NOW + timedelta(minutes=30),
    at=NOW,
)


def five_euros(**terms: Any) -> None:
    coupon: dict[str, Any] = {"code": "FIVE", "kind": Kind.FIXED, "value": 500, "currency": "EUR"}
    handlers.add_coupon(**coupon | terms)


def happens(*news: tuple[int, Any]) -> list[Recorded[Any]]:
    """Orders have news, which nobody has delivered yet."""
    versions: dict[int, int] = {}
    writes = []
    for order_id, event in news:
        version = versions.get(order_id, len(store.load(ORDER, order_id, using="default")))
        versions[order_id] = version + 1
        writes.append(NewEvents(stream_id=order_id, expected_version=version, events=[event], metadata=METADATA))
    with transaction.atomic(using="default"):
        return store.append(ORDER, writes, using="default")


def others() -> set[str]:
    """All subscribers but the one under test."""
    return {subscriber.name for subscriber in subscribers.all_subscribers()} - {"coupons"}


def settle() -> None:
    drain(skip=others())


def run(*commands: Command) -> None:
    with transaction.atomic(using=database_of("coupons")):
        handlers.handle_batch([(command, METADATA) for command in commands])


def run_each(batches: Iterable[Sequence[Command]]) -> None:
    for batch in batches:
        run(*batch)


def redeem(order_id: int, code: str = "FIVE", *, customer_id: int = 7, discount: int = 500) -> RedeemCoupon:
    return RedeemCoupon(
        order_id=order_id,
        customer_id=customer_id,
        code=code,
        subtotal=2000,
        currency="EUR",
        discount=discount,
        placed_at=NOW,
        at=NOW,
    )


def release(order_id: int, *, customer_id: int = 7) -> ReleaseCoupon:
    return ReleaseCoupon(order_id=order_id, customer_id=customer_id, at=NOW)


def redeemed(code: str = "FIVE") -> int:
    return Coupon.objects.get(code=code).redeemed


def stream(order_id: int) -> list[Any]:
    return [recorded.event for recorded in store.load(REDEMPTION, order_id, using=database_of("coupons"))]


def happened(order_id: int) -> list[type]:
    return [type(event) for event in stream(order_id)]


def status(order_id: int) -> str:
    return Redemption.objects.get(pk=order_id).status


def snapshot() -> dict[str, list[Any]]:
    """Everything that coupons has written, as far as it must not depend on what comes first."""
    events = StoredEvent.objects.using(database_of("coupons")).filter(category=REDEMPTION)
    return {
        "coupons": list(Coupon.objects.order_by("pk").values()),
        "redemptions": list(
            Redemption.objects.order_by("pk").values_list(
                "pk", "customer_id", "coupon_id", "status", "discount", "version"
            )
        ),
        "events": sorted(events.values_list("stream_id", "version", "type")),
    }


def assert_books_balance() -> None:
    """What the audit would say: every use that is counted has its order, and every stream its version."""
    for coupon in Coupon.objects.all():
        assert coupon.redeemed == coupon.redemptions.filter(status="redeemed").count()
    streams: dict[int, int] = {}
    events = StoredEvent.objects.using(database_of("coupons")).filter(category=REDEMPTION)
    for order_id in events.values_list("stream_id", flat=True):
        streams[order_id] = streams.get(order_id, 0) + 1
    assert streams == dict(Redemption.objects.exclude(version=0).values_list("order_id", "version"))


# --- An order's way --------------------------------------------------------------------------------------------------


def test_order_with_a_coupon_redeems_it() -> None:
    five_euros()
    (order,) = happens((1, PLACED))

    settle()

    (recorded,) = store.load(REDEMPTION, 1, using=database_of("coupons"))
    assert recorded.event == CouponRedeemed(code="FIVE", customer_id=7, discount=500, at=recorded.event.at)
    assert recorded.metadata == Metadata(correlation_id="test", causation_id=order.id, actor="coupons")
    redemption = Redemption.objects.get(pk=1)
    assert (redemption.customer_id, redemption.status, redemption.discount, redemption.version) == (
        7,
        "redeemed",
        500,
        1,
    )
    assert (redemption.coupon and redemption.coupon.code, redemption.at) == ("FIVE", recorded.event.at)
    assert_books_balance()


def test_order_without_a_coupon_is_none_of_our_business() -> None:
    five_euros()
    happens((1, replace(PLACED, coupon_code=None, discount=0)))

    settle()

    assert (redeemed(), stream(1), Redemption.objects.count()) == (0, [], 0)


@pytest.mark.parametrize("end", [CANCELLED, REJECTED, REFUNDED])
def test_order_that_comes_to_nothing_gives_its_coupon_back(end: Any) -> None:
    five_euros(total_limit=1)
    happens((1, PLACED))
    settle()
    happens((1, end))

    settle()

    _, released = stream(1)
    assert released == CouponReleased(code="FIVE", customer_id=7, at=released.at)
    assert (status(1), redeemed()) == ("released", 0)
    run(redeem(2))
    assert status(2) == "redeemed"
    assert_books_balance()


@pytest.mark.parametrize(
    "terms, discount, reason",
    [
        ({"active": False}, 500, "unknown_coupon"),
        ({"value": 400}, 500, "coupon_changed"),
        ({"total_limit": 1, "redeemed": 1}, 500, "coupon_used_up"),
        ({"valid_until": NOW}, 500, "coupon_expired"),
        ({"valid_from": NOW + timedelta(hours=1)}, 500, "coupon_not_yet_valid"),
        ({"minimum_spend": 2001}, 500, "spend_too_low"),
        ({"currency": "USD"}, 500, "coupon_currency_mismatch"),
    ],
)
def test_coupon_edited_since_its_quote_is_refused_with_a_reason(
    terms: dict[str, Any], discount: int, reason: str
) -> None:
    five_euros()
    Coupon.objects.update(**terms)
    happens((1, replace(PLACED, discount=discount)))

    settle()

    (refused,) = stream(1)
    assert isinstance(refused, CouponRefused)
    assert (refused.code, refused.customer_id, refused.reason) == ("FIVE", 7, reason)
    assert refused.detail.endswith(".")
    assert (status(1), redeemed()) == ("refused", terms.get("redeemed", 0))


@pytest.mark.parametrize("code", ["GHOST", "", "x" * 500, "F%VE"])
def test_coupon_that_does_not_exist_is_refused(code: str) -> None:
    run(redeem(1, code))

    (refused,) = stream(1)
    assert (refused.reason, status(1), Redemption.objects.get().coupon) == ("unknown_coupon", "refused", None)


def test_code_may_be_written_in_any_case() -> None:
    handlers.add_coupon(code=" spring-10 ", kind=Kind.PERCENTAGE, value=1000, currency="EUR")
    assert selectors.quote("Spring-10", 7, 2000, "EUR", NOW) == Quote(code="SPRING-10", discount=200)

    run(redeem(1, "sPRING-10", discount=200))

    assert (status(1), redeemed("SPRING-10")) == ("redeemed", 1)


def test_cancellation_that_overtakes_its_placement_leaves_a_tombstone() -> None:
    five_euros()
    run(release(1))
    assert status(1) == "void"

    run(redeem(1))

    assert (status(1), stream(1), redeemed()) == ("void", [], 0)
    assert_books_balance()


def test_refused_coupon_has_nothing_to_give_back() -> None:
    five_euros()
    run(redeem(1, discount=400))
    run(release(1))

    assert (status(1), happened(1), redeemed()) == ("refused", [CouponRefused], 0)


def test_customer_may_use_a_coupon_up_to_the_limit_and_again_after_a_release() -> None:
    five_euros(per_customer_limit=1)
    run(redeem(1))
    run(redeem(2), redeem(3, customer_id=8))
    run(release(1))
    run(redeem(4))

    assert {order_id: status(order_id) for order_id in range(1, 5)} == {
        1: "released",
        2: "refused",
        3: "redeemed",
        4: "redeemed",
    }
    assert stream(2)[0].reason == "coupon_already_used"
    assert_books_balance()


def test_mixed_news_of_one_batch_is_taken_in_its_order() -> None:
    five_euros(total_limit=1)
    run(redeem(1))

    run(redeem(2), release(1), redeem(3), release(3), redeem(4), release(5), redeem(5))

    assert {order_id: status(order_id) for order_id in range(1, 6)} == {
        1: "released",
        2: "refused",
        3: "released",
        4: "redeemed",
        5: "void",
    }
    assert happened(3) == [CouponRedeemed, CouponReleased]
    assert_books_balance()


# --- Again and again -------------------------------------------------------------------------------------------------


def test_commands_that_come_again_change_nothing() -> None:
    five_euros(total_limit=2)
    a_life: list[list[Command]] = [
        [redeem(1), redeem(2), redeem(3), redeem(4, "GHOST")],
        [release(2), release(3), release(5)],
    ]
    for batch in a_life:
        run(*batch)
    written = snapshot()

    for batch in a_life:
        run(*batch)
    for batch in a_life:
        for command in batch:
            run(command)

    assert snapshot() == written
    assert redeemed() == 1
    assert_books_balance()


@pytest.mark.parametrize("seed", range(5))
def test_everything_delivered_twice_and_shuffled_ends_the_same(seed: int) -> None:
    five_euros()
    rng = random.Random(seed)
    happens(*((order_id, PLACED) for order_id in range(1, 7)))
    deliver_shuffled(rng, skip=others())
    happens((1, CANCELLED), (2, REJECTED), (3, REFUNDED))
    happens(*((order_id, event) for order_id in (11, 12, 13) for event in (PLACED, CANCELLED)))
    deliver_shuffled(rng, skip=others())

    assert {order_id: status(order_id) for order_id in range(1, 7)} == {
        1: "released",
        2: "released",
        3: "released",
        4: "redeemed",
        5: "redeemed",
        6: "redeemed",
    }
    assert {status(order_id) for order_id in (11, 12, 13)} <= {"released", "void"}
    assert redeemed() == 3
    assert not DeadLetter.objects.exists()
    assert_books_balance()


# --- A batch is a fixed number of statements -------------------------------------------------------------------------


def statements(action: Callable[[], object]) -> int:
    with CaptureQueriesContext(connections[database_of("coupons")]) as captured:
        action()
    return len(captured)


@pytest.mark.parametrize("orders", [1, 100])
def test_batch_takes_as_many_statements_as_a_single_order(orders: int) -> None:
    five_euros()

    def taken_by(make: Callable[[int], Command], order_ids: Iterable[int]) -> int:
        commands = [(make(order_id), METADATA) for order_id in order_ids]
        return statements(lambda: handlers.handle_batch(commands))

    placed, ended_early, unknown = (range(n, n + orders) for n in (1, 1001, 2001))
    assert taken_by(redeem, placed) == counted(6, 7)
    assert taken_by(redeem, placed) == 4
    assert taken_by(release, placed) == counted(7, 8)
    assert taken_by(release, ended_early) == 1
    assert taken_by(redeem, ended_early) == 2
    assert taken_by(lambda order_id: redeem(order_id, "GHOST"), unknown) == counted(4, 5)


def test_news_of_orders_reaches_the_handler_as_one_batch() -> None:
    five_euros()
    batch = happens(*((order_id, PLACED) for order_id in range(1, 101)))

    assert statements(lambda: follow_orders(batch)) == counted(6, 7)
    assert redeemed() == 100


# --- What the database refuses ---------------------------------------------------------------------------------------


def test_database_refuses_impossible_rows() -> None:
    five_euros(total_limit=2)
    run(redeem(1), redeem(2))
    coupon = Coupon.objects.get()
    redemption = {"customer_id": 7, "coupon": coupon, "version": 1, "at": NOW}
    coupons = Coupon.objects.filter(pk=coupon.pk)
    impossible: list[Callable[[], object]] = [
        lambda: coupons.update(redeemed=3),
        lambda: coupons.update(redeemed=-1),
        lambda: coupons.update(total_limit=1),
        lambda: coupons.update(total_limit=0, redeemed=0),
        lambda: coupons.update(per_customer_limit=0),
        lambda: coupons.update(code="five"),
        lambda: coupons.update(code=""),
        lambda: coupons.update(kind="percentage", value=10_001),
        lambda: coupons.update(kind="gift"),
        lambda: coupons.update(value=0),
        lambda: coupons.update(minimum_spend=-1),
        lambda: coupons.update(valid_from=NOW, valid_until=NOW),
        lambda: Coupon.objects.create(code="FIVE", kind="fixed", value=1, currency="EUR"),
        lambda: Redemption.objects.create(order_id=-1, status="redeemed", **redemption),
        lambda: Redemption.objects.create(order_id=3, status="dreamt", **redemption),
        lambda: Redemption.objects.create(order_id=3, status="redeemed", **redemption | {"coupon": None}),
        lambda: Redemption.objects.create(order_id=3, status="redeemed", discount=-1, **redemption),
        lambda: Redemption.objects.create(order_id=3, status="refused", discount=1, **redemption),
        lambda: Redemption.objects.create(order_id=3, status="void", **redemption),
        lambda: Redemption.objects.create(order_id=3, status="redeemed", **redemption | {"version": 0}),
        lambda: Redemption.objects.create(order_id=1, status="redeemed", **redemption),
    ]
    written = snapshot()
    for act in impossible:
        with pytest.raises(IntegrityError), transaction.atomic(using=database_of("coupons")):
            act()
    assert snapshot() == written
    with pytest.raises(ProtectedError):
        coupon.delete()


def test_form_says_what_the_database_would_refuse() -> None:
    with pytest.raises(ValidationError) as refused:
        Coupon(code="five", kind="percentage", value=10_001, currency="eur", per_customer_limit=0).full_clean()
    assert refused.value.message_dict == {
        "code": ["A code has up to 40 capital letters, digits and dashes."],
        "currency": ["A currency is a code of three capital letters."],
        "__all__": [
            "A percentage is 0.01 to 100 per cent, an amount at least the smallest coin.",
            "A limit is at least 1.",
        ],
    }

    with pytest.raises(ValidationError) as refused:
        Coupon(code="FIVE", kind="fixed", value=1, currency="EUR", total_limit=2, redeemed=3).clean()
    assert refused.value.message_dict == {"total_limit": ["The coupon is in use 3 times already."]}


# --- Many workers at once --------------------------------------------------------------------------------------------


@on_several_connections
def test_coupon_with_one_use_is_redeemed_once_by_64_customers_at_once() -> None:
    five_euros(total_limit=1)

    errors = at_once([partial(run, redeem(n, customer_id=n)) for n in range(1, 65)], using=database_of("coupons"))

    assert errors == []
    assert redeemed() == 1
    assert sorted(Redemption.objects.values_list("status", flat=True)) == ["redeemed"] + ["refused"] * 63
    assert_books_balance()


@on_several_connections
def test_customer_with_one_use_gets_it_once_in_many_orders_at_once() -> None:
    five_euros(per_customer_limit=1)

    errors = at_once([partial(run, redeem(n)) for n in range(1, 17)], using=database_of("coupons"))

    assert errors == []
    assert redeemed() == 1
    assert_books_balance()


@on_several_connections
def test_workers_with_mixed_news_of_the_same_orders_and_coupons_do_not_stand_in_each_others_way() -> None:
    codes = ("A", "B", "C")
    for code in codes:
        five_euros(code=code)
    rng = random.Random(1)
    code_of = {order_id: rng.choice(codes) for order_id in range(1, 101)}

    def news() -> list[list[Command]]:
        commands: list[Command] = [redeem(order_id, code) for order_id, code in code_of.items()]
        commands += [release(order_id) for order_id in range(1, 51)]
        rng.shuffle(commands)
        return [commands[start : start + 15] for start in range(0, len(commands), 15)]

    # Every worker has all the news, cut into batches of its own: whatever can wait for each other, will.
    errors = at_once([partial(run_each, news()) for _ in range(8)], using=database_of("coupons"))

    assert errors == []
    assert {status(order_id) for order_id in range(1, 51)} <= {"released", "void"}
    assert {status(order_id) for order_id in range(51, 101)} == {"redeemed"}
    assert sum(redeemed(code) for code in codes) == 50
    assert_books_balance()


@on_several_connections
def test_workers_whose_batches_name_the_coupons_in_different_order_do_not_stand_in_each_others_way() -> None:
    codes = [f"CODE-{n}" for n in range(20)]
    for code in codes:
        five_euros(code=code)
    rng = random.Random(1)

    def work(worker: int) -> list[list[Command]]:
        starts = range(worker * 1000, worker * 1000 + 250, 10)
        return [[redeem(start + n, code) for n, code in enumerate(rng.sample(codes, 10))] for start in starts]

    errors = at_once([partial(run_each, work(worker)) for worker in range(8)], using=database_of("coupons"))

    assert errors == []
    assert sum(redeemed(code) for code in codes) == 8 * 25 * 10
    assert_books_balance()


# --- Quotes and terms ------------------------------------------------------------------------------------------------


def quoted(code: str = "FIVE", *, customer_id: int = 7, subtotal: int = 2000, currency: str = "EUR") -> Quote:
    return selectors.quote(code, customer_id, subtotal, currency, NOW)


def test_quote_tells_the_discount_and_redeems_nothing() -> None:
    five_euros(minimum_spend=1000)

    assert quoted("five") == Quote(code="FIVE", discount=500)
    assert (redeemed(), Redemption.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    "terms, error",
    [
        ({"code": "OTHER"}, UnknownCoupon),
        ({"active": False}, UnknownCoupon),
        ({"valid_from": NOW + timedelta(seconds=1)}, CouponNotYetValid),
        ({"valid_until": NOW}, CouponExpired),
        ({"currency": "USD"}, CouponCurrencyMismatch),
        ({"minimum_spend": 2001}, SpendTooLow),
    ],
)
def test_coupon_that_cannot_be_used_is_not_quoted(terms: dict[str, Any], error: type[CouponError]) -> None:
    five_euros(**terms)

    with pytest.raises(error):
        quoted()


def test_coupon_that_is_used_up_or_used_by_the_customer_is_not_quoted() -> None:
    five_euros(total_limit=2, per_customer_limit=1)
    run(redeem(1))
    with pytest.raises(CouponAlreadyUsed):
        quoted()
    assert quoted(customer_id=8).discount == 500

    run(redeem(2, customer_id=8))
    with pytest.raises(CouponUsedUp):
        quoted(customer_id=9)

    run(release(1))
    assert quoted().discount == 500


@pytest.mark.parametrize("code", ["", " ", "\x00", "FIVE\x00", "\ud800", "x" * 5000, "F%VE", "FIVE\n5"])
def test_text_that_is_no_code_is_an_unknown_coupon(code: str) -> None:
    five_euros()

    with pytest.raises(UnknownCoupon):
        quoted(code)


def test_coupon_is_added_once_and_must_make_sense() -> None:
    five_euros()

    with pytest.raises(DuplicateCoupon, match="There is a coupon with this code already: FIVE"):
        five_euros(code="five", value=400)
    with pytest.raises(InvalidCoupon):
        five_euros(code="SIX", value=0)

    assert Coupon.objects.values_list("code", "value").get() == ("FIVE", 500)
