"""Changes to coupons. Reactions to orders come in batches, and a batch is a fixed number of statements.

Locks are always taken in the same order, which is what keeps workers from waiting for each other in a circle:
redemptions by order id first, coupons by code after that. Whoever has a coupon's row also has its uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import connections
from django.db.models import Count, F

from coupons import domain
from coupons.commands import Command, RedeemCoupon
from coupons.domain import Kind, Status
from coupons.events import REDEMPTION
from coupons.models import Coupon, Redemption
from eventing import store
from eventing.databases import Insertion, insert, relation
from eventing.recorded import Metadata, NewEvents
from sharding.router import database_of

VOID_TYPES = {
    "order_id": "bigint",
    "customer_id": "bigint",
    "status": "text",
    "discount": "bigint",
    "version": "integer",
    "at": "timestamptz",
}
CHANGE_TYPES = {
    "order_id": "bigint",
    "status": "text",
    "coupon_id": "bigint",
    "discount": "bigint",
    "version": "integer",
    "changed_at": "timestamptz",
}


def handle_batch(commands: Sequence[tuple[Command, Metadata]]) -> None:
    """Redeem and release for many orders at once, inside the caller's transaction."""
    using = database_of("coupons")
    asked = [command for command, _ in commands]
    redemptions, versions = _lock_redemptions(asked, using)
    coupons, ids = _lock_coupons(asked, redemptions, using)
    result = domain.settle(asked, redemptions, coupons, _uses(asked, ids, using))

    writes: list[NewEvents] = []
    changed: dict[int, datetime] = {}
    for (command, metadata), event in zip(commands, result.events, strict=True):
        if event is None:
            continue
        version = versions[command.order_id]
        versions[command.order_id] = version + 1
        changed[command.order_id] = event.at
        writes.append(
            NewEvents(stream_id=command.order_id, expected_version=version, events=[event], metadata=metadata)
        )
    if not writes:
        return
    _write_coupons(coupons, result.coupons, using)
    _write_redemptions(changed, versions, result.redemptions, ids, using)
    store.append(REDEMPTION, writes, using=using)


def _lock_redemptions(commands: Sequence[Command], using: str) -> tuple[dict[int, domain.Redemption], dict[int, int]]:
    """The redemptions that are there already, and the version of every stream. All their rows are ours afterwards.

    An order not heard of gets a row that is void until something happens; if nothing does, it is the tombstone.
    Two workers that have events of the same new order meet here: the second waits for the first, and finds its row.
    """
    by_order = {command.order_id: command for command in commands}
    rows = [
        (order_id, command.customer_id, Status.VOID.value, 0, 0, command.at)
        for order_id, command in sorted(by_order.items())
    ]
    then = "ON CONFLICT DO NOTHING RETURNING order_id"
    void = Insertion(table="coupons_redemption", columns=VOID_TYPES, rows=rows, then=then)
    claimed = {order_id for (order_id,) in insert(connections[using], void)}
    redemptions: dict[int, domain.Redemption] = {}
    versions = dict.fromkeys(claimed, 0)
    if len(claimed) < len(by_order):
        known = (
            Redemption.objects.using(using)
            .select_for_update(of=("self",))
            .filter(order_id__in=[order_id for order_id in by_order if order_id not in claimed])
            .order_by("order_id")
        )
        for order_id, status, code, customer_id, discount, version in known.values_list(
            "order_id", "status", "coupon__code", "customer_id", "discount", "version"
        ):
            redemptions[order_id] = domain.Redemption(
                status=Status(status), code=code, customer_id=customer_id, discount=discount
            )
            versions[order_id] = version
    return redemptions, versions


def _lock_coupons(
    commands: Sequence[Command], redemptions: dict[int, domain.Redemption], using: str
) -> tuple[dict[str, domain.Coupon], dict[str, int]]:
    """The terms of the coupons that the commands can touch, and their ids, by code."""
    codes = {redemption.code for redemption in redemptions.values() if redemption.status is Status.REDEEMED}
    codes |= {
        code
        for command in commands
        if isinstance(command, RedeemCoupon)
        and command.order_id not in redemptions
        and domain.CODE.fullmatch(code := domain.normalise(command.code))
    }
    if not codes:
        return {}, {}
    rows = list(Coupon.objects.using(using).select_for_update().filter(code__in=codes).order_by("code"))
    return {row.code: row.terms() for row in rows}, {row.code: row.pk for row in rows}


