"""One run: who orders what and when, batch by batch until there are as many orders as were asked for.

Time goes forward from batch to batch, as it would in life, so that rows are added at the ends of the indexes.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Sum
from django.utils import timezone

from eventing.crockford import encode
from eventing.databases import is_postgresql
from eventing.locks import SessionLock
from inventory import handlers as inventory
from seed.bulk import BulkError, writing
from seed.bulk.mix import OrderMix
from seed.bulk.played import SHARD, TERM
from seed.bulk.templates import Table, Template, in_words
from seed.bulk.writing import Batch, Writer
from seed.data import CUSTOMERS
from seed.models import BulkBatch
from sharding import numbers, shards
from sharding.numbers import BUCKETS
from sharding.router import context_databases, database_of

BATCH = 2_000
ORDERS_A_CUSTOMER = 20
PREFIX = "bulk."
HOT = f"{PREFIX}hot"
SKEW = 1.3  # of one bucket's customers: 1 would give all of them equally many orders
RECENT = timedelta(hours=25)  # nothing is placed later: idempotency keys are kept for a day
REST = timedelta(hours=1)  # before now, by which everything has happened
LONGEST = timedelta(hours=131)  # from the end of the payment term to the delivery
SWITCH_SECONDS = 0.0005
TERM_SECONDS = int(TERM.total_seconds())

Person = tuple[int, str]  # id and first name
EPOCH = int(numbers.EPOCH.timestamp())


def check() -> None:
    """Raises BulkError, saying why, if this installation cannot take orders in bulk."""
    if not is_postgresql(connections[DEFAULT_DB_ALIAS]):
        raise BulkError("they are copied into PostgreSQL, and this installation runs on SQLite")
    if apart := [alias for alias in context_databases() if alias != DEFAULT_DB_ALIAS]:
        raise BulkError(f"all contexts must be in one database, and {', '.join(apart)} have their own")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Orders of neighbouring buckets in a stretch of time, in seconds since 1970: how many of each bucket."""

    alias: str
    counts: Mapping[int, int]
    begin: int
    end: int
    hot: bool = False


