"""Migration operations for tables that have one partition a bucket on PostgreSQL order shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import CreateModel, ModelOperation
from django.db.models import Field, Manager

from sharding import shards
from sharding.partitions import partition_statements


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
