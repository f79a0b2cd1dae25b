"""The shop's pages: thin over the handlers and selectors of the other apps."""

from django.apps import AppConfig

from eventing.retention import permanent


class StorefrontConfig(AppConfig):
    name = "storefront"
    retention = (
        permanent("storefront.UsualAddress", "one row a customer"),
        permanent("storefront.CustomerCart", "one row a customer"),
    )
