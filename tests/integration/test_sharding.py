"""Sharding on real databases: partitions, ownership, writers that follow a bucket, routing, migrating everything."""

import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import Error, run_checks
from django.db import IntegrityError, OperationalError, connections, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from psycopg import sql

from eventing.models import Event
from eventing.operations import CreatePartitionedModel
from orders.models import IdempotencyKey, Order, OrderLine
from sharding import checks, shards
from sharding.errors import BucketMoving, ShardingError, ShardMapMissing, UnroutedQuery
from sharding.models import Bucket
from sharding.numbers import BUCKETS, bucket_range, new_order_id
from sharding.partitions import attached_buckets, partition_name
from sharding.router import ShardRouter, database_of
from tests.integration.installations import Installation, server
from tests.integration.moves import create_partitions

ROOT = Path(__file__).resolve().parents[2]
BUCKETED_TABLES = ("eventing_event", "orders_order", "orders_orderline")
AT = datetime(2026, 7, 1, tzinfo=UTC)

databases = pytest.mark.django_db(databases="__all__")
services = pytest.mark.services


@pytest.fixture
def shard_map(db: None, monkeypatch: pytest.MonkeyPatch) -> shards.ShardMap:
    """The first assignment, and a cache of this test's own: the map's changes are rolled back with the test."""
    monkeypatch.setattr(shards, "_cache", shards._Cache())
    return shards.refresh()


