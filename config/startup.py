"""What is looked at once before a web server starts: logins that everybody knows, and connections that do not fit."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import DatabaseError, connections

from sharding.checks import connection_budgets
from sharding.errors import WrongDatabases
from sharding.installation import refuse_mistakes

DEMO_LOGINS = ("admin", "demo", "viewer", "support", "stock")  # their passwords are their names

logger = structlog.get_logger(__name__)


def check() -> None:
    """End if a database is not the one that is meant, or the demo's logins work where real customers are.

    Warn of too many connections.

    A database that does not answer is no reason not to start: the health page says so, and it may come back.
    """
    if settings.EMBEDDED:
        return
    try:
        refuse_mistakes()
        if not settings.DEBUG:
            refuse_demo_logins()
        for budget in connection_budgets():
            if not budget.fits:
                logger.warning("connections.too_many", budget=str(budget))
    except WrongDatabases as error:
        raise SystemExit(str(error)) from error
    except DatabaseError as error:
        logger.warning("startup.not_checked", error=str(error))
    finally:
        connections.close_all()


def refuse_demo_logins() -> None:
    for user in User.objects.filter(username__in=DEMO_LOGINS, is_active=True):
        if user.check_password(user.username):
            raise SystemExit(
                f"The login {user.username}/{user.username} of the demo works here, and DEBUG is off. Give it another "
                f"password (`manage.py changepassword {user.username}`) or set DEBUG=1 if this is for trying out."
            )
