"""Notifications: what customers are told, on which channel, and that nobody is told twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.locmem import EmailBackend as LocmemBackend
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from eventing import clocks, store, subscribers
from eventing.models import DeadLetter
from eventing.recorded import Metadata, NewEvents, Recorded
from eventing.testing import deliver_shuffled, drain
from notifications import handlers, selectors, sending, tasks, texts
from notifications.events import CATEGORY, MessageFailed, MessageSent
from notifications.models import Message
from notifications.templatetags.notification_text import money
from orders.events import CATEGORY as ORDER
from orders.events import (
    CancelReason,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderDeadlineExtended,
    OrderDelivered,
    OrderPaid,
    OrderPlaced,
    OrderRefunded,
    OrderRejected,
    OrderShipped,
    RejectReason,
    ShortItem,
)
from payments.events import CATEGORY as PAYMENT
from payments.events import PaymentDeclined, PaymentRefunded
from sharding import numbers
from sharding.router import database_of
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db(databases="__all__")
on_several_connections = pytest.mark.django_db(databases="__all__", transaction=True)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
METADATA = Metadata(correlation_id="test")


@pytest.fixture(autouse=True)
def requests_to_send(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Counts what would be asked of a worker; the tests send by themselves."""
    requests: list[None] = []
    monkeypatch.setattr(sending, "ask_to_send", lambda: requests.append(None))
    return requests


@pytest.fixture
def ada() -> User:
    return CustomerFactory.create(username="ada", email="ada@example.com", first_name="Ada")


@pytest.fixture
def order_id(ada: User) -> int:
    return numbers.new_order_id(ada.id, NOW)


LINES = (
    Line(sku="MUG-01", name="Mug <Blue & White>", quantity=2, unit_price=1200),
    Line(sku="TEA-02", name="Green tea", quantity=1, unit_price=650),
)


def placed(customer_id: int) -> OrderPlaced:
    return OrderPlaced(
        customer_id=customer_id,
        currency="EUR",
        lines=LINES,
        coupon_code="SPRING",
        discount=305,
        payment_due_at=NOW + timedelta(minutes=30),
        at=NOW,
    )


def cancelled(customer_id: int, reason: CancelReason = CancelReason.PAYMENT_TIMEOUT) -> OrderCancelled:
    return OrderCancelled(customer_id=customer_id, reason=reason, at=NOW)


EVENTS: dict[str, tuple[Callable[[int], Any], str, Sequence[str]]] = {
    "order_placed": (
        placed,
        "We have your order",
        [
            "2 × Mug <Blue & White>, 12.00 EUR each",
            "Discount with SPRING: 3.05 EUR",
            "Total: 27.45 EUR",
            "Please pay by 4 May 2026, 12:30 UTC",
        ],
    ),
    "order_confirmed": (lambda customer: OrderConfirmed(customer_id=customer, at=NOW), "is confirmed", ["Please pay"]),
    "order_rejected": (
        lambda customer: OrderRejected(
            customer_id=customer,
            reason=RejectReason.OUT_OF_STOCK,
            short=(
                ShortItem(sku="MUG-01", wanted=2, available=1),
                ShortItem(sku="TEA-02", wanted=1, available=0),
            ),
            detail="",
            at=NOW,
        ),
        "We cannot fulfil",
        ["MUG-01: 2 wanted, 1 available", "TEA-02: 1 wanted, 0 available"],
    ),
    "order_deadline_extended": (
        lambda customer: OrderDeadlineExtended(customer_id=customer, payment_due_at=NOW + timedelta(hours=2), at=NOW),
        "You have more time to pay",
        [f"until {NOW + timedelta(hours=2):%-d %B %Y, %H:%M} UTC"],
    ),
    "order_paid": (
        lambda customer: OrderPaid(customer_id=customer, payment_id="p", amount=2745, currency="EUR", at=NOW),
        "We have your payment",
        ["27.45 EUR"],
    ),
    "order_shipped": (
        lambda customer: OrderShipped(customer_id=customer, tracking="DHL 0042", at=NOW),
        "is on its way",
        ["Tracking: DHL 0042"],
    ),
    "order_delivered": (lambda customer: OrderDelivered(customer_id=customer, at=NOW), "was delivered", []),
    "order_cancelled": (cancelled, "is cancelled", ["because it was not paid in time"]),
    "order_refunded": (
        lambda customer: OrderRefunded(customer_id=customer, payment_id="p", amount=2745, currency="EUR", at=NOW),
        "We give back your payment",
        ["27.45 EUR"],
    ),
    "payment_declined": (
        lambda customer: PaymentDeclined(customer_id=customer, payment_id="p", reason="card_declined", at=NOW),
        "did not go through",
        ["Your bank declined", "You can pay again"],
    ),
    "payment_refunded": (
        lambda customer: PaymentRefunded(customer_id=customer, payment_id="p", amount=2745, currency="EUR", at=NOW),
        "is on its way back",
        ["27.45 EUR"],
    ),
}


