"""Repairing dead letters: edited, redriven one by one or as a run at a set rate, archived; and who did it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from eventing import deadletters, redrives, topology
from eventing.models import DeadLetter, InboxEntry, RedriveRun
from eventing.tasks import collect_dead_letters
from eventing.wire import Envelope, Message
from tests.factories import EmployeeFactory
from tests.integration.conftest import Notes
from tests.integration.test_admin import FakePublisher, client_of, text
from tests.integration.test_delivery import deliver, envelopes

pytestmark = pytest.mark.django_db(databases="__all__")

LETTERS = "/admin/eventing/deadletter/"
AT = "2026-05-01T12:00:00Z"
CAPTURED = {"payment_id": "p", "customer_id": 1, "amount": 1, "currency": "EUR", "at": AT}
DELIVERED = {"customer_id": 1, "at": AT}


class Handing(FakePublisher):
    """Hands what it is given to the subscriber at once."""

    def send(self, message: Message[Envelope]) -> None:
        super().send(message)
        deliver(message.events)


@pytest.fixture(autouse=True)
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The steps of runs that workers were asked for."""
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(redrives, "post", lambda run_id, step, countdown=None: steps.append((run_id, step)))
    return steps


@pytest.fixture
def operator(db: None) -> User:
    return EmployeeFactory.create(username="olga", permissions=["view_deadletter", "change_deadletter"])


@pytest.fixture
def office(operator: User) -> Client:
    return client_of(operator)


@pytest.fixture
def viewer(db: None) -> Client:
    return client_of(EmployeeFactory.create(username="vera", permissions=["view_deadletter"]))


def parked(notes: Notes, *texts: str, error: Exception | None = None) -> list[DeadLetter]:
    """Events that the test's subscriber failed on, and would handle by now."""
    after = DeadLetter.objects.count()
    notes.write(after + 1, *texts)
    notes.fail_on = dict.fromkeys(texts, error or ValueError("a bug"))
    deliver(envelopes())
    notes.fail_on = {}
    return list(DeadLetter.objects.order_by("id"))[after:]


def work_off(run: RedriveRun, publisher: Any) -> RedriveRun:
    step: int | None = run.step
    while step is not None:
        step = redrives.work(run.pk, step, publisher)
    run.refresh_from_db()
    return run


def done_to(letter: DeadLetter) -> list[tuple[str, str, str]]:
    letter.refresh_from_db()
    return [(entry["by"], entry["did"], entry["note"]) for entry in letter.history]


# --- One letter ---------------------------------------------------------------------------------------------------


def test_a_letter_that_is_handled_after_its_redrive_is_settled(notes: Notes) -> None:
    [letter] = parked(notes, "a")

    deadletters.redrive(letter, FakePublisher(), by="olga")
    assert deadletters.note_handled() == 0
    letter.refresh_from_db()
    assert letter.status == DeadLetter.Status.REDRIVEN
    deadletters.redrive(letter, Handing(), by="olga")
    collect_dead_letters(0)

    letter.refresh_from_db()
    assert (letter.status, notes.seen) == (DeadLetter.Status.HANDLED, ["a"])


def test_redriving_what_was_handled_changes_nothing(notes: Notes) -> None:
    [letter] = parked(notes, "a")

    for _ in range(3):
        letter.refresh_from_db()
        deadletters.redrive(letter, Handing(), by="olga")

    assert notes.seen == ["a"]
    assert InboxEntry.objects.filter(subscriber="notes").count() == 1


def test_a_letter_that_fails_again_is_open_with_the_new_error_and_all_attempts(notes: Notes) -> None:
    [letter] = parked(notes, "a")
    publisher = FakePublisher()
    deadletters.redrive(letter, publisher, by="olga")
    notes.fail_on["a"] = KeyError("another bug")
    letter.refresh_from_db()

    deliver([deadletters._envelope(letter)], attempt=1)

    letter.refresh_from_db()
    assert (letter.status, letter.error, letter.attempts) == (DeadLetter.Status.OPEN, "KeyError", 2)
    assert done_to(letter) == [("olga", "redriven", "")]