def insert_event(alias: str, stream_id: int, *, version: int = 1) -> None:
    """An event's row as the event store writes it, in a transaction of its own."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO eventing_event"
            " (stream_id, category, version, type, schema_version, data, metadata, recorded_at)"
            " VALUES (%s, 'order', %s, 'order.placed', 1, '{}', '{}', %s)",
            [stream_id, version, connections[alias].ops.adapt_datetimefield_value(AT)],
        )


def partitions_in_plan(queryset: Any) -> set[str]:
    """The tables that PostgreSQL would look into for a query."""
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if "Relation Name" in node:
            found.add(node["Relation Name"])
        for child in node.get("Plans", []):
            walk(child)

    explained = queryset.explain(format="json")
    walk(json.loads(explained)[0]["Plan"])
    return found


# --- Partitions ---------------------------------------------------------------------------------------------------


@services
@databases
def test_each_shard_has_the_partitions_of_its_buckets_and_nobody_elses(shard_map: shards.ShardMap) -> None:
    for alias in shards.aliases():
        attached = attached_buckets(alias)
        assert set(attached) == set(BUCKETED_TABLES)
        assert set(attached.values()) == {frozenset(shards.buckets_of(alias))}
    assert sum(len(shards.buckets_of(alias)) for alias in shards.aliases()) == BUCKETS


@services
@databases
def test_events_of_the_default_database_are_a_plain_table(shard_map: shards.ShardMap) -> None:
    assert attached_buckets("default") == {}
    insert_event("default", new_order_id(5, AT))  # a reservation's stream, say: any bucket


@services
@databases
@pytest.mark.parametrize("bucket", [0, 63, 127])
def test_query_by_id_touches_one_partition(shard_map: shards.ShardMap, bucket: int) -> None:
    order_id = new_order_id(bucket, AT)
    alias = shards.alias_of(order_id)
    for model, column in [(Order, "id"), (OrderLine, "order_id"), (Event, "stream_id")]:
        table = model._meta.db_table
        rows = model._default_manager.using(alias).filter(**{column: order_id})
        assert partitions_in_plan(rows) == {partition_name(table, bucket)}


@services
@databases
@pytest.mark.parametrize("bucket", [0, 63, 127])
def test_query_by_customer_with_the_range_of_the_bucket_touches_one_partition(
    shard_map: shards.ShardMap, bucket: int
) -> None:
    customer_id = bucket + 5 * BUCKETS
    low, high = bucket_range(bucket)
    rows = (
        Order.objects.using(shards.alias_of_bucket(bucket))
        .filter(customer_id=customer_id, id__gte=low, id__lt=high)
        .order_by("-id")[:20]
    )
    assert partitions_in_plan(rows) == {partition_name("orders_order", bucket)}


@services
@databases
def test_query_without_a_range_touches_every_partition_of_the_shard(shard_map: shards.ShardMap) -> None:
    alias = shards.aliases()[0]
    rows = Order.objects.using(alias).filter(customer_id=1)
    assert partitions_in_plan(rows) == {partition_name("orders_order", b) for b in shards.buckets_of(alias)}


@services
@databases
def test_indexes_of_the_table_reach_partitions_that_are_made_later(shard_map: shards.ShardMap) -> None:
    first, last = shards.aliases()[0], shards.aliases()[-1]
    bucket = shards.buckets_of(last)[0]
    create_partitions(first, [bucket])
    for table in BUCKETED_TABLES:
        assert bucket in attached_buckets(first)[table]
        introspection = connections[first].introspection
        with connections[first].cursor() as cursor:
            new = introspection.get_constraints(cursor, partition_name(table, bucket))
            old = introspection.get_constraints(cursor, partition_name(table, shards.buckets_of(first)[0]))
        assert sorted((c["columns"], c["index"], c["primary_key"], c["check"]) for c in new.values()) == sorted(
            (c["columns"], c["index"], c["primary_key"], c["check"]) for c in old.values()
        )


# --- Ownership ----------------------------------------------------------------------------------------------------


@services
@databases
def test_database_refuses_an_event_of_a_bucket_that_it_does_not_own(shard_map: shards.ShardMap) -> None:
    owner, other = shards.aliases()[0], shards.aliases()[-1]
    order_id = new_order_id(shards.buckets_of(owner)[0], AT)
    insert_event(owner, order_id)
    with pytest.raises(IntegrityError, match="no partition of relation") as refused:
        insert_event(other, order_id)
    assert shards.is_not_owned(refused.value)
    assert not Event.objects.using(other).filter(stream_id=order_id).exists()


@databases
def test_other_violations_are_not_taken_for_a_moved_bucket(shard_map: shards.ShardMap) -> None:
    order_id = new_order_id(3, AT)
    called: list[str] = []

    def write(alias: str) -> None:
        called.append(alias)
        insert_event(alias, order_id, version=0)

    with pytest.raises(IntegrityError) as refused:
        shards.on_owner(3, write)
    assert not shards.is_not_owned(refused.value)
    assert called == [shards.alias_of_bucket(3)]


def move(bucket: int, *, source: str, target: str) -> None:
    """Move a bucket (without rows) as another process would: partitions, then the map, and nobody tells our cache."""
    detach(bucket, source)
    create_partitions(target, [bucket])
    Bucket.objects.filter(bucket=bucket).update(alias=target, version=2)


def detach(bucket: int, alias: str) -> None:
    with connections[alias].cursor() as cursor:
        for table in BUCKETED_TABLES:
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {partition_name(table, bucket)}")


@services
@databases
def test_writer_with_an_old_map_follows_the_bucket_to_its_new_database(shard_map: shards.ShardMap) -> None:
    source, target = shards.aliases()[0], shards.aliases()[-1]
    order_id = new_order_id(0, AT)
    tried: list[str] = []
    move(0, source=source, target=target)

    def write(alias: str) -> str:
        tried.append(alias)
        insert_event(alias, order_id)
        return alias

    assert shards.on_owner(0, write) == target
    assert tried == [source, target]
    assert Event.objects.using(target).filter(stream_id=order_id).count() == 1
    assert shards.alias_of(order_id) == target  # the next one goes there at once


@services
@databases
def test_writer_waits_while_a_bucket_is_between_two_databases(shard_map: shards.ShardMap) -> None:
    source, target = shards.aliases()[0], shards.aliases()[-1]
    tried: list[str] = []
    detach(0, source)

    def write(alias: str) -> None:
        tried.append(alias)
        if len(tried) == 3:  # by now the other side is ready
            create_partitions(target, [0])
            Bucket.objects.filter(bucket=0).update(alias=target, version=2)
        insert_event(alias, new_order_id(0, AT))

    shards.on_owner(0, write)
    assert tried == [source, source, source, target]


@services
@databases
def test_bucket_that_nobody_owns_is_reported_after_the_wait(shard_map: shards.ShardMap, settings: Any) -> None:
    settings.SHARD_MOVE_WAIT_SECONDS = 0.1
    owner = shards.alias_of_bucket(0)
    detach(0, owner)
    with pytest.raises(BucketMoving, match=f"bucket 0 is owned by {owner} in version {shard_map.version}") as refused:
        shards.on_owner(0, lambda alias: insert_event(alias, new_order_id(0, AT)))
    assert isinstance(refused.value, OperationalError)  # so whoever asked for it may try again later


@services
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_writers_lose_nothing_while_a_bucket_moves_under_them(shard_map: shards.ShardMap, settings: Any) -> None:
    settings.SHARD_MOVE_WAIT_SECONDS = 20
    settings.SHARD_MAP_SECONDS = 3600  # only a refusal makes a writer look again
    source, target = shards.aliases()[0], shards.aliases()[-1]
    numbers = iter(range(1, 1_000_000))
    busy, moved = threading.Event(), threading.Event()

    def write() -> dict[int, str]:
        written: dict[int, str] = {}

        def insert(alias: str) -> str:
            insert_event(alias, order_id)
            return alias

        after_move = 0
        while after_move < 10:
            after_move += moved.is_set()
            order_id = bucket_range(0)[0] + next(numbers)
            written[order_id] = shards.on_owner(0, insert)
            connections.close_all()
            if len(written) == 10:
                busy.set()
        return written

    try:
        with ThreadPoolExecutor(3) as executor:
            writers = [executor.submit(write) for _ in range(3)]
            try:
                assert busy.wait(timeout=20)
                move(0, source=source, target=target)
            finally:
                moved.set()
        written = {order_id: alias for writer in writers for order_id, alias in writer.result().items()}
        assert set(written.values()) == {source, target}
        with connections[source].cursor() as cursor:
            cursor.execute(f"SELECT stream_id FROM {partition_name('eventing_event', 0)}")
            assert {row[0] for row in cursor.fetchall()} == {n for n, alias in written.items() if alias == source}
        assert set(Event.objects.using(target).values_list("stream_id", flat=True)) == {
            order_id for order_id, alias in written.items() if alias == target
        }
    finally:
        for alias in (source, target):
            with connections[alias].cursor() as cursor:
                for table in BUCKETED_TABLES:
                    cursor.execute(f"DROP TABLE IF EXISTS {partition_name(table, 0)}")
        create_partitions(source, [0])


@databases
def test_operation_on_the_owner_must_not_be_inside_another_transaction(shard_map: shards.ShardMap) -> None:
    alias = shards.alias_of_bucket(0)
    with transaction.atomic(using=alias), pytest.raises(ShardingError, match=f"inside a transaction of {alias}"):
        shards.on_owner(0, lambda alias: insert_event(alias, new_order_id(0, AT)))
    assert not Event.objects.using(alias).exists()


# --- The map ------------------------------------------------------------------------------------------------------


@databases
def test_first_assignment_gives_neighbouring_buckets_to_each_shard_evenly(shard_map: shards.ShardMap) -> None:
    aliases = shards.aliases()
    assert list(shard_map.owners) == sorted(shard_map.owners, key=aliases.index)
    sizes = {len(shards.buckets_of(alias)) for alias in aliases}
    assert max(sizes) - min(sizes) <= 1
    assert shards.alias_of(new_order_id(127, AT)) == shards.alias_of_bucket(127) == aliases[-1]


@databases
def test_empty_map_says_which_command_writes_one(shard_map: shards.ShardMap) -> None:
    Bucket.objects.all().delete()
    with pytest.raises(ShardMapMissing, match=r"0 of 128 buckets: run `manage\.py migrate_all`"):
        shards.refresh()


@databases
def test_installing_leaves_an_existing_map_alone(shard_map: shards.ShardMap) -> None:
    last = shards.aliases()[-1]
    shards.assign(0, last)
    assert shards.install() is False
    assert shards.alias_of_bucket(0) == last
    bucket = Bucket.objects.get(bucket=0)
    assert (bucket.version, shards.refresh().version) == (2, BUCKETS + 1)


@databases
def test_bucket_is_assigned_to_order_shards_only(shard_map: shards.ShardMap) -> None:
    with pytest.raises(ShardingError, match="default is not an order shard"):
        shards.assign(0, "default")
    assert shards.refresh() == shard_map


@databases
def test_map_is_read_once_and_again_when_it_is_old(
    shard_map: shards.ShardMap, settings: Any, django_assert_num_queries: Callable[..., Any]
) -> None:
    with django_assert_num_queries(0):
        for customer_id in range(300):
            shards.alias_of(new_order_id(customer_id, AT))
    settings.SHARD_MAP_SECONDS = 0
    shards.refresh()
    with django_assert_num_queries(1):
        shards.alias_of_bucket(5)


@databases
def test_old_map_is_used_while_the_new_one_cannot_be_read(
    shard_map: shards.ShardMap, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SHARD_MAP_SECONDS = 0
    shards.refresh()

    def unreachable() -> shards.ShardMap:
        raise OperationalError("default is down")

    monkeypatch.setattr(shards, "_read", unreachable)
    assert shards.alias_of_bucket(127) == shards.aliases()[-1]
    with pytest.raises(OperationalError):
        shards.refresh()


# --- Routing ------------------------------------------------------------------------------------------------------


def test_every_app_is_migrated_where_its_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES, "inventory", {})
    router = ShardRouter()
    shard = shards.aliases()[0]

    def where(app_label: str) -> set[str]:
        return {alias for alias in ("default", "inventory", shard) if router.allow_migrate(alias, app_label)}

    assert where("orders") == {shard}
    assert where("eventing") == {"default", "inventory", shard}
    assert where("inventory") == {"inventory"}
    assert where("coupons") == where("auth") == where("sharding") == {"default"}


def test_context_is_in_default_until_it_gets_a_database_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_of("coupons") == "default"
    monkeypatch.setitem(settings.DATABASES, "coupons", {})
    assert database_of("coupons") == "coupons"
    with pytest.raises(UnroutedQuery, match="orders_0"):
        database_of("orders")


@databases
def test_query_for_orders_must_say_where(shard_map: shards.ShardMap) -> None:
    with pytest.raises(UnroutedQuery, match=r"Order\.objects\.using\(shards\.alias_of\(order_id\)\)"):
        Order.objects.count()
    with pytest.raises(UnroutedQuery, match=r"orders\.IdempotencyKey"):
        IdempotencyKey(customer_id=1, key="a", order_id=1, created_at=AT).save()


@databases
def test_row_that_came_from_a_shard_is_saved_there(shard_map: shards.ShardMap) -> None:
    alias = shards.aliases()[-1]
    key = IdempotencyKey(customer_id=127, key="a", fingerprint="f", order_id=1, created_at=AT)
    key.save(using=alias)
    key.fingerprint = "g"
    key.save()
    assert IdempotencyKey.objects.using(alias).get().fingerprint == "g"


@databases
def test_other_apps_ignore_where_a_related_row_came_from(shard_map: shards.ShardMap) -> None:
    router = ShardRouter()
    order = Order(id=1)
    order._state.db = shards.aliases()[0]
    user_model = get_user_model()
    assert router.db_for_write(user_model, instance=order) == "default"
    user = user_model(pk=1)
    user._state.db = "default"
    with pytest.raises(UnroutedQuery):
        router.db_for_write(Order, instance=user)


@databases
def test_relations_stay_within_one_database(shard_map: shards.ShardMap) -> None:
    router = ShardRouter()
    here, there, nowhere = Order(id=1), Order(id=2), Order(id=3)
    here._state.db, there._state.db = shards.aliases()[0], shards.aliases()[-1]
    user_model = get_user_model()
    assert router.allow_relation(here, here) is True
    assert router.allow_relation(here, there) is False
    assert router.allow_relation(here, user_model()) is False
    assert router.allow_relation(user_model(), user_model()) is True
    assert router.allow_relation(nowhere, user_model()) is None


# --- Migrations ---------------------------------------------------------------------------------------------------


def create_parcel(partition_column: str = "order_id") -> CreatePartitionedModel:
    return CreatePartitionedModel(
        partition_column=partition_column,
        name="Parcel",
        fields=[
            ("order_id", models.BigIntegerField()),
            ("number", models.PositiveSmallIntegerField()),
            ("weight", models.PositiveIntegerField(db_index=True)),
            ("pk", models.CompositePrimaryKey("order_id", "number")),
        ],
        options={"constraints": [models.CheckConstraint(condition=models.Q(number__gte=1), name="parcel_number")]},
    )


def test_operation_survives_being_written_to_a_migration_file(tmp_path: Path) -> None:
    class Written(migrations.Migration):
        operations = [create_parcel()]

    text = MigrationWriter(Written("0001_initial", "orders"), include_header=False).as_string()
    file = tmp_path / "migration.py"
    file.write_text(text)
    read = runpy.run_path(str(file))["Migration"]("0001_initial", "orders")
    assert isinstance(read.operations[0], CreatePartitionedModel)
    assert MigrationWriter(read, include_header=False).as_string() == text


def test_squashing_keeps_the_partitions() -> None:
    later = migrations.AddField("Parcel", "note", models.TextField(default=""))
    assert create_parcel().reduce(later, "orders") is False


@services
@databases
def test_bucketed_table_is_made_and_removed_with_its_partitions(shard_map: shards.ShardMap) -> None:
    alias, operation, before = shards.aliases()[-1], create_parcel(), ProjectState()
    after = before.clone()
    operation.state_forwards("orders", after)
    with connections[alias].schema_editor() as editor:
        operation.database_forwards("orders", editor, before, after)
    assert attached_buckets(alias)["orders_parcel"] == frozenset(shards.buckets_of(alias))
    with connections[alias].schema_editor() as editor:
        operation.database_backwards("orders", editor, after, before)
    assert not [name for name in connections[alias].introspection.table_names() if "parcel" in name]


@databases
def test_partition_column_must_be_in_the_primary_key(shard_map: shards.ShardMap) -> None:
    operation, before = create_parcel(partition_column="weight"), ProjectState()
    after = before.clone()
    operation.state_forwards("orders", after)
    editor = connections[shards.aliases()[0]].schema_editor(collect_sql=True)
    with pytest.raises(ValueError, match=r"primary key of orders\.Parcel must include weight"):
        operation.database_forwards("orders", editor, before, after)


@pytest.mark.slow
def test_one_command_migrates_fresh_databases_and_later_what_is_missing(installation: Installation) -> None:
    unapplied = installation.manage("migrate_all", "--check")
    assert unapplied.returncode == 1, unapplied.stdout
    assert "default: does not exist; it would be created" in unapplied.stdout
    assert not list(installation.directory.glob("*.sqlite3"))

    first = installation.manage("migrate_all")
    assert first.returncode == 0, first.stderr
    assert "default: shard map written: 128 buckets on orders_0, orders_1" in first.stdout
    assert {"sharding_bucket", "auth_user", "eventing_event"} <= installation.tables("default")
    assert "orders_order" not in installation.tables("default")
    shard = installation.tables("orders_1")
    assert {*BUCKETED_TABLES, "eventing_outbox", "eventing_inbox", "orders_idempotencykey"} <= shard
    assert not {"sharding_bucket", "auth_user"} & shard
    if installation.names:
        assert "orders_order_b064" in shard
        assert "orders_order_b063" not in shard
        assert [name for name in installation.tables("inventory") if name.startswith("inventory_")]
        assert not [name for name in installation.tables("default") if name.startswith("inventory_")]

    undone = installation.manage("migrate", "orders", "zero", "--database", "orders_1", "--skip-checks")
    assert undone.returncode == 0, undone.stderr
    assert not [name for name in installation.tables("orders_1") if name.startswith("orders_")]

    plan = installation.manage("migrate_all", "--plan", "--check")
    assert plan.returncode == 1
    assert "  orders.0001_" in plan.stdout
    assert "orders_1: not up to date" in plan.stderr
    assert not [name for name in installation.tables("orders_1") if name.startswith("orders_")]

    second = installation.manage("migrate_all")
    assert second.returncode == 0, second.stderr
    assert [line for line in second.stdout.splitlines() if "up to date" not in line] == [
        line for line in second.stdout.splitlines() if line.startswith("orders_1: applied")
    ]
    assert "orders_order" in installation.tables("orders_1")
    done = installation.manage("migrate_all", "--check")
    assert done.returncode == 0, done.stdout


@services
def test_migration_gives_up_a_lock_that_others_queue_behind_and_tries_again(installation: Installation) -> None:
    name = installation.names["orders_0"]
    with psycopg.connect(**server(), dbname="postgres", autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(**server(), dbname=name) as session:
        session.execute("CREATE TABLE orders_order ()")  # whoever wants the name waits for the end of this transaction
        with subprocess.Popen(
            [sys.executable, "manage.py", "migrate_all", "--lock-timeout", "0.05"],
            cwd=ROOT,
            env=installation.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as command:
            assert command.stdout is not None
            lines = []
            for line in command.stdout:
                lines.append(line)
                if "try 2 of" in line:
                    session.rollback()
    assert command.returncode == 0, lines
    assert any(line.startswith("orders_0: a lock was not free within 0.05 s") for line in lines), lines
    assert any(line.startswith("orders_0: applied") for line in lines), lines


# --- Checks -------------------------------------------------------------------------------------------------------


def test_configuration_passes_its_checks() -> None:
    assert run_checks(tags=[checks.TAG]) == []


def test_gap_between_shards_and_missing_router_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES, "orders_99", {})
    monkeypatch.setattr(settings, "DATABASE_ROUTERS", [])
    assert {message.id for message in checks.check_configuration()} == {"sharding.E002", "sharding.E003"}


def test_shards_are_counted_and_uneven_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ids_with(count: int) -> set[str | None]:
        monkeypatch.setattr(settings, "DATABASES", {f"orders_{number}": {} for number in range(count)})
        return {message.id for message in checks.check_configuration()}

    assert ids_with(0) == ids_with(129) == {"sharding.E001"}
    assert ids_with(3) == {"sharding.W001"}
    assert ids_with(64) == ids_with(128) == set()


@databases
def test_database_checks_pass_on_a_fresh_installation_and_run_only_on_demand(shard_map: shards.ShardMap) -> None:
    assert checks.check_shard_map() == checks.check_connection_budget() == []
    assert checks.check_shard_map(databases=["default", *shards.aliases()]) == []


@databases
def test_map_that_names_an_unknown_database_is_an_error(shard_map: shards.ShardMap) -> None:
    Bucket.objects.filter(bucket=9).update(alias="orders_77")
    messages = checks.check_shard_map(databases=["default"])
    assert [(message.id, isinstance(message, Error)) for message in messages] == [("sharding.E004", True)]
    assert "orders_77" in messages[0].msg


@services
@databases
def test_shard_without_the_partitions_of_its_buckets_is_named(shard_map: shards.ShardMap) -> None:
    alias = shards.alias_of_bucket(0)
    detach(0, alias)
    messages = checks.check_shard_map(databases=shards.aliases())
    assert [message.id for message in messages] == ["sharding.W003"] * len(BUCKETED_TABLES)
    assert all(message.msg.startswith(f"{alias}: ") for message in messages)


@services
@databases
def test_connection_budget_sums_what_all_roles_hold_per_server(
    shard_map: shards.ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CONNECTION_BUDGET", {"web": (2, 3, True), "worker": (5, 1, False)})
    (budget,) = checks.connection_budgets()
    everywhere = len(list(connections))
    assert budget.wanted == 2 * 3 * everywhere + 5 * (everywhere - len(shards.aliases()))
    assert budget.allowed > 0

    monkeypatch.setattr(settings, "CONNECTION_BUDGET", {"web": (budget.allowed, 1, True)})
    (warning,) = checks.check_connection_budget(databases=["default"])
    assert warning.id == "sharding.W004"
    assert f"which allows {budget.allowed}" in warning.msg
