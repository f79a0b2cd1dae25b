"""Making the read model of orders anew: what differs is named, and nobody notices the switch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connections

from eventing import projections, rebuild, store
from eventing.locks import release_session_lock, try_session_lock
from eventing.projections import Part
from eventing.rebuild import Found, RebuildRefused
from eventing.recorded import stream_name
from orders.domain import Status, fold
from orders.events import CATEGORY
from orders.models import Order, OrderLine
from sharding import numbers, shards
from tests.factories import NOON
from tests.integration.order_samples import ask, cancel, confirm, order_in, place
from tests.integration.parallel import CONNECTIONS

# A snapshot begins with its transaction, so there must be none around it.
pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

CUSTOMER = 7
BUCKET = numbers.bucket_of_customer(CUSTOMER)


def alias() -> str:
    return shards.alias_of_bucket(BUCKET)


def part() -> Part:
    return next(one for one in projections.get("orders").parts(alias()) if one.name == f"b{BUCKET:03d}")


def rebuilt(**options: Any) -> Found:
    return rebuild.rebuild(projections.get("orders"), alias(), part(), **options)


def compared() -> Found:
    return rebuild.compare(projections.get("orders"), alias(), part())


def rows() -> tuple[list[Any], list[Any]]:
    return (
        list(Order.objects.using(alias()).order_by("id").values()),
        list(OrderLine.objects.using(alias()).order_by("order_id", "position").values()),
    )


def damage(order_ids: list[int]) -> set[str]:
    """Damage the read model of six orders and add a seventh that never was; returns what should be said about it."""
    gone, status, line, no_line, extra, version = order_ids[:6]
    orders, lines = Order.objects.using(alias()), OrderLine.objects.using(alias())
    orders.filter(id=gone).delete()
    lines.filter(order_id=gone).delete()
    orders.filter(id=status).update(reason="damaged")
    lines.filter(order_id=line, position=1).update(quantity=9)
    lines.filter(order_id=no_line, position=2).delete()
    lines.create(order_id=extra, position=3, sku="x", name="X", quantity=1, unit_price=1)
    orders.filter(id=version).update(version=1 + orders.get(id=version).version)
    phantom = numbers.new_order_id(CUSTOMER, NOON)
    copied = orders.get(id=status)
    copied.pk = phantom
    copied.save(using=alias(), force_insert=True)

    def name(order_id: int) -> str:
        return stream_name("order", order_id)

    return {
        f"{name(gone)} orders_order: the row is missing",
        f"{name(gone)} orders_orderline 1: the row is missing",
        f"{name(gone)} orders_orderline 2: the row is missing",
        f"{name(status)} orders_order reason: 'damaged' should be ''",
        f"{name(line)} orders_orderline 1 quantity: 9 should be 2",
        f"{name(no_line)} orders_orderline 2: the row is missing",
        f"{name(extra)} orders_orderline 3: no event speaks of this row",
        f"{name(version)} orders_order version: 3 should be 2",
        f"{name(phantom)} orders_order: no event speaks of this row",
    }


def confirmed(count: int) -> list[int]:
    # Two orders of one moment that say the same may get one number, and then they are one.
    return [order_in(Status.CONFIRMED, CUSTOMER, at=NOON + timedelta(seconds=number)) for number in range(count)]


def test_the_command_names_what_differs_and_repairs_it() -> None:
    order_ids = confirmed(6)
    order_in(Status.CANCELLED, CUSTOMER + 64)
    before = rows()
    lines = damage(order_ids)
    damaged = rows()

    out = StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("rebuild", "--projection=orders", "--check", stdout=out, stderr=StringIO())
    assert "7 streams in 128 parts, 7 differ." in str(failed.value), out.getvalue()
    assert set(out.getvalue().splitlines()) == lines
    assert rows() == damaged

    out = StringIO()
    call_command("rebuild", "--projection=orders", stdout=out, stderr=StringIO())
    *said, summary = out.getvalue().splitlines()
    assert set(said) == lines
    assert summary.startswith("orders: 7 streams in 128 parts, 7 differed; rebuilt in ")
    assert rows() == before

    out = StringIO()
    call_command("rebuild", "--projection=orders", "--check", stdout=out, stderr=StringIO())
    assert out.getvalue() == "orders: 7 streams in 128 parts, 0 differ.\n"


def test_chunks_of_any_size_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    order_ids = confirmed(6)
    before = rows()
    lines = damage(order_ids)
    monkeypatch.setattr(rebuild, "CHUNK", 2)

    found = rebuilt()

    assert ({str(difference) for difference in found.differences}, found.streams, found.differing) == (lines, 6, 7)
    assert rows() == before
    assert compared() == Found(streams=6)


def test_orders_in_every_state_are_the_same_as_before() -> None:
    for status in Status:
        order_in(status, CUSTOMER)
    before = rows()

    assert rebuilt() == Found(streams=len(Status))
    assert rows() == before


def test_an_order_that_moves_on_before_the_switch_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    [moved] = confirmed(1)
    new: list[int] = []
    analyse = rebuild._Copy.analyse

    def meanwhile(copy: rebuild._Copy) -> None:
        analyse(copy)
        ask(cancel(moved))
        new.append(place(CUSTOMER))

    monkeypatch.setattr(rebuild._Copy, "analyse", meanwhile)

    assert rebuilt().differing == 0

    assert set(Order.objects.using(alias()).values_list("id", "status")) == {(moved, "cancelled"), (new[0], "placed")}
    assert compared() == Found(streams=2)


@pytest.mark.parametrize("step", ["add", "catch_up", "analyse", "take_over"])
def test_a_rebuild_that_is_cut_off_changes_nothing(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    damage(confirmed(6))
    damaged = rows()

    def cut_off(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rebuild._Copy, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            rebuilt()
    assert rows() == damaged
    assert left_over() == []

    rebuilt()
    assert compared() == Found(streams=6)


def left_over() -> list[str]:
    tables = connections[alias()].introspection.table_names()
    return [name for name in tables if name.endswith(("_new", "_versions"))]


@pytest.mark.services
def test_what_a_killed_run_has_left_is_removed_by_the_next() -> None:
    confirmed(1)
    connection = connections[alias()]
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE orders_order_{part().name}_new (nonsense text)")
        cursor.execute(f"CREATE TABLE orders_{part().name}_versions (nonsense text)")

    assert rebuilt() == Found(streams=1)
    assert left_over() == []


@pytest.mark.services
def test_the_new_partition_is_like_the_old_one() -> None:
    confirmed(2)
    before = catalogue()
    assert len(before["indexes"]) == 9

    rebuilt()
    assert catalogue() == before
    rebuilt()
    assert catalogue() == before


def catalogue() -> dict[str, list[Any]]:
    """The partitions of the bucket, their indexes and what these belong to, constraints, and bounds."""
    questions = {
        "indexes": "SELECT t.relname, parent.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
        " LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid LEFT JOIN pg_class parent ON parent.oid = h.inhparent"
        " WHERE t.relname LIKE %s AND t.relkind = 'r' ORDER BY 1, 2",
        "constraints": "SELECT t.relname, c.contype, pg_get_constraintdef(c.oid) FROM pg_constraint c"
        " JOIN pg_class t ON t.oid = c.conrelid WHERE t.relname LIKE %s ORDER BY 1, 2, 3",
        "bounds": "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class"
        " WHERE relname LIKE %s AND relkind = 'r' ORDER BY 1",
    }
    answers = {}
    with connections[alias()].cursor() as cursor:
        for name, question in questions.items():
            cursor.execute(question, [f"orders\\_%{part().name}%"])
            answers[name] = cursor.fetchall()
    return answers


@pytest.mark.services
def test_a_long_reader_is_not_waited_for_and_others_go_on_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    damage(confirmed(6))
    monkeypatch.setattr(rebuild, "LOCK_TRIES", 3)
    tries: list[int] = []
    reader = connections[alias()].copy()
    try:
        with reader.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT count(*) FROM orders_order")
        with pytest.raises(RebuildRefused, match="in use by long transactions in 3 tries"):
            rebuilt(on_busy=tries.append)
        with reader.cursor() as cursor:
            cursor.execute("COMMIT")
    finally:
        reader.close()
    assert tries == [1, 2, 3]
    assert compared().differing == 7

    rebuilt()
    assert compared().differing == 0


@pytest.mark.services
def test_only_one_process_rebuilds_a_database() -> None:
    other = connections[alias()].copy()
    try:
        assert try_session_lock(other, "eventing.rebuild:orders")
        with (
            pytest.raises(RebuildRefused, match=f"Another process is rebuilding orders in {alias()}"),
            rebuild.alone(projections.get("orders"), alias()),
        ):
            pass
        release_session_lock(other, "eventing.rebuild:orders")
    finally:
        other.close()


@pytest.fixture
def wide_pools(settings: LazySettings) -> Iterator[None]:
    """The pool of a process is kept small for the sake of the server; here it must not keep the threads apart."""
    pools = [pool for name in (alias(), "default") if (pool := getattr(connections[name], "pool", None)) is not None]
    for pool in pools:
        pool.resize(0, CONNECTIONS)
    yield
    for pool in pools:
        pool.resize(0, settings.DATABASE_POOL_SIZE)


@pytest.mark.usefixtures("wide_pools")
def test_writers_and_readers_go_on_while_the_read_model_is_rebuilt() -> None:
    kept = confirmed(20)
    Order.objects.using(alias()).filter(id__in=kept[:5]).update(reason="damaged")
    stop = threading.Event()
    turns = [0] * 4

    def until_stopped(number: int, act: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                act()
                turns[number] += 1
        finally:
            stop.set()
            connections.close_all()

    def write() -> None:
        order_id = place(CUSTOMER)
        ask(confirm(order_id))
        ask(cancel(order_id))

    def read() -> None:
        there = Order.objects.using(alias()).filter(id__in=kept).count()
        lines = OrderLine.objects.using(alias()).filter(order_id__in=kept).count()
        assert (there, lines) == (len(kept), 2 * len(kept))

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(until_stopped, *one) for one in enumerate((write, write, read, read))]
        try:
            found = [rebuilt()]
            while not stop.is_set() and min(turns) < 2:  # all of them go on, however often it is rebuilt
                found.append(rebuilt())
        finally:
            stop.set()
        for other in others:
            other.result()  # raises what it has met

    assert [one.differing for one in found] == [5, *[0] * (len(found) - 1)]
    assert min(turns) > 1
    everything = compared()
    assert (everything.streams, everything.differing) == (20 + turns[0] + turns[1], 0)
    assert Order.objects.using(alias()).count() == everything.streams
    some = Order.objects.using(alias()).latest("placed_at", "id")
    history = store.load(CATEGORY, some.pk, using=alias())
    assert some.status == fold(recorded.event for recorded in history).status


def test_bad_input_is_named() -> None:
    for arguments, error in (
        ((), "Say --projection; there are orders"),
        (("--projection=nothing",), "no projection 'nothing'; there are orders"),
    ):
        with pytest.raises(CommandError, match=error):
            call_command("rebuild", *arguments, stdout=StringIO(), stderr=StringIO())


def test_the_projections_are_listed() -> None:
    out = StringIO()
    call_command("rebuild", "--list", stdout=out)
    assert out.getvalue() == "orders: orders_order, orders_orderline, from the streams of order\n"
