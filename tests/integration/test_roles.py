"""Who may see and do what in the back office: every page of the admin, with every role."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from backoffice.base import pages
from eventing.models import DeadLetter
from inventory.models import Product, Stock
from notifications.models import Message
from orders import selectors
from orders.domain import Status
from orders.models import Order
from payments.models import Payment
from sharding import numbers
from sharding.models import Bucket, BucketMove
from tests.factories import CustomerFactory, EmployeeFactory, OperatorFactory
from tests.integration.browser_forms import shown
from tests.integration.shop_api import stock_the_shop
from tests.integration.test_admin import bought, client_of, park, text

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases="__all__")]

STOCK = {"inventory.category", "inventory.product", "inventory.stockmovement", "inventory.reservation"}
SCHEDULES = {f"django_celery_beat.{name}" for name in ("periodictask", "intervalschedule", "crontabschedule")}
SELLING = {"orders.order", "coupons.coupon", "coupons.redemption", "payments.payment", "notifications.message"}
EVENTS = {"eventing.deadletter"}
REPORTS = {"monitoring.dailysales", "monitoring.stuckorder"}
SHARDS = {"sharding.bucket", "sharding.bucketmove"}
ALL = STOCK | SELLING | SCHEDULES | EVENTS | REPORTS | SHARDS | {"auth.user", "auth.group", "admin.logentry"}

SEES = {
    "viewer": ALL,
    "support": STOCK | SELLING | REPORTS | {"auth.user", "eventing.deadletter"},
    "stock keeper": STOCK | {"orders.order"},
    "administrator": ALL,
    "nobody": set(),
}
ADDS = {
    "viewer": set(),
    "support": set(),
    "stock keeper": {"inventory.category", "inventory.product"},
    "administrator": {"inventory.category", "inventory.product", "coupons.coupon", "auth.user", "auth.group"}
    | SCHEDULES,
    "nobody": set(),
}
CHANGES = {
    "viewer": set(),
    "support": {"orders.order"},
    "stock keeper": {"inventory.category", "inventory.product"},
    "administrator": ADDS["administrator"] | {"orders.order"},
    "nobody": set(),
}


@pytest.fixture(params=list(SEES))
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def colleague(role: str) -> Client:
    import_module("monitoring.migrations.0002_roles").install(apps, None)
    import_module("monitoring.migrations.0005_reports").let_read(apps, None)
    import_module("monitoring.migrations.0003_audit_runs").permit(apps, None)
    import_module("monitoring.migrations.0006_bucket_moves").permit(apps, None)
    import_module("monitoring.migrations.0007_sales_of_today").permit(apps, None)
    user = EmployeeFactory.create(username="colleague")
    user.groups.set(Group.objects.filter(name=role))
    return client_of(user)


@pytest.fixture
def order_id() -> int:
    """A paid order with all that comes with it: a row for nearly every page."""
    stock_the_shop()
    customer = CustomerFactory.create(username="ann")
    order_id = bought(customer, ("BOOK", 2), coupon="ten", token="tok_ok")
    park(order_id)
    Message.objects.filter(channel="email").update(status="failed")
    content_type = ContentType.objects.get_for_model(Product)
    BucketMove.objects.create(bucket=7, source="orders_0", target="orders_1", state=BucketMove.State.KEPT)
    LogEntry.objects.create(
        user=customer, content_type=content_type, object_id="1", object_repr="A book", action_flag=CHANGE
    )
    return order_id


def labels() -> list[str]:
    return sorted(model._meta.label_lower for model in admin.site._registry)


def row_of(label: str, order_id: int) -> Model | None:
    model = apps.get_model(label)
    return Order(id=order_id) if model is Order else model._default_manager.first()


def test_every_page_of_the_admin_is_somebodys() -> None:
    assert {page.model for group in pages().values() for page in group if not page.url} == set(labels()) == ALL


def test_pages_of_no_model_open_for_the_roles_that_may_see_them(colleague: Client, role: str, order_id: int) -> None:
    for path, roles in (
        ("/admin/eventing/event/", ("viewer", "support", "administrator")),
        (f"/admin/eventing/event/order-{numbers.to_text(order_id)}@1/", ("viewer", "support", "administrator")),
        ("/admin/eventing/outbox/", ("viewer", "administrator")),
        ("/admin/monitoring/audit/", ("viewer", "administrator")),
    ):
        assert colleague.get(path).status_code == (200 if role in roles else 403), path
        shown = f'href="{path}"' in colleague.get("/admin/").content.decode()
        assert shown == (role in roles and "@" not in path)


def test_audits_are_started_by_administrators(colleague: Client, role: str) -> None:
    assert ("Run the audit now" in text(colleague.get("/admin/monitoring/audit/"))) == (role == "administrator")
    if role != "administrator":
        assert colleague.post("/admin/monitoring/audit/").status_code == 403


def test_buckets_are_moved_by_administrators(colleague: Client, role: str) -> None:
    move = BucketMove.objects.create(bucket=7, source="orders_0", target="orders_1", state=BucketMove.State.KEPT)
    may = role == "administrator"

    for path in ("bucket/7/move/?to=orders_1", f"bucketmove/{move.pk}/drop-source/"):
        assert colleague.get(f"/admin/sharding/{path}").status_code == (200 if may else 403), path
    for path in ("bucket/7/move/", f"bucketmove/{move.pk}/abort/"):  # which make no sense
        assert colleague.post(f"/admin/sharding/{path}").status_code == (302 if may else 403), path


def test_lists_and_pages_open_for_the_roles_that_may_see_them(colleague: Client, role: str, order_id: int) -> None:
    for label in labels():
        name = label.replace(".", "_")
        expected = 200 if label in SEES[role] else 403
        assert colleague.get(reverse(f"admin:{name}_changelist")).status_code == expected, label
        added = 200 if label in ADDS[role] else 403
        assert colleague.get(reverse(f"admin:{name}_add")).status_code == added, label
        row = row_of(label, order_id)
        if row is not None:
            for page in ("change", "history"):
                url = reverse(f"admin:{name}_{page}", args=[_quoted(row)])
                assert colleague.get(url).status_code == expected, url


def _quoted(row: Model) -> Any:
    return numbers.to_text(row.pk) if isinstance(row, Order) else row.pk


def test_the_sidebar_shows_what_may_be_seen_and_nothing_else(colleague: Client, role: str) -> None:
    page = colleague.get("/admin/").content.decode()

    shown = {label for label in labels() if f'"{reverse("admin:" + label.replace(".", "_") + "_changelist")}"' in page}
    assert shown == SEES[role]


def test_pages_are_saved_by_the_roles_that_may_change_them(colleague: Client, role: str, order_id: int) -> None:
    for label in labels():
        row = row_of(label, order_id)
        if row is None or label == "orders.order":
            continue
        url = reverse(f"admin:{label.replace('.', '_')}_change", args=[row.pk])
        expected = 200 if label in CHANGES[role] else 403  # 200: an empty form comes back with its errors
        assert colleague.post(url, {}).status_code in (expected, 302 if expected == 200 else 403), label


def test_orders_are_moved_by_the_roles_that_may(colleague: Client, role: str, order_id: int) -> None:
    url = reverse("admin:orders_order_act", args=[numbers.to_text(order_id)])

    response = colleague.post(url, {"action": "ship"})

    order = selectors.get(order_id)
    assert order is not None
    if "orders.order" in CHANGES[role]:
        assert (response.status_code, order.status) == (302, Status.SHIPPED)
    else:
        assert (response.status_code, order.status) == (403, Status.PAID)


def test_stock_is_received_by_the_roles_that_may(colleague: Client, role: str, order_id: int) -> None:
    product = Product.objects.get(sku="BOOK")
    url = reverse("admin:inventory_product_receive_stock", args=[product.pk])
    may = "inventory.product" in CHANGES[role]

    assert colleague.get(url).status_code == (200 if may else 403)
    form = {"quantity": "5", "reason": "delivery", "seen": Stock.objects.get(pk="BOOK").version}
    assert colleague.post(url, form).status_code == (302 if may else 403)
    assert Stock.objects.get(pk="BOOK").on_hand == (1005 if may else 1000)


def test_actions_on_lists_are_refused_to_the_roles_that_may_not(colleague: Client, role: str, order_id: int) -> None:
    interval, _ = IntervalSchedule.objects.get_or_create(every=5, period="seconds")
    task = PeriodicTask.objects.create(name="A task", task="orders.tasks.cancel_overdue_orders", interval=interval)
    mail = Message.objects.filter(status="failed").first()
    letter = DeadLetter.objects.get()
    assert mail is not None

    for name, action, row in (
        ("django_celery_beat_periodictask", "disable_tasks", task),
        ("notifications_message", "send_again", mail),
        ("eventing_deadletter", "archive", letter),
    ):
        form = {"action": action, "_selected_action": [row.pk], "reason": "not wanted"}
        colleague.post(reverse(f"admin:{name}_changelist"), form)
        row.refresh_from_db()

    assert task.enabled == (role != "administrator")
    assert mail.status == ("pending" if role in ("administrator", "support") else "failed")
    assert letter.status == ("archived" if role == "administrator" else "open")


def test_nothing_is_deleted_by_who_may_not(colleague: Client, role: str, order_id: int) -> None:
    deletable = {"auth.user", "auth.group"} | SCHEDULES if role == "administrator" else set()
    for label in labels():
        row = row_of(label, order_id)
        if row is not None and label not in deletable:
            url = reverse(f"admin:{label.replace('.', '_')}_delete", args=[_quoted(row)])
            assert colleague.post(url, {"post": "yes"}).status_code == 403, label

    assert Payment.objects.exists()
    assert Bucket.objects.exists()


def test_an_order_links_to_no_page_that_is_closed(colleague: Client, role: str, order_id: int) -> None:
    if "orders.order" not in SEES[role]:
        return
    page = colleague.get(reverse("admin:orders_order_change", args=[numbers.to_text(order_id)])).content.decode()

    for label in set(labels()) - SEES[role]:
        assert f'"/admin/{label.replace(".", "/")}/' not in page


def test_a_superuser_is_left_alone_by_administrators() -> None:
    import_module("monitoring.migrations.0002_roles").install(apps, None)
    boss = OperatorFactory.create(username="boss", password="a secret")
    user = EmployeeFactory.create(username="colleague")
    user.groups.set(Group.objects.filter(name="administrator"))
    colleague = client_of(user)

    passwords = {"password1": "something else", "password2": "something else", "usable_password": "true"}
    assert colleague.post(f"/admin/auth/user/{boss.pk}/password/", passwords).status_code == 403
    assert colleague.post(f"/admin/auth/user/{boss.pk}/delete/", {"post": "yes"}).status_code == 403
    assert 'name="is_superuser"' not in colleague.get(f"/admin/auth/user/{user.pk}/change/").content.decode()
    boss.refresh_from_db()
    assert boss.check_password("a secret")


def an_operator(name: str, *codenames: str, groups: tuple[str, ...] = ()) -> User:
    import_module("monitoring.migrations.0002_roles").install(apps, None)
    user = EmployeeFactory.create(username=name, permissions=codenames)
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


def test_operators_hand_on_no_permission_that_they_do_not_have() -> None:
    clerk = an_operator("clerk", "change_user", "view_user")
    office = client_of(clerk)
    path = f"/admin/auth/user/{clerk.pk}/change/"
    wanted = {
        "is_superuser": "on",
        "user_permissions": [Permission.objects.get(codename="change_periodictask").pk],
        "groups": [Group.objects.get(name="administrator").pk],
    }

    for name, value in wanted.items():
        office.post(path, shown(office.get(path)) | {name: value})

    clerk = User.objects.get(pk=clerk.pk)
    assert not clerk.is_superuser
    assert not clerk.groups.exists()
    assert {one.codename for one in clerk.user_permissions.all()} == {"change_user", "view_user"}


def test_name_of_a_group_is_a_text_as_others_are() -> None:
    office = client_of(User.objects.create_superuser("olga"))

    refused = office.post("/admin/auth/group/add/", {"name": "clerks\u202e"})
    assert "a character in it that cannot be seen" in refused.content.decode()
    office.post("/admin/auth/group/add/", {"name": " cafe\u0301\u00a0clerks "})

    assert list(Group.objects.filter(name__contains="clerks").values_list("name", flat=True)) == ["café clerks"]


def test_a_group_gets_no_permission_that_its_editor_does_not_have() -> None:
    clerk = an_operator("clerk", "add_group", "change_group", "view_group")
    office = client_of(clerk)
    own = Group.objects.create(name="clerks")
    clerk.groups.add(own)
    path = f"/admin/auth/group/{own.pk}/change/"
    beyond = Permission.objects.get(codename="change_deadletter").pk

    office.post(path, shown(office.get(path)) | {"permissions": [beyond]})
    office.post("/admin/auth/group/add/", {"name": "another", "permissions": [beyond]})

    assert not own.permissions.exists()
    assert not Group.objects.filter(permissions=beyond, name="another").exists()
    administrators = Group.objects.get(name="administrator")
    assert office.post(f"/admin/auth/group/{administrators.pk}/delete/", {"post": "yes"}).status_code == 403
    assert office.post(f"/admin/auth/group/{administrators.pk}/change/", {"name": "x"}).status_code == 403


@pytest.mark.parametrize("is_active", [True, False])
def test_whoever_may_do_more_is_left_alone(is_active: bool) -> None:
    office = client_of(an_operator("clerk", "change_user", "view_user", "delete_user"))
    chief = an_operator("chief", groups=("administrator",))
    User.objects.filter(pk=chief.pk).update(is_active=is_active)

    passwords = {"password1": "something else", "password2": "something else", "usable_password": "true"}
    for page, form in (("password", passwords), ("delete", {"post": "yes"}), ("change", {"username": "x"})):
        assert office.post(f"/admin/auth/user/{chief.pk}/{page}/", form).status_code == 403, page
    office.post("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [chief.pk], "post": "yes"})
    assert User.objects.filter(pk=chief.pk, username="chief").exists()


def test_administrators_make_operators_of_their_own_kind() -> None:
    office = client_of(an_operator("chief", groups=("administrator",)))
    colleague = CustomerFactory.create(username="colleague")
    path = f"/admin/auth/user/{colleague.pk}/change/"
    groups = [Group.objects.get(name=name).pk for name in ("support", "administrator")]

    office.post(path, shown(office.get(path)) | {"is_staff": "on", "groups": groups})

    assert set(colleague.groups.values_list("pk", flat=True)) == set(groups)


def test_who_may_look_at_a_person_sees_nothing_of_the_password() -> None:
    import_module("monitoring.migrations.0002_roles").install(apps, None)
    user = EmployeeFactory.create(username="colleague", password="a secret")
    user.groups.set(Group.objects.filter(name="viewer"))

    page = text(client_of(user).get(f"/admin/auth/user/{user.pk}/change/"))

    assert "colleague" in page
    assert "pbkdf2" not in page
    assert "algorithm" not in page


def test_roles_that_were_changed_stay_as_they_are() -> None:
    roles = import_module("monitoring.migrations.0002_roles")
    roles.install(apps, None)
    Group.objects.get(name="viewer").permissions.clear()

    roles.install(apps, None)

    assert not Group.objects.get(name="viewer").permissions.exists()
    assert Group.objects.get(name="support").permissions.exists()
