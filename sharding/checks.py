"""System checks: shards, router and shard map fit together, and the connection pools fit the database servers.

Checks that query a database run only on demand: `manage.py check --database default --database orders_0 …`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from sharding import installation, shards
from sharding.errors import ShardMapMissing
from sharding.numbers import BUCKETS
from sharding.partitions import attached_buckets

TAG = "sharding"
INSTALLATION = "installation"
ROUTER = "sharding.router.ShardRouter"


@register(Tags.database)
def check_shard_map(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The map names configured shards only, and each shard has the partitions of exactly its buckets."""
    if not databases:
        return []
    try:
        owners = shards.refresh().owners
    except ShardMapMissing as error:
        return [CheckWarning(str(error), id="sharding.W002")]
    except OperationalError as error:
        return [_unreachable(DEFAULT_DB_ALIAS, error)]
    messages: list[CheckMessage] = []
    if unknown := sorted(set(owners) - set(shards.aliases())):
        messages.append(
            Error(f"the shard map names {', '.join(unknown)}, which settings.DATABASES lacks", id="sharding.E004")
        )
    for alias in databases:
        if alias not in shards.aliases() or connections[alias].vendor != "postgresql":
            continue
        try:
            attached = attached_buckets(alias)
        except OperationalError as error:
            messages.append(_unreachable(alias, error))
            continue
        wanted = frozenset(shards.buckets_of(alias))
        messages += [
            CheckWarning(
                f"{alias}: {table} has partitions for buckets {_listed(buckets)}, the shard map says {_listed(wanted)}",
                hint="A bucket may be on the move. If none is, `manage.py audit` names the orders that are affected.",
                id="sharding.W003",
            )
            for table, buckets in attached.items()
            if buckets != wanted
        ]
    return messages


@register(INSTALLATION)
@register(Tags.database)
def check_installation(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Each database is the one that the settings mean."""
    return [Error(text, id="sharding.E006") for text in installation.mistakes(databases)] if databases else []


@register(TAG)
def check_configuration(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Between 1 and 128 order shards without a gap in their numbers, and a router that knows them."""
    aliases = shards.aliases()
    messages: list[CheckMessage] = []
    if not 1 <= len(aliases) <= BUCKETS:
        messages.append(
            Error(f"{len(aliases)} order shards are configured; there can be 1 to {BUCKETS}", id="sharding.E001")
        )
    elif aliases != tuple(f"orders_{number}" for number in range(len(aliases))):
        messages.append(
            Error(f"the order shards are {', '.join(aliases)}; they must count from orders_0", id="sharding.E002")
        )
    elif BUCKETS % len(aliases):
        messages.append(
            CheckWarning(
                f"{BUCKETS} buckets do not divide evenly over {len(aliases)} order shards",
                hint="Take a power of two, or accept that some databases get one bucket more than others.",
                id="sharding.W001",
            )
        )
    if ROUTER not in settings.DATABASE_ROUTERS:
        messages.append(Error(f"settings.DATABASE_ROUTERS lacks {ROUTER!r}", id="sharding.E003"))
    return messages


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBudget:
    """The connections that all processes together may open to a database server, and what it allows."""

    server: str
    aliases: tuple[str, ...]
    wanted: int
    allowed: int

    @property
    def fits(self) -> bool:
        return self.wanted <= self.allowed

    def __str__(self) -> str:
        return (
            f"all processes together may open {self.wanted} connections to {self.server}"
            f" ({len(self.aliases)} databases), which allows {self.allowed}"
        )


def connection_budgets(databases: Iterable[str] | None = None) -> list[ConnectionBudget]:
    """What `settings.CONNECTION_BUDGET` sums up to for each PostgreSQL server, beside what the server allows.

    With `databases`, only the servers of these are queried; raises OperationalError for one that does not answer.
    """
    servers: dict[str, list[str]] = defaultdict(list)
    for alias in connections:
        if connections[alias].vendor == "postgresql":
            servers[_server(alias)].append(alias)
    budgets = []
    for server, aliases in servers.items():
        wanted_here = aliases if databases is None else [alias for alias in aliases if alias in set(databases)]
        if wanted_here:
            wanted = sum(
                processes * held * len([alias for alias in aliases if everywhere or alias not in shards.aliases()])
                for processes, held, everywhere in settings.CONNECTION_BUDGET.values()
            )
            budgets.append(
                ConnectionBudget(server=server, aliases=tuple(aliases), wanted=wanted, allowed=_allowed(wanted_here[0]))
            )
    return budgets


@register(Tags.database)
def check_connection_budget(
    app_configs: Any = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Connections are a budget: warn before the servers have to refuse some."""
    if not databases:
        return []
    try:
        budgets = connection_budgets(databases)
    except OperationalError as error:
        return [_unreachable("the database server", error)]
    return [
        CheckWarning(
            f"{budget}",
            hint="Run fewer processes, lower DATABASE_POOL_SIZE, raise max_connections, or spread the databases.",
            id="sharding.W004",
        )
        for budget in budgets
        if not budget.fits
    ]


def _unreachable(what: str, error: OperationalError) -> Error:
    return Error(f"{what} does not answer: {error}", id="sharding.E005")


def _listed(buckets: Iterable[int]) -> str:
    return ", ".join(str(bucket) for bucket in sorted(buckets)) or "none"


def _server(alias: str) -> str:
    config = connections[alias].settings_dict
    return f"{config['HOST'] or 'local socket'}:{config['PORT'] or 5432}"


def _allowed(alias: str) -> int:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        )
        return int(cursor.fetchone()[0])
