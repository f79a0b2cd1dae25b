"""The shard map and the moves of buckets in the back office, and the worker that does what is asked there."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from celery import current_app
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from kombu.exceptions import OperationalError as NoBroker

from backoffice.resharding import picture
from orders import selectors
from resharding import background, moving, planning, tasks
from resharding.steps import Step
from sharding import shards
from sharding.models import Bucket, BucketMove
from sharding.partitions import partition_name
from tests.factories import OperatorFactory
from tests.integration.moves import BUCKET, CUSTOMER, SOURCE, TARGET, break_off, owners
from tests.integration.moves import databases as databases
from tests.integration.order_samples import place
from tests.integration.statements import statements
from tests.integration.test_admin import client_of, down, staff, text

pytestmark = pytest.mark.django_db(databases="__all__")
moves_buckets = [
    pytest.mark.services,
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.usefixtures("databases"),
]

MAP = "/admin/sharding/bucket/"
PAGE = f"{MAP}{BUCKET}/change/"
MOVE = f"{MAP}{BUCKET}/move/"
MOVES = "/admin/sharding/bucketmove/"
State = BucketMove.State


@pytest.fixture
def office(db: None) -> Client:
    return client_of(OperatorFactory.create())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the worker was asked for."""
    sent: list[tuple[str, int]] = []
    monkeypatch.setattr(
        current_app, "send_task", lambda name, kwargs, **options: sent.append((name, kwargs["move_id"]))
    )
    return sent


def work(asked: list[tuple[str, int]]) -> None:
    """Do as a worker does what was asked for last."""
    name, move_id = asked.pop()
    current_app.tasks[name](move_id=move_id)


def made(state: BucketMove.State = State.COPYING, **fields: Any) -> BucketMove:
    return BucketMove.objects.create(bucket=BUCKET, source=SOURCE, target=TARGET, state=state, **fields)


def only() -> BucketMove:
    return BucketMove.objects.get()


def address(move: BucketMove, what: str = "change") -> str:
    return f"{MOVES}{move.pk}/{what}/"


def is_postgresql() -> bool:
    return connections[SOURCE].vendor == "postgresql"


# --- The picture ------------------------------------------------------------------------------------------------------


def test_the_map_shows_every_bucket_in_the_colour_of_its_database(office: Client) -> None:
    place(CUSTOMER)
    response = office.get(MAP)
    page = response.content.decode()

    assert page.count('class="bo-cell ') == 128
    for bucket in (0, 127):
        look = picture.look(shards.alias_of_bucket(bucket))
        assert f'class="bo-cell {look}"\n             href="{MAP}{bucket}/change/"' in page
    assert ("Buckets are moved between PostgreSQL databases only" in text(response)) != is_postgresql()


def test_the_colours_of_sixty_four_databases_are_told_apart() -> None:
    assert len({picture.look(f"orders_{number}") for number in range(64)}) == 64
    assert picture.look("orders_0") != picture.look("orders_1")


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (12_345, "12k"), (999_999, "999k"), (1_200_000, "1.2M"), (10**10, "10G")],
)
def test_rows_are_shown_where_there_is_little_room(number: int, shown: str) -> None:
    assert picture.short(number) == shown


@pytest.mark.services
def test_the_map_says_how_full_databases_and_buckets_are(office: Client) -> None:
    for _ in range(3):
        place(CUSTOMER)

    page = text(office.get(MAP))

    rows = 3 * 4  # an event, an order and its two lines each
    assert f"The fullest database is {SOURCE} with about {rows} rows, {len(shards.aliases())}.0 times the mean" in page
    assert f"The largest bucket is {BUCKET} with about {rows} rows, 128.0 times the mean" in page
    assert "There is nothing to move." in page


