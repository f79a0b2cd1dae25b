"""Which answers the web server keeps as bytes."""

from __future__ import annotations

from django.conf import settings

from api import catalogue
from caching.responses import Application, ResponseCache
from storefront import shopping


def cached(application: Application) -> ResponseCache:
    """The response cache in front of the application."""
    return ResponseCache(
        application, [catalogue.CACHED, shopping.CACHED], seconds=lambda: float(settings.CATALOGUE_CACHE_SECONDS)
    )
