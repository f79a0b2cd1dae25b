"""Migration operations for tables that have one partition a bucket on PostgreSQL order shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import AddIndex, CreateModel, ModelOperation
from django.db.models import Field, Manager

from sharding import shards
from sharding.partitions import bucketed_tables, partition_statements, partitions


class CreateBucketedModel(CreateModel):
    """CreateModel, but on a PostgreSQL order shard the table is partitioned, with the buckets that the shard owns.

    `partition_column` is the bigint column that holds the order id; it must be part of the primary key. In any other
    database the table is a plain one. Use it in place of `migrations.CreateModel` in the migration that
    `makemigrations` wrote; indexes and constraints of the model reach the partitions by themselves.
    """

    def __init__(  # every argument by name, because the writer of migration files goes by the signature
        self,
        *,
        partition_column: str,
        name: str,
        fields: list[tuple[str, Field[Any, Any]]],
        options: dict[str, Any] | None = None,
        bases: Sequence[type[Any] | str] | None = None,
        managers: Sequence[tuple[str, Manager[Any]]] | None = None,
    ) -> None:
        super().__init__(name, fields, options, bases, managers)
        self.partition_column = partition_column

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        name, args, kwargs = super().deconstruct()
        return name, list(args), {"partition_column": self.partition_column, **kwargs}

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        # CreateModel would merge later changes into a new CreateModel, and the partitions would be lost in squashing.
        return ModelOperation.reduce(self, operation, app_label)

    def describe(self) -> str:
        return f"{super().describe()}, partitioned by bucket of {self.partition_column} on order shards"

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if self.partition_column not in [field.column for field in model._meta.pk_fields]:
            raise ValueError(f"the primary key of {model._meta.label} must include {self.partition_column}")
        connection = schema_editor.connection
        partitioned = (
            connection.vendor == "postgresql"
            and connection.alias in shards.aliases()
            and self.allow_migrate_model(connection.alias, model)
        )
        if not partitioned:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        plain = schema_editor.sql_create_table
        column = schema_editor.quote_name(self.partition_column)
        schema_editor.sql_create_table = f"{plain} PARTITION BY RANGE ({column})"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = plain
        for bucket in shards.buckets_to_create(connection.alias):
            for statement in partition_statements(model._meta.db_table, bucket):
                schema_editor.execute(statement, params=None)


class AddBucketedIndex(AddIndex):
    """AddIndex that keeps nobody from writing meanwhile, on a table that may be partitioned by bucket.

    PostgreSQL builds the indexes of the partitions one by one beside their use, and attaches each to the one of the
    whole table. That takes no transaction, so the migration says `atomic = False`; one that was cut off can be run
    again.
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if connection.vendor != "postgresql" or not self.allow_migrate_model(connection.alias, model):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        table, whole = schema_editor.quote_name(model._meta.db_table), schema_editor.quote_name(self.index.name)
        plain = str(self.index.create_sql(model, schema_editor))
        head = f"CREATE INDEX {whole} ON {table}"
        if not plain.startswith(head):
            raise ValueError(f"this index cannot be built in parts: {plain}")
        rest = plain.removeprefix(head)
        if model._meta.db_table not in bucketed_tables(connection.alias):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {whole}", params=None)
            schema_editor.execute(f"CREATE INDEX CONCURRENTLY {whole} ON {table}{rest}", params=None)
            return
        schema_editor.execute(f"CREATE INDEX IF NOT EXISTS {whole} ON ONLY {table}{rest}", params=None)
        attached = partitions(connection.alias, self.index.name)
        for partition in partitions(connection.alias, model._meta.db_table):
            part = f"{self.index.name}{partition.removeprefix(model._meta.db_table)}"
            if part in attached:
                continue
            name = schema_editor.quote_name(part)
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", params=None)
            on = schema_editor.quote_name(partition)
            schema_editor.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}{rest}", params=None)
            schema_editor.execute(f"ALTER INDEX {whole} ATTACH PARTITION {name}", params=None)

    def describe(self) -> str:
        return f"{super().describe()}, bucket by bucket on order shards"
