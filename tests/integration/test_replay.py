"""Replaying history to one subscriber: what is chosen, what the inbox makes of it, and going on after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from celery import current_app
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections

from eventing import deadletters, replay, subscribers, topology
from eventing.crockford import encode
from eventing.inline import DirectSender
from eventing.locks import release_session_lock, try_session_lock
from eventing.models import DeadLetter, Event, InboxEntry, ReplayRun
from eventing.publishing import Publisher
from eventing.recorded import Recorded
from eventing.subscribers import Subscriber
from eventing.tasks import deliver_message
from eventing.testing import Collector, drain
from eventing.wire import Envelope, Message, Replay
from sharding import shards
from tests.integration.conftest import Notes, NoteSentOut, NoteWritten

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture(autouse=True)
def in_this_process(settings: LazySettings) -> None:
    """As in the embedded profile: without a broker."""
    settings.EVENTING_DURABLE_BROKER = False


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("replay", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as refusal:
        call_command("replay", *arguments, stdout=StringIO(), stderr=StringIO())
    return str(refusal.value)


def notes_run(*arguments: str) -> str:
    return run("--subscriber=notes", "--type=note.written", *arguments)


def inbox(subscriber: str = "notes") -> list[int]:
    return list(InboxEntry.objects.filter(subscriber=subscriber).order_by("version").values_list("version", flat=True))


def test_what_was_handled_is_not_handled_again(notes: Notes) -> None:
    notes.write(1, "a", "b")
    drain()

    assert notes_run() == "2 events sent to notes.\n"

    assert notes.seen == ["a", "b"]


def test_what_was_never_handled_is_handled_by_a_replay(notes: Notes) -> None:
    notes.write(1, "a", "b")
    drain()
    InboxEntry.objects.filter(subscriber="notes", version=2).delete()
    notes.seen.clear()

    notes_run()

    assert (notes.seen, inbox()) == (["b"], [1, 2])


def test_what_is_forgotten_is_handled_again_once(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.write(2, "other")
    drain()
    notes.seen.clear()

    notes_run("--forget", f"--stream=note-{encode(1)}")

    assert (notes.seen, inbox()) == (["a", "b"], [1, 1, 2])
    notes_run()
    assert notes.seen == ["a", "b"]


def test_a_message_that_forgets_may_be_delivered_twice(notes: Notes) -> None:
    notes.write(1, "a")
    notes.append(2, [NoteSentOut(text="out")])
    drain()
    notes.seen.clear()
    notes.effects.clear()

    class Twice(DirectSender):
        def send(self, message: Message[Envelope]) -> None:
            super().send(message)
            super().send(message)

    one = replay.start(
        subscribers.get("notes"),
        replay.Selection(types=("note.written", "note.sent_out"), until=datetime.now(UTC)),
        Replay(forget=True, outside_effects=True),
        events=2,
    )
    replay.run(one, Twice(), aliases=["default"])

    assert (sorted(notes.seen), notes.effects) == (["a", "out"], ["out"])


def test_what_fails_while_it_is_forgotten_stays_as_it_was(notes: Notes) -> None:
    notes.write(1, "a")
    drain()
    before = InboxEntry.objects.get(subscriber="notes").handled_at
    notes.fail_on["a"] = ValueError("broken")

    notes_run("--forget")

    assert InboxEntry.objects.get(subscriber="notes").handled_at == before
    letter = DeadLetter.objects.get()
    assert (letter.error, letter.replay) == ("ValueError", {"outside_effects": False, "forget": True})


def test_a_redriven_dead_letter_of_a_replay_may_do_no_more_than_the_replay(notes: Notes) -> None:
    notes.write(1, "a")
    drain()
    notes.fail_on["a"] = ValueError("broken")
    notes_run("--forget")
    sent: list[Any] = []

    class Listening(Publisher):
        def send(self, message: Message[Envelope], *, countdown: int | None = None) -> None:
            sent.append(message.replay)

    deadletters.redrive(DeadLetter.objects.get(), Listening(), by="olga")

    assert sent == [Replay(outside_effects=False, forget=True)]


def test_it_sends_to_one_subscriber_only(notes: Notes) -> None:
    others = Subscriber("others", database=lambda recorded: "default")
    seen: list[str] = []

    @others.on(NoteWritten)
    def see(batch: Sequence[Recorded[NoteWritten]]) -> None:
        seen.extend(recorded.event.text for recorded in batch)

    notes.write(1, "a")

    notes_run()

    assert (notes.seen, seen, inbox("others")) == (["a"], [], [])


def test_events_are_chosen_by_type_stream_and_time(notes: Notes) -> None:
    for day, stream_id in ((1, 1), (2, 2), (3, 3)):
        notes.write(stream_id, f"day {day}")
        Event.objects.filter(stream_id=stream_id).update(recorded_at=datetime(2026, 3, day, tzinfo=UTC))

    notes_run("--since=2026-03-02", "--until=2026-03-03T01:00+01:00")
    assert notes.seen == ["day 2"]

    notes_run(f"--stream=note-{encode(3)}", f"--stream=note-{encode(2)}")
    assert notes.seen == ["day 2", "day 3"]

    notes_run("--since=2026-02-01T00:00")
    assert notes.seen == ["day 2", "day 3", "day 1"]


def test_history_comes_in_the_order_of_time_and_in_messages_of_bounded_size(
    notes: Notes, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EVENTING_MESSAGE_EVENTS = 2
    monkeypatch.setattr(replay, "PAGE", 3)
    for number in range(7):
        notes.write(100 - number, f"n{number}")
    collector = _Sent()

    replay.run(_notes_replay(7), collector, aliases=["default"])

    assert [len(batch) for batch in collector.batches] == [2, 1, 2, 1, 1]
    assert [envelope.stream_id for batch in collector.batches for envelope in batch] == list(range(100, 93, -1))


def test_a_dry_run_counts_and_sends_nothing(notes: Notes) -> None:
    notes.write(1, "a", "b")
    notes.append(2, [NoteSentOut(text="c")])

    answer = run("--subscriber=notes", "--dry-run")

    assert [line.split() for line in answer.splitlines()] == [
        ["default", "note.sent_out", "1"],
        ["default", "note.written", "2"],
        ["3", "events", "would", "be", "sent", "to", "notes."],
    ]
    assert (notes.seen, ReplayRun.objects.count()) == ([], 0)


def test_nothing_that_matches_is_said(notes: Notes) -> None:
    assert notes_run() == "No event matches: nothing to send.\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "Say --subscriber; there are .*inventory"),
        (("--subscriber=nobody",), "no subscriber 'nobody'; there are .*inventory"),
        (("--subscriber=inventory", "--type=order.eaten"), "no event type order.eaten; there are .*order.placed"),
        (("--subscriber=inventory", "--type=order.paid"), "inventory does not handle order.paid; it handles order.can"),
        (("--subscriber=inventory", "--stream=nonsense"), "'nonsense' is not a stream: they look like order-0K4T"),
        (("--subscriber=inventory", "--stream=order-0000000000001"), "no stream order-0000000000001"),
        (("--subscriber=inventory", "--stream=order-0000000000001@2"), "is not a stream"),
        (("--subscriber=inventory", "--since=2026-03-02", "--until=2026-03-01"), "--since .* is not before --until"),
        (("--subscriber=inventory", "--since=2026-03-32"), "'2026-03-32' is not a time"),
        (("--subscriber=inventory", "--until=soon"), "'soon' is not a time"),
        (("--subscriber=inventory", "--rate=0"), "'0' is not a number of events a second above 0"),
        (("--subscriber=inventory", "--rate=-2"), "above 0"),
        (("--subscriber=inventory", "--rate=nan"), "above 0"),
        (("--subscriber=inventory", "--with-outside-effects", "--without-outside-effects"), "not allowed with"),
        (("--resume",), "No replay was stopped half-way"),
        (("--resume", "77"), "no replay 77"),
        (("--resume", "--forget"), "only --rate goes with --resume"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        call_command("replay", *arguments, stdout=StringIO(), stderr=StringIO())
    assert not ReplayRun.objects.exists()


def test_a_subscriber_that_acts_outside_needs_to_be_told(notes: Notes) -> None:
    error = "notes acts outside these databases on note.sent_out. --with-outside-effects .*--without-outside-effects"
    with pytest.raises(CommandError, match=error):
        run("--subscriber=notes")
    with pytest.raises(CommandError, match="integration acts outside these databases on any event"):
        run("--subscriber=integration")
    assert "nothing is left" in refused("--subscriber=integration", "--without-outside-effects")
    assert "about note.sent_out is outside" in refused(
        "--subscriber=notes", "--type=note.sent_out", "--without-outside-effects"
    )


def test_without_outside_effects_only_what_stays_inside_is_done(notes: Notes) -> None:
    notes.write(1, "in")
    notes.append(2, [NoteSentOut(text="out")])

    assert run("--subscriber=notes", "--without-outside-effects") == "1 event sent to notes.\n"
    assert (notes.seen, notes.effects) == (["in"], [])

    run("--subscriber=notes", "--with-outside-effects")
    assert (notes.seen, notes.effects) == (["in", "out"], ["out"])


def test_an_effect_that_a_replay_leaves_out_is_not_marked_as_handled(notes: Notes) -> None:
    """Also when a message brings it that nobody should have sent."""
    [recorded] = notes.append(2, [NoteSentOut(text="out")])
    collector = _Sent()
    one = replay.start(
        subscribers.get("notes"), replay.Selection(types=None, until=datetime.now(UTC)), Replay(), events=1
    )
    replay.run(one, collector, aliases=["default"])
    quiet = Replay(forget=True)
    message = Message(subscriber="notes", events=collector.batches[0], published_at=recorded.recorded_at, replay=quiet)
    DirectSender().send(message)

    assert (notes.effects, inbox()) == ([], [])


def test_a_quiet_handler_leaves_the_inbox_alone(notes: Notes) -> None:
    loud: list[str] = []
    quiet: list[str] = []
    letters = Subscriber("letters", database=lambda recorded: "default", outside_effects=True)
    letters.on(NoteWritten)(lambda batch: loud.extend(recorded.event.text for recorded in batch))
    letters.quietly(NoteWritten)(lambda batch: quiet.extend(recorded.event.text for recorded in batch))
    notes.write(1, "a", "b")
    drain()
    InboxEntry.objects.filter(subscriber="letters", version=2).delete()

    run("--subscriber=letters", "--without-outside-effects")
    assert (loud, quiet, inbox("letters")) == (["a", "b"], ["b"], [1])
    run("--subscriber=letters", "--without-outside-effects", "--forget")
    assert (loud, quiet, inbox("letters")) == (["a", "b"], ["b", "a", "b"], [1])
    run("--subscriber=letters", "--with-outside-effects")
    assert (loud, inbox("letters")) == (["a", "b", "b"], [1, 2])


class _Sent(Collector):
    """Keeps the batches that it is given, and can be told to fail."""

    def __init__(self, fail: Sequence[BaseException] = ()) -> None:
        super().__init__(errors=(ConnectionError,))
        self.batches: list[list[Envelope]] = []
        self.fail = list(fail)

    def send(self, message: Message[Envelope]) -> None:
        if self.fail and (error := self.fail.pop(0)) is not None:
            raise error
        self.batches.append(list(message.events))


def _notes_replay(events: int) -> ReplayRun:
    selection = replay.Selection(types=("note.written",), until=datetime.now(UTC) + timedelta(minutes=1))
    return replay.start(subscribers.get("notes"), selection, Replay(), events=events)


def test_a_database_that_is_away_keeps_none_of_the_others_waiting(notes: Notes) -> None:
    notes.write(1, "a")
    drain()
    InboxEntry.objects.filter(subscriber="notes").delete()
    notes.seen.clear()
    first, *_ = shards.aliases()
    until = datetime.now(UTC)
    one = replay.start(
        subscribers.get("notes"), replay.Selection(types=("note.written",), until=until), Replay(), events=1
    )

    def away(*args: Any) -> None:
        raise OperationalError("connection refused")

    with connections[first].execute_wrapper(away), pytest.raises(OperationalError):
        replay.run(one, DirectSender(), aliases=[first, "default"])
    assert (notes.seen, one.state) == (["a"], ReplayRun.State.RUNNING)

    replay.run(one, DirectSender(), aliases=[first, "default"])
    assert (notes.seen, one.state) == (["a"], ReplayRun.State.FINISHED)


def test_a_broker_that_is_away_is_waited_for(notes: Notes) -> None:
    notes.write(1, "a")
    collector = _Sent(fail=[ConnectionError("refused"), ConnectionError("refused again")])
    troubles: list[str] = []

    replay.run(
        _notes_replay(1), collector, aliases=["default"], on_trouble=lambda error, seconds: troubles.append(str(error))
    )

    assert (len(collector.batches), troubles) == (1, ["refused", "refused again"])


def test_a_replay_that_was_stopped_goes_on_where_it_was(
    notes: Notes, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EVENTING_MESSAGE_EVENTS = 1
    notes.write(1, "a", "b", "c")
    collector = _Sent(fail=[None, KeyboardInterrupt()])  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        replay.run(_notes_replay(3), collector, aliases=["default"])
    stopped = ReplayRun.objects.get()
    assert (stopped.sent, stopped.state) == (1, "running")
    notes.write(9, "later than the replay")
    Event.objects.filter(stream_id=9).update(recorded_at=datetime.now(UTC) + timedelta(hours=1))

    assert run("--resume") == "3 events sent to notes.\n"

    assert notes.seen == ["b", "c"]
    stopped.refresh_from_db()
    assert (stopped.sent, stopped.state) == (3, "finished")
    assert "is finished: 3 events" in refused("--resume", str(stopped.pk))


def test_ctrl_c_says_how_to_go_on(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    notes.write(1, "a")

    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DirectSender, "send", interrupted)
    err = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("replay", "--subscriber=notes", "--type=note.written", stdout=StringIO(), stderr=err)

    assert end.value.code == 130
    assert f"`manage.py replay --resume {ReplayRun.objects.get().pk}` goes on." in err.getvalue()


def test_the_rate_is_kept(notes: Notes, settings: LazySettings) -> None:
    notes.write(1, *[f"n{number}" for number in range(30)])
    began = datetime.now(UTC)

    notes_run("--rate=60")

    assert len(notes.seen) == 30
    assert datetime.now(UTC) - began >= timedelta(seconds=0.5)


@pytest.mark.services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_two_processes_do_not_send_the_same_replay(notes: Notes) -> None:
    notes.write(1, "a")
    one = _notes_replay(1)
    other = connections["default"].copy()
    try:
        assert try_session_lock(other, f"eventing.replay:{one.pk}")
        with pytest.raises(CommandError, match="Another process is sending replay"):
            run("--resume")
        release_session_lock(other, f"eventing.replay:{one.pk}")
    finally:
        other.close()
    run("--resume")
    assert notes.seen == ["a"]


@pytest.mark.services
def test_the_broker_carries_a_replay_to_the_subscribers_queue(
    notes: Notes, broker: None, settings: LazySettings
) -> None:
    settings.EVENTING_DURABLE_BROKER = True
    notes.write(1, "a", "b")
    drain()
    notes.seen.clear()

    notes_run("--forget")

    with current_app.connection_for_read() as connection:
        message = topology.work_queue("notes")(connection.default_channel).get(no_ack=True)
    assert message is not None
    body = message.decode()[1]
    assert body["replay"] == {"outside_effects": False, "forget": True}
    deliver_message.run(**body)
    assert notes.seen == ["a", "b"]
