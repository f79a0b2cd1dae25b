"""Where everything stands in a picture of events in lanes: time goes right, a lane is a row, and arrows lead from each
event to what it caused.

Pure: the same entries give the same picture. Sizes are in units of the SVG, which is shown no smaller than a CSS pixel
for each. An event shares its column with others while neither its lane is taken there nor its cause stands there. What
became of it in other lanes stands in its column too, hung on a line that runs left of the column. Arrows leave such a
mark to the right, run above the lane's boxes and enter the event from above, so that they cross neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

HEADER = 116  # what the lanes' names take
MIN_WIDTH = 1220  # so that a young order is not shown enormous
EDGE, PAUSES = 4, 20  # PAUSES is the height of the line in which they are written
LINE = 16
TITLE_LETTER, LETTER = 8.7, 6.9  # the width of a character in a wide font
LONGEST = 18  # characters of a line that fit into a box
PADDING = 7
BETWEEN = 6  # boxes above each other
TRACK, TRACKS_ABOVE = 6, 12
MARGIN = 6  # between a column and the lines in the gap before it
ENTRANCE, EXIT = 18, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A `slim` lane only notes what became of the events above it: no boxes, no lines."""

    name: str
    title: str
    subtitle: str = ""
    slim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What became of an event in a lane; `kind` is a class of the style sheet: done, waiting or failed."""

    lane: str
    text: str
    detail: str = ""
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
    """From `source` to `target`; a delivery ends at its mark and has no target."""

    source: str
    target: str | None
    lane: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A lane's place."""

    lane: Lane
    top: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`cards` are the boxes of `entries`, in their order."""

    width: float
    height: float
    bands: tuple[Band, ...]
    entries: tuple[Entry, ...]
    cards: tuple[Box, ...]
    marks: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass(slots=True)
class _Column:
    """Events side by side, with x where the boxes begin; `lines` and `exits` are where lines go up and down."""

    entries: list[Entry]
    left: float = 0
    width: float = 0
    lines: dict[str, float] = field(default_factory=dict)  # by event
    exits: dict[tuple[str, str], float] = field(default_factory=dict)  # by event and lane


def draw(lanes: Sequence[Lane], entries: Sequence[Entry]) -> Picture:
    """Lay the entries out, first at the left. Every entry's lane and mark's lane is one of `lanes`.

    An entry that is caused by one after it, or by none that is here, gets no arrow.
    """
    effects = _effects(entries)
    columns = _columns(entries)
    width = _spread(columns, effects, lanes)
    column_of = {entry.id: number for number, column in enumerate(columns) for entry in column.entries}
    tracks = _tracks(effects, column_of, lanes)
    boxes: dict[tuple[str, str], Box] = {}  # by event and lane
    bands: list[Band] = []
    track_heights: dict[tuple[str, str], float] = {}
    top = float(EDGE + (PAUSES if any(entry.pause for entry in entries) else 0))
    for lane in lanes:
        own = {source: track for (source, name), track in tracks.items() if name == lane.name}
        ceiling = top + BETWEEN if lane.slim else top + TRACKS_ABOVE + TRACK * max(own.values(), default=0)
        for source, track in own.items():
            track_heights[source, lane.name] = ceiling - 6 - TRACK * track
        floor = ceiling + (LINE if lane.slim else LINE * 2)
        for column in columns:
            y = ceiling
            for box in _stack(column, lane, y):
                boxes[box.source, lane.name] = box
                floor = max(floor, box.y + box.height)
        bands.append(Band(lane=lane, top=top, height=floor + BETWEEN - top))
        top = floor + 2 * BETWEEN
    slim = {lane.name for lane in lanes if lane.slim}
    return Picture(
        width=max(width, MIN_WIDTH),
        height=top - BETWEEN + EDGE,
        bands=tuple(bands),
        entries=tuple(entries),
        cards=tuple(boxes[entry.id, entry.lane] for entry in entries),
        marks=tuple(boxes[entry.id, mark.lane] for entry in entries for mark in _elsewhere(entry)),
        arrows=tuple(
            arrow
            for column in columns
            for entry in column.entries
            for arrow in (
                *_deliveries(entry, column, boxes, slim),
                *_causes(entry, column, boxes, effects, track_heights),
            )
        ),
    )


def _elsewhere(entry: Entry) -> list[Mark]:
    return [mark for mark in entry.marks if mark.lane != entry.lane]


def _effects(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """What each entry caused after it, by entry and lane."""
    seen: set[str] = set()
    effects: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.cause in seen:
            effects[str(entry.cause), entry.lane].append(entry)
        seen.add(entry.id)
    return dict(effects)


def _columns(entries: Sequence[Entry]) -> list[_Column]:
    columns: list[_Column] = []
    for entry in entries:
        beside = columns[-1].entries if columns else []
        if entry.pause or not beside or any(other.lane == entry.lane or other.id == entry.cause for other in beside):
            columns.append(_Column(entries=[entry]))
        else:
            beside.append(entry)
    return columns


def _spread(
    columns: Sequence[_Column], effects: Mapping[tuple[str, str], Sequence[Entry]], lanes: Sequence[Lane]
) -> float:
    """Give columns and the lines between them their places, and return where the last one ends.

    Those who leave a column share a place unless they are of the same lane, as they stay within it.
    """
    slim = {lane.name for lane in lanes if lane.slim}
    x = float(HEADER)
    before: _Column | None = None
    for column in columns:
        x += MARGIN
        if before is not None:
            used: Counter[str] = Counter()
            for entry in before.entries:
                marked = {mark.lane for mark in entry.marks} | {entry.lane}
                for lane in lanes:
                    if (entry.id, lane.name) in effects and lane.name in marked:
                        before.exits[entry.id, lane.name] = x + TRACK * used[lane.name]
                        used[lane.name] += 1
            x += TRACK * max(used.values(), default=0)
        for entry in column.entries:
            reacted = {lane for source, lane in effects if source == entry.id}
            if ({mark.lane for mark in entry.marks} | reacted) - slim - {entry.lane}:
                column.lines[entry.id] = x
                x += TRACK
        column.left = x + MARGIN - (TRACK if x > HEADER + MARGIN else 0)
        column.width = max(_width(entry) for entry in column.entries)
        x = column.left + column.width
        before = column
    return x + MARGIN


def _width(entry: Entry) -> float:
    """What the widest box of an entry needs."""
    lines = [*_lines(entry)[1:], *(line for mark in entry.marks for line in (mark.text, mark.detail)), entry.pause]
    widest = max((len(_cut(line)) for line in lines), default=0)
    return max(len(_cut(entry.title)) * TITLE_LETTER, widest * LETTER) + 2 * PADDING


def _lines(entry: Entry) -> list[str]:
    own = (" ".join(filter(None, (mark.text, mark.detail))) for mark in entry.marks if mark.lane == entry.lane)
    return [entry.title, *entry.lines, *own]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _stack(column: _Column, lane: Lane, y: float) -> Iterator[Box]:
    """The boxes of a column in a lane: its event, if it has one there, and what became of the others."""
    of_lane = [entry for entry in column.entries if entry.lane == lane.name]
    for entry in of_lane:
        lines = tuple(_cut(line) for line in _lines(entry))
        box = _box(column, y, lines, kind=entry.kind, source=entry.id, lane=lane.name)
        yield box
        y = box.y + box.height + BETWEEN
    for entry in column.entries:
        for mark in _elsewhere(entry):
            if mark.lane != lane.name:
                continue
            lines = tuple(_cut(line) for line in (mark.text, mark.detail) if line)
            box = _box(column, y, lines, kind=mark.kind, source=entry.id, lane=lane.name, slim=lane.slim)
            yield box
            y = box.y + box.height + (0 if lane.slim else BETWEEN)


def _box(
    column: _Column, y: float, lines: tuple[str, ...], *, kind: str, source: str, lane: str, slim: bool = False
) -> Box:
    return Box(
        x=column.left,
        y=y,
        width=column.width,
        height=len(lines) * LINE + (2 if slim else PADDING),
        lines=lines,
        kind=kind,
        source=source,
        lane=lane,
    )


def _tracks(
    effects: Mapping[tuple[str, str], Sequence[Entry]], column_of: Mapping[str, int], lanes: Sequence[Lane]
) -> dict[tuple[str, str], int]:
    """How far above its lane's boxes each arrow runs, so that no two share a place at the same time."""
    tracks: dict[tuple[str, str], int] = {}
    for lane in lanes:
        ends: list[int] = []  # by track, the column until which it is taken
        sources = [source for source, name in effects if name == lane.name]
        for source in sorted(sources, key=lambda source: column_of[source]):
            begins = column_of[source]
            track = next((track for track, end in enumerate(ends) if end < begins), len(ends))
            ends[track : track + 1] = [max(column_of[effect.id] for effect in effects[source, lane.name])]
            tracks[source, lane.name] = track
    return tracks


