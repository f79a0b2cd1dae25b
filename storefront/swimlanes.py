"""Draws events in lanes as SVG: time goes down, an event a row, arrows from each event to what it caused.

Pure: the same entries give the same picture. Sizes are in units of the SVG; colours are the style sheet's.
Beside an event, in the lanes of those who handled it, stand marks. An arrow leaves its event at the height of the
mark, goes down in the gutter of the lane that reacted, and so crosses neither marks nor events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

LANE, GUTTER, CARD = 206, 26, 176
HEAD = 58
MARGIN = 4
LINE = 15
SLOT, FIRST_SLOT = 22, 21  # the heights at which arrows leave an event
ENTRANCE = 9  # the height at which they arrive
GAP, PAUSE = 16, 22
MARK = 18
TRACK = 6
CHARACTER = 6.6  # the width of a character of a mark in a wide font
LONGEST = 25  # characters of a line that fit into an event


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    name: str
    title: str
    subtitle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What became of an event in a lane; `kind` is a class of the style sheet: done, waiting or failed."""

    lane: str
    text: str
    kind: str = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event. `pause` is written above it, `label` is read out and shown on pointing at it."""

    id: str
    lane: str
    title: str
    lines: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    cause: str | None = None
    pause: str = ""
    label: str = ""
    href: str = ""
    kind: str = ""
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle with what stands in it; for a mark `source` is the event that it belongs to."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    kind: str
    source: str
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """From `source` to `target`; a delivery that caused nothing ends at its mark and has no target."""

    source: str
    target: str | None
    lane: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    width: float
    height: float
    lanes: tuple[Lane, ...]
    entries: tuple[Entry, ...]
    cards: tuple[Box, ...]
    marks: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass(slots=True)
class _Row:
    """An event's place: `slots` are the heights at which arrows leave it, by lane."""

    entry: Entry
    top: float
    height: float
    lines: tuple[str, ...]
    slots: dict[str, float]


def draw(lanes: Sequence[Lane], entries: Sequence[Entry]) -> Picture:
    """Lay the entries out, first at the top. Every entry's lane and mark's lane is one of `lanes`.

    An entry that is caused by one below it, or by none that is here, gets no arrow.
    """
    left = {lane.name: MARGIN + position * LANE for position, lane in enumerate(lanes)}
    rows = _rows(entries, left)
    cards = tuple(_card(row, left) for row in rows.values())
    return Picture(
        width=2 * MARGIN + len(lanes) * LANE,
        height=max((card.y + card.height for card in cards), default=HEAD) + GAP,
        lanes=tuple(lanes),
        entries=tuple(entries),
        cards=cards,
        marks=tuple(_mark(mark, row, left) for row in rows.values() for mark in _elsewhere(row.entry)),
        arrows=tuple(_arrows(rows, left)),
    )


def _elsewhere(entry: Entry) -> list[Mark]:
    return [mark for mark in entry.marks if mark.lane != entry.lane]


