"""Fills a new shop with products, coupons, people and orders."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from orders.domain import Status
from seed.bulk import BulkError
from seed.bulk.run import Run, check
from seed.data import CATALOGUE, COUPONS, CUSTOMERS
from seed.options import PLAYED, add_options
from seed.sample import LOGINS, Seeding
from sharding import shards
from sharding.errors import ShardMapMissing

PRODUCTS = sum(len(products) for products in CATALOGUE.values())
MOST_PLAYED = 20_000  # orders that are made by commands where none can be written in bulk
WIDTH = 30  # of the progress bar
LINE_SECONDS = 5.0  # from one line about the progress to the next, where nobody watches


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # they load every page of the shop
    help = (
        "Fill a new shop: products and coupons of every kind, customers, a login for every role, and orders in every "
        "state, made through the commands that people use. What is there already is left alone, so it may be run "
        "again. Needs no broker. No mail is sent for these orders."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, orders: int, reference_data: bool, **options: Any) -> None:
        in_bulk = self._in_bulk(orders, options["hot_customer"])
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
            states = seeding.add_orders(orders - in_bulk)
            seeding.add_addresses()
        if states:
            self._say("Orders: " + ", ".join(f"{count} {status}" for status, count in sorted(states.items())))
        written = 0
        if in_bulk and not reference_data:
            written = self._write(Run(orders=in_bulk, hot=options["hot_customer"], days=options["days"]))
        if any(added.values()) or states or written:
            self._say(f"Seeded in {time.perf_counter() - started:.1f} s.")
        else:
            self._say("Nothing to seed: everything is there already.")

    def _in_bulk(self, orders: int, hot: int) -> int:
        """How many of the orders are written in bulk. Raises CommandError if they cannot be."""
        in_bulk = max(0, orders - PLAYED)
        try:
            check()
        except BulkError as error:
            if orders > MOST_PLAYED or hot:
                raise CommandError(
                    f"{orders:,} orders have to be written in bulk ({MOST_PLAYED:,} at most are made one by one,"
                    f" none of a hot customer), but {error}."
                ) from error
            return 0
        if hot > in_bulk:
            raise CommandError(
                f"--hot-customer {hot} is more than the {in_bulk} orders in bulk: --orders {PLAYED + hot} or more"
            )
        return in_bulk

    def _write(self, run: Run) -> int:
        bar = ProgressBar(self.stdout)
        run.progress = bar.show
        try:
            written = run.go()
        except BulkError as error:
            raise CommandError(f"Orders were not written in bulk: {error}.") from error
        finally:
            bar.end()
        if written:
            self._say(f"{written:,} orders of the past written in bulk in {bar.seconds:.1f} s ({bar.rate:,.0f}/s)")
        return written

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


class ProgressBar:
    """How far it is, how fast, and how long it will take; lines now and then where it is no terminal."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._live = out.isatty()
        self._started = time.monotonic()
        self._said = self._started
        self.seconds = 0.0
        self.rate = 0.0

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        self.seconds = now - self._started
        self.rate = done / self.seconds if self.seconds else 0.0
        if not self._live:
            if now - self._said < LINE_SECONDS:
                return
            self._said = now
        left = f"{(total - done) / self.rate:.0f} s left" if self.rate else "…"
        text = f"{done:,} of {total:,} orders, {self.rate:,.0f}/s, {left}"
        if self._live:
            filled = WIDTH * done // total
            self._out.write(f"\r\033[K[{'#' * filled}{'.' * (WIDTH - filled)}] {text}", ending="")
        else:
            self._out.write(f"  {text}")
        self._out.flush()

    def end(self) -> None:
        if self._live and self.seconds:
            self._out.write("\r\033[K", ending="")
            self._out.flush()
