"""The picture of swim lanes: where things stand, that nothing hides anything else, and what is escaped."""

import random
from itertools import combinations
from xml.etree import ElementTree

import pytest

from timeline.svg import svg
from timeline.swimlanes import Box, Entry, Lane, Mark, Picture, draw

LANES = (
    *(Lane(name=name, title=name.capitalize()) for name in ("orders", "inventory", "coupons", "payments")),
    Lane(name="others", title="Others", slim=True),
)
PLACED = Entry(
    id="order-1@1",
    lane="orders",
    title="order.placed",
    marks=(Mark(lane="inventory", text="3 ms"), Mark(lane="coupons", text="4 ms")),
)
RESERVED = Entry(
    id="reservation-1@1",
    lane="inventory",
    title="inventory.stock_reserved",
    cause="order-1@1",
    marks=(Mark(lane="orders", text="9 ms"),),
)
CONFIRMED = Entry(id="order-1@2", lane="orders", title="order.confirmed", cause="reservation-1@1")


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def some_entries(chance: random.Random, count: int) -> list[Entry]:
    """Any events that react to any others, with any marks."""
    names = [lane.name for lane in LANES]
    entries: list[Entry] = []
    for number in range(count):
        marked = chance.sample(names, chance.randint(0, len(names)))
        entries.append(
            Entry(
                id=f"e{number}",
                lane=chance.choice(names[:-1]),
                title="x" * chance.randint(1, 60),
                lines=("line",) * chance.randint(0, 4),
                marks=tuple(Mark(lane=name, text="y" * chance.randint(0, 60)) for name in marked),
                cause=chance.choice([None, "elsewhere", *(entry.id for entry in entries)]),
                pause=chance.choice(["", "a while later"]),
            )
        )
    return entries


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  # what is parsed was made here