def _effects(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """What each entry caused, below it."""
    seen: set[str] = set()
    effects: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.cause in seen:
            effects[str(entry.cause)].append(entry)
        seen.add(entry.id)
    return effects


def _rows(entries: Sequence[Entry], left: Mapping[str, float]) -> dict[str, _Row]:
    effects = _effects(entries)
    rows: dict[str, _Row] = {}
    y = float(HEAD + GAP)
    for entry in entries:
        if entry.pause:
            y += PAUSE
        wanted = {mark.lane for mark in _elsewhere(entry)} | {effect.lane for effect in effects[entry.id]}
        slots = {
            lane: y + FIRST_SLOT + position * SLOT
            for position, lane in enumerate(lane for lane in left if lane in wanted)
        }
        own = tuple(mark.text for mark in entry.marks if mark.lane == entry.lane)
        lines = (entry.title, *entry.lines, *own)
        height = max(len(lines) * LINE + 12, FIRST_SLOT + len(slots) * SLOT - SLOT / 2 + 4)
        rows[entry.id] = _Row(entry=entry, top=y, height=height, lines=lines, slots=slots)
        y += height + GAP
    return rows


def _card(row: _Row, left: Mapping[str, float]) -> Box:
    return Box(
        x=left[row.entry.lane] + GUTTER,
        y=row.top,
        width=CARD,
        height=row.height,
        lines=tuple(_cut(line) for line in row.lines),
        kind=row.entry.kind,
        source=row.entry.id,
        lane=row.entry.lane,
    )


def _mark(mark: Mark, row: _Row, left: Mapping[str, float]) -> Box:
    text = _cut(mark.text)
    return Box(
        x=left[mark.lane] + GUTTER,
        y=row.slots[mark.lane] - MARK / 2,
        width=min(CARD, round(len(text) * CHARACTER + 14)),
        height=MARK,
        lines=(text,),
        kind=mark.kind,
        source=row.entry.id,
        lane=mark.lane,
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _arrows(rows: Mapping[str, _Row], left: Mapping[str, float]) -> Iterable[Arrow]:
    targets: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for effects in _effects([row.entry for row in rows.values()]).values():
        for effect in effects:
            targets[str(effect.cause), effect.lane].append(rows[effect.id])
    tracks = _tracks(rows, targets)
    for row in rows.values():
        lane_left = left[row.entry.lane]
        marks = {mark.lane: _mark(mark, row, left) for mark in _elsewhere(row.entry)}
        for lane, y in row.slots.items():
            to_the_right = left[lane] > lane_left
            start = lane_left + GUTTER + (CARD if to_the_right else 0)
            if lane in marks:
                mark = marks[lane]
                end = mark.x if to_the_right else mark.x + mark.width
                yield Arrow(source=row.entry.id, target=None, lane=lane, points=((start, y), (end, y)))
                start = mark.x
            for target in targets[row.entry.id, lane]:
                x = left[lane] + tracks[row.entry.id, lane]
                entrance = target.top + ENTRANCE
                yield Arrow(
                    source=row.entry.id,
                    target=target.entry.id,
                    lane=lane,
                    points=((start, y), (x, y), (x, entrance), (left[lane] + GUTTER, entrance)),
                )


def _tracks(
    rows: Mapping[str, _Row], targets: Mapping[tuple[str, str], Sequence[_Row]]
) -> dict[tuple[str, str], float]:
    """Where in its lane's gutter each arrow goes down, so that no two share a place at the same height."""
    places: dict[tuple[str, str], int] = {}
    ends: dict[str, list[float]] = defaultdict(list)  # per lane and place, how far down it is taken
    for source, row in rows.items():
        for lane, y in sorted(row.slots.items(), key=lambda slot: slot[1]):
            if not targets.get((source, lane)):
                continue
            bottom = max(target.top for target in targets[source, lane]) + ENTRANCE
            taken = ends[lane]
            place = next((place for place, end in enumerate(taken) if end < y), len(taken))
            taken[place : place + 1] = [bottom]
            places[source, lane] = place
    return {
        (source, lane): GUTTER - 8 - place * min(TRACK, (GUTTER - 12) / max(1, len(ends[lane]) - 1))
        for (source, lane), place in places.items()
    }


# --- SVG -----------------------------------------------------------------------------------------------------------


def svg(picture: Picture, *, title: str, description: str) -> str:
    """The picture as an `svg` element for an HTML page; everything in it is escaped."""
    root = Element(
        "svg",
        {
            "class": "lanes",
            "viewBox": f"0 0 {_number(picture.width)} {_number(picture.height)}",
            "role": "group",
            "aria-labelledby": "lanes-title lanes-description",
        },
    )
    SubElement(root, "title", {"id": "lanes-title"}).text = title
    SubElement(root, "desc", {"id": "lanes-description"}).text = description
    _arrow_head(root)
    for position, lane in enumerate(picture.lanes):
        _lane(root, lane, position, picture.height)
    for arrow in picture.arrows:
        kind = "delivery" if arrow.target is None else "cause"
        attributes = {"class": f"{kind} of-{arrow.lane}", "d": _path(arrow.points)}
        if arrow.target is not None:
            attributes["marker-end"] = "url(#lanes-arrow)"
        SubElement(root, "path", attributes)
    for mark in picture.marks:
        _drawn_mark(root, mark)
    for entry, card in zip(picture.entries, picture.cards, strict=True):
        _event(root, entry, card)
    return tostring(root, encoding="unicode")


def _arrow_head(root: Element) -> None:
    marker = SubElement(
        SubElement(root, "defs"),
        "marker",
        {
            "id": "lanes-arrow",
            "viewBox": "0 0 8 8",
            "refX": "7",
            "refY": "4",
            "markerWidth": "7",
            "markerHeight": "7",
            "orient": "auto",
        },
    )
    SubElement(marker, "path", {"class": "head", "d": "M0 0 L8 4 L0 8 Z"})


def _lane(root: Element, lane: Lane, position: int, height: float) -> None:
    group = SubElement(root, "g", {"class": f"lane of-{lane.name}"})
    x = MARGIN + position * LANE
    _rectangle(group, x + 2, 2, LANE - 4, height - 4, "ground", 8)
    _rectangle(group, x + 2, 2, LANE - 4, 4, "edge", 2)
    _text(group, x + 14, 28, lane.title, "lane-title")
    _text(group, x + 14, 45, lane.subtitle, "lane-subtitle")


def _drawn_mark(root: Element, mark: Box) -> None:
    group = SubElement(root, "g", {"class": f"mark {mark.kind} of-{mark.lane}"})
    _rectangle(group, mark.x, mark.y, mark.width, mark.height, "", MARK / 2)
    _text(group, mark.x + 7, mark.y + 13, mark.lines[0], "")


def _event(root: Element, entry: Entry, card: Box) -> None:
    if entry.pause:
        _text(root, card.x + 2, card.y - 9, entry.pause, "pause")
    classes = " ".join(filter(None, ("event", f"of-{entry.lane}", entry.kind, "chosen" if entry.chosen else "")))
    attributes = {"class": classes, "id": f"lanes-{entry.id}", "href": entry.href}
    if entry.chosen:
        attributes["aria-current"] = "true"
    link = SubElement(root, "a", attributes)
    SubElement(link, "title").text = entry.label
    _rectangle(link, card.x, card.y, card.width, card.height, "", 6)
    for position, line in enumerate(card.lines):
        y = card.y + 17 + position * LINE
        _text(link, card.x + 9, y, line, "event-title" if position == 0 else "event-line")


def _rectangle(parent: Element, x: float, y: float, width: float, height: float, kind: str, round_: float) -> None:
    sizes = {"x": x, "y": y, "width": width, "height": height, "rx": round_}
    attributes = {name: _number(value) for name, value in sizes.items()}
    SubElement(parent, "rect", attributes | ({"class": kind} if kind else {}))


def _text(parent: Element, x: float, y: float, text: str, kind: str) -> None:
    attributes = {"x": _number(x), "y": _number(y)} | ({"class": kind} if kind else {})
    SubElement(parent, "text", attributes).text = text


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
