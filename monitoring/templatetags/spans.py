"""How the dashboard writes spans of time."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def span(seconds: float) -> str:
    """In the unit that needs the fewest digits: "430 ms", "4.2 s", "12 min", "3.5 h"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
