"""Fills a new shop with products, coupons, people and orders."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from orders.domain import Status
from sharding import shards
from sharding.errors import ShardMapMissing
from storefront.seed_data import CATALOGUE, COUPONS, CUSTOMERS
from storefront.seeding import LOGINS, Seeding

PRODUCTS = sum(len(products) for products in CATALOGUE.values())
MOST = 20_000


def number_of_orders(text: str) -> int:
    if not text.isdigit() or int(text) > MOST:
        raise ArgumentTypeError(f"{text!r} is not a number from 0 to {MOST}")
    return int(text)


class Command(BaseCommand):
    help = (
        "Fill a new shop: products and coupons of every kind, customers, a login for every role, and orders in every "
        "state, made through the commands that people use. What is there already is left alone, so it may be run "
        "again. Needs no broker. No mail is sent for these orders."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--orders", type=number_of_orders, default=200, metavar="N", help="how many orders (default: %(default)s)"
        )
        parser.add_argument(
            "--reference-data",
            action="store_true",
            help="only products and coupons: nothing that a shop with real customers would not want",
        )

    def handle(self, *args: Any, orders: int, reference_data: bool, **options: Any) -> None:
        if not reference_data and not settings.DEBUG and not settings.EMBEDDED:
            raise CommandError(
                f"Logins whose passwords are their names ({', '.join(LOGINS)}) and invented orders are for trying out "
                "the shop, and DEBUG is off. `seed --reference-data` adds products and coupons, `createsuperuser` an "
                "operator; DEBUG=1 in the environment makes this a development installation."
            )
        try:
            shards.refresh()
        except ShardMapMissing as error:
            raise CommandError(str(error)) from error
        started = time.perf_counter()
        seeding = Seeding(say=self._say)
        added = {
            f"of {PRODUCTS} products": seeding.add_products(),
            f"of {len(COUPONS)} coupons": seeding.add_coupons(),
        }
        if not reference_data:
            added |= {
                f"of {len(LOGINS)} logins": seeding.add_logins(),
                f"of {len(CUSTOMERS)} customers": seeding.add_customers(),
            }
        for what, count in added.items():
            if count:
                self._say(f"{count} {what} added")
        states: Counter[Status] = Counter()
        if not reference_data:
            states = seeding.add_orders(orders)
            seeding.add_addresses()
        if states:
            self._say("Orders: " + ", ".join(f"{count} {status}" for status, count in sorted(states.items())))
        if any(added.values()) or states:
            self._say(f"Seeded in {time.perf_counter() - started:.1f} s.")
        else:
            self._say("Nothing to seed: everything is there already.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
