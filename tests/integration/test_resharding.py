"""Buckets that move between PostgreSQL databases: everything arrives, nobody is let down, and it can be taken back."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from contextlib import closing
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction

from eventing.models import InboxEntry, OutboxMessage
from orders import handlers, selectors
from orders.domain import OrderNotFound, Status
from orders.handlers import IdempotencyKey
from resharding import copying, moving, planning, tables
from resharding.steps import Step
from sharding import shards
from sharding.errors import BucketMoving, MoveRefused
from sharding.models import BucketMove
from sharding.numbers import bucket_range
from sharding.partitions import partition_name
from sharding.router import sharded_tables
from tests.factories import PlacementFactory
from tests.integration.moves import BUCKET, CUSTOMER, SOURCE, TARGET, begin, break_off, create_partitions, owners
from tests.integration.moves import databases as databases
from tests.integration.order_samples import WAYS, ask, confirm, metadata, order_in, place, stored

services = [pytest.mark.services, pytest.mark.django_db(databases="__all__", transaction=True)]
on_services = pytest.mark.usefixtures("databases")

State = BucketMove.State


def rows(alias: str) -> dict[str, int]:
    """How many rows of the bucket a database has in each of its tables."""
    low, high = bucket_range(BUCKET)
    with connections[alias].cursor() as cursor:
        found = {}
        for table, column in sharded_tables().items():
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} BETWEEN {low} AND {high - 1}")
            found[table] = cursor.fetchone()[0]
    return found


def status_of(order_id: int) -> Status | None:
    found = selectors.get(order_id)
    return found.status if found else None


def reshard(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("reshard", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def enter_inbox(order_id: int) -> None:
    at = selectors.get(order_id)
    assert at is not None
    InboxEntry.objects.using(shards.alias_of(order_id)).create(
        stream_id=order_id,
        category="reservation",
        version=1,
        subscriber="orders",
        attempts=1,
        published_at=at.placed_at,
        handled_at=at.placed_at,
    )


class TestMoving:
    pytestmark = [*services, on_services]

    def test_everything_about_an_order_moves_and_can_be_used_there(self) -> None:
        key = IdempotencyKey(key="k", fingerprint="f")
        orders = {status: order_in(status, CUSTOMER) for status in WAYS}
        keyed = handlers.place_order(PlacementFactory.build(customer_id=CUSTOMER), metadata(), idempotency=key).order_id
        other = place(CUSTOMER + 1)
        enter_inbox(keyed)
        before, total, histories = rows(SOURCE), stored(), {one: selectors.history(one) for one in orders.values()}
        assert min(before.values()) > 0

        said = reshard("move", "--bucket", BUCKET, "--to", TARGET)

        assert f"Bucket {BUCKET} is in {TARGET}" in said
        assert owners() == [TARGET]
        assert rows(TARGET) == before
        assert set(rows(SOURCE).values()) == {0}
        assert stored() == total
        for status, order_id in orders.items():
            assert status_of(order_id) is status
            assert selectors.history(order_id) == histories[order_id]
        replay = handlers.replay_of(CUSTOMER, key)
        assert replay is not None
        assert replay.order_id == keyed
        assert ask(confirm(orders[Status.PLACED])) != []  # it lives on
        assert selectors.get(other) is not None
        assert shards.alias_of(place(CUSTOMER)) == TARGET
        assert f"bucket {BUCKET} from {SOURCE} to {TARGET}: moved" in reshard("status")

    def test_it_can_move_back_once_the_source_has_let_go(self) -> None:
        order_id = place(CUSTOMER)
        reshard("move", "--bucket", BUCKET, "--to", TARGET)
        with pytest.raises(CommandError, match="still keeps the rows"):
            reshard("move", "--bucket", BUCKET, "--to", SOURCE)
        ask(confirm(order_id))

        reshard("drop-source")
        reshard("move", "--bucket", BUCKET, "--to", SOURCE, "--drop-source")

        assert owners() == [SOURCE]
        assert status_of(order_id) is Status.CONFIRMED
        with connections[TARGET].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE %s", [f"%\\_b{BUCKET:03d}%"])
            assert cursor.fetchone() == (0,)

    def test_source_is_not_dropped_before_the_target_has_all_its_events(self) -> None:
        order_id = place(CUSTOMER)
        reshard("move", "--bucket", BUCKET, "--to", TARGET)
        with connections[TARGET].cursor() as cursor:
            cursor.execute("DELETE FROM eventing_event WHERE stream_id = %s", [order_id])

        with pytest.raises(CommandError, match=str(order_id)):
            reshard("drop-source")

        with connections[SOURCE].cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {partition_name('eventing_event', BUCKET)}")
            assert cursor.fetchone() == (1,)

    def test_what_changes_while_it_is_copied_arrives_too(self) -> None:
        first = place(CUSTOMER)
        late: list[int] = []

        def go_on(step: Step) -> None:
            if step is Step.COPIED:
                late.append(place(CUSTOMER))
                ask(confirm(first))

        moving.run(begin(), on_step=go_on)

        assert {row.id: row.status for row in selectors.orders_of(CUSTOMER, limit=5)} == {
            first: Status.CONFIRMED,
            late[0]: Status.PLACED,
        }
        assert Counter(message.stream_id for message in OutboxMessage.objects.using(TARGET)) == {first: 2, late[0]: 1}

    def test_rows_that_are_deleted_meanwhile_do_not_come_back(self) -> None:
        order_id = place(CUSTOMER)
        enter_inbox(order_id)

        def prune(step: Step) -> None:
            if step is Step.COPIED:
                InboxEntry.objects.using(SOURCE).all().delete()

        moving.run(begin(), on_step=prune)

        assert rows(TARGET)["eventing_inbox"] == 0

    def test_the_target_shows_everything_of_the_bucket_at_once(self) -> None:
        keyed = handlers.place_order(
            PlacementFactory.build(customer_id=CUSTOMER),
            metadata(),
            idempotency=IdempotencyKey(key="k", fingerprint="f"),
        ).order_id
        enter_inbox(keyed)
        before = rows(SOURCE)
        seen: dict[Step, dict[str, int]] = {}

        moving.run(begin(), on_step=lambda step: seen.update({step: rows(TARGET)}))

        assert set(seen[Step.DETACHED].values()) == {0}
        assert seen[Step.ATTACHED] == before

    def test_an_attempt_that_fails_leaves_no_transaction_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While one is open, every change since its beginning would be copied again by each pass."""
        place(CUSTOMER)
        detach, follow = copying.Copy.detach, copying.Copy.catch_up
        failed: list[bool] = []
        statuses = set()

        def fail_once(copy: copying.Copy) -> None:
            if not failed:
                failed.append(True)
                raise psycopg.errors.QueryCanceled("it took too long")
            detach(copy)

        def watch(copy: copying.Copy, *arguments: Any, **options: Any) -> copying.Pass:
            if "seconds" not in options:  # the write fence is open
                statuses.add(copy.preparing.info.transaction_status)
            return follow(copy, *arguments, **options)

        monkeypatch.setattr(moving, "PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(copying.Copy, "detach", fail_once)
        monkeypatch.setattr(copying.Copy, "catch_up", watch)
        moving.run(begin())

        assert failed
        assert owners() == [TARGET]
        assert statuses == {psycopg.pq.TransactionStatus.IDLE}

    def test_a_writer_at_the_closed_gate_waits_and_a_reader_does_not(self, settings: Any) -> None:
        settings.SHARD_MOVE_WAIT_SECONDS = 60  # the machine may be busy
        order_id = place(CUSTOMER)
        written: list[int] = []

        def write() -> None:
            written.append(place(CUSTOMER))
            connections.close_all()

        writer = threading.Thread(target=write)

        def look(step: Step) -> None:
            if step is Step.CLOSED and writer.ident is None:
                writer.start()
                assert selectors.get(order_id) is not None
                with pytest.raises(Exception, match="about to move"):
                    ask_at_source(order_id)

        moving.run(begin(), on_step=look)
        writer.join(timeout=120)

        assert [shards.alias_of(one) for one in written] == [TARGET]
        assert len(selectors.orders_of(CUSTOMER, limit=5)) == 2

    def test_while_nobody_has_the_bucket_nobody_is_told_that_an_order_does_not_exist(self, settings: Any) -> None:
        order_id = place(CUSTOMER)
        settings.SHARD_MOVE_WAIT_SECONDS = 0.1
        seen: list[str] = []

        def look(step: Step) -> None:
            if step is Step.DETACHED:
                for ask_for in (
                    lambda: selectors.get(order_id),
                    lambda: ask(confirm(order_id)),
                    lambda: place(CUSTOMER),
                ):
                    try:
                        ask_for()
                    except (BucketMoving, OrderNotFound) as error:
                        seen.append(type(error).__name__)

        moving.run(begin(), on_step=look)

        assert seen == ["BucketMoving"] * 3
        assert ask(confirm(order_id)) != []

    def test_a_long_transaction_is_not_waited_for_and_nothing_queues_behind_the_mover(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order_id = place(CUSTOMER)
        monkeypatch.setattr(moving, "CUT_OVER_TRIES", 2)
        monkeypatch.setattr(moving, "PAUSE_SECONDS", 0.01)
        move = begin()
        with closing(tables.connect(SOURCE)) as reader, reader.transaction():
            reader.execute("SELECT count(*) FROM orders_order")  # holds its lock until the end
            with pytest.raises(MoveRefused, match="leave no gap"):
                moving.run(move)
            assert owners() == [SOURCE]
            ask(confirm(order_id))  # the write fence is open again
        move.refresh_from_db()
        assert move.state == State.COPYING

        reshard("resume")

        assert owners() == [TARGET]
        assert status_of(order_id) is Status.CONFIRMED

    @pytest.mark.parametrize("step", [Step.COPIED, Step.CLOSED, Step.DETACHED])
    def test_a_move_can_be_given_up_until_the_target_has_the_bucket(self, step: Step) -> None:
        order_id = place(CUSTOMER)
        break_off(step)

        reshard("abort")

        assert owners() == [SOURCE]
        ask(confirm(order_id))
        assert BucketMove.objects.get().state == State.ABORTED
        assert moving.active() == []
        reshard("move", "--bucket", BUCKET, "--to", TARGET)  # nothing of it is in the way
        assert owners() == [TARGET]

    def test_a_mover_at_work_gives_up_when_it_is_asked_to(self) -> None:
        order_id = place(CUSTOMER)
        move = begin()
        said: list[str] = []

        moving.run(move, on_step=lambda step: said.append(reshard("abort")) if step is Step.COPIED else None)

        assert "has been asked to abort" in said[0]
        assert (owners(), BucketMove.objects.get().state) == ([SOURCE], State.ABORTED)
        ask(confirm(order_id))
        with pytest.raises(CommandError, match="No bucket is on the move"):
            reshard("abort")

    def test_a_mover_notices_in_the_middle_of_a_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place(CUSTOMER)
        monkeypatch.setattr(moving, "PROGRESS_SECONDS", 0.0)
        move = begin()

        def give_up(step: Step) -> None:
            if step is Step.PREPARED:
                assert moving.request_abort(move)

        moving.run(move, on_step=give_up)

        assert (owners(), BucketMove.objects.get().state) == ([SOURCE], State.ABORTED)
        assert not BucketMove.objects.get().snapshot, "it was in the middle of the first copy"
        reshard("move", "--bucket", BUCKET, "--to", TARGET)
        assert owners() == [TARGET]

    def test_a_request_to_abort_does_not_outlive_a_resume(self) -> None:
        place(CUSTOMER)
        break_off(Step.COPIED)
        assert moving.request_abort(BucketMove.objects.get())

        reshard("resume")

        assert owners() == [TARGET]

    @pytest.mark.parametrize("step", [Step.ATTACHED, Step.SWITCHED])
    def test_it_is_too_late_to_abort_when_the_target_has_the_bucket(self, step: Step) -> None:
        place(CUSTOMER)
        break_off(step)

        with pytest.raises(CommandError, match=f"is in {TARGET} already"):
            reshard("abort")

        reshard("resume")
        assert owners() == [TARGET]

    def test_a_target_that_cannot_take_the_bucket_leaves_it_where_it_was(self) -> None:
        order_id = place(CUSTOMER)

        def spoil(step: Step) -> None:
            if step is Step.DETACHED:
                with connections[TARGET].cursor() as cursor:
                    cursor.execute(f"DROP TABLE {partition_name('orders_order', BUCKET)}")

        with pytest.raises(MoveRefused, match="could not take the bucket"):
            moving.run(begin(), on_step=spoil)

        assert owners() == [SOURCE]
        ask(confirm(order_id))
        reshard("resume")
        assert owners() == [TARGET]

    def test_an_answer_that_got_lost_does_not_give_the_bucket_to_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order_id = place(CUSTOMER)
        attach = copying.Copy.attach

        def attach_and_lose_the_answer(copy: copying.Copy) -> None:
            attach(copy)
            raise psycopg.OperationalError("the connection is lost")

        with monkeypatch.context() as patched:
            patched.setattr(copying.Copy, "attach", attach_and_lose_the_answer)
            with pytest.raises(psycopg.OperationalError):
                moving.run(begin())
        assert owners() == [TARGET]

        reshard("resume")

        assert owners() == [TARGET]
        assert status_of(order_id) is Status.PLACED

    def test_there_is_one_mover(self) -> None:
        place(CUSTOMER)
        refused: list[str] = []

        def second(step: Step) -> None:
            if step is Step.COPIED:
                with pytest.raises(CommandError) as error:
                    reshard("resume")
                refused.append(str(error.value))

        moving.run(begin(), on_step=second)
        assert refused == ["Another move is under way; buckets are moved one at a time."]

    def test_a_bucket_that_two_databases_have_is_not_touched(self) -> None:
        create_partitions(TARGET, [BUCKET])
        with pytest.raises(CommandError, match="restored from a backup"):
            reshard("move", "--bucket", BUCKET, "--to", TARGET)
        assert owners() == [SOURCE, TARGET]

    def test_what_is_planned_can_be_moved_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order_id = place(CUSTOMER)
        step = planning.PlannedMove(bucket=BUCKET, source=SOURCE, target=TARGET, rows=1)
        monkeypatch.setattr(planning, "plan_now", lambda: [step])
        reshard("move", "--planned", "--drop-source")
        assert owners() == [TARGET]
        assert selectors.get(order_id) is not None


def ask_at_source(order_id: int) -> None:
    """Confirm an order without following its bucket."""
    with transaction.atomic(using=SOURCE):
        handlers.handle_batch([(confirm(order_id), metadata())], using=SOURCE)


class TestRefusals:
    pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__")]

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["move", "--bucket", "128", "--to", "orders_1"], "is not a bucket from 0 to 127"),
            (["move", "--bucket", "7"], "--to ALIAS"),
            (["move", "--bucket", "7", "--to", "orders_99"], "orders_99 is not an order database"),
            (["move", "--bucket", "7", "--to", "default"], "default is not an order database"),
            (["move", "--bucket", "7", "--to", "orders_0"], "Bucket 7 is in orders_0 already"),
            (["move", "--planned", "--to", "orders_0"], "without --to"),
            (["resume"], "No bucket is on the move"),
            (["abort", "--bucket", "9"], "Bucket 9 is not on the move"),
            (["drop-source"], "No bucket is kept by its source"),
            (["add-database", "orders_99"], "orders_99 is not configured"),
            (["add-database", "orders_3"], "in use already"),
            (["plan", "--databases", "0"], "from 1 to 128"),
        ],
    )
    def test_what_makes_no_sense_is_refused_in_words(self, arguments: list[str], told: str) -> None:
        with pytest.raises(CommandError, match=told):
            reshard(*arguments)
        assert not BucketMove.objects.exists()

    def test_a_bucket_moves_once_at_a_time(self) -> None:
        begin()
        with pytest.raises(CommandError, match=f"Bucket {BUCKET} is on its way to {TARGET}"):
            reshard("move", "--bucket", BUCKET, "--to", "orders_2")


class TestPlan:
    pytestmark = [pytest.mark.services, pytest.mark.django_db(databases="__all__")]

    def test_plan_for_more_databases_than_there_are_says_what_to_do_first(self) -> None:
        count = len(shards.aliases())
        said = reshard("plan", "--databases", 2 * count)
        assert "64 moves" in said
        assert f"Not configured yet: orders_{count}, " in said
        steps = json.loads(reshard("plan", "--databases", 2 * count, "--json"))
        assert {step["target"] for step in steps} == {f"orders_{number}" for number in range(count, 2 * count)}

    def test_even_databases_need_no_move(self) -> None:
        assert "Nothing to move" in reshard("plan")


@pytest.mark.django_db(databases="__all__")
def test_sqlite_files_have_no_partitions_to_move(request: pytest.FixtureRequest) -> None:
    if connections["orders_0"].vendor == "postgresql":
        pytest.skip("asks what happens on SQLite")
    with pytest.raises(CommandError, match="SQLite files here"):
        reshard("status")
