"""The shop's pages: thin over the handlers and selectors of the other apps."""

from django.apps import AppConfig
from django.db.models.signals import pre_save


class StorefrontConfig(AppConfig):
    name = "storefront"

    def ready(self) -> None:
        from django.contrib.auth.models import User

        from storefront.identity import store_in_one_form

        pre_save.connect(store_in_one_form, sender=User, dispatch_uid="account_name")
