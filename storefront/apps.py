"""The shop's pages: thin over the handlers and selectors of the other apps."""

from django.apps import AppConfig


class StorefrontConfig(AppConfig):
    name = "storefront"
