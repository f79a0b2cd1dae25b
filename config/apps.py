"""The applications of Django that are configured another way here."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import apps
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class BackOfficeConfig(apps.SimpleAdminConfig):
    """Loads the pages of the back office with the addresses (config/urls.py), not in a relay or a worker."""

    default = False  # this package has a configuration of its own

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Django's own checks of the admin, which find nothing before its pages are loaded."""
    admin.autodiscover()
    return check_admin_app(app_configs, **kwargs)
