"""Delivery without a broker: everything gets its effect, and nothing is lost when it is cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from eventing.errors import Transient
from eventing.inline import Inline, leading
from eventing.locks import release_session_lock, try_session_lock
from eventing.models import DeadLetter, InboxEntry, OutboxMessage
from eventing.outbox import LOCK
from eventing.relay import Relay
from eventing.testing import Collector
from tests.integration.conftest import Notes, NoteSentOut

pytestmark = pytest.mark.django_db(databases="__all__")

SKIP = ("integration",)


def waiting() -> int:
    return OutboxMessage.objects.count()


def test_events_have_their_effects_and_are_published(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.append(2, [NoteSentOut(text="c")])

    messages = Inline(["default"], skip=SKIP).deliver()

    assert (messages, notes.seen, notes.effects, waiting()) == (1, ["a", "b", "c"], ["c"], 0)


def test_what_follows_from_an_event_is_delivered_too(notes: Notes) -> None:
    inline = Inline(["default"], skip=SKIP)
    notes.write(1, "a")
    inline.deliver()
    notes.write(2, "b")

    assert inline.deliver() == 1
    assert notes.seen == ["a", "b"]
    assert inline.deliver() == 0


def test_rows_that_are_kept_are_delivered_once_and_stay_for_a_relay(notes: Notes) -> None:
    inline = Inline(["default"], skip=SKIP, keep_rows=True)
    notes.write(1, "a")
    inline.deliver()
    notes.write(2, "b")
    inline.deliver()

    assert (notes.seen, waiting()) == (["a", "b"], 2)
    assert set(InboxEntry.objects.values_list("subscriber", flat=True)) == {"notes"}

    collector = Collector()
    Relay("default", sender=collector, durable=True).publish_once()
    assert {message.subscriber for message in collector.messages} == {"notes", "integration"}
    assert waiting() == 0


def test_what_may_get_better_is_tried_again_at_once(notes: Notes) -> None:
    class FailsOnce(dict[str, Exception]):
        def get(self, text: str) -> Exception | None:  # type: ignore[override]
            return self.pop(text, None)

    notes.write(1, "a")
    notes.fail_on = FailsOnce(a=Transient("not yet"))

    Inline(["default"], skip=SKIP).deliver()

    assert notes.seen == ["a"]
    assert InboxEntry.objects.get(subscriber="notes").attempts == 2


def test_what_does_not_get_better_is_a_dead_letter_in_the_end(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.fail_on["b"] = Transient("not yet")

    Inline(["default"], skip=SKIP).deliver()

    assert notes.seen == ["a"]
    letter = DeadLetter.objects.get()
    assert (letter.error, letter.attempts) == ("Transient", settings.EVENTING_MAX_ATTEMPTS)


def test_what_fails_for_good_is_a_dead_letter_and_stops_nothing(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.fail_on["a"] = ValueError("no")

    Inline(["default"], skip=SKIP).deliver()

    assert (notes.seen, waiting()) == (["b"], 0)
    assert DeadLetter.objects.get().error == "ValueError"


def test_an_event_whose_dead_letter_cannot_be_written_stays(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("disk full")

    notes.write(1, "a")
    notes.fail_on["a"] = ValueError("no")
    monkeypatch.setattr("eventing.deadletters.park", broken)

    with pytest.raises(RuntimeError, match="disk full"):
        Inline(["default"], skip=SKIP).deliver()
    assert waiting() == 1


@pytest.fixture
def relay() -> Iterator[BaseDatabaseWrapper]:
    """The connection of somebody else's relay."""
    connection = connections["default"].copy()
    yield connection
    connection.close()


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_database_with_a_relay_is_left_to_it(relay: BaseDatabaseWrapper) -> None:
    assert try_session_lock(relay, LOCK)

    with leading(settings.DATABASES) as free:
        assert free == [alias for alias in settings.DATABASES if alias != "default"]
    release_session_lock(relay, LOCK)


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_relays_stand_by_while_it_runs_and_take_over_after_it(relay: BaseDatabaseWrapper) -> None:
    with leading(["default"]) as free:
        assert free == ["default"]
        assert not try_session_lock(relay, LOCK)

    assert try_session_lock(relay, LOCK)
    release_session_lock(relay, LOCK)
