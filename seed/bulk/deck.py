"""The stories of orders in bulk, by their share, each with baskets from the catalogue: a deck of templates to deal."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from django.conf import settings

from coupons import domain as coupons
from coupons.domain import Coupon, CouponError
from coupons.selectors import terms
from inventory import selectors as catalogue
from inventory.domain import MAX_QUANTITY
from orders.domain import sum_of
from orders.events import Line
from seed.bulk.errors import BulkError
from seed.bulk.stories import PLACED, Basket
from seed.bulk.templates import Template, template_of
from seed.data import CATALOGUE, SCARCE, SCARCE_COUPON


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What becomes of orders; `share` of them in a thousand."""

    steps: tuple[str, ...] = ()
    share: int
    short: bool = False  # asks for more pieces than there are
    refused: bool = False  # comes with a coupon that is used up


STORIES = (
    Story(steps=("pay", "ship", "deliver"), share=770),
    Story(steps=("decline", "pay", "ship", "deliver"), share=30),
    Story(steps=("pay", "ship"), share=30),
    Story(steps=("pay",), share=20),
    Story(steps=("pay", "refund"), share=35),
    Story(steps=("cancel",), share=40),
    Story(steps=("withdraw",), share=5),
    Story(steps=("expire",), share=40),
    Story(steps=("decline", "expire"), share=5),
    Story(share=20, short=True),
    Story(share=5, refused=True),
)
LARGEST = 500  # templates; fewer for few orders, because each takes some milliseconds
FEWEST = 3  # of a story
WITH_COUPON = 0.3
HANDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    templates: Sequence[Template]
    cum_weights: Sequence[float]

    def deal(self, count: int, chance: random.Random) -> Sequence[Template]:
        return chance.choices(self.templates, cum_weights=self.cum_weights, k=count)


class Deck:
    """Templates for so many orders, from the catalogue and the coupons of the day."""

    def __init__(self, orders: int) -> None:
        products = [product for group in CATALOGUE.values() for product in group]
        on_sale = {sku: view for sku, view in catalogue.products_by_sku(p.sku for p in products).items() if view.active}
        views = [on_sale[product.sku] for product in products if product.sku in on_sale]
        stock = {product.sku: product.stock for product in products}
        self._plenty = [view for view in views if stock[view.sku] > SCARCE and view.currency == settings.SHOP_CURRENCY]
        self._scarce = [view for view in views if stock[view.sku] <= SCARCE and view.currency == settings.SHOP_CURRENCY]
        if not self._plenty:
            raise BulkError("nothing of what they would order is on sale any more")
        known = terms()
        self._coupons = [coupon for coupon in known if _is_for_everybody(coupon)]
        self._used_up = [
            replace(coupon, redeemed=coupon.total_limit)
            for coupon in known
            if coupon.code == SCARCE_COUPON and coupon.total_limit is not None
        ]
        self._stories: list[tuple[int, list[Template]]] = []
        size = min(LARGEST, orders // 20)
        chance = random.Random("baskets")
        for story in STORIES:
            if story.refused and not self._used_up:
                continue
            number = max(FEWEST, size * story.share // 1000)
            templates = [template_of(story.steps, self._basket(story, chance), chance) for _ in range(number)]
            self._stories.append((story.share, templates))

    def hand(self, chance: random.Random) -> Hand:
        """Some templates of every story: so few that the processor's cache has them while a batch is made."""
        templates: list[Template] = []
        weights: list[float] = []
        for share, known in self._stories:
            number = max(1, len(known) // HANDS)
            templates += chance.sample(known, number)
            weights += [share / number] * number
        return Hand(templates=templates, cum_weights=list(accumulate(weights)))

    def _basket(self, story: Story, chance: random.Random) -> Basket:
        views = chance.sample(self._plenty, min(len(self._plenty), chance.randint(1, 4)))
        wanted = [(view, chance.choice((1, 1, 1, 2, 3))) for view in views]
        if story.short:
            first = chance.choice(self._scarce) if self._scarce else wanted.pop()[0]
            wanted.insert(0, (first, chance.randint(SCARCE, MAX_QUANTITY)))
        lines = tuple(
            Line(sku=view.sku, name=view.name, quantity=quantity, unit_price=view.price) for view, quantity in wanted
        )
        coupon = None
        if story.refused:
            coupon = self._used_up[0]
        elif chance.random() < WITH_COUPON:
            fitting = [one for one in self._coupons if _fits(one, sum_of(lines))]
            coupon = chance.choice(fitting) if fitting else None
        return Basket(lines=lines, currency=settings.SHOP_CURRENCY, coupon=coupon, short=story.short)


def _is_for_everybody(coupon: Coupon) -> bool:
    """Anybody could use it at any time in the past, as often as they liked."""
    return coupon.active and not (coupon.total_limit or coupon.per_customer_limit or coupon.valid_from)


def _fits(coupon: Coupon, subtotal: int) -> bool:
    try:
        coupons.quote(coupon, uses_by_customer=0, subtotal=subtotal, currency=settings.SHOP_CURRENCY, at=PLACED)
    except CouponError:
        return False
    return True
