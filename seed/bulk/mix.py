"""The templates of orders in bulk: every scenario by its share, with baskets from the catalogue."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate

from django.conf import settings
from django.utils import timezone

from coupons import domain as coupons
from coupons.domain import Coupon, CouponError
from coupons.selectors import terms
from inventory import selectors as catalogue
from inventory.domain import MAX_QUANTITY
from orders.domain import sum_of
from orders.events import Line
from seed.bulk import BulkError
from seed.bulk.played import AGE, Basket, play
from seed.bulk.templates import Template, template_of
from seed.data import CATALOGUE, SCARCE
from seed.scenarios import SCENARIOS, Scenario

LARGEST = 100  # templates; fewer for few orders, because each takes tens of milliseconds
FEWEST = 2  # of a scenario
TOGETHER = 10  # orders that are played in one transaction: while it lasts, it has the stock rows
WITH_COUPON = 0.3
SAMPLES = 10


class OrderMix:
    """Templates for so many orders, from the catalogue and the coupons of the day."""

    def __init__(self, orders: int) -> None:
        products = [product for group in CATALOGUE.values() for product in group]
        on_sale = catalogue.products_by_sku(product.sku for product in products)
        views = [
            (product, view)
            for product in products
            if (view := on_sale.get(product.sku)) and view.active and view.currency == settings.SHOP_CURRENCY
        ]
        self._plenty = [view for product, view in views if product.stock > SCARCE]
        self._scarce = [view for product, view in views if product.stock <= SCARCE] or self._plenty[-1:]
        if len(self._plenty) < 2:
            raise BulkError("hardly anything of what they would order is on sale any more")
        self._coupons = {coupon.code: coupon for coupon in terms()}
        self._scenarios: list[tuple[int, list[Template]]] = []
        size = min(LARGEST, orders // 20)
        chance = random.Random("baskets")
        for scenario in SCENARIOS:
            if scenario.share_in_bulk and (scenario.coupon is None or self._is_scarce(scenario.coupon)):
                number = max(FEWEST, size * scenario.share_in_bulk // 1000)
                baskets = [self._basket(scenario, chance) for _ in range(number)]
                played = [
                    order
                    for first in range(0, number, TOGETHER)
                    for order in play(scenario, baskets[first : first + TOGETHER])
                ]
                self._scenarios.append((scenario.share_in_bulk, [template_of(order) for order in played]))

    def sample(self, chance: random.Random) -> Callable[[int], list[Template]]:
        """Some templates of every scenario: so few that the processor's cache has them while a batch is made."""
        templates: list[Template] = []
        weights: list[float] = []
        for share, known in self._scenarios:
            number = max(1, len(known) // SAMPLES)
            templates += chance.sample(known, number)
            weights += [share / number] * number
        cum_weights = list(accumulate(weights))
        return lambda count: chance.choices(templates, cum_weights=cum_weights, k=count)

    def _basket(self, scenario: Scenario, chance: random.Random) -> Basket:
        scarce = [chance.choice(self._scarce)] if scenario.short else []
        plenty = [view for view in self._plenty if view not in scarce]
        wanted = [(view, chance.randint(SCARCE, MAX_QUANTITY)) for view in scarce]
        views = chance.sample(plenty, min(len(plenty), chance.randint(1, 4)))
        wanted += [(view, chance.choice((1, 1, 1, 2, 3))) for view in views]
        lines = tuple(
            Line(sku=view.sku, name=view.name, quantity=quantity, unit_price=view.price) for view, quantity in wanted
        )
        coupon = None
        if scenario.coupon is not None:
            coupon = self._coupons[scenario.coupon]
        elif chance.random() < WITH_COUPON:
            fitting = [one for one in self._coupons.values() if _is_for_everybody(one) and _fits(one, sum_of(lines))]
            coupon = chance.choice(fitting) if fitting else None
        skus = tuple(view.sku for view in scarce)
        return Basket(lines=lines, currency=settings.SHOP_CURRENCY, coupon=coupon, scarce=skus)

    def _is_scarce(self, code: str) -> bool:
        """Its uses are limited, so it can be used up."""
        return code in self._coupons and self._coupons[code].total_limit is not None


def _is_for_everybody(coupon: Coupon) -> bool:
    """Anybody could use it at any time in the past, as often as they liked."""
    return coupon.active and not (coupon.total_limit or coupon.per_customer_limit or coupon.valid_from)


def _fits(coupon: Coupon, subtotal: int) -> bool:
    try:
        coupons.quote(
            coupon, uses_by_customer=0, subtotal=subtotal, currency=settings.SHOP_CURRENCY, at=timezone.now() - AGE
        )
    except CouponError:
        return False
    return True
