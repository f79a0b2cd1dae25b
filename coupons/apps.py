"""Makes the events of coupons known to the event store."""

from django.apps import AppConfig

from coupons import events, promises
from eventing import registry
from eventing.retention import permanent
from values.contexts import Context, Page


class CouponsConfig(AppConfig):
    name = "coupons"
    context = Context(
        order_streams=(events.REDEMPTION,),
        last_events=(events.CouponRefused, events.CouponReleased),
        orders_wait=True,
        promises=promises.PROMISES,
    )
    pages = (
        Page("Catalogue", "coupons.coupon", "Coupons", "sell", "Their terms, and how often they are in use."),
        Page(
            "Catalogue",
            "coupons.redemption",
            "Redemptions",
            "redeem",
            "Which orders got a coupon, and which did not.",
        ),
    )
    retention = (
        permanent("coupons.Coupon", "what was promised"),
        permanent("coupons.Redemption", "the books"),
    )

    def ready(self) -> None:
        registry.register_module(events)