@pytest.mark.services
def test_the_plan_leads_to_the_moves_that_it_names(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "EMPTY", 1)
    for customer in (CUSTOMER, CUSTOMER + 1):
        place(customer)

    response = office.get(MAP)

    steps = planning.plan_now()
    assert f"{len(steps)} moves would even the databases out" in text(response)
    for step in steps:
        assert f'href="{MAP}{step.bucket}/move/?to={step.target}"' in response.content.decode()


@pytest.mark.services
def test_a_database_that_is_away_is_marked_and_the_others_are_shown(office: Client) -> None:
    place(CUSTOMER)
    with down(TARGET):
        page = text(office.get(MAP))
        bucket = text(office.get(f"{MAP}{shards.buckets_of(TARGET)[0]}/change/"))

    assert f"{TARGET} does not answer" in page
    assert f"{SOURCE} does not answer" not in page
    assert "A plan needs an answer from all databases." in page
    assert f"Size unavailable: {TARGET} did not answer" in bucket


def test_the_map_takes_few_statements_however_many_orders_there_are(office: Client) -> None:
    place(CUSTOMER)
    office.get(MAP)
    with statements() as few:
        office.get(MAP)
    for customer in range(20):
        place(customer)
    with statements() as many:
        office.get(MAP)

    assert len(many.sent) == len(few.sent)
    assert many.with_all_shards() <= 30


# --- Asking for a move ------------------------------------------------------------------------------------------------


