"""How the shop's pages write amounts, times and numbers."""

from __future__ import annotations

from datetime import datetime, timedelta
from secrets import token_urlsafe

from django import template
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from inventory.selectors import PricedLine, ProductView
from notifications import selectors as notifications
from storefront import pictures
from storefront.cart import cart_of
from values.countries import COUNTRIES

register = template.Library()

SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
OTHER_DECIMALS = {"CLP": 0, "ISK": 0, "JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}
FEW = 5


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
def amount(line: PricedLine) -> int:
    """What a line costs, in minor units."""
    return line.quantity * line.unit_price


@register.filter
def availability(available: int) -> str:
    """How many pieces there are, in as many words as help to decide."""
    if available <= 0:
        return "Sold out"
    return f"Only {available} left" if available <= FEW else f"{available} in stock"


@register.filter
def picture(product: ProductView) -> str:
    """The address of the product's picture, which changes with the picture."""
    return f"{reverse('storefront:picture', args=[product.sku])}?v={pictures.version(product)}"


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


@register.simple_tag
def unread_messages(user: User | AnonymousUser) -> int:
    """How many messages of the inbox the user has not read."""
    return notifications.unread(user.pk) if user.is_authenticated else 0


@register.simple_tag
def pieces_in_cart(request: HttpRequest) -> int:
    return cart_of(request).pieces


@register.simple_tag
def once() -> str:
    """The name of one rendered button, by which the shop knows its second click from the click of another."""
    return token_urlsafe(9)
