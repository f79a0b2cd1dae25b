"""Migration operations that do not block writers, and those for tables that are partitioned in some databases.

Which databases and how is decided by the function that EVENTING_PARTITIONS names: it gets an alias and a table, and
returns the statements that make the table's partitions, or None where the table is plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import AddConstraint, AddIndex, CreateModel, ModelOperation
from django.db.models import Field, Manager, UniqueConstraint
from django.utils.module_loading import import_string

from eventing.conf import conf
from eventing.partitions import partitioned_tables, partitions


class CreatePartitionedModel(CreateModel):
    """CreateModel, but where EVENTING_PARTITIONS says so the table is partitioned by ranges of `partition_column`.

    That is a bigint column of the primary key. Use it in place of `migrations.CreateModel` in the migration that
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
        return f"{super().describe()}, in partitions by {self.partition_column}"

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        model = to_state.apps.get_model(app_label, self.name)
        if self.partition_column not in [field.column for field in model._meta.pk_fields]:
            raise ValueError(f"the primary key of {model._meta.label} must include {self.partition_column}")
        connection = schema_editor.connection
        statements = None
        if connection.vendor == "postgresql" and self.allow_migrate_model(connection.alias, model):
            statements = _partitions_of(connection.alias, model._meta.db_table)
        if statements is None:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        plain = schema_editor.sql_create_table
        column = schema_editor.quote_name(self.partition_column)
        schema_editor.sql_create_table = f"{plain} PARTITION BY RANGE ({column})"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = plain
        for statement in statements:
            schema_editor.execute(statement, params=None)


class AddPartitionedIndex(AddIndex):
    """AddIndex that does not block writers, on a table that may be partitioned.

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
        if model._meta.db_table not in partitioned_tables(connection.alias):
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
        return f"{super().describe()}, partition by partition"


class ReplaceUniqueConstraint(AddConstraint):
    """Put a unique constraint over some fields in the place of another one, which may be gone already.

    PostgreSQL builds its index beside the use of the table. That takes no transaction, so the migration says
    `atomic = False`; one that was cut off can be run again.
    """

    constraint: UniqueConstraint

    def __init__(self, model_name: str, constraint: UniqueConstraint, replaces: str) -> None:
        super().__init__(model_name, constraint)
        self.replaces = replaces

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        name, args, kwargs = super().deconstruct()
        return name, list(args), {**kwargs, "replaces": self.replaces}

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.remove_constraint(app_label, self.model_name_lower, self.replaces)
        super().state_forwards(app_label, state)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        before = from_state.apps.get_model(app_label, self.model_name)
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if schema_editor.connection.vendor != "postgresql":
            old = next(one for one in before._meta.constraints if one.name == self.replaces)
            schema_editor.remove_constraint(before, old)
            schema_editor.add_constraint(model, self.constraint)
            return
        table, new = schema_editor.quote_name(model._meta.db_table), schema_editor.quote_name(self.constraint.name)
        fields = (model._meta.get_field(name).column for name in self.constraint.fields)
        columns = ", ".join(schema_editor.quote_name(column) for column in fields)
        if not self._is_there(schema_editor):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {new}", params=None)
            schema_editor.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {new} ON {table} ({columns})", params=None)
            schema_editor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {new} UNIQUE USING INDEX {new}", params=None)
        old_name = schema_editor.quote_name(self.replaces)
        schema_editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {old_name}", params=None)

    def _is_there(self, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = %s)", [self.constraint.name])
            return bool(cursor.fetchone()[0])

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Raises IntegrityError if there are rows by now that only the new constraint allows."""
        before = from_state.apps.get_model(app_label, self.model_name)
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.remove_constraint(before, self.constraint)
            schema_editor.add_constraint(
                model, next(one for one in model._meta.constraints if one.name == self.replaces)
            )

    def describe(self) -> str:
        return f"{super().describe()} in the place of {self.replaces}"


def _partitions_of(alias: str, table: str) -> Sequence[str] | None:
    if not (path := conf.EVENTING_PARTITIONS):
        return None
    statements: Sequence[str] | None = import_string(path)(alias, table)
    return statements