def happens(order_id: int, *events: Any) -> None:
    """Store events, whose streams have nothing else in them, for delivery."""
    with transaction.atomic(using="default"):
        for category in (ORDER, PAYMENT):
            of_category = [event for event in events if event.TYPE.startswith(f"{category}.")]
            write = NewEvents(stream_id=order_id, expected_version=0, events=of_category, metadata=METADATA)
            store.append(category, [write], using="default")


def others() -> set[str]:
    """All subscribers but the one under test."""
    return {subscriber.name for subscriber in subscribers.all_subscribers()} - {"notifications"}


def told(order_id: int, *events: Any) -> None:
    happens(order_id, *events)
    drain(skip=others())
    assert not DeadLetter.objects.exists()


def emails() -> list[Message]:
    return list(Message.objects.filter(channel=Message.Channel.EMAIL).order_by("id"))


def email() -> Message:
    return Message.objects.get(channel=Message.Channel.EMAIL)


def stream(message: Message) -> list[Recorded[Any]]:
    return store.load(CATEGORY, message.id, using=database_of("notifications"))


def all_due() -> None:
    Message.objects.filter(status=Message.Status.PENDING).update(next_attempt_at=clocks.database_time())


# --- What customers are told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("about", EVENTS)
def test_a_customer_is_told_by_mail_and_in_the_inbox(
    about: str, ada: User, order_id: int, mailoutbox: list[EmailMessage]
) -> None:
    make, subject, phrases = EVENTS[about]
    told(order_id, make(ada.id))
    assert sending.send_pending() == 1

    (mail,) = mailoutbox
    (inbox,) = selectors.inbox(ada.id)
    number = numbers.to_text(order_id)
    assert mail.to == ["ada@example.com"]
    assert mail.subject == inbox.subject
    assert mail.body == f"{inbox.body}\n\nSee your order: {texts.order_page(order_id)}"
    assert subject in mail.subject
    assert number in mail.subject
    assert mail.body.startswith("Hello Ada,\n\n")
    assert number in mail.body
    for phrase in phrases:
        assert phrase in mail.body
    assert (inbox.about, inbox.order_id, inbox.status, inbox.created_at) == (about, order_id, "sent", NOW)
    assert inbox.html == ""


def test_the_html_of_a_mail_says_the_same_and_escapes_it(ada: User, order_id: int, mailoutbox: list[Any]) -> None:
    told(order_id, placed(ada.id))
    sending.send_pending()
    ((html, mimetype),) = mailoutbox[0].alternatives
    assert mimetype == "text/html"
    assert "Mug &lt;Blue &amp; White&gt;, 12.00 EUR each" in html


@pytest.mark.parametrize(
    "reason, phrase",
    [
        (CancelReason.CUSTOMER, "as you asked"),
        (CancelReason.OPERATOR, "We had to cancel"),
        (CancelReason.PAYMENT_TIMEOUT, "not paid in time"),
    ],
)
def test_a_cancellation_says_why(reason: CancelReason, phrase: str, ada: User, order_id: int) -> None:
    told(order_id, cancelled(ada.id, reason))
    assert phrase in email().body


