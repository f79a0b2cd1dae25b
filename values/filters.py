"""How amounts, times and numbers are written, in every template and in Python."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.utils import timezone

from values.countries import COUNTRIES

register = template.Library()

SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
OTHER_DECIMALS = {"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}


@register.filter
def money(minor_units: int, currency: str) -> str:
    """1234 minor units of EUR as "€12.34", of CHF as "12.34 CHF"."""
    decimals = OTHER_DECIMALS.get(currency, 2)
    whole, fraction = divmod(abs(minor_units), 10**decimals)
    amount = f"{whole:,}" + (f".{fraction:0{decimals}}" if decimals else "")
    sign = "-" if minor_units < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{amount}" if symbol else f"{sign}{amount} {currency}"


@register.filter
def country_name(code: str) -> str:
    """DE as "Germany"; a country that the shop has no name for stays a code."""
    return COUNTRIES.get(code, code)


@register.filter
def seconds_until(at: datetime) -> int:
    return max(0, int((at - timezone.now()).total_seconds()))


@register.filter
def duration(seconds: int) -> str:
    """100 as "1 min 40 s"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        days = timedelta(hours=hours).days
        return f"{days} {'day' if days == 1 else 'days'}"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@register.filter
def precise(at: datetime) -> str:
    """To the millisecond: machines are quick."""
    return at.isoformat(sep=" ", timespec="milliseconds").partition("+")[0]


@register.filter
def span(seconds: float) -> str:
    """In the unit that needs the fewest digits: "430 ms", "4.2 s", "12 min", "3.5 h"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def stamp(at: datetime | None) -> str | None:
    """A time in lists, to the second and with its zone, which is always UTC."""
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
