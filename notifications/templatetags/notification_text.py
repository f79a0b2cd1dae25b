"""Filters for the texts of messages."""

from __future__ import annotations

from django import template

from sharding import numbers

register = template.Library()

# Currencies whose minor unit is not a hundredth (ISO 4217).
_DECIMALS = {"JPY": 0, "KRW": 0, "CLP": 0, "ISK": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}


@register.filter
def money(amount: int, currency: str) -> str:
    """1234 minor units of EUR as "12.34 EUR"."""
    decimals = _DECIMALS.get(currency, 2)
    units, rest = divmod(abs(amount), 10**decimals)
    sign = "-" if amount < 0 else ""
    fraction = f".{rest:0{decimals}d}" if decimals else ""
    return f"{sign}{units}{fraction} {currency}"


@register.filter
def order_number(order_id: int) -> str:
    """An order id as people see it."""
    return numbers.to_text(order_id)
