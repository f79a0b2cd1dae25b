"""The things that a product's picture can show, as SVG in a picture of 320 by 240."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 240
FLOOR = 186  # where things stand
PAPER = "#fbf8f1"
FLAME = "#f0b040"
LEAF, DARK_LEAF = "#4f9a63", "#2f6b45"


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
        f'<rect x="112" y="{top + 5}" width="104" height="{height - 5}" rx="5" fill="{PAPER}"/>'
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


def _casserole(colours: Colours, chance: random.Random) -> str:
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
            (-1, chance.randint(50, 70), chance.randint(50, 70), LEAF),
            (1, chance.randint(50, 70), chance.randint(50, 70), DARK_LEAF),
            (-1, chance.randint(18, 30), chance.randint(84, 98), DARK_LEAF),
            (1, chance.randint(18, 30), chance.randint(80, 94), LEAF),
        )
    )
    return (
        f"{_shadow(50)}{leaves}"
        f'<path d="M122 130h76l-9 {FLOOR - 138}a9 9 0 0 1-9 8h-40a9 9 0 0 1-9-8z" fill="{colours.body}"/>'
        f'<rect x="117" y="124" width="86" height="15" rx="5" fill="{colours.body}"/>'
        f'<rect x="117" y="135" width="86" height="5" fill="#000" opacity=".12"/>'
    )


def _pouch(colours: Colours, chance: random.Random) -> str:
    height, half = chance.randint(104, 124), chance.randint(40, 48)
    top = FLOOR - height
    return (
        f"{_shadow(half + 14)}"
        f'<path d="M{160 - half} {top + 12}h{2 * half}l7 {height - 18}q-{half + 7} 14-{2 * half + 14} 0z"'
        f' fill="{colours.body}"/>'
        f'<path d="M{160 - half} {top}h{2 * half}v22h-{2 * half}z" fill="{colours.shade}"/>'
        f'<path d="M{160 - half + 6} {top + 9}h{2 * half - 12}" stroke="{colours.light}" stroke-width="2"'
        f' stroke-dasharray="4 4"/>'
        f"{_decoration(colours, chance, 160 - half + 4, top + 36, 2 * half - 8, height - 62)}"
    )


def _bowl(colours: Colours, chance: random.Random) -> str:
    top = FLOOR - chance.randint(58, 72)
    fruit = "".join(
        f'<circle cx="{128 + 21 * place}" cy="{top - 4 - (place % 2) * 10}" r="{chance.randint(15, 20)}"'
        f' fill="{chance.choice((colours.mark, colours.light, colours.shade))}"/>'
        for place in range(4)
    )
    return (
        f"{_shadow(62)}{fruit}"
        f'<path d="M88 {top}h144q-4 {FLOOR - top - 8}-52 {FLOOR - top - 8}h-40q-48 0-52-{FLOOR - top - 8}z"'
        f' fill="{colours.body}"/>'
        f'<rect x="84" y="{top - 4}" width="152" height="11" rx="5.5" fill="{colours.shade}"/>'
        f'<rect x="134" y="{FLOOR - 9}" width="52" height="9" rx="3" fill="{colours.shade}"/>'
    )


def _lantern(colours: Colours, chance: random.Random) -> str:
    top = FLOOR - chance.randint(104, 118)
    return (
        f"{_shadow(52)}"
        f'<circle cx="160" cy="{top + 52}" r="70" fill="#fff" opacity=".4"/>'
        f'<path d="M138 {top}a22 24 0 0 1 44 0" fill="none" stroke="{colours.shade}" stroke-width="6"/>'
        f'<path d="M132 {top}h56l8 20h-72z" fill="{colours.body}"/>'
        f'<rect x="128" y="{top + 20}" width="64" height="{FLOOR - top - 36}" fill="{colours.light}"/>'
        f'<path d="M160 {FLOOR - 70}q16 24 0 38q-16-14 0-38z" fill="{FLAME}"/>'
        f'<path d="M131 {top + 20}v{FLOOR - top - 36}M189 {top + 20}v{FLOOR - top - 36}" stroke="{colours.shade}"'
        f' stroke-width="6"/>'
        f'<rect x="118" y="{FLOOR - 17}" width="84" height="17" rx="5" fill="{colours.body}"/>'
    )


def _pencils(colours: Colours, chance: random.Random) -> str:
    sticks = "".join(
        f'<g transform="rotate({lean} {132 + 19 * place} 150)"><rect x="{127 + 19 * place}" y="{rise}" width="11"'
        f' height="90" fill="{colour}"/><path d="M{127 + 19 * place} {rise}l5.5-15 5.5 15z" fill="#ecdcc0"/></g>'
        for place, (lean, rise, colour) in enumerate(
            zip(
                (-9, -3, 4, 10),
                (chance.randint(66, 92) for _ in range(4)),
                (colours.mark, colours.shade, colours.light, colours.mark),
                strict=True,
            )
        )
    )
    return (
        f"{_shadow(54)}{sticks}"
        f'<path d="M114 118h92l-5 {FLOOR - 126}a9 9 0 0 1-9 8h-64a9 9 0 0 1-9-8z" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 124, 130, 72, 42)}"
    )


def _blanket(colours: Colours, chance: random.Random) -> str:
    folds = "".join(
        f'<rect x="{92 + inset}" y="{FLOOR - 26 * (layer + 1)}" width="{136 - 2 * inset}" height="25" rx="12"'
        f' fill="{colour}"/>'
        for layer, (inset, colour) in enumerate(
            zip(
                (0, chance.randint(2, 8), chance.randint(0, 6)),
                (colours.shade, colours.body, colours.light),
                strict=True,
            )
        )
    )
    return (
        f"{_shadow(80)}{folds}"
        f'<path d="M{chance.randint(120, 136)} {FLOOR - 78}v78M{chance.randint(184, 200)} {FLOOR - 78}v78"'
        f' stroke="{colours.mark}" stroke-width="8"/>'
    )


def _box(colours: Colours, chance: random.Random) -> str:
    width, height = chance.randint(92, 116), chance.randint(92, 116)
    left, top = 160 - width // 2, FLOOR - height
    return (
        f"{_shadow(width // 2 + 18)}"
        f'<path d="M{left + width} {top}l16-11v{height}l-16 11z" fill="{colours.shade}"/>'
        f'<path d="M{left} {top}l16-11h{width}l-16 11z" fill="{colours.light}"/>'
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, left + 10, top + 22, width - 20, height - 44)}"
    )


def _tin(colours: Colours, chance: random.Random) -> str:
    height, half = chance.randint(64, 96), chance.randint(46, 60)
    top = FLOOR - height
    return (
        f"{_shadow(half + 16)}"
        f'<path d="M{160 - half} {top}v{height - 10}q{half} 20 {2 * half} 0v-{height - 10}z" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 160 - half + 8, top + 20, 2 * half - 16, height - 34)}"
        f'<ellipse cx="160" cy="{top}" rx="{half}" ry="11" fill="{colours.light}"/>'
        f'<ellipse cx="160" cy="{top}" rx="{half - 9}" ry="7" fill="none" stroke="{colours.shade}" stroke-width="2"/>'
    )


def _pan(colours: Colours, chance: random.Random) -> str:
    height = chance.randint(34, 52)
    top = FLOOR - height
    return (
        f"{_shadow(84)}"
        f'<path d="M196 {top + 12}l74-15" stroke="{colours.shade}" stroke-width="12" stroke-linecap="round"/>'
        f'<path d="M80 {top}h128l-8 {height - 14}a16 16 0 0 1-16 14h-80a16 16 0 0 1-16-14z" fill="{colours.body}"/>'
        f'<ellipse cx="144" cy="{top}" rx="64" ry="10" fill="{colours.light}"/>'
        f'<ellipse cx="144" cy="{top + 1}" rx="55" ry="7" fill="{colours.shade}"/>'
        f'<circle cx="266" cy="{top - 2}" r="2.5" fill="{colours.wall}"/>'
    )


def _knife(colours: Colours, chance: random.Random) -> str:
    tip = chance.randint(44, 66)
    return (
        f"{_shadow(82)}"
        f'<rect x="76" y="{FLOOR - 26}" width="168" height="26" rx="8" fill="{colours.light}"/>'
        f'<path d="M92 {FLOOR - 12}h120M104 {FLOOR - 19}h70" stroke="{colours.shade}" stroke-width="2" opacity=".35"/>'
        f'<g transform="rotate(-24 160 120)"><path d="M{tip} 128q40-34 122-36v30z" fill="#dfe5e8"/>'
        f'<path d="M{tip} 128l122-6v-6z" fill="#b7c2c8"/>'
        f'<rect x="164" y="90" width="86" height="32" rx="11" fill="{colours.body}"/>'
        f'<circle cx="186" cy="106" r="4" fill="{colours.mark}"/>'
        f'<circle cx="224" cy="106" r="4" fill="{colours.mark}"/></g>'
    )


def _tools(colours: Colours, chance: random.Random) -> str:
    """Wooden handles with a blade or a bowl at the end."""
    lean = chance.randint(8, 14)
    return (
        f"{_shadow(70)}"
        f'<g transform="rotate({lean} 160 {FLOOR})"><rect x="176" y="98" width="12" height="{FLOOR - 98}" rx="6"'
        f' fill="{colours.light}"/><ellipse cx="182" cy="80" rx="17" ry="27" fill="{colours.body}"/></g>'
        f'<g transform="rotate(-{lean} 160 {FLOOR})"><rect x="132" y="112" width="12" height="{FLOOR - 112}" rx="6"'
        f' fill="{colours.light}"/><path d="M119 66h38v34q0 22-19 30-19-8-19-30z" fill="{colours.shade}"/></g>'
        f'<path d="M122 {FLOOR - 34}h76l-6 26a10 10 0 0 1-10 8h-44a10 10 0 0 1-10-8z" fill="{colours.mark}"/>'
    )


def _candles(colours: Colours, chance: random.Random) -> str:
    def candle(x: int, height: int) -> str:
        top = FLOOR - 8 - height
        return (
            f'<rect x="{x - 12}" y="{top}" width="24" height="{height}" rx="4" fill="{colours.body}"/>'
            f'<path d="M{x} {top}v-9" stroke="{colours.shade}" stroke-width="3"/>'
            f'<path d="M{x} {top - 38}q13 20 0 31-13-11 0-31z" fill="{FLAME}"/>'
            f'<rect x="{x - 24}" y="{FLOOR - 9}" width="48" height="9" rx="4.5" fill="{colours.shade}"/>'
        )

    return (
        f'{_shadow(64)}<circle cx="160" cy="86" r="66" fill="#fff" opacity=".45"/>'
        f"{candle(128, chance.randint(64, 80))}{candle(192, chance.randint(84, 104))}"
    )


def _poster(colours: Colours, chance: random.Random) -> str:
    waves = "".join(
        f'<path d="M106 {row}q13-11 27 0t27 0 27 0 27 0" fill="none" stroke="{colour}" stroke-width="5"/>'
        for row, colour in ((128, colours.light), (143, colours.body), (158, colours.shade))
    )
    return (
        f"{_shadow(70)}"
        f'<rect x="94" y="30" width="132" height="{FLOOR - 30}" rx="4" fill="{colours.shade}"/>'
        f'<rect x="102" y="38" width="116" height="{FLOOR - 46}" fill="{PAPER}"/>'
        f'<circle cx="{chance.randint(134, 186)}" cy="{chance.randint(70, 88)}" r="{chance.randint(16, 24)}"'
        f' fill="{colours.mark}"/>{waves}'
    )


def _twine(colours: Colours, chance: random.Random) -> str:
    radius = chance.randint(50, 58)
    y = FLOOR - radius
    turns = "".join(
        f'<ellipse cx="160" cy="{y}" rx="{radius}" ry="{radius * share // 10}" transform="rotate({angle} 160 {y})"'
        f' fill="none" stroke="{colour}" stroke-width="4"/>'
        for angle in (chance.randint(10, 30), chance.randint(70, 100), chance.randint(130, 160))
        for share, colour in ((3, colours.shade), (6, colours.light))
    )
    return (
        f'{_shadow(radius + 12)}<circle cx="160" cy="{y}" r="{radius}" fill="{colours.body}"/>{turns}'
        f'<path d="M{160 + radius - 8} {FLOOR - 6}q34 6 58-8" fill="none" stroke="{colours.light}" stroke-width="5"'
        f' stroke-linecap="round"/>'
    )


def _watering_can(colours: Colours, chance: random.Random) -> str:
    top = FLOOR - chance.randint(74, 88)
    return (
        f"{_shadow(72)}"
        f'<path d="M126 {FLOOR - 26}L74 {top + 6}" stroke="{colours.shade}" stroke-width="12"/>'
        f'<path d="M62 {top + 12}l26-22" stroke="{colours.shade}" stroke-width="9" stroke-linecap="round"/>'
        f'<path d="M132 {top}q40-54 78-2 24 38 0 {FLOOR - top - 24}" fill="none" stroke="{colours.light}"'
        f' stroke-width="10"/>'
        f'<path d="M120 {top}h88l8 {FLOOR - top - 8}a8 8 0 0 1-8 8h-88a8 8 0 0 1-8-8z" fill="{colours.body}"/>'
        f"{_decoration(colours, chance, 124, top + 20, 80, FLOOR - top - 38)}"
    )


def _clock(colours: Colours, chance: random.Random) -> str:
    return (
        f"{_shadow(58)}"
        f'<circle cx="160" cy="{FLOOR - 68}" r="68" fill="{colours.body}"/>'
        f'<circle cx="160" cy="{FLOOR - 68}" r="55" fill="{PAPER}"/>'
        f'<circle cx="160" cy="{FLOOR - 68}" r="46" fill="none" stroke="{colours.light}" stroke-width="4"'
        f' stroke-dasharray="3 21"/>'
        f'<g stroke="{colours.shade}" stroke-width="6" stroke-linecap="round">'
        f'<path d="M160 {FLOOR - 68}v-34" transform="rotate({chance.randrange(0, 360, 30)} 160 {FLOOR - 68})"/>'
        f'<path d="M160 {FLOOR - 68}v-23" transform="rotate({chance.randrange(0, 360, 30)} 160 {FLOOR - 68})"/></g>'
        f'<circle cx="160" cy="{FLOOR - 68}" r="6" fill="{colours.mark}"/>'
    )


def _board(colours: Colours, chance: random.Random) -> str:
    lean = chance.randint(4, 9)
    return (
        f"{_shadow(72)}"
        f'<g transform="rotate(-{lean} 160 {FLOOR})"><rect x="112" y="52" width="96" height="{FLOOR - 52}" rx="13"'
        f' fill="{colours.body}"/><rect x="146" y="22" width="28" height="44" rx="13" fill="{colours.body}"/>'
        f'<circle cx="160" cy="38" r="5.5" fill="{colours.wall}"/>'
        f'<path d="M128 78v88M146 92v74M172 76v90M192 96v62" stroke="{colours.shade}" stroke-width="3"'
        f' opacity=".4"/></g>'
    )


def _house(colours: Colours, chance: random.Random) -> str:
    return (
        f"{_shadow(56)}"
        f'<rect x="153" y="150" width="14" height="{FLOOR - 150}" fill="{colours.shade}"/>'
        f'<path d="M112 84h96v62a8 8 0 0 1-8 8h-80a8 8 0 0 1-8-8z" fill="{colours.body}"/>'
        f'<path d="M96 92l64-54 64 54-9 9-55-46-55 46z" fill="{colours.shade}"/>'
        f'<circle cx="160" cy="108" r="{chance.randint(13, 17)}" fill="{colours.wall}"/>'
        f'<path d="M148 140h24" stroke="{colours.mark}" stroke-width="7" stroke-linecap="round"/>'
    )


def _stool(colours: Colours, chance: random.Random) -> str:
    return (
        f"{_shadow(66)}"
        f'<path d="M112 {FLOOR}L202 106M208 {FLOOR}L118 106" stroke="{colours.shade}" stroke-width="10"'
        f' stroke-linecap="round"/>'
        f'<path d="M98 96q62 22 124 0v16q-62 24-124 0z" fill="{colours.body}"/>'
        f'<path d="M98 96q62 22 124 0v5q-62 22-124 0z" fill="{colours.mark}"/>'
    )


def _hook(colours: Colours, chance: random.Random) -> str:
    return (
        f'<rect x="82" y="52" width="156" height="36" rx="9" fill="{colours.light}"/>'
        f'<circle cx="100" cy="70" r="5" fill="{colours.shade}"/>'
        f'<circle cx="220" cy="70" r="5" fill="{colours.shade}"/>'
        f'<path d="M160 66v52a25 25 0 1 0 44 16" fill="none" stroke="{colours.body}" stroke-width="15"'
        f' stroke-linecap="round"/><circle cx="160" cy="70" r="15" fill="{colours.body}"/>'
        f'<circle cx="160" cy="70" r="{chance.randint(4, 7)}" fill="{colours.shade}"/>'
    )


def _gloves(colours: Colours, chance: random.Random) -> str:
    def glove(x: int, lean: int) -> str:
        return (
            f'<g transform="rotate({lean} {x} {FLOOR})"><path d="M{x - 26} {FLOOR - 26}v-58q0-14 11-14t11 14'
            f'v-16q0-13 10-13t10 13v12q0-11 9-11t9 11v62z" fill="{colours.body}"/>'
            f'<path d="M{x + 22} {FLOOR - 62}q8-22 20-14t-4 26l-16 20z" fill="{colours.body}"/>'
            f'<rect x="{x - 28}" y="{FLOOR - 30}" width="54" height="26" rx="5" fill="{colours.mark}"/></g>'
        )

    return f"{_shadow(76)}{glove(120, -chance.randint(2, 7))}{glove(192, chance.randint(2, 7))}"


THINGS: dict[str, Draw] = {
    "bag": _bag,
    "blanket": _blanket,
    "board": _board,
    "book": _book,
    "bottle": _bottle,
    "bowl": _bowl,
    "box": _box,
    "can": _watering_can,
    "candles": _candles,
    "casserole": _casserole,
    "clock": _clock,
    "gloves": _gloves,
    "hook": _hook,
    "house": _house,
    "jar": _jar,
    "knife": _knife,
    "lamp": _lamp,
    "lantern": _lantern,
    "mug": _mug,
    "pan": _pan,
    "pencils": _pencils,
    "plant": _plant,
    "poster": _poster,
    "pouch": _pouch,
    "stool": _stool,
    "tin": _tin,
    "tools": _tools,
    "twine": _twine,
}