def _deliveries(entry: Entry, column: _Column, boxes: Mapping[tuple[str, str], Box], slim: set[str]) -> Iterator[Arrow]:
    for mark in _elsewhere(entry):
        if mark.lane in slim:
            continue
        card, box = boxes[entry.id, entry.lane], boxes[entry.id, mark.lane]
        x, y = column.lines[entry.id], box.y + EXIT - 2
        leaves = card.y + EXIT
        points = ((card.x, leaves), (x, leaves), (x, y), (box.x, y))
        yield Arrow(source=entry.id, target=None, lane=mark.lane, points=points)


def _causes(
    entry: Entry,
    column: _Column,
    boxes: Mapping[tuple[str, str], Box],
    effects: Mapping[tuple[str, str], Sequence[Entry]],
    track_heights: Mapping[tuple[str, str], float],
) -> Iterator[Arrow]:
    for (source, lane), targets in effects.items():
        if source != entry.id:
            continue
        track = track_heights[source, lane]
        start: tuple[tuple[float, float], ...]
        if (source, lane) in boxes:
            box, x = boxes[source, lane], column.exits[source, lane]
            y = box.y + EXIT - 2
            start = ((box.x + box.width, y), (x, y), (x, track))
        else:  # nobody there has noted that it was handled
            card, x = boxes[source, entry.lane], column.lines[source]
            start = ((card.x, card.y + EXIT), (x, card.y + EXIT), (x, track))
        for target in targets:
            card = boxes[target.id, target.lane]
            entrance = card.x + ENTRANCE
            points = (*start, (entrance, track), (entrance, card.y))
            yield Arrow(source=source, target=target.id, lane=lane, points=points)