def test_a_rejection_for_another_reason_than_stock_gives_its_detail(ada: User, order_id: int) -> None:
    detail = "The coupon SPRING is used up."
    told(
        order_id,
        OrderRejected(customer_id=ada.id, reason=RejectReason.COUPON_REFUSED, short=(), detail=detail, at=NOW),
    )
    assert f"{numbers.to_text(order_id)}: {detail}" in email().body
    assert "available" not in email().body


@pytest.mark.parametrize(
    "amount, currency, text",
    [
        (0, "EUR", "0.00 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-1234, "EUR", "-12.34 EUR"),
        (1234, "JPY", "1234 JPY"),
        (1234, "KWD", "1.234 KWD"),
    ],
)
def test_money_is_written_with_the_decimals_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def test_a_customer_without_an_address_is_told_in_the_inbox_only(order_id: int) -> None:
    bob = CustomerFactory.create(username="bob", email="")
    told(order_id, placed(bob.id))
    assert emails() == []
    assert [message.body.splitlines()[0] for message in selectors.inbox(bob.id)] == ["Hello bob,"]


def test_a_customer_without_an_account_is_told_in_the_inbox_only() -> None:
    told(numbers.new_order_id(404, NOW), placed(404))
    assert emails() == []
    assert [message.body.splitlines()[0] for message in selectors.inbox(404)] == ["Hello,"]


@pytest.mark.parametrize("seed", range(5))
def test_everything_delivered_twice_and_shuffled_tells_everything_once(
    seed: int, ada: User, mailoutbox: list[EmailMessage]
) -> None:
    for second in range(3):
        order_id = numbers.new_order_id(ada.id, NOW + timedelta(seconds=second))
        happens(order_id, *(make(ada.id) for make, _, _ in EVENTS.values()))

    deliver_shuffled(random.Random(seed), skip=others())
    deliver_shuffled(random.Random(seed), skip=others())
    sending.send_pending()
    sending.send_pending()

    assert not DeadLetter.objects.exists()
    occasions = 3 * len(EVENTS)
    assert len(selectors.inbox(ada.id, limit=100)) == occasions
    assert len(mailoutbox) == occasions
    assert len({mail.subject for mail in mailoutbox}) == occasions
    assert {message.status for message in emails()} == {"sent"}
    assert all([type(recorded.event) for recorded in stream(message)] == [MessageSent] for message in emails())


def test_telling_takes_a_constant_number_of_statements() -> None:
    def statements(count: int) -> int:
        occasions = []
        for _ in range(count):
            number = User.objects.count()
            user = User.objects.create(username=f"user{number}", email=f"user{number}@example.com")
            occasions.append(
                handlers.Occasion(
                    about="welcome", customer_id=user.id, event_id=f"e{user.id}", correlation_id="c", at=NOW
                )
            )
        with CaptureQueriesContext(connections["default"]) as queries:
            handlers.notify(occasions)
        return len(queries)

    assert statements(20) == statements(1)


# --- Sending -------------------------------------------------------------------------------------------------------


def test_a_sent_mail_is_an_event_with_the_correlation_of_its_cause(ada: User, order_id: int) -> None:
    told(order_id, placed(ada.id))
    sending.send_pending()

    message = email()
    (sent,) = stream(message)
    assert message.sent_at is not None
    assert (message.status, message.attempts) == ("sent", 1)
    assert sent.event == MessageSent(customer_id=ada.id, channel="email", about="order_placed", at=message.sent_at)
    assert sent.metadata == Metadata(
        correlation_id="test", causation_id=f"order-{numbers.to_text(order_id)}@1", actor="notifications"
    )


def test_a_worker_is_asked_to_send_after_the_commit_and_only_then(
    ada: User, requests_to_send: list[None], django_capture_on_commit_callbacks: Any
) -> None:
    alias = database_of("notifications")
    event_id = f"customer-{ada.id}@1"
    welcome = handlers.Occasion(about="welcome", customer_id=ada.id, event_id=event_id, correlation_id=event_id, at=NOW)

    def tell(*, fails: bool) -> None:
        with transaction.atomic(using=alias):
            handlers.notify([welcome])
            assert requests_to_send == []
            if fails:
                raise ZeroDivisionError

    with django_capture_on_commit_callbacks(using=alias, execute=True), pytest.raises(ZeroDivisionError):
        tell(fails=True)
    assert requests_to_send == []
    assert not Message.objects.exists()

    with django_capture_on_commit_callbacks(using=alias, execute=True):
        tell(fails=False)
    assert requests_to_send == [None]


def test_nobody_is_asked_while_a_new_customer_waits_for_a_page(
    ada: User, requests_to_send: list[None], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(using=database_of("notifications"), execute=True):
        handlers.welcome(ada.id, ada.email, "Ada")
    assert requests_to_send == []
    assert tasks.send_pending_messages() == 1


def test_without_a_broker_the_periodic_task_sends(
    ada: User,
    monkeypatch: pytest.MonkeyPatch,
    mailoutbox: list[EmailMessage],
    django_capture_on_commit_callbacks: Any,
) -> None:
    def broker_is_away() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(sending, "ask_to_send", broker_is_away)
    with django_capture_on_commit_callbacks(using=database_of("notifications"), execute=True):
        handlers.welcome(ada.id, ada.email, "Ada")
    assert mailoutbox == []

    assert tasks.send_pending_messages() == 1
    assert [mail.subject for mail in mailoutbox] == ["Welcome to Wharf"]


@pytest.mark.services
@on_several_connections
def test_a_round_that_loses_its_database_is_left_to_the_next_one(
    ada: User, order_id: int, mailoutbox: list[EmailMessage]
) -> None:
    told(order_id, placed(ada.id))
    connection = connections[database_of("notifications")]
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert tasks.send_pending_messages() == 0, "the broker would take it for a letter that nobody can deliver"
    connection.close()
    assert tasks.send_pending_messages() == 1


def test_a_round_is_bounded(ada: User, order_id: int, mailoutbox: list[EmailMessage]) -> None:
    told(order_id, placed(ada.id), OrderConfirmed(customer_id=ada.id, at=NOW), cancelled(ada.id))
    assert sending.send_pending(limit=2) == 2
    assert sending.send_pending(limit=2) == 1
    assert len(mailoutbox) == 3


class RefusingBackend(LocmemBackend):
    """A mail server that says no and repeats the address in doing so, except for mails about confirmations."""

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        for message in messages:
            if "confirmed" not in message.subject:
                raise ConnectionAbortedError(f"550 <{message.to[0]}>: mailbox full")
        return int(super().send_messages(messages))


class UnreachableBackend(BaseEmailBackend):
    """A mail server that is not there."""

    opened = 0

    def open(self) -> bool:
        type(self).opened += 1
        raise ConnectionRefusedError("nobody there")


def test_a_refused_mail_waits_longer_and_longer_and_fails_after_eight_attempts(
    ada: User, order_id: int, settings: Any, mailoutbox: list[EmailMessage]
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.RefusingBackend"
    told(order_id, placed(ada.id))
    for attempt in range(1, sending.MAX_ATTEMPTS):
        before = timezone.now()
        assert sending.send_pending() == 0
        message = email()
        assert (message.status, message.attempts) == ("pending", attempt)
        assert message.next_attempt_at is not None
        pause = min(30 * 2 ** (attempt - 1), 3600)
        assert pause * 0.5 <= (message.next_attempt_at - before).total_seconds() <= pause * 1.5 + 5
        assert sending.send_pending() == 0
        assert email().attempts == attempt, "it is not due yet"
        all_due()

    sending.send_pending()

    message = email()
    assert (message.status, message.attempts) == ("failed", sending.MAX_ATTEMPTS)
    (failed,) = stream(message)
    assert failed.event == MessageFailed(
        customer_id=ada.id,
        channel="email",
        about="order_placed",
        error="ConnectionAbortedError: 550 <<address>>: mailbox full",
        at=failed.event.at,
    )
    assert sending.send_pending() == 0
    assert mailoutbox == []
    assert len(selectors.inbox(ada.id)) == 1, "the inbox does not need the mail server"


def test_a_refused_mail_does_not_stop_the_others(
    ada: User, order_id: int, settings: Any, mailoutbox: list[EmailMessage]
) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.RefusingBackend"
    told(order_id, placed(ada.id), OrderConfirmed(customer_id=ada.id, at=NOW), cancelled(ada.id))
    assert sending.send_pending() == 1
    assert sorted((message.about, message.status) for message in emails()) == [
        ("order_cancelled", "pending"),
        ("order_confirmed", "sent"),
        ("order_placed", "pending"),
    ]


def test_an_unreachable_mail_server_ends_the_round(ada: User, order_id: int, settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.UnreachableBackend"
    UnreachableBackend.opened = 0
    told(order_id, placed(ada.id), OrderConfirmed(customer_id=ada.id, at=NOW), cancelled(ada.id))
    assert sending.send_pending() == 0
    assert UnreachableBackend.opened == 1
    assert sorted(message.attempts for message in emails()) == [0, 0, 1]
    assert {message.status for message in emails()} == {"pending"}


class DyingBackend(BaseEmailBackend):
    """The process dies while it talks to the mail server."""

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        raise SystemExit


def test_a_mail_whose_process_died_is_not_sent_again_by_itself_but_an_operator_can(
    ada: User, order_id: int, settings: Any, mailoutbox: list[EmailMessage]
) -> None:
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.DyingBackend"
    told(order_id, placed(ada.id))
    with pytest.raises(SystemExit):
        sending.send_pending()
    settings.EMAIL_BACKEND = backend

    assert email().status == "sending"
    assert sending.send_pending() == 0
    assert sending.send_again([email().id]) == 0, "it may still be on its way"
    assert sending.give_up_abandoned(timezone.now()) == 0
    assert sending.give_up_abandoned(timezone.now() + sending.ABANDONED_AFTER) == 1
    assert (email().status, email().last_error) == ("failed", "Its sending was cut off: it may have gone out.")
    assert sending.send_pending() == 0
    assert mailoutbox == []

    assert sending.send_again([email().id]) == 1
    assert sending.send_pending() == 1
    assert len(mailoutbox) == 1


def test_a_failed_mail_can_be_sent_again(
    ada: User, order_id: int, settings: Any, mailoutbox: list[EmailMessage]
) -> None:
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.RefusingBackend"
    told(order_id, placed(ada.id))
    for _ in range(sending.MAX_ATTEMPTS):
        sending.send_pending()
        all_due()
    settings.EMAIL_BACKEND = backend

    assert sending.send_again([email().id]) == 1
    assert sending.send_pending() == 1
    assert len(mailoutbox) == 1
    assert [type(recorded.event) for recorded in stream(email())] == [MessageFailed, MessageSent]
    assert sending.send_again([email().id]) == 0, "what was sent stays sent"


def test_a_mail_is_not_sent_inside_a_transaction(ada: User, order_id: int, mailoutbox: list[EmailMessage]) -> None:
    told(order_id, placed(ada.id))
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=database_of("notifications")):
        sending.send_pending()
    assert mailoutbox == []


def test_no_address_gets_into_the_logs(ada: User, order_id: int, settings: Any) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.RefusingBackend"
    told(order_id, placed(ada.id))
    with structlog.testing.capture_logs() as logs:
        sending.send_pending()
    assert logs == [
        {
            "event": "notifications.not_sent",
            "log_level": "warning",
            "message_id": email().id,
            "attempts": 1,
            "error": "ConnectionAbortedError",
        }
    ]
    assert "ada@example.com" not in email().last_error


@on_several_connections
def test_two_senders_at_once_send_each_mail_once(ada: User, mailoutbox: list[EmailMessage]) -> None:
    for second in range(20):
        order_id = numbers.new_order_id(ada.id, NOW + timedelta(seconds=second))
        told(order_id, OrderConfirmed(customer_id=ada.id, at=NOW))
    errors: list[BaseException] = []
    sent: list[int] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        try:
            barrier.wait(timeout=10)
            sent.append(sending.send_pending())
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert errors == []
    assert sum(sent) == len(mailoutbox) == len({mail.subject for mail in mailoutbox}) == 20
    assert {message.status for message in emails()} == {"sent"}


# --- Registration and the inbox ------------------------------------------------------------------------------------


def test_a_new_customer_is_welcomed_once(ada: User, mailoutbox: list[EmailMessage]) -> None:
    handlers.welcome(ada.id, ada.email, "Ada")
    handlers.welcome(ada.id, ada.email, "Ada")
    sending.send_pending()

    assert [(mail.to, mail.subject) for mail in mailoutbox] == [(["ada@example.com"], "Welcome to Wharf")]
    assert mailoutbox[0].body.startswith("Hello Ada,\n\n")
    (inbox,) = selectors.inbox(ada.id)
    assert (inbox.about, inbox.event_id, inbox.order_id) == ("welcome", f"customer-{ada.id}@1", None)


def test_the_inbox_comes_newest_first_in_pages_and_shows_nobody_elses(ada: User) -> None:
    bob = CustomerFactory.create(username="bob")
    for minutes, customer in [(2, ada), (0, ada), (1, ada), (1, ada), (5, bob)]:
        at = NOW + timedelta(minutes=minutes)
        told(numbers.new_order_id(customer.id, at), OrderConfirmed(customer_id=customer.id, at=at))

    seen = selectors.inbox(ada.id, limit=3)
    rest = selectors.inbox(ada.id, limit=3, before=(seen[-1].created_at, seen[-1].id))

    assert [message.created_at.minute for message in seen + rest] == [2, 1, 1, 0]
    assert {message.customer_id for message in seen + rest} == {ada.id}


def test_messages_are_unread_until_their_customer_reads_them(ada: User, order_id: int) -> None:
    told(order_id, placed(ada.id), OrderConfirmed(customer_id=ada.id, at=NOW), cancelled(ada.id))
    assert selectors.unread(ada.id) == 3
    first = selectors.inbox(ada.id)[0]

    assert handlers.mark_read(ada.id + 1, [first.id]) == 0
    assert selectors.unread(ada.id) == 3

    assert handlers.mark_read(ada.id, [first.id]) == 1
    assert handlers.mark_read(ada.id, [first.id]) == 0
    assert selectors.unread(ada.id) == 2

    assert handlers.mark_read(ada.id) == 2
    assert selectors.unread(ada.id) == 0
    assert all(message.read_at is None for message in emails())


def test_the_messages_about_events_are_found_on_all_channels(ada: User, order_id: int) -> None:
    told(order_id, placed(ada.id), OrderConfirmed(customer_id=ada.id, at=NOW + timedelta(seconds=1)))
    stream_name = f"order-{numbers.to_text(order_id)}"
    found = selectors.about([f"{stream_name}@2", f"{stream_name}@1", f"{stream_name}@3"])
    assert [message.about for message in found] == ["order_placed"] * 2 + ["order_confirmed"] * 2
    assert {message.channel for message in found} == {"email", "inbox"}


def test_unread_messages_are_counted_to_a_limit_because_the_number_is_on_every_page() -> None:
    for number in range(3):
        Message.objects.create(
            customer_id=7, channel="inbox", about="placed", event_id=str(number), correlation_id="c", subject="Hello",
            body="", status="sent", created_at=timezone.now(),
        )  # fmt: skip
    assert selectors.unread(7) == 3
    assert selectors.unread(7, limit=2) == 2
    assert selectors.unread(8) == 0


def test_mail_about_an_order_leads_to_its_page(ada: User, order_id: int, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://shop.example.com"
    occasion = handlers.Occasion(
        about="order_placed",
        customer_id=ada.id,
        event_id="test@1",
        correlation_id="test",
        at=NOW,
        order_id=order_id,
        context={"event": placed(ada.id), "total": 2745},
    )
    handlers.notify([occasion])
    link = f"https://shop.example.com{reverse('storefront:order', args=[numbers.to_text(order_id)])}"
    mail = Message.objects.get(channel="email")
    assert mail.body.endswith(f"\nSee your order: {link}")
    assert f'<a href="{link}">See your order</a>' in mail.html
    assert "2 × Mug &lt;Blue &amp; White&gt;, 12.00 EUR each" in mail.html
    assert "<Blue" not in mail.html
    assert link not in Message.objects.get(channel="inbox").body


def test_mail_that_is_about_no_order_has_no_link(ada: User) -> None:
    handlers.welcome(ada.id, ada.email, "Ada")
    mail = Message.objects.get(channel="email")
    assert "See your order" not in mail.body + mail.html
