"""What the audit checks of coupons."""

from datetime import datetime

from values.contexts import Found, Promise, named


def coupons_within_limits(alias: str, until: datetime) -> Found:
    return named(
        alias,
        "coupons_coupon",
        "SELECT code FROM coupons_coupon WHERE redeemed > total_limit"
        " UNION SELECT coupon.code FROM coupons_coupon AS coupon"
        " JOIN coupons_redemption AS redemption ON redemption.coupon_id = coupon.id"
        " WHERE redemption.status = 'redeemed' AND coupon.per_customer_limit IS NOT NULL"
        " GROUP BY coupon.code, coupon.per_customer_limit, redemption.customer_id"
        " HAVING count(*) > coupon.per_customer_limit ORDER BY 1",
    )


def coupons_add_up(alias: str, until: datetime) -> Found:
    return named(
        alias,
        "coupons_coupon",
        "WITH used AS (SELECT coupon_id, count(*) AS times FROM coupons_redemption"
        " WHERE status = 'redeemed' GROUP BY coupon_id)"
        " SELECT coupon.code FROM coupons_coupon AS coupon LEFT JOIN used ON used.coupon_id = coupon.id"
        " WHERE coupon.redeemed <> coalesce(used.times, 0) ORDER BY coupon.code",
    )


PROMISES = (
    Promise(
        name="coupons_within_limits",
        title="No coupon is in use more often than it may be, in all or by one customer.",
        counts="coupons",
        hint="A limit was lowered below what was in use, or the coupon's row was not locked. Cancel or accept what is "
        "too much: see the coupon's redemptions.",
        find=coupons_within_limits,
        at_once=True,
    ),
    Promise(
        name="coupons_add_up",
        title="A coupon counts as many uses as it has redemptions that stand.",
        counts="coupons",
        hint="Count the redemptions of the coupon that stand, and correct its `redeemed`.",
        find=coupons_add_up,
        at_once=True,
    ),
)
