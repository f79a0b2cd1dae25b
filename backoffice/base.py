"""What the admin pages of all apps share: navigation, links to orders, amounts in forms, and read-only pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, reduce, wraps
from operator import or_
from typing import Any, cast
from uuid import uuid4

import structlog
from django import forms
from django.apps import apps
from django.conf import settings
from django.contrib.admin import ShowFacets, site
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from backoffice.editing import EditableModelAdmin
from backoffice.keyset import KeysetChangeList, KeysetPaginator
from eventing.models import DeadLetter
from eventing.recorded import Metadata
from sharding import numbers
from values.contexts import Page
from values.filters import stamp

MANY = 100
MOST_CUSTOMERS = 20  # that a search takes into account
MOST_WORDS = 4  # of a name that somebody is searched by
NAMES = ("username", "email", "first_name", "last_name")

site.index_template = "admin/backoffice/index.html"
site.index_title = "Dashboard"

# A group that an app adds comes last.
GROUPS = ("Orders", "Catalogue", "Payments & messages", "Operations", "People")


@cache
def pages() -> Mapping[str, Sequence[Page]]:
    """The pages that the installed apps declare, by their groups."""
    grouped: dict[str, list[Page]] = {group: [] for group in GROUPS}
    for app in apps.get_app_configs():
        for page in getattr(app, "pages", ()):
            grouped.setdefault(page.group, []).append(page)
    return grouped


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: groups of pages, without those that the operator may not see."""
    groups = [
        (title, [_item(page) for page in listed if may_see(request.user, page.model)])
        for title, listed in pages().items()
    ]
    return [
        {"title": title, "separator": position > 0, "items": items}
        for position, (title, items) in enumerate(group for group in groups if group[1])
    ]


def may_see(user: Any, model: str) -> bool:
    app_label, model_name = model.split(".")
    return any(user.has_perm(f"{app_label}.{verb}_{model_name}") for verb in ("view", "change"))


def _item(page: Page) -> dict[str, Any]:
    item = {
        "title": page.title,
        "icon": page.icon,
        "description": page.description,
        "link": reverse(page.url or f"admin:{page.model.replace('.', '_')}_changelist"),
    }
    if page.model == "eventing.deadletter" and (letters := _open_dead_letters()):
        item |= {"badge": letters, "badge_style": "solid"}
    return item


def _open_dead_letters() -> str:
    count = DeadLetter.objects.filter(status=DeadLetter.Status.OPEN)[:MANY].count()
    return f"{MANY - 1}+" if count == MANY else str(count or "")


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard to the list of pages, where there is monitoring."""
    if not apps.is_installed("monitoring"):
        return context
    from backoffice.monitoring import dashboard

    return context | dashboard.context_of(request)


def environment(request: HttpRequest) -> list[str]:
    """The label beside the user's menu: which profile this is."""
    return ["embedded", "info"] if settings.EMBEDDED else ["services", "success"]


def stylesheet(request: HttpRequest) -> str:
    return static("backoffice/admin.css")


def mark(request: HttpRequest) -> str:
    return static("storefront/mark.svg")


def operator(request: HttpRequest) -> Metadata:
    """Whoever is at the keyboard, as what caused the events that follow."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return Metadata(correlation_id=str(request_id or uuid4().hex), actor=f"operator:{request.user.pk}")


def render_page(
    request: HttpRequest,
    template: str,
    title: str,
    context: Mapping[str, Any],
    *,
    of: ModelAdmin | None = None,
    status: int = 200,
) -> TemplateResponse:
    """A page of the back office beside the lists and forms of Django; `of` is the model that it belongs to."""
    around = {**site.each_context(request), "title": title} | ({"opts": of.opts} if of else {})
    return TemplateResponse(request, f"admin/{template}.html", {**around, **context}, status=status)


def guarded(view: Callable[..., HttpResponse], may: Callable[[HttpRequest], bool]) -> Callable[..., HttpResponse]:
    """A view for operators who `may` see it."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return cast(Callable[..., HttpResponse], site.admin_view(checked))


def log(request: HttpRequest, row: Model, message: str, flag: int = CHANGE) -> None:
    """Write down among the operators' actions what was done to a row."""
    LogEntry.objects.log_actions(request.user.pk or 0, [row], flag, message, single_object=True)


def order_url(order_id: int) -> str:
    return reverse("admin:orders_order_change", args=[numbers.to_text(order_id)])


