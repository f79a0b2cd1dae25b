"""The tests notice it when a page fetches rows one by one."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from zeal import NPlusOneError

from backoffice.inventory import ProductAdmin
from inventory.models import Product
from tests.factories import OperatorFactory
from tests.integration.shop_api import stock_the_shop

pytestmark = pytest.mark.django_db(databases="__all__")


def test_rows_that_are_fetched_one_by_one_fail_the_test_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    stock_the_shop()
    client = Client()
    client.force_login(OperatorFactory.create())
    page = "/admin/inventory/product/"
    assert client.get(page).status_code == 200

    def one_by_one(self: ProductAdmin, request: HttpRequest) -> QuerySet[Product]:
        return Product.objects.select_related("category")  # and not its stock

    assert isinstance(admin.site.get_model_admin(Product), ProductAdmin)
    monkeypatch.setattr(ProductAdmin, "get_queryset", one_by_one)

    with pytest.raises(NPlusOneError, match=r"inventory\.Product\.stock"):
        client.get(page)