def _uses(commands: Sequence[Command], ids: dict[str, int], using: str) -> dict[tuple[str, int], int]:
    """How often the customers have the coupons in use; nobody can change that while the coupons are locked."""
    customers = {command.customer_id for command in commands if isinstance(command, RedeemCoupon)}
    if not customers or not ids:
        return {}
    rows = (
        Redemption.objects.using(using)
        .filter(coupon_id__in=ids.values(), customer_id__in=customers, status=Status.REDEEMED.value)
        .values_list("coupon__code", "customer_id")
        .annotate(uses=Count("order_id"))
    )
    return {(code, customer_id): uses for code, customer_id, uses in rows}


def _write_coupons(before: dict[str, domain.Coupon], after: dict[str, domain.Coupon], using: str) -> None:
    """Add the differences rather than store the results, so that the table's own checks see every use."""
    changes = [
        (code, coupon.redeemed - before[code].redeemed)
        for code, coupon in after.items()
        if coupon.redeemed != before[code].redeemed
    ]
    if not changes:
        return
    connection = connections[using]
    difference, parameters = relation(connection, "difference", {"code": "text", "redeemed": "integer"}, changes)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE coupons_coupon SET redeemed = coupons_coupon.redeemed + difference.redeemed"
            f" FROM {difference} WHERE coupons_coupon.code = difference.code",
            parameters,
        )


def _write_redemptions(
    changed: dict[int, datetime],
    versions: dict[int, int],
    redemptions: dict[int, domain.Redemption],
    ids: dict[str, int],
    using: str,
) -> None:
    rows = []
    for order_id, at in changed.items():
        redemption = redemptions[order_id]
        coupon_id = ids.get(redemption.code or "")
        rows.append((order_id, str(redemption.status), coupon_id, redemption.discount, versions[order_id], at))
    connection = connections[using]
    change, parameters = relation(connection, "change", CHANGE_TYPES, rows)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE coupons_redemption SET status = change.status, coupon_id = change.coupon_id,"
            " discount = change.discount, version = change.version, at = change.changed_at"
            f" FROM {change} WHERE coupons_redemption.order_id = change.order_id",
            parameters,
        )


def count_uses(uses: Mapping[str, int]) -> None:
    """Add to how often coupons, by code, are in use, by redemptions that are written in the same transaction."""
    for code, times in sorted(uses.items()):
        coupon = Coupon.objects.using(database_of("coupons")).filter(code=code)
        coupon.update(redeemed=F("redeemed") + times)


def add_coupon(
    *,
    code: str,
    kind: Kind,
    value: int,
    currency: str,
    minimum_spend: int = 0,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    total_limit: int | None = None,
    per_customer_limit: int | None = None,
    active: bool = True,
) -> None:
    """Add a coupon; see `domain.Coupon` for units. Raises InvalidCoupon, DuplicateCoupon."""
    terms = domain.Coupon(
        code=domain.normalise(code),
        kind=kind,
        value=value,
        currency=currency,
        minimum_spend=minimum_spend,
        valid_from=valid_from,
        valid_until=valid_until,
        total_limit=total_limit,
        per_customer_limit=per_customer_limit,
        active=active,
    )
    domain.check_terms(terms)
    _, created = Coupon.objects.using(database_of("coupons")).get_or_create(
        code=terms.code,
        defaults={
            "kind": kind.value,
            "value": value,
            "currency": currency,
            "minimum_spend": minimum_spend,
            "valid_from": valid_from,
            "valid_until": valid_until,
            "total_limit": total_limit,
            "per_customer_limit": per_customer_limit,
            "active": active,
        },
    )
    if not created:
        raise domain.DuplicateCoupon(terms.code)
