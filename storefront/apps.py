"""The shop's pages: thin over the handlers and selectors of the other apps."""

from django.apps import AppConfig
from django.db.models.signals import pre_save

from eventing.retention import permanent


class StorefrontConfig(AppConfig):
    name = "storefront"
    retention = (
        permanent("storefront.UsualAddress", "one row a customer"),
        permanent("storefront.CustomerCart", "one row a customer"),
        permanent("storefront.BulkBatch", "one row for each ten thousand orders of the seed"),
    )

    def ready(self) -> None:
        from django.contrib.auth.models import User

        from storefront.identity import store_in_one_form

        pre_save.connect(store_in_one_form, sender=User, dispatch_uid="account_name")
