"""The options of `manage.py seed`, which other commands take, too. Needs neither Django nor the settings."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable

PLAYED = 200  # orders that are made by commands where the others can be written in bulk
MOST = 100_000_000


def number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise ArgumentTypeError(f"{text!r} is not a number from {lowest} to {highest}")
        return int(text)

    return parse


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--orders",
        type=number(0, MOST),
        default=PLAYED,
        metavar="N",
        help="how many orders (default: %(default)s); PostgreSQL takes a million in minutes: those from the "
        f"{PLAYED + 1}st on are finished ones of the past, of customers without a login, written in bulk",
    )
    parser.add_argument(
        "--days",
        type=number(2, 3650),
        default=180,
        metavar="DAYS",
        help="over which the orders in bulk are spread (default: %(default)s)",
    )
    parser.add_argument(
        "--hot-customer",
        type=number(0, MOST),
        default=0,
        metavar="N",
        help="of the orders in bulk, so many are those of one customer (default: %(default)s)",
    )
    parser.add_argument(
        "--reference-data",
        action="store_true",
        help="only products and coupons: nothing that a shop with real customers would not want",
    )
