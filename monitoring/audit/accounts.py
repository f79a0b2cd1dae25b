"""Whether every order belongs to the account of its customer: no id is given to a second person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from monitoring.audit.report import Finding, Scope, database_check
from sharding import numbers, shards
from sharding.router import database_of

CHUNK = 5_000
SKEW = timedelta(minutes=5)  # that the clocks of two web servers may differ by


@database_check(
    title="Every order is of a customer whose account is there, and older.",
    counts="customers",
    hint="The database of the accounts was restored to an earlier moment, or an account was deleted past the "
    "admin. The orders stay with their number; nobody else is given that customer's id.",
    databases=shards.aliases,
)
def customers_have_accounts(alias: str, scope: Scope) -> Finding:
    first = _first_orders(alias)
    checked, offenders = 0, []
    while chunk := dict(islice(first, CHUNK)):
        checked += len(chunk)
        joined = dict(User.objects.using(database_of("auth")).filter(pk__in=chunk).values_list("pk", "date_joined"))
        deleted = _deleted(chunk.keys() - joined.keys())
        for customer_id, order_id in chunk.items():
            at, what = numbers.placed_at(order_id), f"order {numbers.to_text(order_id)}"
            if at > scope.cutoff or customer_id in deleted:
                continue
            if customer_id not in joined:
                offenders.append(f"customer {customer_id} has {what} of {at:%Y-%m-%d %H:%M} and no account")
            elif joined[customer_id] > at + SKEW:
                offenders.append(
                    f"customer {customer_id} has {what} of {at:%Y-%m-%d %H:%M}, before the account was made"
                )
    return checked, offenders


def _first_orders(alias: str) -> Iterator[tuple[int, int]]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT customer_id, min(id) FROM orders_order GROUP BY customer_id ORDER BY customer_id")
        rows = cursor.fetchall()
    yield from rows


def _deleted(customer_ids: set[int]) -> set[int]:
    """Those whose accounts operators have deleted, which the admin keeps a record of."""
    if not customer_ids:
        return set()
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User),
        action_flag=DELETION,
        object_id__in=[str(customer_id) for customer_id in customer_ids],
    )
    return {int(object_id) for object_id in entries.values_list("object_id", flat=True) if object_id}


CHECKS = (customers_have_accounts,)