@dataclass(slots=True, kw_only=True)
class Run:
    """Brings the orders that are written in bulk to `orders`, `hot` of them those of one customer.

    They are spread over the last `days`. `progress` is told how many of how many are written.
    """

    orders: int
    hot: int
    days: int
    progress: Callable[[int, int], None] = lambda done, total: None
    now: datetime = field(default_factory=timezone.now)
    chance: random.Random = field(default_factory=random.Random)
    people: dict[int, list[Person]] = field(default_factory=dict)  # by bucket
    hot_person: Person = (0, "")

    def go(self) -> int:
        """Returns how many orders were missing, which are there now. Raises BulkError."""
        check()
        lock = SessionLock(DEFAULT_DB_ALIAS, writing.LOCK)
        if not lock.hold():
            raise BulkError("another process is writing some just now")
        try:
            writing.remove_unfinished()
            total = max(0, self.orders - _written())
            hot = min(total, max(0, self.hot - _written(hot=True)))
            if total:
                self._add_people()
                self._write(hot, total - hot)
            return total
        finally:
            lock.release()

    def _write(self, hot: int, others: int) -> None:
        mix = OrderMix(hot + others)
        written = 0
        tables: dict[str, set[str]] = defaultdict(set)
        connections.close_all()  # the writing threads need what the pool has
        with _eager_threads(), Writer(self.now) as writer:
            for piece in self._pieces(hot, others):
                batch = self._batch(piece, mix)
                for where, table, _ in batch.texts:
                    tables[piece.alias if where == SHARD else where].add(table)
                written += writer.write(batch)
                self.progress(written, hot + others)
            written += writer.finish()
            self.progress(written, hot + others)
        tables[DEFAULT_DB_ALIAS] |= {"inventory_stock", User._meta.db_table}
        writing.analyze(tables)

    # --- Who and when -------------------------------------------------------------------------------------------------

    def _add_people(self) -> None:
        """Customers without a password and an address, as many in each bucket as in any other."""
        users = User.objects.using(database_of("auth"))
        wanted = -(-self.orders // ORDERS_A_CUSTOMER // BUCKETS) * BUCKETS
        names = sorted({name.partition(" ")[0] for name in CUSTOMERS})
        joined = self.now - timedelta(days=self.days + 1)
        known = set(users.filter(username__startswith=PREFIX).values_list("username", flat=True))
        new = [
            User(
                pk=numbers.new_customer_id(bucket=number % BUCKETS),
                username=username,
                first_name=names[number % len(names)],
                date_joined=joined,
            )
            for number in range(wanted)
            if (username := f"{PREFIX}{number:07d}") not in known
        ]
        if HOT not in known:
            new.append(User(username=HOT, first_name="Harbour", last_name="Supplies", date_joined=joined))
        for user in new:
            user.set_unusable_password()
        users.bulk_create(new, batch_size=2_000)
        # Those whom an earlier run has added get orders from before it, too.
        users.filter(username__startswith=PREFIX, date_joined__gt=joined).update(date_joined=joined)
        self.people = defaultdict(list)
        for pk, username, name in users.filter(username__startswith=PREFIX).values_list("id", "username", "first_name"):
            if username == HOT:
                self.hot_person = pk, name
            else:
                self.people[numbers.bucket_of_customer(pk)].append((pk, name))
        if empty := set(range(BUCKETS)) - self.people.keys():
            raise BulkError(f"no customer for the buckets {sorted(empty)}: ask for more orders")

    def _pieces(self, hot: int, others: int) -> Iterator[Piece]:
        """Time in equal stretches; in each of them, every shard and the one customer get their share."""
        since = max(self.now - timedelta(days=self.days), numbers.EPOCH + timedelta(minutes=1))
        begin, end = int(since.timestamp()), int((self.now - RECENT).timestamp())
        if begin >= end:
            raise BulkError(f"they are spread from {since:%Y-%m-%d %H:%M} to a day ago, which is no time at all")
        aliases = shards.aliases()
        stretches = max(1, -(-others // (BATCH * len(aliases))), -(-hot // BATCH))
        hot_bucket = numbers.bucket_of_customer(self.hot_person[0])
        for number in range(stretches):
            span = [begin + (end - begin) * edge // stretches for edge in (number, number + 1)]
            for alias in aliases:
                counts = {
                    bucket: _share(others, stretches * BUCKETS, bucket * stretches + number)
                    for bucket in shards.buckets_of(alias)
                }
                if any(counts.values()):
                    yield Piece(alias=alias, counts=counts, begin=span[0], end=span[1])
            if count := _share(hot, stretches, number):
                alias = shards.alias_of_bucket(hot_bucket)
                yield Piece(alias=alias, counts={hot_bucket: count}, begin=span[0], end=span[1], hot=True)

    # --- One batch ----------------------------------------------------------------------------------------------------

    def _batch(self, piece: Piece, mix: OrderMix) -> Batch:
        """The texts of the orders, by their number: so the databases add to their tables and indexes in sequence."""
        chance = self.chance
        choose = mix.sample(chance)
        orders: dict[int, tuple[int, Person, int, Template]] = {}
        for bucket, count in piece.counts.items():
            people = [self.hot_person] if piece.hot else self.people[bucket]
            for template in choose(count):
                second = chance.randrange(piece.begin, piece.end)
                millisecond = (second - EPOCH) * 1000 + template.millisecond
                person = people[int(len(people) * chance.random() ** SKEW)]
                while True:
                    sequence = chance.getrandbits(numbers.SEQUENCE_BITS)
                    order_id = bucket << numbers.BUCKET_SHIFT | millisecond << numbers.SEQUENCE_BITS | sequence
                    if order_id not in orders:
                        break
                orders[order_id] = order_id, person, second, template
        texts: dict[Table, bytearray] = defaultdict(bytearray)
        # What is older has had its inbox rows pruned.
        remembered = self.now - timedelta(days=settings.EVENTING_INBOX_RETENTION_DAYS) - TERM - LONGEST
        since = int(remembered.timestamp())
        for order_id, person, second, template in sorted(orders.values(), key=itemgetter(0)):
            values = self._values(order_id, person, second, template)
            template.fill(texts, values, inbox=second >= since)
        used, coupons = _sums(Counter(template for _, _, _, template in orders.values()))
        return Batch(alias=piece.alias, ids=list(orders), hot=piece.hot, texts=texts, used=used, coupons=coupons)

    def _values(self, order_id: int, person: Person, second: int, template: Template) -> list[bytes]:
        """What fills the gaps of a template."""
        draw = self.chance.random
        customer_id, name = person
        due = second + TERM_SECONDS
        left = self.now.timestamp() - REST.total_seconds() - due
        scale = 3600 * min(1.0, left / LONGEST.total_seconds())  # an hour, or less if it is not long ago
        steps = {
            "place": second,
            "cancel": second + 30 + int(1500 * draw()),
            "decline": second + 30 + int(900 * draw()),
            "expire": due + 1 + int(4 * draw()),
            "refund": due + 1 + int((1 + 29 * draw()) * scale),
            "ship": due + 1 + int((2 + 38 * draw()) * scale),
        }
        steps["withdraw"] = steps["cancel"]
        steps["pay"] = steps["decline"] + 30 + int(600 * draw())
        steps["deliver"] = steps["ship"] + 1 + int((20 + 70 * draw()) * scale)
        values = [str(order_id), encode(order_id), str(customer_id), name, f"WH{int(draw() * 10**9):09d}"]
        values.append(in_words(datetime.fromtimestamp(due, UTC)))
        values += [_text(steps[step] + seconds) for step, seconds in template.times]
        values += [self._random_number(second, is_uuid) for is_uuid in template.randoms]
        return [value.encode() for value in values]

    def _random_number(self, second: int, is_uuid: bool) -> str:
        """It begins with the time, so that payments that are written together are together in the indexes, too."""
        digits = f"{second << 96 | self.chance.getrandbits(96):032x}"
        if not is_uuid:
            return digits
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _written(**which: bool) -> int:
    batches = BulkBatch.objects.using(DEFAULT_DB_ALIAS).filter(unfinished__isnull=True, **which)
    return batches.aggregate(orders=Sum("orders"))["orders"] or 0


def _share(total: int, parts: int, part: int) -> int:
    """How much of a total falls to one of so many parts, counted from 0: all get the same, give or take one."""
    return total * (part + 1) // parts - total * part // parts


def _sums(templates: Mapping[Template, int]) -> tuple[dict[str, inventory.Used], dict[str, int]]:
    """The stock and the coupons that so many orders of each template have used."""
    shipped: Counter[str] = Counter()
    reserved: Counter[str] = Counter()
    coupons: Counter[str] = Counter()
    for template, times in templates.items():
        for sku, pieces in template.used.items():
            shipped[sku] += pieces.shipped * times
            reserved[sku] += pieces.reserved * times
        for code in template.coupons:
            coupons[code] += times
    used = {sku: inventory.Used(shipped=shipped[sku], reserved=reserved[sku]) for sku in shipped}
    return used, coupons


def _text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


@contextmanager
def _eager_threads() -> Iterator[None]:
    """Let threads that have something for a database take over at once: this one is always busy."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