def passes_through(box: Box, start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether a line that is level or upright goes through the inside of a box."""
    (x1, x2), (y1, y2) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return x1 < box.x + box.width and x2 > box.x and y1 < box.y + box.height and y2 > box.y


def lines_of(picture: Picture) -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    return [
        (arrow.source, start, end)
        for arrow in picture.arrows
        for start, end in zip(arrow.points, arrow.points[1:], strict=False)
    ]


def test_same_input_gives_the_same_picture() -> None:
    entries = some_entries(random.Random(1), 30)
    one, other = draw(LANES, entries), draw(LANES, list(entries))
    assert one == other
    assert svg(one, title="t", description="d") == svg(other, title="t", description="d")


@pytest.mark.parametrize("seed", range(50))
def test_no_event_or_mark_hides_another(seed: int) -> None:
    picture = draw(LANES, some_entries(random.Random(seed), 25))
    boxes = (*picture.cards, *picture.marks)
    assert [pair for pair in combinations(boxes, 2) if overlap(*pair)] == []


@pytest.mark.parametrize("seed", range(50))
def test_no_arrow_goes_through_an_event_or_a_mark(seed: int) -> None:
    picture = draw(LANES, some_entries(random.Random(seed), 25))
    hit = [
        (box, line)
        for box in (*picture.cards, *picture.marks)
        for line in lines_of(picture)
        if passes_through(box, line[1], line[2])
    ]
    assert hit == []


@pytest.mark.parametrize("seed", range(50))
def test_arrows_of_different_events_share_no_stretch(seed: int) -> None:
    picture = draw(LANES, some_entries(random.Random(seed), 25))
    upright = [(source, start, end) for source, start, end in lines_of(picture) if start[0] == end[0] != start[1]]
    for (one, start, end), (other, from_, to) in combinations(upright, 2):
        if one != other and start[0] == from_[0]:
            assert end[1] < from_[1] or to[1] < start[1], (one, other)


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_inside_the_picture(seed: int) -> None:
    picture = draw(LANES, some_entries(random.Random(seed), 25))
    for box in (*picture.cards, *picture.marks):
        assert 0 <= box.x < box.x + box.width <= picture.width
        assert 0 <= box.y < box.y + box.height <= picture.height


def test_arrows_lead_from_causes_to_effects_across_lanes() -> None:
    picture = draw(LANES, [PLACED, RESERVED, CONFIRMED])
    caused = [(arrow.source, arrow.target) for arrow in picture.arrows if arrow.target]
    assert caused == [("order-1@1", "reservation-1@1"), ("reservation-1@1", "order-1@2")]
    for arrow in picture.arrows:
        if arrow.target is not None:
            card = next(card for card in picture.cards if card.source == arrow.target)
            assert arrow.points[-1][1] == card.y
            assert card.x < arrow.points[-1][0] < card.x + card.width


def test_delivery_that_caused_nothing_ends_at_its_mark() -> None:
    picture = draw(LANES, [PLACED])
    assert [(arrow.target, arrow.lane) for arrow in picture.arrows] == [(None, "inventory"), (None, "coupons")]
    for mark, arrow in zip(picture.marks, picture.arrows, strict=True):
        x, y = arrow.points[-1]
        assert x == mark.x
        assert mark.y < y < mark.y + mark.height


def test_events_stand_beside_each_other_in_their_lanes() -> None:
    picture = draw(LANES, [PLACED, RESERVED, CONFIRMED])
    first, second, third = picture.cards
    assert first.y == third.y < second.y
    assert first.x < second.x < third.x


def test_events_share_a_column_unless_one_caused_the_other_or_they_share_a_lane() -> None:
    redeemed = Entry(id="redemption-1@1", lane="coupons", title="coupon.redeemed", cause="order-1@1")
    again = Entry(id="redemption-1@2", lane="coupons", title="coupon.released")
    later = Entry(id="payment-1@1", lane="payments", title="payment.requested", pause="1 min later")
    picture = draw(LANES, [PLACED, RESERVED, redeemed, again, later])
    x = {card.source: card.x for card in picture.cards}
    assert x["order-1@1"] < x["reservation-1@1"] == x["redemption-1@1"] < x["redemption-1@2"] < x["payment-1@1"]


def test_slim_lane_notes_what_became_of_events_without_lines() -> None:
    entry = Entry(id="a", lane="orders", title="t", marks=(Mark(lane="others", text="8 ms"),))
    picture = draw(LANES, [entry])
    assert picture.marks[0].lines == ("8 ms",)
    assert picture.arrows == ()


def test_cause_that_is_not_in_the_picture_has_no_arrow() -> None:
    assert draw(LANES, [RESERVED]).arrows[0].target is None
    assert draw(LANES, []).arrows == ()


def test_mark_in_the_own_lane_is_a_line_of_the_event() -> None:
    picture = draw(LANES, [Entry(id="a", lane="payments", title="t", marks=(Mark(lane="payments", text="5 ms"),))])
    assert picture.cards[0].lines == ("t", "5 ms")
    assert picture.marks == ()


def test_long_texts_are_cut() -> None:
    picture = draw(LANES, [Entry(id="a", lane="orders", title="t" * 100)])
    assert picture.cards[0].lines == ("t" * 17 + "…",)


def test_whatever_is_written_is_escaped() -> None:
    nasty = '"><script>&'
    entry = Entry(
        id=nasty, lane="orders", title=nasty, lines=(nasty,), pause=nasty, label=nasty, href=nasty,
        marks=(Mark(lane="coupons", text=nasty),), chosen=True,
    )  # fmt: skip
    lanes = [Lane(name="orders", title=nasty, subtitle=nasty), Lane(name="coupons", title="c")]
    text = svg(draw(lanes, [entry]), title=nasty, description=nasty)
    assert "<script" not in text
    assert parsed(text).findtext("title") == nasty


def test_picture_has_a_title_and_a_description_that_it_names() -> None:
    root = parsed(svg(draw(LANES, [PLACED, RESERVED]), title="A journey", description="Two events"))
    ids = {element.get("id"): element.text for element in root.iter() if element.tag in ("title", "desc")}
    assert [ids[name] for name in root.attrib["aria-labelledby"].split()] == ["A journey", "Two events"]


def test_events_are_links_and_the_chosen_one_says_so() -> None:
    chosen = Entry(id="a", lane="orders", title="t", href="?at=a", label="Show it", chosen=True)
    root = parsed(svg(draw(LANES, [chosen, PLACED]), title="t", description="d"))
    first, second = root.iter("a")
    assert (first.get("href"), first[0].text, first.get("aria-current")) == ("?at=a", "Show it", "true")
    assert second.get("aria-current") is None
