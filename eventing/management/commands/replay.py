"""Sends history again to one subscriber: to give a new one its past, or to repair one whose effects were lost."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.utils import timezone

from eventing import browser, registry, replay, subscribers
from eventing.conf import conf
from eventing.console import LongCommand
from eventing.errors import EventingError
from eventing.inline import DirectSender
from eventing.models import Event, ReplayRun
from eventing.publishing import Publisher
from eventing.replay import Selection
from eventing.wire import Replay


def time_in_utc(text: str) -> datetime:
    """A date or a time in ISO 8601; one that names no zone is in UTC."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not a time such as 2026-03-01T12:00 (UTC) or 2026-03-01T12:00+01:00"
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def events_a_second(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1_000_000:
        raise ArgumentTypeError(f"{text!r} is not a number of events a second above 0")
    return rate


class Command(LongCommand):
    help = (
        "Send recorded events again to one subscriber, through its queue and its inbox, oldest first. What it has "
        "handled before it does not handle again, unless --forget. Ctrl-C stops it, --resume goes on. In the embedded "
        "profile, whose broker lives in another process, the events are handled by this process."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--subscriber", metavar="S", help="who gets the events (needed unless --resume)")
        parser.add_argument(
            "--type", action="append", default=[], dest="types", metavar="T", help="only this event type; repeatable"
        )
        parser.add_argument(
            "--stream",
            action="append",
            default=[],
            dest="streams",
            metavar="ID",
            help="only this stream, such as order-0K4T9QXM2ZP7A; repeatable",
        )
        parser.add_argument("--since", type=time_in_utc, metavar="TIME", help="recorded at or after (UTC if no zone)")
        parser.add_argument("--until", type=time_in_utc, metavar="TIME", help="recorded before (default: now)")
        parser.add_argument("--rate", type=events_a_second, metavar="N", help="at most N events a second")
        parser.add_argument("--dry-run", action="store_true", help="say how many events would be sent, send nothing")
        parser.add_argument(
            "--forget",
            action="store_true",
            help="let the subscriber forget that it has handled these events, each together with its new effect",
        )
        outside = parser.add_mutually_exclusive_group()
        outside.add_argument(
            "--with-outside-effects",
            action="store_true",
            default=None,
            dest="outside_effects",
            help="let the subscriber act outside the databases too: mail, payments, messages for other programs",
        )
        outside.add_argument(
            "--without-outside-effects",
            action="store_false",
            default=None,
            dest="outside_effects",
            help="do only what stays in the databases",
        )
        parser.add_argument(
            "--resume",
            nargs="?",
            type=int,
            const=0,
            metavar="ID",
            help="go on with a replay that was stopped (default: the last one)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["resume"] is not None:
                self._send(self._interrupted(options), options["rate"])
            else:
                self._begin(options)
        except EventingError as error:
            raise CommandError(str(error)) from error

    def _begin(self, options: dict[str, Any]) -> None:
        if not options["subscriber"]:
            names = sorted(one.name for one in subscribers.all_subscribers())
            raise CommandError(f"Say --subscriber; there are {', '.join(names)}.")
        subscriber = subscribers.get(options["subscriber"])
        known = {event_class.TYPE for event_class in registry.event_classes()}
        if unknown := sorted(set(options["types"]) - known):
            raise CommandError(f"There is no event type {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        outside = replay.acting_outside(subscriber, options["types"])
        allowed: bool | None = options["outside_effects"]
        if not outside:
            allowed = False
        elif allowed is None and not options["dry_run"]:
            about = "any event" if "*" in outside else ", ".join(outside)
            raise CommandError(
                f"{subscriber.name} acts outside these databases on {about}. --with-outside-effects lets it act"
                " again on replayed events, --without-outside-effects leaves that out."
            )
        how = Replay(outside_effects=allowed is not False and bool(outside), forget=options["forget"])
        selection = self._selection(options, replay.types_for(subscriber, options["types"], how))
        counts = {alias: replay.counts(alias, selection) for alias in settings.DATABASES}
        total = sum(sum(by_type.values()) for by_type in counts.values())
        if not total:
            self.stdout.write("No event matches: nothing to send.")
            return
        if options["dry_run"]:
            for alias, by_type in counts.items():
                for event_type, count in by_type.items():
                    self.stdout.write(f"{alias:<12} {event_type:<28} {count:>10,}")
            self.stdout.write(f"{_events(total)} would be sent to {subscriber.name}.")
            return
        self._send(replay.start(subscriber, selection, how, events=total), options["rate"])

    def _selection(self, options: dict[str, Any], types: tuple[str, ...] | None) -> Selection:
        now = timezone.now()
        since, until = options["since"], options["until"] or now
        if since is not None and since >= until:
            raise CommandError(f"--since {since.isoformat()} is not before --until {until.isoformat()}.")
        streams = tuple(_stream(text) for text in dict.fromkeys(options["streams"]))
        return Selection(types=types, streams=streams, since=since, until=until)

    def _interrupted(self, options: dict[str, Any]) -> ReplayRun:
        for name in ("types", "streams", "since", "until", "forget", "dry_run", "outside_effects"):
            if options[name] not in ([], None, False):
                raise CommandError("A replay goes on with what it was started with: only --rate goes with --resume.")
        runs = ReplayRun.objects.using(DEFAULT_DB_ALIAS).order_by("-pk")
        if options["subscriber"]:
            runs = runs.filter(subscriber=subscribers.get(options["subscriber"]).name)
        if options["resume"]:
            run = runs.filter(pk=options["resume"]).first()
            if run is None:
                raise CommandError(f"There is no replay {options['resume']}.")
            if run.state == ReplayRun.State.FINISHED:
                raise CommandError(f"Replay {run.pk} is finished: {_events(run.sent)} sent to {run.subscriber}.")
            return run
        run = runs.filter(state=ReplayRun.State.RUNNING).first()
        if run is None:
            raise CommandError("No replay was stopped half-way.")
        return run

    def _send(self, run: ReplayRun, rate: float | None) -> None:
        self.report(f"replay {run.pk} to {run.subscriber}: {run.sent:,} of {_events(run.events)} sent so far")
        resume = f"`manage.py replay --resume {run.pk}` goes on."

        def on_progress(alias: str, rate: float) -> None:
            share = run.sent / max(run.events, 1)
            self.report_progress(f"{alias}: {run.sent:,} of {_events(run.events)} sent ({share:.0%}), {rate:,.0f}/s")

        def on_trouble(error: BaseException, seconds: float) -> None:
            self.report(f"the broker does not take events ({error!r}); next try in {seconds:.1f} s")

        sender = closing(Publisher()) if conf.EVENTING_DURABLE_BROKER else nullcontext(DirectSender())
        try:
            with sender as target, _sigterm_like_ctrl_c():
                replay.run(
                    run,
                    target,
                    aliases=settings.DATABASES,
                    rate=rate,
                    on_progress=on_progress,
                    on_trouble=on_trouble,
                )
        except KeyboardInterrupt:
            self.interrupted(f"stopped after {run.sent:,} of {_events(run.events)}. {resume}")
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"A database does not answer: {error}. Nothing is lost; {resume}") from error
        self.stdout.write(f"{_events(run.sent)} sent to {run.subscriber}.")


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _stream(text: str) -> tuple[str, int]:
    """The category and id of a stream that exists; raises CommandError."""
    parsed = browser.parse(text)
    if parsed is None or parsed[2]:
        raise CommandError(f"{text!r} is not a stream: they look like order-0K4T9QXM2ZP7A.")
    category, stream_id, _ = parsed
    of_stream = {"category": category, "stream_id": stream_id}
    if not any(Event.objects.using(alias).filter(**of_stream).exists() for alias in settings.DATABASES):
        raise CommandError(f"There is no stream {text}.")
    return category, stream_id


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
