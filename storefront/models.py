"""What the shop itself keeps: a customer's usual address and cart.

The address of an order is in the order's events.
"""

from __future__ import annotations

from django.db import models


class UsualAddress(models.Model):
    """Where a customer's orders usually go. Personal: never to be logged."""

    customer_id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=100)
    street = models.CharField(max_length=200)
    postal_code = models.CharField(max_length=20, blank=True)
    city = models.CharField(max_length=100)
    country = models.CharField(max_length=2)

    def __str__(self) -> str:
        return f"address of customer {self.customer_id}"


class CustomerCart(models.Model):
    """The cart of a customer, one row each; `content` is what storefront.cart.Cart stores."""

    customer_id = models.BigIntegerField(primary_key=True)
    content = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"cart of customer {self.customer_id}"
