"""A picture of swim lanes as an SVG element for an HTML page; the style sheet lanes.css gives it its colours."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from timeline.swimlanes import LINE, PADDING, Band, Box, Entry, Picture

BASELINE = 16  # of a box's first line, from its top


def svg(picture: Picture, *, title: str, description: str) -> str:
    """The picture, with everything in it escaped."""
    width, height = _number(picture.width), _number(picture.height)
    root = Element(
        "svg",
        {
            "class": "lanes",
            "viewBox": f"0 0 {width} {height}",
            "width": width,
            "height": height,
            "role": "group",
            "aria-labelledby": "lanes-title lanes-description",
        },
    )
    SubElement(root, "title", {"id": "lanes-title"}).text = title
    SubElement(root, "desc", {"id": "lanes-description"}).text = description
    _arrow_head(root)
    for band in picture.bands:
        _band(root, band, picture.width)
    for arrow in picture.arrows:
        kind = "delivery" if arrow.target is None else "cause"
        attributes = {"class": f"{kind} of-{arrow.lane}", "d": _path(arrow.points)}
        if arrow.target is not None:
            attributes["marker-end"] = "url(#lanes-arrow)"
        SubElement(root, "path", attributes)
    slim = {band.lane.name for band in picture.bands if band.lane.slim}
    home = {entry.id: entry.lane for entry in picture.entries}
    for mark in picture.marks:
        if mark.lane in slim:
            # In the colour of the event, as there is no line that leads to it.
            _texts(SubElement(root, "g", {"class": f"note {mark.kind} of-{home[mark.source]}"}), mark, BASELINE - 2)
        else:
            group = SubElement(root, "g", {"class": f"mark {mark.kind} of-{mark.lane}"})
            _rectangle(group, mark.x, mark.y, mark.width, mark.height, "", 11)
            _texts(group, mark, BASELINE)
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
            "markerWidth": "9",
            "markerHeight": "9",
            "markerUnits": "userSpaceOnUse",
            "orient": "auto",
        },
    )
    SubElement(marker, "path", {"class": "head", "d": "M0 0 L8 4 L0 8 Z"})


def _band(root: Element, band: Band, width: float) -> None:
    group = SubElement(root, "g", {"class": f"lane of-{band.lane.name}"})
    _rectangle(group, 1, band.top, width - 2, band.height, "ground", 8)
    _rectangle(group, 1, band.top, 4, band.height, "edge", 2)
    title = band.top + (BASELINE + 4 if band.lane.slim else BASELINE + 10)
    _text(group, 13, title, band.lane.title, "lane-title")
    for position, line in enumerate(band.lane.subtitle.splitlines(), start=1):
        _text(group, 13, title + 2 + position * LINE, line, "lane-subtitle")


def _event(root: Element, entry: Entry, card: Box) -> None:
    if entry.pause:
        _text(root, card.x, BASELINE, entry.pause, "pause")
    classes = " ".join(filter(None, ("event", f"of-{entry.lane}", entry.kind, "chosen" if entry.chosen else "")))
    attributes = {"class": classes, "id": f"lanes-{entry.id}", "href": entry.href}
    if entry.chosen:
        attributes["aria-current"] = "true"
    link = SubElement(root, "a", attributes)
    SubElement(link, "title").text = entry.label
    _rectangle(link, card.x, card.y, card.width, card.height, "", 6)
    _texts(link, card, BASELINE, ("event-title", "event-line"))


def _texts(parent: Element, box: Box, baseline: float, kinds: tuple[str, str] = ("", "")) -> None:
    for position, line in enumerate(box.lines):
        _text(parent, box.x + PADDING, box.y + baseline + position * LINE, line, kinds[min(position, 1)])


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
