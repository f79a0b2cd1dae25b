"""Which database a model's rows are in. Sharded models have no single answer, so their queries must name the alias."""

import functools
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from sharding import shards
from sharding.errors import UnroutedQuery
from values.contexts import all_contexts

EVERYWHERE = "eventing"  # events, outbox and inbox commit with the effects that they guard, in whichever database


def sharded_tables() -> Mapping[str, str]:
    """What is in an order shard because of an order: each table, and its column that holds the order's number."""
    tables = dict.fromkeys(("eventing_event", "eventing_outbox", "eventing_inbox"), "stream_id")
    for context in all_contexts().values():
        tables |= context.sharded_tables
    return tables


@functools.cache
def sharded_apps() -> frozenset[str]:
    """The apps whose rows are spread over the order shards."""
    return frozenset(label for label, context in all_contexts().items() if context.sharded_tables)


def context_databases() -> tuple[str, ...]:
    """The databases of all contexts that are not spread over the shards; `default` is the first of them."""
    beside = (database_of(label) for label in all_contexts() if label not in sharded_apps())
    return tuple(dict.fromkeys([DEFAULT_DB_ALIAS, *beside]))


def database_of(app_label: str) -> str:
    """The alias of an app that is in one database: its own where one is configured, else `default`.

    Raises UnroutedQuery for an app whose rows are spread over the order shards.
    """
    if app_label in sharded_apps():
        raise UnroutedQuery(f"{app_label} is spread over {', '.join(shards.aliases())}: call sharding.shards.alias_of")
    return app_label if app_label in settings.DATABASES else DEFAULT_DB_ALIAS


class ShardRouter:
    """Sharded apps on the order shards, `eventing` in every database, the other apps each in one."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return self._database(model, hints)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return self._database(model, hints)

    def _database(self, model: type[Model], hints: dict[str, Any]) -> str:
        meta = model._meta
        if meta.app_label not in sharded_apps():
            return database_of(meta.app_label)
        alias: str | None = instance._state.db if (instance := hints.get("instance")) is not None else None
        if alias in shards.aliases():
            return alias
        raise UnroutedQuery(
            f"{meta.label} is spread over the order shards: say where, e.g."
            f" {meta.object_name}.objects.using(shards.alias_of(order_id)), or save(using=...)"
        )

    def allow_relation(self, first: Model, second: Model, **hints: Any) -> bool | None:
        """Only within one database; an object that is not saved yet counts as where it would be saved."""
        databases = [_home(first), _home(second)]
        return None if None in databases else databases[0] == databases[1]

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        if app_label == EVERYWHERE:
            return True
        if app_label in sharded_apps():
            return db in shards.aliases()
        return db == database_of(app_label)


def _home(instance: Model) -> str | None:
    if instance._state.db is not None:
        return instance._state.db
    app_label = instance._meta.app_label
    return None if app_label in (EVERYWHERE, *sharded_apps()) else database_of(app_label)