class TestMoving:
    pytestmark = moves_buckets

    def test_a_bucket_is_moved_by_a_worker_and_its_pages_tell(self, office: Client, asked: list[Any]) -> None:
        order_id = place(CUSTOMER)
        assert "This bucket has never moved." in text(office.get(PAGE))
        question = text(office.get(MOVE, {"to": TARGET}))
        assert f"Bucket {BUCKET} goes from {SOURCE} to {TARGET}: about 4 rows" in question

        response = office.post(MOVE, {"to": TARGET}, follow=True)

        move = only()
        assert asked == [("sharding.run_move", move.pk)]
        assert (move.by, move.drop_source) == ("olga", False)
        assert LogEntry.objects.get().get_edited_object() == move
        assert "Waiting for a worker" in text(response)
        assert f'hx-get="{address(move, "progress")}" hx-trigger="every 1s"' in response.content.decode()
        assert f"Bucket {BUCKET} 0 {SOURCE} → 1 {TARGET}" in text(office.get(MAP))

        work(asked)

        assert owners() == [TARGET]
        assert selectors.get(order_id) is not None
        part = office.get(address(move, "progress"))
        assert "hx-trigger" not in part.content.decode()
        assert "moved, the source keeps its old partitions" in text(part)
        assert "Drop source" in text(part)
        assert f"{SOURCE} → {TARGET}" in text(office.get(PAGE))
        assert f"Bucket {BUCKET} in {TARGET}" in text(office.get(PAGE))

        office.post(address(move, "drop-source"))
        work(asked)

        assert only().state == State.DONE
        assert [entry.change_message for entry in LogEntry.objects.order_by("id")][1:] == ["Drop source."]

    def test_the_source_is_dropped_at_once_if_that_is_wanted(self, office: Client, asked: list[Any]) -> None:
        office.post(MOVE, {"to": TARGET, "drop_source": "on"})
        work(asked)
        assert only().state == State.DONE

    def test_a_move_that_was_cut_off_while_copying_waits_for_an_operator(
        self, office: Client, asked: list[Any]
    ) -> None:
        order_id = place(CUSTOMER)
        break_off(Step.COPIED)

        assert tasks.finish_interrupted_moves() == 0
        assert f"Stalled: no active worker. Bucket {BUCKET} is still in {SOURCE}" in text(office.get(address(only())))

        office.post(address(only(), "abort"))
        work(asked)
        assert (only().state, owners()) == (State.ABORTED, [SOURCE])
        assert selectors.get(order_id) is not None

    def test_it_can_be_resumed(self, office: Client, asked: list[Any]) -> None:
        break_off(Step.COPIED)
        office.post(address(only(), "resume"))
        work(asked)
        assert (only().state, only().error, owners()) == (State.KEPT, "", [TARGET])

    @pytest.mark.parametrize("step", [Step.CLOSED, Step.DETACHED, Step.ATTACHED, Step.SWITCHED])
    def test_the_clock_finishes_what_was_cut_off_when_the_bucket_changed_hands(
        self, office: Client, step: Step
    ) -> None:
        order_id = place(CUSTOMER)
        break_off(step)
        assert "a scheduled task finishes the move" in text(office.get(address(only())))

        assert tasks.finish_interrupted_moves() == 1

        assert (only().state, owners()) == (State.KEPT, [TARGET])
        assert selectors.get(order_id) is not None
        assert tasks.finish_interrupted_moves() == 0

    def test_the_clock_leaves_a_mover_alone_that_is_at_work(self, office: Client, asked: list[Any]) -> None:
        seen: list[Any] = []

        def look(step: Step) -> None:
            if step is Step.DETACHED:
                seen.append(tasks.finish_interrupted_moves())
                tasks.run_move(move_id=move.pk)  # a message that was handed out once more
                refused = office.post(address(move, "abort"), follow=True)
                seen.append("cannot be interrupted now" in text(refused))

        move = moving.start(BUCKET, TARGET)
        moving.run(move, on_step=look)

        assert seen == [0, True]
        assert (only().state, only().error, asked) == (State.KEPT, "", [])

    def test_a_running_mover_can_be_told_to_abort(self, office: Client, asked: list[Any]) -> None:
        seen: list[str] = []

        def give_up(step: Step) -> None:
            if step is Step.COPIED:
                seen.append(text(office.get(address(move))))
                seen.append(text(office.post(address(move, "abort"), follow=True)))

        move = moving.start(BUCKET, TARGET)
        moving.run(move, on_step=give_up)

        assert ["Abort …" in seen[0], "Resume …" in seen[0]] == [True, False]
        assert "Giving up." in seen[1]
        assert "Abort …" not in seen[1]
        assert (only().state, owners(), asked) == (State.ABORTED, [SOURCE], [])

    def test_why_a_move_has_stopped_is_on_its_page_until_it_goes_on(
        self, office: Client, asked: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        office.post(MOVE, {"to": TARGET})
        with monkeypatch.context() as patch:
            patch.setattr(moving, "CUT_OVER_TRIES", 0)
            work(asked)
        page = text(office.get(address(only())))
        assert f"Long transactions in {SOURCE} leave no gap" in page
        assert "leave no gap" in text(office.get(MOVES))

        office.post(address(only(), "resume"))
        work(asked)
        assert (only().state, only().error) == (State.KEPT, "")

    def test_an_error_of_a_database_is_kept_too(self, office: Client, asked: list[Any]) -> None:
        office.post(MOVE, {"to": TARGET})
        in_the_way = partition_name("orders_order", BUCKET)
        with connections[TARGET].cursor() as cursor:
            cursor.execute(f"CREATE VIEW {in_the_way} AS SELECT 1")
        try:
            with pytest.raises(psycopg.Error):
                work(asked)
        finally:
            with connections[TARGET].cursor() as cursor:
                cursor.execute(f"DROP VIEW {in_the_way}")
        assert f'"{in_the_way}" is not a table' in only().error


# --- What makes no sense ----------------------------------------------------------------------------------------------


@pytest.mark.services
def test_one_bucket_moves_at_a_time(office: Client, asked: list[Any]) -> None:
    office.post(MOVE, {"to": TARGET})

    response = office.post(f"{MAP}{BUCKET + 1}/move/", {"to": TARGET}, follow=True)

    assert f"Bucket {BUCKET} is on its way to {TARGET}. One bucket moves at a time" in text(response)
    assert len(asked) == 1
    assert only().bucket == BUCKET


@pytest.mark.services
def test_without_a_broker_nothing_is_begun(office: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise NoBroker("refused")

    monkeypatch.setattr(current_app, "send_task", refuse)

    response = office.post(MOVE, {"to": TARGET}, follow=True)

    assert f"`manage.py reshard move --bucket {BUCKET} --to {TARGET}` needs none" in text(response)
    assert not BucketMove.objects.exists()
    move = made(progress="copied 4 rows")
    assert "needs none" in text(office.post(address(move, "resume"), follow=True))
    assert only().progress == "copied 4 rows"


@pytest.mark.services
def test_the_time_for_a_task_may_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(move: BucketMove) -> None:
        raise background.SoftTimeLimitExceeded

    monkeypatch.setattr(moving, "run", late)
    with pytest.raises(background.SoftTimeLimitExceeded):
        tasks.run_move(move_id=made().pk)

    assert "The time limit of a task is reached" in only().error


@pytest.mark.parametrize(
    ("state", "what", "said"),
    [
        (State.DONE, "resume", "There is nothing to resume"),
        (State.KEPT, "resume", "There is nothing to resume"),
        (State.KEPT, "abort", f"Bucket {BUCKET} is in {TARGET} already"),
        (State.ABORTED, "abort", "has been aborted already"),
        (State.COPYING, "drop-source", "There is nothing to drop"),
        (State.DONE, "drop-source", "There is nothing to drop"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    office: Client, asked: list[Any], state: BucketMove.State, what: str, said: str
) -> None:
    move = made(state)
    for ask in (office.get, office.post):
        assert said in text(ask(address(move, what), follow=True))
    assert not asked
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("to", ["", "orders_99", SOURCE, "default"])
def test_a_bucket_goes_to_another_database_of_orders(office: Client, asked: list[Any], to: str) -> None:
    for ask in (office.get, office.post):
        assert f"Choose another database than {SOURCE}" in text(ask(MOVE, {"to": to}, follow=True))
    assert not asked


def test_sqlite_files_have_no_partitions_to_move(office: Client, asked: list[Any]) -> None:
    if is_postgresql():
        pytest.skip("asks what happens on SQLite")

    assert "Buckets are moved between PostgreSQL databases only" in text(office.get(PAGE))
    assert "Move to" not in text(office.get(PAGE))
    assert "here they are SQLite files" in text(office.post(MOVE, {"to": TARGET}, follow=True))
    assert not asked
    assert not BucketMove.objects.exists()
    assert tasks.finish_interrupted_moves() == 0


def test_a_move_that_is_gone_is_nobodys(asked: list[Any]) -> None:
    tasks.run_move(move_id=1)
    assert not BucketMove.objects.exists()


# --- Who may do what --------------------------------------------------------------------------------------------------


def test_who_may_look_may_not_move(asked: list[Any]) -> None:
    viewer = staff("view_bucket", "view_bucketmove")
    move = made()

    assert "Move to" not in text(viewer.get(PAGE))
    assert "Resume" not in text(viewer.get(address(move)))
    for path in (MOVE, address(move, "resume"), address(move, "abort"), address(move, "drop-source")):
        assert viewer.get(path).status_code == viewer.post(path, {"to": TARGET}).status_code == 403
    assert staff("view_order").get(address(move, "progress")).status_code == 403
    assert not asked


def test_moves_are_listed_newest_first_and_paged_by_key(office: Client) -> None:
    moves = [made(State.ABORTED, rows=10, expected=20) for _ in range(3)]
    with statements() as noted:
        page = office.get(MOVES)

    positions = [page.content.decode().index(address(move)) for move in reversed(moves)]
    assert positions == sorted(positions)
    assert "10 of about 20" in text(page)
    assert not [sql for _, sql in noted.sent if "sharding_bucketmove" in sql and ("COUNT(" in sql or "OFFSET" in sql)]


def test_a_bucket_that_changes_hands_says_so(office: Client) -> None:
    Bucket.objects.filter(bucket=BUCKET).update(moving_to=TARGET)
    assert f"It is moving to {TARGET} now." in text(office.get(PAGE))