def edit(client: Client, letter: DeadLetter, **changes: Any) -> str:
    form = {
        "type": letter.type,
        "schema_version": letter.schema_version,
        "data": json.dumps(letter.data),
        "metadata": json.dumps(letter.metadata),
        "seen": letter.failed_at.isoformat(),
    }
    return text(client.post(f"{LETTERS}{letter.pk}/edit/", form | changes, follow=True))


def test_an_edited_letter_reaches_its_subscriber_as_it_is_now_and_keeps_what_came(
    office: Client, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    [letter] = parked(notes, "wrogn")

    page = edit(office, letter, data='{"text": "right", "author": "ann"}')

    assert "Saved." in page
    assert "olga · edited data" in page
    assert '- "text": "wrogn"' in page
    assert '+ "text": "right"' in page
    letter.refresh_from_db()
    assert (letter.original or {})["data"] == {"text": "wrogn", "author": "ann"}
    publisher = Handing()
    monkeypatch.setattr("backoffice.eventing.Publisher", lambda **options: publisher)
    settle(office, "redrive", letter)
    assert publisher.sent == ["notes: note-0000000000001@1"]
    assert notes.seen == ["right"]
    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["Edited: data.", "Redriven."]
    assert LogEntry.objects.get(change_message="Redriven.").user.username == "olga"


def test_a_late_copy_of_the_event_does_not_undo_an_edit(office: Client, notes: Notes) -> None:
    notes.write(1, "wrogn")
    notes.fail_on["wrogn"] = ValueError("a bug")
    batch = envelopes()
    deliver(batch)
    letter = DeadLetter.objects.get()
    edit(office, letter, data='{"text": "right", "author": "ann"}')

    deliver(batch)

    letter.refresh_from_db()
    assert letter.data["text"] == "right"


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"data": '{"text": "a"'}, "This is not JSON: Expecting ',' delimiter in line 1, column 13."),
        ({"data": '{"text": NaN, "author": "ann"}'}, "This is not JSON: NaN is no JSON number."),
        ({"data": '["text"]'}, "This is JSON, but not an object"),
        ({"data": '{"text": 7, "author": "ann"}'}, "Expected `str`, got `int`"),
        ({"data": '{"text": "a\\u0000", "author": "ann"}'}, "cannot contain the character"),
        ({"metadata": "{}"}, "missing required field `correlation_id`"),
        ({"type": "note.forgotten"}, "no event class is registered as 'note.forgotten'"),
        ({"type": "order.confirmed", "schema_version": "1", "data": "{}"}, "Not saved"),
        ({"schema_version": "9"}, "newer than 2"),
        ({"schema_version": "x"}, "Enter a whole number."),
        ({"schema_version": "0"}, "greater than or equal to 1"),
        ({"seen": "2026-01-01T00:00:00+00:00"}, "it has failed again meanwhile"),
    ],
)
def test_what_the_subscriber_could_not_read_is_not_saved(
    office: Client, notes: Notes, changes: dict[str, str], complaint: str
) -> None:
    [letter] = parked(notes, "a")

    page = edit(office, letter, **changes)

    assert complaint in page
    letter.refresh_from_db()
    assert (letter.data, letter.original, letter.history) == ({"text": "a", "author": "ann"}, None, [])


