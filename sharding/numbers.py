"""Order numbers: 63 bits that say where an order lives and when it was placed, and their 13 characters for people.

    bucket (7 bits) | milliseconds since 2026-01-01 UTC (41 bits, until 2095) | sequence (15 bits)

The bucket comes first, so a bucket is one range of numbers; the time comes next, so numbers of a bucket sort by age.
"""

import random
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from eventing.crockford import WIDTH, decode, decode_part, encode

BUCKETS = 128
CUSTOMER_IDS = range(1 << 33, 1 << 53)  # above all that were ever counted up, and exact in JavaScript
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

TIME_BITS = 41
SEQUENCE_BITS = 15
BUCKET_SHIFT = TIME_BITS + SEQUENCE_BITS
HIGHEST = (1 << 63) - 1
SHORTEST_PART = 4  # characters of a number by which it may be found; fewer are in every tenth number

SEPARATORS = dict.fromkeys(
    map(ord, "\u00a0\u202f\u2010\u2011\u2012\u2013\u2014\u2212")
)  # what programs make of " " and "-"
_MILLISECOND = timedelta(milliseconds=1)


class InvalidOrderNumber(ValueError):
    """This is not an order number."""


def bucket_of(order_id: int) -> int:
    """The bucket (0..127) that an order id lives in; raises InvalidOrderNumber outside 1..2**63-1."""
    if not 0 < order_id <= HIGHEST:
        raise InvalidOrderNumber(f"{order_id} is not in 1..2**63-1")
    return order_id >> BUCKET_SHIFT


def bucket_of_customer(customer_id: int) -> int:
    """The bucket (0..127) of all orders of a customer; raises ValueError for a negative id."""
    if customer_id < 0:
        raise ValueError(f"customer id {customer_id} is negative")
    return customer_id % BUCKETS


def new_customer_id(bucket: int | None = None) -> int:
    """An id that was never given before, in one of the buckets (default: any, all alike).

    It is random: a counter would give ids a second time after its database was restored to an earlier moment, and the
    new customer would have the orders and the tokens of the lost one.
    """
    if bucket is None:
        bucket = secrets.randbelow(BUCKETS)
    first, beyond = CUSTOMER_IDS.start // BUCKETS, CUSTOMER_IDS.stop // BUCKETS
    return (first + secrets.randbelow(beyond - first)) * BUCKETS + bucket


def bucket_range(bucket: int) -> tuple[int, int]:
    """The half-open range [low, high) of the order ids of a bucket; raises ValueError outside 0..127.

    `high` of the last bucket is 2**63, which no bigint holds. Django's lookups know that; a statement written by hand
    should say `BETWEEN low AND high - 1`, or the database compares as numeric and looks into every partition.
    """
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"bucket {bucket} is not in 0..{BUCKETS - 1}")
    return bucket << BUCKET_SHIFT, (bucket + 1) << BUCKET_SHIFT


def new_order_id(customer_id: int, at: datetime) -> int:
    """A number for an order that a customer places at a time (with a time zone, after 2026-01-01).

    The sequence is random, so that processes need not agree on it: two orders of one bucket in one millisecond get the
    same number once in 32,768 times, and then the key of the stream refuses the second. Raises ValueError for a time
    that does not fit.
    """
    bucket = bucket_of_customer(customer_id)
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone")
    milliseconds = (at - EPOCH) // _MILLISECOND
    if not 0 < milliseconds < 1 << TIME_BITS:
        raise ValueError(f"{at.isoformat()} does not fit an order number: it must be after 2026-01-01 and before 2095")
    return bucket << BUCKET_SHIFT | milliseconds << SEQUENCE_BITS | random.getrandbits(SEQUENCE_BITS)


def placed_ms(order_id: int) -> int:
    """When the number was made, in whole milliseconds since `EPOCH`."""
    bucket_of(order_id)
    return (order_id >> SEQUENCE_BITS) & ((1 << TIME_BITS) - 1)


def placed_at(order_id: int) -> datetime:
    """When the number was made (UTC, to the millisecond)."""
    return EPOCH + placed_ms(order_id) * _MILLISECOND


def to_text(order_id: int) -> str:
    """The 13 characters that people see; raises InvalidOrderNumber outside 1..2**63-1."""
    bucket_of(order_id)
    return encode(order_id)


def parse(text: str) -> int:
    """The order id of what a person typed: case, dashes and spaces do not matter, I and L are 1, O is 0.

    Raises InvalidOrderNumber for anything that is not an order number.
    """
    shown = f"{text[:40]!r}{'…' if len(text) > 40 else ''}"
    text = text.translate(SEPARATORS)
    if not text.isascii():  # upper() turns some foreign letters into ASCII ones
        raise InvalidOrderNumber(f"{shown} is not an order number: it has characters that none has")
    try:
        order_id = decode(text)
        bucket_of(order_id)
    except ValueError as error:
        raise InvalidOrderNumber(f"{shown} is not an order number: {error}") from None
    return order_id


def containing(text: str) -> Iterator[tuple[int, int, int]]:
    """Where some characters (4 to 12 of them) may stand in a number, as (divisor, modulus, remainder).

    The ids whose number contains them are those with `id // divisor % modulus == remainder` for one of the places.
    Raises InvalidOrderNumber for what cannot be a part of a number.
    """
    if not text.isascii() or len(text) > 2 * WIDTH:
        raise InvalidOrderNumber("this is not a part of an order number")
    try:
        value, length = decode_part(text)
    except ValueError as error:
        raise InvalidOrderNumber(f"this is not a part of an order number: {error}") from None
    if not SHORTEST_PART <= length < WIDTH:
        raise InvalidOrderNumber(f"expected {SHORTEST_PART}..{WIDTH - 1} characters, got {length}")
    return ((32**place, 32**length, value) for place in range(WIDTH - length + 1))
