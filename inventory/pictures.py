"""Finds a product's picture, a drawing of inventory/drawings, and gives it the colours of this product.

Which drawing it is says a word of the product's picture seed and name; where they say nothing, the category chooses.
The category gives the colours too, unless the name does. Chance, from the names alone, does the rest.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from pathlib import Path

from inventory.selectors import ProductView

EDITION = "2"  # of the drawings: browsers look again when it changes
FOLDER = Path(__file__).parent / "drawings"
DRAWN_IN = {"200": "hue", "40": "mark"}  # the hues of the files: of nearly everything, and of decorations

WORDS = {
    "pouch": ("blend", "espresso", "decaf", "estate", "coffee", "beans", "salt", "seeds"),
    "tin": ("tea", "grey", "darjeeling", "verbena", "sardines", "mackerel", "anchovies"),
    "mug": ("cup", "dripper"),
    "box": ("chocolate", "biscuits", "matches", "tray", "mill", "letter"),
    "jar": ("honey", "marmalade", "jam", "mustard", "mortar"),
    "bottle": ("oil", "sauce", "ink", "syrup", "vinegar", "soap"),
    "pan": ("skillet",),
    "casserole": ("stockpot", "kettle"),
    "plant": ("pot", "flowerpot"),
    "tools": ("spoon", "trowel", "secateurs"),
    "blanket": ("towel", "doormat", "scarf"),
    "book": ("logbook", "notebook", "diary"),
    "pencils": ("pen", "pencil"),
    "poster": ("calendar", "chart", "print"),
    "lamp": ("light",),
    "candles": ("candle",),
}

THINGS = sorted({file.stem.partition("-")[0] for file in FOLDER.glob("*.svg")})
NOUNS = {thing: thing for thing in THINGS} | {word: thing for thing, words in WORDS.items() for word in words}

FAMILIES: dict[str, tuple[int, tuple[str, ...]]] = {
    "coffee": (26, ("mug", "pouch", "tin")),
    "tea": (110, ("mug", "tin", "pouch")),
    "kitchen": (8, ("casserole", "pan", "bowl")),
    "pantry": (42, ("jar", "bottle", "box")),
    "stationery": (230, ("book", "pencils")),
    "light": (48, ("lamp", "lantern", "candles")),
    "home": (190, ("lamp", "blanket", "bowl")),
    "garden": (140, ("plant", "tools", "can")),
    "travel": (280, ("bag", "bottle")),
}

HUES = {"red": 4, "terracotta": 16, "copper": 20, "orange": 30, "oak": 34, "brass": 44, "green": 130, "blue": 212}


def address(product: ProductView) -> str:
    """Where the shop serves the picture of a product; it changes with the picture, so browsers may keep it for ever."""
    return f"/pictures/{product.sku}.svg?v={version(product)}"


def version(product: ProductView) -> str:
    return _digest(EDITION, product.category, product.picture, product.name).hex()[:8]


def render(product: ProductView) -> str:
    """An SVG document of 320 by 240."""
    chance = random.Random(_digest(product.sku, product.category, product.picture, product.name))
    subject = f"{product.picture}, {product.name}".lower()
    hue, things = _family(product.category)
    thing = _thing(subject) or chance.choice(things)
    named = next((HUES[word] for word in re.findall(r"[a-z]+", subject) if word in HUES), None)
    hue = (hue + chance.randint(-24, 24)) % 360 if named is None else named
    hues = {"hue": hue, "mark": (hue + chance.choice((32, -38, 160, 190))) % 360}
    drawing = chance.choice(_drawings(thing))
    return re.sub(r"(?<=hsl\()\d+", lambda drawn: str(hues[DRAWN_IN[drawn[0]]]), drawing)


@functools.cache
def _drawings(thing: str) -> list[str]:
    """One, or several that differ in their decoration."""
    return [file.read_text() for file in sorted(FOLDER.glob(f"{thing}*.svg")) if file.stem.partition("-")[0] == thing]


def _thing(subject: str) -> str | None:
    """What a name such as "Sardines in olive oil, 115 g" is about: a phrase's last noun before its preposition."""
    for phrase in subject.split(","):
        head = re.split(r" (?:in|with|of|for) ", phrase)[0]
        for word in reversed(re.findall(r"[a-z]+", head)):
            if word in NOUNS:
                return NOUNS[word]
    return None


def _family(category: str) -> tuple[int, tuple[str, ...]]:
    """The hue and the things of a category; one that nobody thought of gets some of its own all the same."""
    for word, family in FAMILIES.items():
        if word in category.lower():
            return family
    chance = random.Random(_digest(category))
    return chance.randrange(360), tuple(chance.sample(THINGS, 3))


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