@pytest.mark.parametrize(
    "event_type, data, changes, complaint",
    [
        ("payment.captured", CAPTURED, {"data": json.dumps(CAPTURED | {"amount": 999_999})}, "what was done outside"),
        ("order.delivered", DELIVERED, {"type": "payment.captured", "data": json.dumps(CAPTURED)}, "stays one"),
        ("payment.requested", CAPTURED, {"data": json.dumps(CAPTURED | {"customer_id": 2})}, "what was done outside"),
        ("order.delivered", DELIVERED, {"data": json.dumps(DELIVERED | {"customer_id": 2})}, "customer_id says"),
        ("order.delivered", DELIVERED, {"metadata": '{"correlation_id": "c", "actor": "operator:1"}'}, "actor says"),
        ("order.delivered", DELIVERED, {"metadata": '{"correlation_id": "d", "actor": "ann"}'}, "correlation_id says"),
    ],
)
def test_an_edit_forges_no_other_event(
    office: Client, event_type: str, data: dict[str, Any], changes: dict[str, str], complaint: str
) -> None:
    letter = DeadLetter.objects.create(
        stream_id=1, category="order", version=9, subscriber="integration", type=event_type, schema_version=1,
        data=data, metadata={"correlation_id": "c", "actor": "ann"}, recorded_at=timezone.now(), error="KeyError",
        message="", traceback="", attempts=1, failed_at=timezone.now(),
    )  # fmt: skip

    assert complaint in edit(office, letter, **changes)

    letter.refresh_from_db()
    assert (letter.type, letter.data, letter.original, letter.history) == (event_type, data, None, [])


def test_what_nobody_can_read_is_neither_edited_nor_redriven(office: Client, notes: Notes) -> None:
    deadletters.park(deadletters.unreadable(b"{"), "notes", ValueError("no event"), "", attempts=1)
    letter = DeadLetter.objects.get()

    assert "there is no event to edit" in text(office.get(f"{LETTERS}{letter.pk}/edit/", follow=True))
    assert "the message is unreadable" in settle(office, "redrive", letter)
    letter.refresh_from_db()
    assert letter.status == DeadLetter.Status.OPEN


def settle(client: Client, action: str, *letters: DeadLetter, **more: str) -> str:
    form = {"action": action, "_selected_action": [letter.pk for letter in letters], **more}
    return text(client.post(LETTERS, form, follow=True))


def test_letters_are_archived_with_a_reason(office: Client, notes: Notes) -> None:
    letters = parked(notes, "a", "b")

    assert "The effect of 2 events is not wanted any more" in settle(office, "archive", *letters)
    assert set(DeadLetter.objects.values_list("status", flat=True)) == {"open"}
    assert "2 dead letters were archived." in settle(office, "archive", *letters, reason="customer has left")

    assert set(DeadLetter.objects.values_list("status", flat=True)) == {"archived"}
    assert done_to(letters[0]) == [("olga", "archived", "customer has left")]
    assert "olga · archived customer has left" in text(office.get(f"{LETTERS}{letters[0].pk}/change/"))
    assert LogEntry.objects.filter(change_message="Archived: customer has left", user__username="olga").count() == 2


def test_reason_of_an_archive_is_a_text_as_others_are(office: Client, notes: Notes) -> None:
    [letter] = parked(notes, "a")

    assert "a character in it that cannot be seen" in settle(office, "archive", letter, reason="paid \u202eecivt")
    assert done_to(letter) == []
    settle(office, "archive", letter, reason=" cafe\u0301\u00a0closed ")
    assert done_to(letter) == [("olga", "archived", "café closed")]


def test_open_letters_are_grouped_by_subscriber_and_error_with_links_to_the_list(office: Client, notes: Notes) -> None:
    parked(notes, "a", "b")
    parked(notes, "c", error=KeyError("c"))

    response = office.get(LETTERS)

    assert [(one["subscriber"], one["error"], one["dead_letters"]) for one in response.context["groups"]] == [
        ("notes", "ValueError", 2),
        ("notes", "KeyError", 1),
    ]
    narrowed = office.get(f"{LETTERS}?{response.context['groups'][1]['query']}")
    assert [letter.error for letter in narrowed.context["cl"].result_list] == ["KeyError"]


# --- Runs ---------------------------------------------------------------------------------------------------------


def start(client: Client, query: str = "", rate: int = 10) -> RedriveRun:
    client.post(f"{LETTERS}redrive/?{query}", {"rate": rate})
    return RedriveRun.objects.latest("id")


