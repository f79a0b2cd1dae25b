"""How the shop's pages write amounts, times and numbers."""

from __future__ import annotations

from secrets import token_urlsafe

from django import template
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest

from inventory import pictures
from inventory.selectors import PricedLine, ProductView
from notifications import selectors as notifications
from storefront.cart import cart_of

register = template.Library()

FEW = 5


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
    return pictures.address(product)


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
