"""What a context declares about itself in its `apps.py`, and all that is declared, found through the app registry.

Those who show, check and place all contexts alike read it here, so no list elsewhere names a context.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connections

Found = tuple[int, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the back office, in a group of its navigation. The attribute `pages` of an AppConfig lists them."""

    group: str
    model: str
    title: str
    icon: str
    description: str
    url: str = ""  # the name of its address, where that is not the model's list


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the audit checks in the context's own database.

    `title` says it, `counts` what is counted, `hint` what an operator does when it is broken. `find` gets the alias and
    the time after which things may still be under way; it returns how many it has looked at, and the names of those
    that break the promise. What is compared `at_once`, in one statement, is wrong if it seems wrong; the rest is looked
    at again.
    """

    name: str
    title: str
    counts: str
    hint: str
    find: Callable[[str, datetime], Found]
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The attribute `context` of an AppConfig. The app's label names its subscriber, its lane and its database."""

    order_streams: tuple[str, ...] = ()  # categories of streams that have an order's number; the timeline shows them
    other_streams: tuple[str, ...] = ()
    last_events: tuple[type[Any], ...] = ()  # after which nothing happens in a stream
    orders_wait: bool = False  # whether an order's status depends on what its subscriber does
    sharded_tables: Mapping[str, str] = field(default_factory=dict)  # and the column with the order's number
    promises: tuple[Promise, ...] = ()


@functools.cache
def all_contexts() -> Mapping[str, Context]:
    """By label, in the order of INSTALLED_APPS."""
    return {app.label: app.context for app in apps.get_app_configs() if hasattr(app, "context")}


@functools.cache
def owners() -> Mapping[str, str]:
    """The context of each category of streams."""
    return {
        category: label
        for label, context in all_contexts().items()
        for category in (*context.order_streams, *context.other_streams)
    }


@functools.cache
def order_streams() -> frozenset[str]:
    """The categories of the streams that have an order's number."""
    return frozenset(category for context in all_contexts().values() for category in context.order_streams)


def rows_of(alias: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a statement selects."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def rows_in(alias: str, table: str) -> int:
    """How many rows the table has."""
    return int(rows_of(alias, f"SELECT count(*) FROM {table}")[0][0])


def named(alias: str, table: str, wrong: str) -> Found:
    """How many rows the table has, and the names that the statement `wrong` selects."""
    return rows_in(alias, table), [name for (name,) in rows_of(alias, wrong)]