def test_a_run_redrives_all_that_match_at_its_rate(office: Client, notes: Notes, posted: list[tuple[int, int]]) -> None:
    letters = parked(notes, *"abcde")
    [other] = parked(notes, "f", error=KeyError("f"))

    asked = text(office.get(f"{LETTERS}redrive/?error=ValueError"))
    run = start(office, "error=ValueError", rate=2)
    publisher = Handing()

    assert "5 dead letters match status open, error ValueError" in asked
    assert posted == [(run.pk, 0)]
    assert redrives.work(run.pk, 0, publisher) == 1
    assert len(publisher.sent) == 2
    assert "2 of 5 sent" in text(office.get(f"{LETTERS}runs/{run.pk}/progress/"))
    run.refresh_from_db()
    work_off(run, publisher)
    assert (run.state, run.sent, run.total, run.step) == ("done", 5, 5, 3)
    assert notes.seen == list("abcde")
    assert done_to(letters[0]) == [("olga", "redriven", f"redrive run {run.pk}")]
    assert done_to(other) == []
    page = office.get(f"{LETTERS}runs/{run.pk}/")
    assert "5 of 5 sent" in text(page)
    assert "hx-get" not in page.content.decode().partition('id="run"')[2].partition("</section>")[0]
    assert f"{run.pk} done status open, error ValueError" in text(office.get(f"{LETTERS}runs/"))


def test_letters_that_fail_again_are_not_redriven_twice_by_a_run(office: Client, notes: Notes) -> None:
    parked(notes, "a", "b")
    run = start(office, rate=1)
    notes.fail_on["a"] = ValueError("still")
    publisher = Handing()

    work_off(run, publisher)

    assert len(publisher.sent) == 2
    assert (run.state, run.sent) == ("done", 2)
    assert DeadLetter.objects.get(status="open").data["text"] == "a"


def test_a_run_is_cancelled_half_way_and_continued(office: Client, notes: Notes, posted: list[tuple[int, int]]) -> None:
    parked(notes, *"abcd")
    run = start(office, rate=2)
    publisher = Handing()
    following = redrives.work(run.pk, 0, publisher)
    assert following == 1

    office.post(f"{LETTERS}runs/{run.pk}/move/", {"action": "cancel"})

    assert redrives.work(run.pk, following, publisher) is None
    run.refresh_from_db()
    assert (run.state, run.sent, len(publisher.sent)) == ("cancelled", 2, 2)
    office.post(f"{LETTERS}runs/{run.pk}/move/", {"action": "continue"})
    assert posted[-1] == (run.pk, 1)
    work_off(run, publisher)
    run.refresh_from_db()
    assert (run.state, run.sent, notes.seen) == ("done", 4, list("abcd"))
    assert [(entry["by"], entry["did"]) for entry in run.history] == [
        ("olga", "started"),
        ("olga", "cancelled"),
        ("olga", "continued"),
    ]
    assert list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))[1:] == [
        "Cancelled.",
        "Continued.",
    ]
    assert "there is nothing to cancel" in text(
        office.post(f"{LETTERS}runs/{run.pk}/move/", {"action": "cancel"}, follow=True)
    )


def test_a_cancelled_run_stops_within_its_second(office: Client, notes: Notes) -> None:
    parked(notes, *"abcd")
    run = start(office, rate=4)

    class Cancelling(Handing):
        def send(self, message: Message[Envelope]) -> None:
            super().send(message)
            redrives.cancel(RedriveRun.objects.get(pk=run.pk), by="olga")

    publisher = Cancelling()

    assert redrives.work(run.pk, 0, publisher) is None
    assert len(publisher.sent) == 1


def test_of_two_copies_of_a_step_one_does_nothing(office: Client, notes: Notes) -> None:
    parked(notes, *"abcd")
    run = start(office, rate=2)
    publisher = Handing()

    assert redrives.work(run.pk, 0, publisher) == 1
    assert redrives.work(run.pk, 0, publisher) is None
    assert len(publisher.sent) == 2


