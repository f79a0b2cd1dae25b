"""What a new shop is filled with: products, coupons, and the names of customers. Prices are in cents."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coupons.domain import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class Product:
    """`stock` pieces come in with the first delivery; a few products are scarce, to be sold out soon."""

    sku: str
    name: str
    price: int
    stock: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """Times are counted from the moment of seeding."""

    code: str
    kind: Kind
    value: int
    minimum_spend: int = 0
    valid_from: timedelta | None = None
    valid_until: timedelta | None = None
    total_limit: int | None = None
    per_customer_limit: int | None = None
    active: bool = True


def _catalogue() -> dict[Category, tuple[Product, ...]]:
    categories = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))["categories"]
    return {
        Category(slug=one["slug"], name=one["name"]): tuple(Product(*product) for product in one["products"])
        for one in categories
    }


CATALOGUE = _catalogue()

COUPONS = (
    Coupon(code="REGULAR", kind=Kind.PERCENTAGE, value=500),
    Coupon(code="WELCOME10", kind=Kind.PERCENTAGE, value=1_000, per_customer_limit=1),
    Coupon(code="SAIL5", kind=Kind.FIXED, value=500, minimum_spend=3_000),
    Coupon(code="HARBOUR15", kind=Kind.PERCENTAGE, value=1_500, minimum_spend=6_000, valid_until=timedelta(days=90)),
    Coupon(code="FIRST20", kind=Kind.FIXED, value=2_000, minimum_spend=8_000, total_limit=40, per_customer_limit=2),
    Coupon(code="LASTONE", kind=Kind.PERCENTAGE, value=5_000, total_limit=1),
    Coupon(
        code="SPRING", kind=Kind.PERCENTAGE, value=2_000, valid_from=timedelta(days=60), valid_until=timedelta(days=150)
    ),
    Coupon(
        code="SUMMER", kind=Kind.FIXED, value=1_000, valid_from=timedelta(days=-150), valid_until=timedelta(days=-30)
    ),
    Coupon(code="STAFF25", kind=Kind.PERCENTAGE, value=2_500, active=False),
)
EVERYDAY_COUPONS = ("REGULAR", "WELCOME10", "SAIL5", "HARBOUR15", "FIRST20")
SCARCE_COUPON = "LASTONE"
SCARCE = 10  # a product with fewer pieces is left for the orders that are too large for it

CUSTOMERS = (
    "Ada Lindqvist", "Amir Haddad", "Anneke de Vries", "Aurora Conti", "Bela Novak", "Bram Janssen", "Carla Mendes",
    "Cian Murphy", "Clara Weiss", "Dario Rossi", "Dilara Kaya", "Edith Larsen", "Elias Virtanen", "Emeka Obi",
    "Esther Goldman", "Fatima Zahra", "Finn Petersen", "Freya Nielsen", "Gabriel Costa", "Greta Hoffmann",
    "Hana Sato", "Henrik Berg", "Ida Kowalska", "Ines Duarte", "Jakub Zielinski", "Jonas Keller", "Josephine Martin",
    "Kaja Hansen", "Katarina Horvat", "Lars Eriksen", "Leila Nasser", "Lucas Bernard", "Maeve Kelly", "Marek Svoboda",
    "Mina Park", "Nadia Petrova", "Niels Bakker", "Nora Olsen", "Oscar Lund", "Paula Fischer", "Priya Raman",
    "Ravi Menon", "Rosa Marino", "Samuel Okafor", "Selma Dahl", "Sofia Andersson", "Tomas Varga", "Vera Ivanova",
    "Willem Visser", "Yara Silva",
)  # fmt: skip
