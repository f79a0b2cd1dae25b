"""The core without its extensions: an order is placed, paid and shipped by its pages. Run by test_core_alone.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.test import Client

EXTENSIONS = ("monitoring", "resharding", "seed", "lab")
HOST = "127.0.0.1"
ADDRESS = {"name": "Ann Lee", "street": "Quay 1", "postal_code": "20457", "city": "Hamburg", "country": "DE"}
HIDDEN = re.compile(r'name="(key|prices)" value="([^"]*)"')


class Missing:
    """The folders of the extensions are not there."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in EXTENSIONS:
            raise ModuleNotFoundError(f"{name} is an extension")
        return None


def fill_the_shop() -> None:
    from django.contrib.auth.models import User

    from eventing.recorded import Metadata
    from inventory import handlers as inventory

    User.objects.create_superuser("admin", "admin@example.org", "admin")
    User.objects.create_user("ann", "ann@example.org", "ann")
    inventory.add_category(slug="lights", name="Lights")
    inventory.add_product(sku="LAMP", name="A lamp", category="lights", price=1_000, currency="EUR")
    inventory.receive_stock("LAMP", 5, "delivery", datetime.now(UTC), Metadata(correlation_id="1", actor="test"))


def signed_in(username: str) -> Client:
    client = Client(SERVER_NAME=HOST)
    assert client.login(username=username, password=username)
    return client


def page(client: Client, path: str, **form: Any) -> str:
    response = client.post(path, form, follow=True) if form else client.get(path, follow=True)
    assert response.status_code == 200, (path, response.status_code)
    return str(response.content.decode())


def order_an_order() -> None:
    from django.urls import reverse

    from backoffice.base import pages
    from eventing.testing import drain

    ann, office = signed_in("ann"), signed_in("admin")
    page(ann, "/products/LAMP/add/", quantity="2")
    hidden = dict(HIDDEN.findall(page(ann, "/checkout/")))
    response = ann.post("/checkout/", ADDRESS | hidden | {"action": "place"})
    order = response.headers["Location"]
    number = order.strip("/").rpartition("/")[2]
    drain()
    assert "Pay" in page(ann, order)
    page(ann, f"{order}pay/", token="tok_ok")
    drain()
    assert "shipped" not in page(ann, order)
    page(office, f"/admin/orders/order/{number}/act/", action="ship", tracking="T-1")
    drain()
    assert "T-1" in page(ann, order)
    assert "order.shipped" in page(office, f"/admin/orders/order/{number}/change/")
    assert "inventory" in page(ann, f"{order}behind/")
    assert "LAMP" in page(Client(SERVER_NAME=HOST), "/api/v1/products")
    for one in (one for group in pages().values() for one in group):
        page(office, reverse(one.url or f"admin:{one.model.replace('.', '_')}_changelist"))
    assert "Products" in page(office, "/admin/")


def main() -> None:
    sys.meta_path.insert(0, Missing)
    os.environ["DJANGO_SETTINGS_MODULE"] = "core_alone_settings"
    django.setup()
    assert not set(EXTENSIONS) & set(settings.INSTALLED_APPS)
    call_command("migrate_all", verbosity=0)
    call_command("check")
    fill_the_shop()
    import config.wsgi  # noqa: F401 (what a web server serves)

    order_an_order()


if __name__ == "__main__":
    main()
