"""Whether each database is the one that the settings mean: it carries its own alias and a mark of its installation.

`manage.py migrate_all` writes the marks. What starts compares them, so that URLs that were swapped, forgotten or taken
from another installation are refused before anybody orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from uuid import UUID, uuid4

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from eventing import fan_out
from eventing.models import DatabaseMark, Event
from sharding import servers, shards
from sharding.errors import ServerUnavailable, ShardMapMissing, WrongDatabases
from sharding.models import Bucket
from sharding.numbers import bucket_of
from sharding.partitions import attached_buckets

SECONDS = 5.0  # for the answers of all databases together

# The mark that an alias has; None for a database that is there and has none.
Marks = Mapping[str, DatabaseMark | None]


def mark_of(alias: str) -> DatabaseMark | None:
    """The mark of a database; None if it has none (yet). Raises OperationalError if it does not answer."""
    if DatabaseMark._meta.db_table not in _tables(alias):
        return None
    return DatabaseMark.objects.using(alias).first()


def mistakes(aliases: Collection[str] | None = None) -> list[str]:
    """What is wrong between the settings and the databases, a sentence each; empty if all is right.

    A database that does not answer is none of them: it may come back.
    """
    queried = dict.fromkeys([DEFAULT_DB_ALIAS, *(aliases or settings.DATABASES)])
    answers = fan_out.query(queried, mark_of, seconds=SECONDS)
    found = list(misplaced(answers.values).values())
    found += [_empty(alias) for alias, mark in answers.values.items() if mark is None]
    absent = fan_out.concurrently({alias: partial(_is_absent, alias) for alias in answers.unavailable})
    found += [_absent(alias) for alias, answer in absent.items() if answer.result()]
    if DEFAULT_DB_ALIAS in answers.values and not found:
        found += unknown_shards()
    return found


def refuse_mistakes() -> None:
    """Raises WrongDatabases, which names all of them in one line."""
    if found := mistakes():
        raise WrongDatabases(" ".join(found))


def refuse_to_migrate(aliases: Iterable[str]) -> None:
    """Raises WrongDatabases if one of these databases, which may be new or old, is not what it is to become."""
    there = [alias for alias in dict.fromkeys([DEFAULT_DB_ALIAS, *aliases]) if servers.exists(connections[alias])]
    marks = {alias: mark_of(alias) for alias in there}
    has_map = DEFAULT_DB_ALIAS in there and Bucket._meta.db_table in _tables(DEFAULT_DB_ALIAS)
    found = list(misplaced(marks).values())
    found += [text for alias, mark in marks.items() if mark is None for text in _strangers_data(alias, has_map)]
    if not has_map and (others := ", ".join(alias for alias, mark in marks.items() if mark is not None)):
        found.append(f"The database of default is empty, but {others} belong to an installation that has one.")
    if not found and has_map:
        found += unknown_shards()
    if found:
        raise WrongDatabases(" ".join(found))


def mark(alias: str) -> None:
    """Have a migrated database carry its mark, if it has none. The first one decides about the installation's."""
    if mark_of(alias) is None:
        DatabaseMark.objects.using(alias).get_or_create(
            defaults={"installation": _installation(), "alias": alias}, pk=DatabaseMark.ONLY
        )


def _installation() -> UUID:
    """Of `default`; of the others, if that was restored from a time before the marks; or of a new installation."""
    for alias in settings.DATABASES:
        if servers.exists(connections[alias]) and (known := mark_of(alias)) is not None:
            return known.installation
    return uuid4()


def misplaced(marks: Marks) -> dict[str, str]:
    """The aliases whose database is another's, and a sentence that says whose."""
    known = {alias: mark for alias, mark in marks.items() if mark is not None}
    installations = Counter(mark.installation for mark in known.values())
    default = known.get(DEFAULT_DB_ALIAS)
    # `default` says whose the others are, unless all of them agree that it is itself the stranger.
    ours = default.installation if default is not None else next(iter(installations), None)
    if default is not None and len(known) > 2 and installations.most_common(1)[0][1] == len(known) - 1:
        ours = installations.most_common(1)[0][0]
    return {
        alias: f"{_leads_to(alias)} the database {mark.alias} of another installation."
        if mark.installation != ours
        else f"{_leads_to(alias)} the database of {mark.alias}."
        for alias, mark in known.items()
        if mark.installation != ours or mark.alias != alias
    }


def _leads_to(alias: str) -> str:
    on_server = connections[alias].vendor == "postgresql"
    return f"The URL of {alias} leads to" if on_server else f"The file of {alias} is"


def unknown_shards() -> Iterator[str]:
    """What the shard map names and the settings lack; raises OperationalError if `default` does not answer."""
    try:
        owners = shards.refresh().owners
    except ShardMapMissing as error:
        yield f"{error}."
        return
    if unknown := sorted(set(owners) - set(shards.aliases()), key=lambda alias: (len(alias), alias)):
        yield (
            f"The shard map names {', '.join(unknown)}, which the settings lack: ORDER_SHARDS or ORDER_SHARD_URLS "
            "names too few databases."
        )


def _strangers_data(alias: str, has_map: bool) -> Iterator[str]:
    """What shows that a database without a mark, of a version before them, is another one."""
    tables = _tables(alias)
    if alias == DEFAULT_DB_ALIAS:
        if "orders_order" in tables:
            yield f"{_leads_to(alias)} a database of orders."
        return
    if Bucket._meta.db_table in tables:
        yield f"{_leads_to(alias)} a database of default."
    elif alias in shards.aliases() and "orders_order" in tables and has_map:
        own, held = set(shards.buckets_of(alias)), _buckets_held(alias)
        if held and not held & own:
            owners = sorted({shards.alias_of_bucket(bucket) for bucket in held})
            yield f"{_leads_to(alias)} the database of {', '.join(owners)}."


def _buckets_held(alias: str) -> set[int]:
    """The buckets that a shard has: all on PostgreSQL, on SQLite those of its first and its last order."""
    if connections[alias].vendor == "postgresql":
        return set().union(*attached_buckets(alias).values())
    ids = Event.objects.using(alias).filter(category="order").values_list("stream_id", flat=True)
    ends = (ids.order_by("stream_id").first(), ids.order_by("stream_id").last())
    return {bucket_of(order_id) for order_id in ends if order_id is not None}


def _is_absent(alias: str) -> bool:
    try:
        return not servers.exists(connections[alias])
    except ServerUnavailable:
        return False


def _tables(alias: str) -> set[str]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def _empty(alias: str) -> str:
    return (
        f"The database of {alias} ({servers.name_of(connections[alias])}) is not prepared: its URL leads elsewhere, or "
        "`manage.py migrate_all` is to be run."
    )


def _absent(alias: str) -> str:
    return f"The database of {alias} ({servers.name_of(connections[alias])}) does not exist on its server."
