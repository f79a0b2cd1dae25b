"""Which permissions an operator may hand on: those that they have, and no others."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet


def held_by(user: Any) -> QuerySet[Permission]:
    """The permissions of a user and of their groups, also while the user may not sign in."""
    if user.is_superuser:
        return Permission.objects.all()
    return Permission.objects.filter(
        Q(pk__in=user.user_permissions.values("pk")) | Q(group__in=user.groups.values("pk"))
    )


def groups_within(operator: Any) -> QuerySet[Group]:
    """The groups that hold nothing that the operator does not."""
    beyond = Permission.objects.exclude(pk__in=held_by(operator).values("pk"))
    return Group.objects.exclude(permissions__in=beyond)


def may_change_user(operator: Any, user: User) -> bool:
    """Whoever changes an account can sign in with it (by a new password), so it must not have more than they do."""
    if operator.is_superuser:
        return True
    beyond = held_by(user).exclude(pk__in=held_by(operator).values("pk"))
    return not user.is_superuser and not beyond.exists()


def may_change_group(operator: Any, group: Group) -> bool:
    return bool(operator.is_superuser) or groups_within(operator).filter(pk=group.pk).exists()