def order_link(order_id: int | None) -> str | None:
    """A link to an order's page; None for something that belongs to none."""
    if order_id is None:
        return None
    return format_html('<a class="bo-number" href="{}">{}</a>', order_url(order_id), numbers.to_text(order_id))


def customers_called(text: str) -> QuerySet[User]:
    """Who has just this user name or mail; without such, those of whose names each of these words begins one."""
    exact = User.objects.filter(Q(username__iexact=text) | Q(email__iexact=text))
    if exact.exists():
        return exact
    words = Q()
    for word in text.split()[:MOST_WORDS]:
        words &= reduce(or_, (Q(**{f"{field}__istartswith": word}) for field in NAMES))
    return User.objects.filter(words).order_by("username")


def customer_link(user: User | None, customer_id: int) -> str:
    """A link to a customer's account, or their id if there is none any more."""
    if user is None:
        return format_html("customer {}", customer_id)
    url = reverse("admin:auth_user_change", args=[user.pk])
    return format_html('<a class="bo-link" href="{}">{}</a>', url, user.get_username())


class MinorUnitsField(forms.DecimalField):
    """An amount that people type with two decimals and that is stored in hundredths."""

    widget = UnfoldAdminDecimalFieldWidget

    def __init__(
        self, *, lowest: int = 0, required: bool = True, initial: int | None = None, help_text: str = ""
    ) -> None:
        super().__init__(
            max_digits=14,
            decimal_places=2,
            min_value=Decimal(lowest) / 100,
            required=required,
            initial=initial,
            help_text=help_text,
        )

    def prepare_value(self, value: Any) -> Any:
        return f"{Decimal(value) / 100:.2f}" if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * 100)

    def has_changed(self, initial: Any, data: Any) -> bool:
        if isinstance(initial, Decimal):  # as it was opened in a form
            initial = int(initial * 100)
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


def time(column: str, title: str) -> Any:
    """A column of a list: a time, to the second."""
    return display(description=title, ordering=column)(lambda admin, row: stamp(getattr(row, column)))


class ListFilter(forms.Form):
    """What a list can be narrowed to, in the page's address. A field that makes no sense says so, the others apply."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, auto_id="filter-%s")
        self.full_clean()

    def parameters(self) -> dict[str, str]:
        """The fields that are filled in, as they were typed, for links to other pages of the same list."""
        return {name: text for name in self.fields if (text := self.data.get(name, "").strip())}


class CarefulModelAdmin(EditableModelAdmin):
    """Nothing is deleted."""

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnly(ModelAdmin):
    """Rows to look at."""

    list_filter_sheet = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_see(request.user, self.opts.label_lower)


class ReadOnlyList(ReadOnly):
    """Rows in lists that are never counted, because they grow with the orders. A list is paged by key.

    `ordering` is the key: columns that descend, the last of them unique, best with an index.
    """

    paginator = KeysetPaginator
    show_full_result_count = False
    list_per_page = 50
    sortable_by = ()
    show_facets = ShowFacets.NEVER  # they count

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList


class OfOrders(ReadOnlyList):
    """Rows that belong to orders: found by the order's number, linked to its page."""

    search_fields: tuple[str, ...] = ("order_id",)
    search_help_text = "Order number"

    @display(description="order")
    def order(self, row: Any) -> str | None:
        return order_link(row.order_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(order_id=numbers.parse(search_term)), False
        except numbers.InvalidOrderNumber:
            return self.otherwise(queryset, search_term.strip()), False

    def otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        """The rows that are meant by what is no order number."""
        return queryset.none()


class OfCustomers(OfOrders):
    """Rows that belong to orders and show their customers, by whom they are found, too."""

    search_help_text = "Order number or customer"

    @display(description="customer")
    def customer(self, row: Any) -> str:
        return customer_link(getattr(row, "customer", None), row.customer_id)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return WithCustomers

    def otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        ids = customers_called(text).values_list("pk", flat=True)[:MOST_CUSTOMERS]
        return queryset.filter(customer_id__in=list(ids))  # a list: people may be in another database


class WithCustomers(KeysetChangeList):
    """Rows of a list with their customers, fetched in one query; each row gets an attribute `customer`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        customers = User.objects.in_bulk({row.customer_id for row in self.result_list})
        for row in self.result_list:
            row.customer = customers.get(row.customer_id)
