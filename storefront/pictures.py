"""Draws a product's picture: the same for the same product, a little different for every other.

A category has its kind of thing and its family of colours; the sku and the product's picture seed choose the rest.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 240
FLOOR = 186  # where things stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """Of one picture, as CSS colours: `body` of the thing, `shade` and `light` of it, `mark` for its decoration."""

    wall: str
    table: str
    body: str
    shade: str
    light: str
    mark: str


Draw = Callable[[Colours, random.Random], str]


def version(category: str, seed: str) -> str:
    """Changes when the picture of a product does, so that its address may be cached for ever."""
    return _digest(category, seed).hex()[:8]


def render(sku: str, category: str, seed: str) -> str:
    """An SVG document of 320 by 240."""
    chance = random.Random(_digest(category, sku, seed))
    hue, draw = _kind(category)
    colours = _colours((hue + chance.randint(-24, 24)) % 360, chance)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{colours.wall}"/>'
        f'<circle cx="{chance.randint(70, 250)}" cy="{chance.randint(50, 90)}" r="{chance.randint(56, 84)}"'
        f' fill="{colours.table}" opacity=".55"/>'
        f'<rect y="{FLOOR - 14}" width="{WIDTH}" height="{HEIGHT - FLOOR + 14}" fill="{colours.table}"/>'
        f"{draw(colours, chance)}</svg>"
    )


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _colours(hue: int, chance: random.Random) -> Colours:
    other = (hue + chance.choice((32, -38, 160, 190))) % 360
    return Colours(
        wall=f"hsl({hue} 32% 92%)",
        table=f"hsl({hue} 26% 84%)",
        body=f"hsl({hue} 42% {chance.randint(42, 54)}%)",
        shade=f"hsl({hue} 44% 32%)",
        light=f"hsl({hue} 48% 72%)",
        mark=f"hsl({other} 46% 66%)",
    )


def _shadow(width: int) -> str:
    return f'<ellipse cx="160" cy="{FLOOR + 2}" rx="{width}" ry="9" fill="#000" opacity=".14"/>'


def _decoration(colours: Colours, chance: random.Random, left: int, top: int, width: int, height: int) -> str:
    """Stripes, dots or a label inside a box; at least 40 by 30."""
    match chance.choice(("stripes", "dots", "label")):
        case "stripes":
            return "".join(
                f'<rect x="{left}" y="{top + row * height // 3}" width="{width}" height="{height // 8}"'
                f' fill="{colours.mark}"/>'
                for row in range(3)
            )
        case "dots":
            return "".join(
                f'<circle cx="{left + width * (2 * column + 1) // 8}" cy="{top + height * (2 * row + 1) // 6}" r="4.5"'
                f' fill="{colours.mark}"/>'
                for row in range(3)
                for column in range(4)
            )
        case _:
            return (
                f'<rect x="{left + width // 6}" y="{top}" width="{width * 2 // 3}" height="{height}" rx="5"'
                f' fill="{colours.wall}"/>'
                f'<circle cx="{left + width // 2}" cy="{top + height * 2 // 5}" r="{min(width, height) // 5}"'
                f' fill="{colours.mark}"/>'
                f'<rect x="{left + width // 3}" y="{top + height * 3 // 4}" width="{width // 3}" height="4" rx="2"'
                f' fill="{colours.shade}" opacity=".5"/>'
            )


def _mug(colours: Colours, chance: random.Random) -> str:
    height = chance.randint(76, 100)
    top = FLOOR - height
    return (
        f"{_shadow(66)}"
        f'<path d="M206 {top + 20}h16a20 20 0 0 1 0 {height - 40}h-16" fill="none" stroke="{colours.shade}"'
        f' stroke-width="11"/>'
        f'<path d="M108 {top}h100v{height - 18}a18 18 0 0 1-18 18h-64a18 18 0 0 1-18-18z" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 112, top + 22, 92, height - 40)}"
        f'<ellipse cx="158" cy="{top}" rx="50" ry="9" fill="{colours.light}"/>'
        f'<ellipse cx="158" cy="{top + 1}" rx="42" ry="6" fill="{colours.shade}"/>'
        f'<path d="M142 {top - 16}q-8-11 0-20t0-18M172 {top - 16}q-8-11 0-20t0-18" fill="none" stroke="{colours.light}"'
        f' stroke-width="5" stroke-linecap="round"/>'
    )


def _jar(colours: Colours, chance: random.Random) -> str:
    height, half = chance.randint(96, 118), chance.randint(40, 52)
    top = FLOOR - height
    return (
        f"{_shadow(half + 16)}"
        f'<rect x="{160 - half}" y="{top}" width="{2 * half}" height="{height}" rx="18" fill="{colours.light}"/>'
        f'<rect x="{160 - half + 7}" y="{top + 26}" width="{2 * half - 14}" height="{height - 33}" rx="12"'
        f' fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 160 - half + 9, top + 44, 2 * half - 18, height - 66)}"
        f'<rect x="{160 - half + 3}" y="{top - 16}" width="{2 * half - 6}" height="22" rx="6" fill="{colours.shade}"/>'
    )


def _bottle(colours: Colours, chance: random.Random) -> str:
    half = chance.randint(28, 36)
    return (
        f"{_shadow(half + 18)}"
        f'<path d="M148 52h24v30q0 12 {half - 12} 26v{FLOOR - 124}a16 16 0 0 1-16 16h-{2 * half - 32}'
        f'a16 16 0 0 1-16-16v-{FLOOR - 124}q{half - 12}-14 {half - 12}-26z" fill="{colours.body}"/>'
        f'<rect x="145" y="40" width="30" height="18" rx="4" fill="{colours.shade}"/>'
        f"{_decoration(colours, chance, 160 - half, 122, 2 * half, 44)}"
    )


def _book(colours: Colours, chance: random.Random) -> str:
    height = chance.randint(106, 124)
    top = FLOOR - height
    return (
        f"{_shadow(64)}"
        f'<rect x="112" y="{top + 5}" width="104" height="{height - 5}" rx="5" fill="#fbf8f1"/>'
        f'<rect x="106" y="{top}" width="102" height="{height}" rx="6" fill="{colours.body}"/>'
        f'<rect x="106" y="{top}" width="15" height="{height}" rx="6" fill="{colours.shade}"/>'
        f"{_decoration(colours, chance, 130, top + 24, 68, height - 62)}"
        f'<path d="M184 {top}h14v{chance.randint(28, 46)}l-7-7-7 7z" fill="{colours.mark}"/>'
    )


def _bag(colours: Colours, chance: random.Random) -> str:
    height = chance.randint(92, 108)
    top = FLOOR - height
    return (
        f"{_shadow(68)}"
        f'<path d="M132 {top + 6}v-20a28 28 0 0 1 56 0v20" fill="none" stroke="{colours.shade}" stroke-width="8"/>'
        f'<path d="M104 {top}h112l8 {height - 12}a11 11 0 0 1-11 12h-106a11 11 0 0 1-11-12z" fill="{colours.body}"/>'
        f'<path d="M104 {top}h112l1 14h-114z" fill="{colours.light}"/>'
        f"{_decoration(colours, chance, 118, top + 30, 84, height - 48)}"
    )


def _lamp(colours: Colours, chance: random.Random) -> str:
    half = chance.randint(46, 60)
    return (
        f"{_shadow(46)}"
        f'<circle cx="160" cy="112" r="72" fill="#fff" opacity=".4"/>'
        f'<rect x="155" y="104" width="10" height="76" fill="{colours.shade}"/>'
        f'<rect x="128" y="{FLOOR - 10}" width="64" height="10" rx="5" fill="{colours.shade}"/>'
        f'<path d="M136 54h48l{half - 24} 62h-{2 * half}z" fill="{colours.body}"/>'
        f'<path d="M{160 - half} 116h{2 * half}l-3-9h-{2 * half - 6}z" fill="{colours.mark}"/>'
    )


def _pot(colours: Colours, chance: random.Random) -> str:
    top = FLOOR - chance.randint(66, 80)
    height = FLOOR - top
    return (
        f"{_shadow(78)}"
        f'<path d="M88 {top + 18}h144" stroke="{colours.shade}" stroke-width="13" stroke-linecap="round"/>'
        f'<path d="M104 {top}h112v{height - 20}a20 20 0 0 1-20 20h-72a20 20 0 0 1-20-20z" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 116, top + 26, 88, height - 40)}"
        f'<path d="M100 {top}a60 22 0 0 1 120 0z" fill="{colours.light}"/>'
        f'<circle cx="160" cy="{top - 27}" r="8" fill="{colours.shade}"/>'
    )


def _plant(colours: Colours, chance: random.Random) -> str:
    leaves = "".join(
        f'<path d="M160 128q{side * chance.randint(8, 22)}-46 {side * reach} -{rise}'
        f'q{side * 8} {rise // 2} -{side * reach} {rise}z" fill="{colour}" transform="translate(0 6)"/>'
        for side, reach, rise, colour in (
            (-1, chance.randint(50, 70), chance.randint(50, 70), colours.body),
            (1, chance.randint(50, 70), chance.randint(50, 70), colours.shade),
            (-1, chance.randint(18, 30), chance.randint(84, 98), colours.shade),
            (1, chance.randint(18, 30), chance.randint(80, 94), colours.body),
        )
    )
    return (
        f"{_shadow(50)}{leaves}"
        f'<path d="M122 130h76l-9 {FLOOR - 138}a9 9 0 0 1-9 8h-40a9 9 0 0 1-9-8z" fill="{colours.mark}"/>'
        f'<rect x="117" y="124" width="86" height="15" rx="5" fill="{colours.mark}"/>'
        f'<rect x="117" y="135" width="86" height="5" fill="#000" opacity=".12"/>'
    )


KINDS: dict[str, tuple[int, Draw]] = {
    "coffee": (26, _mug),
    "tea": (110, _mug),
    "drink": (200, _bottle),
    "kitchen": (8, _pot),
    "pantry": (42, _jar),
    "food": (42, _jar),
    "book": (230, _book),
    "paper": (230, _book),
    "stationery": (230, _book),
    "bag": (280, _bag),
    "travel": (280, _bag),
    "cloth": (330, _bag),
    "home": (190, _lamp),
    "light": (48, _lamp),
    "garden": (140, _plant),
    "plant": (140, _plant),
    "care": (170, _bottle),
    "bath": (170, _bottle),
}


def _kind(category: str) -> tuple[int, Draw]:
    """The colour and the thing of a category; one that nobody thought of gets some of its own all the same."""
    for word, kind in KINDS.items():
        if word in category.lower():
            return kind
    chance = random.Random(_digest(category))
    return chance.randrange(360), chance.choice([draw for _, draw in KINDS.values()])
