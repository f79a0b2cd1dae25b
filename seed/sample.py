"""Fills a new shop through the same commands that people use: what is there already is left alone."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle, islice

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Min, QuerySet
from django.utils import timezone

from checkout import service as checkout
from coupons import handlers as coupons
from coupons.domain import CouponError, DuplicateCoupon
from eventing.inline import Inline, leading
from eventing.recorded import Metadata
from inventory import handlers as inventory
from inventory import selectors as catalogue
from inventory.domain import InventoryError
from orders import selectors
from orders.domain import OrderError, Status
from payments import selectors as payments
from payments.handlers import PaymentError
from payments.selectors import Progress
from seed.data import CATALOGUE, COUPONS, CUSTOMERS, EVERYDAY_COUPONS, SCARCE, Product
from seed.scenarios import SCENARIOS, Scenario, take
from sharding.router import database_of

SEED = "wharf"
OPERATOR = "admin"
SHOPPER = "demo"
ROLES = {"viewer": "viewer", "support": "support", "stock": "stock keeper"}  # login: group, for those who work here
LOGINS = (OPERATOR, SHOPPER, *ROLES)
DOMAIN = "example.com"  # reserved: nobody ever receives mail there
DAYS = 14  # over which the orders are spread
PATIENCE_SECONDS = 30.0  # with other processes that deliver events


PLAYED = tuple(scenario for scenario in SCENARIOS if scenario.share)
DONE = {
    "pay": "paid",
    "decline": "declined",
    "cancel": "cancelled by customers",
    "withdraw": "cancelled by operators",
    "expire": "cancelled by the clock",
    "ship": "shipped",
    "deliver": "delivered",
    "refund": "refunded",
}


@dataclass(slots=True)
class Seeded:
    """An order of the seed on its way through its scenario."""

    order_id: int
    customer_id: int
    scenario: Scenario
    chance: random.Random
    over: bool = False

    @property
    def status(self) -> Status | None:
        order = selectors.get(self.order_id)
        return order.status if order else None


@dataclass(slots=True)
class Seeding:
    """One run. `say` is told what has been added."""

    say: Callable[[str], None]
    now: datetime = field(default_factory=timezone.now)

    # --- Products, coupons, people -----------------------------------------------------------------------------------

    def add_products(self) -> int:
        """Returns how many products were missing; each comes with its first delivery."""
        added = 0
        for position, (category, products) in enumerate(CATALOGUE.items(), start=1):
            inventory.add_category(slug=category.slug, name=category.name, position=position)
            for product in products:
                if catalogue.product(product.sku) is None:
                    self._add_product(category.slug, product)
                    added += 1
        return added

    def _add_product(self, category: str, product: Product) -> None:
        with transaction.atomic(using=database_of("inventory")):
            inventory.add_product(
                sku=product.sku,
                name=product.name,
                category=category,
                price=product.price,
                currency=settings.SHOP_CURRENCY,
                description=product.description,
            )
            metadata = Metadata(correlation_id=f"seed-{product.sku}", actor="seed")
            at = self.now - timedelta(days=DAYS + 1)
            inventory.receive_stock(product.sku, product.stock, "opening stock", at, metadata)

    def add_coupons(self) -> int:
        """Returns how many coupons were missing."""
        added = 0
        for coupon in COUPONS:
            times = {"valid_from": coupon.valid_from, "valid_until": coupon.valid_until}
            terms = asdict(coupon) | {name: None if at is None else self.now + at for name, at in times.items()}
            try:
                coupons.add_coupon(**terms, currency=settings.SHOP_CURRENCY)
                added += 1
            except DuplicateCoupon:
                continue
        return added

    def add_logins(self) -> int:
        """The operators and the shopper whose passwords everybody knows; returns how many were missing."""
        known = set(User.objects.filter(username__in=LOGINS).values_list("username", flat=True))
        if OPERATOR not in known:
            User.objects.create_superuser(OPERATOR, password=OPERATOR, first_name="Olga", last_name="Operator")
        if SHOPPER not in known:
            User.objects.create_user(SHOPPER, password=SHOPPER, first_name="Dana", last_name="Demo")
        for name, role in ROLES.items():
            if name not in known:
                colleague = User.objects.create_user(
                    name, f"{name}@{DOMAIN}", name, first_name=name.title(), is_staff=True
                )
                colleague.groups.set(Group.objects.filter(name=role))
        return len(LOGINS) - len(known)

    def add_customers(self) -> int:
        """Customers who cannot sign in, for they have no password; returns how many were missing."""
        known = set(User.objects.filter(username__in=map(_username, CUSTOMERS)).values_list("username", flat=True))
        new = []
        for number, name in enumerate(CUSTOMERS, start=1):
            if _username(name) not in known:
                first_name, _, last_name = name.partition(" ")
                user = User(
                    username=_username(name),
                    first_name=first_name,
                    last_name=last_name,
                    date_joined=self.now - timedelta(days=DAYS + 1 + number),
                )
                user.set_unusable_password()
                new.append(user)
        User.objects.bulk_create(new)
        self._let_the_shopper_join_first()
        return len(new)

    def _let_the_shopper_join_first(self) -> None:
        """The shopper has orders from the time of the customers."""
        customers = User.objects.filter(username__in=map(_username, CUSTOMERS))
        first = customers.aggregate(first=Min("date_joined"))["first"]
        User.objects.filter(username=SHOPPER, date_joined__gt=first).update(date_joined=first)

    def add_addresses(self) -> None:
        """Give the people their e-mail addresses. They come last: who has none gets no mail for the seed's orders."""
        for user in (people := list(_people().filter(email=""))):
            user.email = f"{user.username}@{DOMAIN}"
        User.objects.bulk_update(people, ["email"])

    # --- Orders -------------------------------------------------------------------------------------------------------

    def add_orders(self, count: int) -> Counter[Status]:
        """Place the orders that are missing from the first `count`, and play their scenarios; returns their states."""
        missing = self._missing(count)
        if not missing:
            return Counter()
        _people().filter(email__endswith=f"@{DOMAIN}").update(email="")  # until `add_addresses`
        with _pipeline() as settle:
            orders = [order for one in missing if (order := self._place(*one)) is not None]
            self.say(f"  {len(orders)} orders placed")
            settle([partial(_is_checked, order) for order in orders])
            self.say("  checked by inventory and coupons")
            for step in range(max(len(scenario.steps) for scenario in PLAYED)):
                taken = [(order, order.scenario.steps[step]) for order in orders if _can_go_on(order, step)]
                for order, name in taken:
                    self._take(order, name)
                settle([partial(_has_effect, order, name) for order, name in taken])
                done = Counter(DONE[name] for _, name in taken)
                self.say("  " + ", ".join(f"{number} {what}" for what, number in done.items()))
        return Counter(status for order in orders if (status := order.status) is not None)

    def _missing(self, count: int) -> list[tuple[int, Scenario, User]]:
        """The orders to place, by number: a customer of the seed gets as many as are missing, in the same sequence."""
        customers = {user.username: user for user in User.objects.filter(username__in=map(_username, CUSTOMERS))}
        people = [customers[_username(name)] for name in CUSTOMERS]
        shopper = User.objects.filter(username=SHOPPER).first()
        planned: dict[User, list[tuple[int, Scenario, User]]] = {}
        for number, scenario in enumerate(islice(_scenarios(), count)):
            # The shopper that everybody signs in as has a history, too.
            customer = shopper if shopper and number % 20 == 7 else random.Random(f"{SEED}/who/{number}").choice(people)
            planned.setdefault(customer, []).append((number, scenario, customer))
        missing = []
        for customer, wanted in planned.items():
            placed = len(selectors.orders_of(customer.pk, limit=len(wanted)))
            # Real people order as this shopper as well, so nobody can tell which orders are missing.
            missing += [] if customer == shopper and placed else wanted[placed:]
        return sorted(missing, key=lambda one: one[0])

    def _place(self, number: int, scenario: Scenario, customer: User) -> Seeded | None:
        """None if the shop does not sell what the scenario needs any more."""
        chance = random.Random(f"{SEED}/order/{number}")
        lasts = "expire" not in scenario.steps
        finished = bool(scenario.steps) and scenario.steps[-1] in ("deliver", "refund", "cancel", "withdraw", "expire")
        age = timedelta(hours=chance.uniform(4, 24 * DAYS) if finished else chance.uniform(0.1, 30))
        place = partial(
            checkout.place,
            customer.pk,
            self._lines(scenario, chance),
            key=f"{SEED}-{number}-{self.now:%Y%m%d%H%M%S}",
            metadata=_metadata(chance, f"customer:{customer.pk}"),
            at=self.now - age,
            # Longer than usual, so that no clock comes between an order and its scenario.
            payment_term=age + timedelta(days=chance.uniform(1, 4)) if lasts else None,
        )
        coupon = scenario.coupon or (chance.choice(EVERYDAY_COUPONS) if chance.random() < 0.3 else None)
        try:
            try:
                placement = place(coupon_code=coupon)
            except CouponError:
                placement = place(coupon_code=None)
        except InventoryError:
            return None
        return Seeded(order_id=placement.order_id, customer_id=customer.pk, scenario=scenario, chance=chance)

    def _lines(self, scenario: Scenario, chance: random.Random) -> Sequence[tuple[str, int]]:
        products = [product for group in CATALOGUE.values() for product in group]
        plenty = [product for product in products if product.stock > SCARCE]
        picked = chance.sample(plenty, chance.randint(1, 4))
        lines = [(product.sku, chance.choice((1, 1, 1, 2, 3))) for product in picked]
        if scenario.short:
            scarce = chance.choice([product for product in products if product.stock <= SCARCE])
            lines.append((scarce.sku, scarce.stock + chance.randint(1, 9)))
        return lines

    # --- Steps --------------------------------------------------------------------------------------------------------

    def _take(self, order: Seeded, step: str) -> None:
        """Ask for the next step. An order that has gone another way meanwhile refuses, and its scenario is over."""
        chance = order.chance
        try:
            take(
                step,
                order.order_id,
                order.customer_id,
                correlation_id=f"{chance.getrandbits(128):032x}",
                card=chance.choice(("tok_ok", "tok_ok", "tok_ok", "tok_error_then_ok")),
                tracking=f"WH{chance.randrange(10**9):09d}",
            )
        except (OrderError, PaymentError):
            order.over = True