def test_a_run_whose_worker_died_is_shown_as_interrupted_and_taken_up_again(
    office: Client, notes: Notes, posted: list[tuple[int, int]]
) -> None:
    parked(notes, *"abc")
    run = start(office, rate=1)

    class Dying(Handing):
        def send(self, message: Message[Envelope]) -> None:
            if self.sent:
                raise KeyboardInterrupt
            super().send(message)

    publisher = Dying()
    assert redrives.work(run.pk, 0, publisher) == 1
    with pytest.raises(KeyboardInterrupt):
        redrives.work(run.pk, 1, publisher)
    posted.clear()
    collect_dead_letters(0)
    assert posted == []
    RedriveRun.objects.update(worked_at=timezone.now() - redrives.STALLED_AFTER - timedelta(seconds=1))
    assert "Stalled" in text(office.get(f"{LETTERS}runs/{run.pk}/"))

    collect_dead_letters(0)

    run.refresh_from_db()
    assert posted == [(run.pk, run.step)]
    work_off(run, Handing())
    assert (run.state, run.sent, notes.seen) == ("done", 3, ["a", "b", "c"])


def test_a_run_without_a_broker_says_so_and_loses_nothing(office: Client, notes: Notes) -> None:
    parked(notes, *"abc")
    run = start(office, rate=3)

    assert redrives.work(run.pk, 0, FakePublisher(broken_after=1)) is None

    run.refresh_from_db()
    assert (run.state, run.sent) == ("running", 1)
    assert "The broker does not answer: broker away" in text(office.get(f"{LETTERS}runs/{run.pk}/"))
    work_off(run, Handing())
    assert (run.state, run.sent, run.error) == ("done", 3, "")


def test_letters_that_cannot_be_sent_are_skipped(office: Client, notes: Notes) -> None:
    deadletters.park(deadletters.unreadable(b"{"), "notes", ValueError("no event"), "", attempts=1)
    parked(notes, "a")
    run = start(office)

    work_off(run, Handing())

    assert (run.state, run.sent, run.skipped) == ("done", 1, 1)
    assert "1 cannot be sent" in text(office.get(f"{LETTERS}runs/{run.pk}/"))


@pytest.mark.parametrize("rate", ["0", "-1", "201", "fast", ""])
def test_a_rate_that_makes_no_sense_starts_nothing(office: Client, notes: Notes, rate: str) -> None:
    parked(notes, "a")

    response = office.post(f"{LETTERS}redrive/", {"rate": rate})

    assert response.status_code == 200
    assert not RedriveRun.objects.exists()


def test_a_run_over_nothing_is_not_started(office: Client) -> None:
    assert "There is nothing to redrive." in text(office.post(f"{LETTERS}redrive/?subscriber=nobody", {"rate": "5"}))
    assert not RedriveRun.objects.exists()


def test_who_may_only_look_sees_runs_and_moves_nothing(viewer: Client, office: Client, notes: Notes) -> None:
    [letter] = parked(notes, "a")
    run = start(office)

    for path in ("", "runs/", f"runs/{run.pk}/", f"runs/{run.pk}/progress/"):
        page = viewer.get(f"{LETTERS}{path}")
        assert page.status_code == 200
        assert "Cancel" not in text(page)
        assert "Redrive all" not in text(page)
    for path in ("redrive/", f"{letter.pk}/edit/", f"runs/{run.pk}/move/"):
        assert viewer.get(f"{LETTERS}{path}").status_code == 403
        assert viewer.post(f"{LETTERS}{path}", {"action": "cancel", "rate": "1"}).status_code == 403
    run.refresh_from_db()
    assert run.state == "running"


@pytest.fixture
def real_post(monkeypatch: pytest.MonkeyPatch, posted: list[tuple[int, int]], broker: None) -> None:
    monkeypatch.undo()


@pytest.mark.services
def test_steps_travel_through_the_broker_one_second_apart(notes: Notes, real_post: None) -> None:
    """The first step waits in the queue of tasks; the second comes by the delayed delivery."""
    parked(notes, "a", "b")
    run = redrives.start({"status": "open"}, 1, by="olga")
    with current_app.connection_for_read() as connection:
        queue = topology.work_queue(topology.TASKS)(connection.default_channel)
        message = queue.get(no_ack=True)
    assert message.headers["task"] == redrives.TASK
    assert message.payload[1] == {"run_id": run.pk, "step": 0}
