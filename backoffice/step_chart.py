"""A small chart of a level that changes by steps, drawn as SVG on the server."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 640, 120
LEFT, TOP, BOTTOM = 52, 10, 22  # room for the labels


def step_chart(levels: Sequence[int], *, title: str, begin: str, end: str) -> SafeString:
    """The levels, oldest first, a step each; `title` is read out for the picture, `begin` and `end` label its ends."""
    highest = max(levels) or 1
    width = (WIDTH - LEFT) / len(levels)
    floor = HEIGHT - BOTTOM
    line = f"M{LEFT}"
    for step, level in enumerate(levels, start=1):
        y = round(TOP + (1 - level / highest) * (floor - TOP), 1)
        line += f" {y}" if step == 1 else f"V{y}"
        line += f"H{round(LEFT + step * width, 1)}"
    return format_html(
        '<svg class="bo-chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}"><title>{title}</title>'
        '<path class="bo-chart-grid" d="M{left} {top}H{w}M{left} {floor}H{w}"/>'
        '<path class="bo-chart-area" d="{line}V{floor}H{left}Z"/><path class="bo-chart-line" d="{line}"/>'
        '<text x="{label}" y="{high_y}" text-anchor="end">{highest}</text>'
        '<text x="{label}" y="{floor}" text-anchor="end">0</text>'
        '<text x="{left}" y="{ends}">{begin}</text><text x="{w}" y="{ends}" text-anchor="end">{end}</text></svg>',
        w=WIDTH, h=HEIGHT, left=LEFT, top=TOP, floor=floor, line=line, title=title, label=LEFT - 6, high_y=TOP + 8,
        highest=f"{highest:,}", ends=HEIGHT - 5, begin=begin, end=end,
    )  # fmt: skip
