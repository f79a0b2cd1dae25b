"""Accounts: one name an account, ids that are never used again, and how an account is made."""

from typing import Any

from django.apps import AppConfig, apps
from django.db import models
from django.db.models.signals import pre_save

from sharding import numbers


class CustomerIdField(models.BigAutoField):
    """The key of a user: 64 bits, and a new one is random. In migrations it stays what it is in Django's own."""

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.AutoField", args, {k: v for k, v in kwargs.items() if k != "default"}


class AccountsConfig(AppConfig):
    """Users get ids that are never used again, however their rows are made (see `numbers.new_customer_id`)."""

    name = "accounts"

    def ready(self) -> None:
        from accounts.identity import store_in_one_form

        user = apps.get_model("auth", "User")
        key: Any = user._meta.pk
        key.__class__ = CustomerIdField  # a user model of our own would need every table to be made anew
        key.default = numbers.new_customer_id
        pre_save.connect(store_in_one_form, sender=user, dispatch_uid="account_name")
