"""One name, one account: how names of accounts are stored, by whatever way, and looked for, at whatever door.

What is stored is `values.names.account_name`, so the unique key of Django's own table tells the accounts apart.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.forms import UsernameField
from django.contrib.auth.models import User
from django.http import HttpRequest

from values.names import account_name


class AccountBackend(ModelBackend):
    """Signs in whoever knows the password, however the name is written: at the shop, the back office and the API."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        return super().authenticate(
            request, username=None if username is None else account_name(username), password=password, **kwargs
        )


class AccountNameField(UsernameField):
    """The name that somebody types, as it will be stored; so a form finds out whether it is taken."""

    def to_python(self, value: Any) -> Any:
        return account_name(super().to_python(value) or "")


def store_in_one_form(instance: User, **kwargs: Any) -> None:
    """Before a user is saved, also by `createsuperuser` or a script: Django's table has no form of its own."""
    instance.username = account_name(instance.username)