def _scenarios() -> Iterator[Scenario]:
    """Scenarios without an end: each once, then all of them by their share, shuffled once and for all."""
    rest = [scenario for scenario in PLAYED for _ in range(scenario.share - 1)]
    random.Random(f"{SEED}/stories").shuffle(rest)
    return cycle([*PLAYED, *rest])


def _people() -> QuerySet[User]:
    return User.objects.filter(username__in=[*map(_username, CUSTOMERS), OPERATOR, SHOPPER])


def _username(name: str) -> str:
    return name.lower().replace(" ", ".")


def _metadata(chance: random.Random, actor: str) -> Metadata:
    return Metadata(correlation_id=f"{chance.getrandbits(128):032x}", actor=actor)


Question = Callable[[], bool]


@contextmanager
def _pipeline() -> Iterator[Callable[[Iterable[Question]], None]]:
    """Yields what delivers all events that are waiting, and then waits until every question is answered with yes.

    A running relay keeps the databases that it works on; its workers are then waited for, `PATIENCE_SECONDS` long.
    Where the broker is a program of its own, the outboxes keep their rows for the relay: the subscriber that publishes
    to other programs needs the broker. The inboxes tell the others that they have had these events.
    """
    broker = settings.EVENTING_DURABLE_BROKER
    with leading(settings.DATABASES) as free:
        inline = Inline(free, skip=("integration",) if broker else (), keep_rows=broker)

        def settle(questions: Iterable[Question]) -> None:
            inline.deliver()
            if len(free) == len(settings.DATABASES):
                return  # there is nobody else to wait for
            waiting = list(questions)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (waiting := [question for question in waiting if not question()]) and time.monotonic() < deadline:
                time.sleep(0.05)
                inline.deliver()

        yield settle


def _can_go_on(order: Seeded, step: int) -> bool:
    return not order.over and step < len(order.scenario.steps)


def _is_checked(order: Seeded) -> bool:
    return order.status is not Status.PLACED


def _has_effect(order: Seeded, step: str) -> bool:
    """Payments come about by events; the other steps are done when their command is."""
    match step:
        case "pay":
            return order.over or order.status is not Status.CONFIRMED
        case "decline":
            return order.over or payments.state(order.order_id).progress is not Progress.IN_PROGRESS
        case _:
            return True
