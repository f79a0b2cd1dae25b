"""Makes accounts. An account and its welcome are one thing: both are written, or neither."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import IntegrityError, connections, transaction

from eventing.locks import try_transaction_lock
from notifications import handlers as notifications
from sharding.router import database_of
from values.errors import RuleError
from values.names import account_name
from values.text import Text

PERSON_NAME = Text(shortest=0, longest=150)


class AccountError(RuleError):
    """The account cannot be made like this."""

    field = ""


class UsernameTaken(AccountError):
    """This user name is taken."""

    field = "username"


class EmailTaken(AccountError):
    """There is an account with this address already."""

    field = "email"


def change(user: User, first_name: str, last_name: str, email: str) -> None:
    """Give an account another name and address; raises EmailTaken."""
    alias = database_of("auth")
    user.first_name, user.last_name, user.email = first_name, last_name, email.lower()
    with transaction.atomic(using=alias):
        if not try_transaction_lock(connections[alias], f"register:{user.email}"):
            raise EmailTaken
        if User.objects.using(alias).filter(email__iexact=user.email).exclude(pk=user.pk).exists():
            raise EmailTaken
        user.save(using=alias, update_fields=["first_name", "last_name", "email"])


def register(username: str, email: str, password: str) -> User:
    """Make an account and queue its welcome mail; raises UsernameTaken, EmailTaken."""
    alias = database_of("auth")
    user = User(username=account_name(username), email=email.lower())
    user.set_password(password)  # takes its time on purpose, so not inside the transaction
    try:
        with transaction.atomic(using=alias):
            # Django's users may share an address, so two registrations at once are told apart by this lock.
            if not try_transaction_lock(connections[alias], f"register:{user.email}"):
                raise EmailTaken
            if User.objects.using(alias).filter(email__iexact=user.email).exists():
                raise EmailTaken
            user.save(using=alias, force_insert=True)
            with transaction.atomic(using=database_of("notifications")):
                notifications.welcome(user.pk, user.email, user.username)
    except IntegrityError as error:
        if User.objects.using(alias).filter(username=user.username).exists():
            raise UsernameTaken from error
        raise
    return user
