"""Orders for operators: the newest of all shards, and a page for each with everything that has happened to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from unfold.admin import ModelAdmin

from backoffice import base as backoffice
from backoffice import keyset
from backoffice.orders.actions import ACTIONS, Action, Misread, Outcome
from backoffice.orders.filters import OrderFilter
from eventing.errors import WrongExpectedVersion
from eventing.models import DeadLetter
from eventing.transient import RETRY_SECONDS, is_transient
from inventory import selectors as inventory
from notifications import selectors as notifications
from orders import handlers, selectors
from orders.domain import OrderError, Status
from orders.models import Order
from orders.selectors import Criteria, OrderDetail, OrderRow
from payments import selectors as payments
from sharding import numbers, shards
from timeline import picture
from timeline.timeline import Entry, timeline_of

PAGE_SIZE = 50

COLOURS = {
    Status.PLACED: "info",
    Status.CONFIRMED: "warning",
    Status.PAID: "primary",
    Status.SHIPPED: "primary",
    Status.DELIVERED: "success",
    Status.REJECTED: "danger",
    Status.CANCELLED: "default",
    Status.REFUNDED: "default",
}

PAYMENT_COLOURS = {"requested": "info", "captured": "success", "declined": "danger", "refund_requested": "warning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A row of the list."""

    order: OrderRow
    customer: User | None
    colour: str
    alias: str
    bucket: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Something that the operator may have searched for, and where it is."""

    url: str
    title: str
    detail: str = ""


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    """The rows are spread over databases, so list and page read through the selectors instead of a queryset."""

    def get_urls(self) -> list[URLPattern]:
        act = backoffice.guarded(self.act, self.has_change_permission)
        act_on_many = backoffice.guarded(self.act_on_many, self.has_change_permission)
        return [
            path("act-on-many/", act_on_many, name="orders_order_act_on_many"),
            path("<str:object_id>/act/", act, name="orders_order_act"),
            *super().get_urls(),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Order | None = None) -> bool:
        return False

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Order | None:
        """For the history page of the admin, which knows an order by its number or by its id."""
        order_id = _order_id(object_id)
        detail = None if order_id is None else selectors.get(order_id)
        return None if detail is None else Order(id=detail.id, customer_id=detail.customer_id)

    # --- The list ---------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        search = request.GET.get("q", "").strip()
        choices = _choices(search) if search else []
        if len(choices) == 1:
            return HttpResponseRedirect(choices[0].url)
        if search and not choices:
            messages.warning(request, f"No order, customer, product or parcel matches “{search}”.")
        customer_id = _number(request.GET.get("customer"))
        customer = None if customer_id is None else User.objects.filter(pk=customer_id).first()
        status = next((status for status in Status if status == request.GET.get("status")), None)
        narrow = OrderFilter(request.GET)
        criteria = narrow.criteria()
        filters = narrow.parameters()
        page: dict[str, Any] = {}
        if not choices:
            page = (
                self._page_of(customer, request.GET) if customer else self._page(status, criteria, filters, request.GET)
            )
        context = {
            **page,
            "search": search,
            "choices": choices,
            "customer": customer,
            "statuses": [(one, _link({**filters, "status": one})) for one in Status],
            "status": status,
            "filter": narrow,
            "filters": filters,
            "any_status": _link(filters),
            "first": _link({"customer": customer and customer.pk, "status": status, **({} if customer else filters)}),
            "actions": ACTIONS if self.has_change_permission(request) else (),
            **(extra_context or {}),
        }
        return backoffice.render_page(request, "orders/order/change_list", "Orders", context, of=self)

    def _page(
        self, status: Status | None, criteria: Criteria, filters: Mapping[str, str], parameters: Mapping[str, str]
    ) -> dict[str, Any]:
        before, after = _cursor(parameters.get("before")), _cursor(parameters.get("after"))
        page = selectors.all_orders(before=before, after=after, limit=PAGE_SIZE + 1, status=status, criteria=criteria)
        more = len(page.items) > PAGE_SIZE
        # Going up, the row too many is the newest.
        rows = page.items[-PAGE_SIZE:] if after else page.items[:PAGE_SIZE]
        extra = {**filters, "status": status}
        return {
            "rows": _listed(rows),
            "unavailable": _named(page.unavailable),
            "newer": _link(extra, after=rows[0]) if rows and (before or (after and more)) else None,
            "older": _link(extra, before=rows[-1]) if rows and (after or more) else None,
        }

    def _page_of(self, customer: User, parameters: Mapping[str, str]) -> dict[str, Any]:
        before = _cursor(parameters.get("before"))
        try:
            rows = selectors.orders_of(customer.pk, before=before and before[1], limit=PAGE_SIZE + 1)
        except Error as error:
            if not is_transient(error):
                raise
            alias = shards.alias_of_bucket(numbers.bucket_of_customer(customer.pk))
            return {"rows": [], "unavailable": _named([alias]), "newer": None, "older": None}
        shown = rows[:PAGE_SIZE]
        older = _link({"customer": customer.pk}, before=shown[-1]) if len(rows) > PAGE_SIZE else None
        return {"rows": _listed(shown), "unavailable": [], "newer": None, "older": older}

    # --- The page of an order ---------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        order_id = _order_id(object_id)
        if order_id is None:
            return self._not_found(request, object_id)
        title = f"Order {numbers.to_text(order_id)}"
        context: dict[str, Any] = {"original": Order(id=order_id), "alias": shards.alias_of(order_id)}
        try:
            order = selectors.get(order_id)
            if order is None:
                return self._not_found(request, object_id)
            context |= self._everything(request, order)
        except Error as error:
            if not is_transient(error):
                raise
            context["error"] = str(error)
            page = backoffice.render_page(request, "orders/order/unavailable", title, context, of=self, status=503)
            page.headers["Retry-After"] = str(RETRY_SECONDS)
            return page
        if self.has_change_permission(request):
            context["actions"] = [action for action in ACTIONS if order.status in action.statuses]
        return backoffice.render_page(
            request, "orders/order/change_form", title, context | (extra_context or {}), of=self
        )

    def _everything(self, request: HttpRequest, order: OrderDetail) -> dict[str, Any]:
        timeline = timeline_of(order.id)
        sees_events = request.user.has_perm("eventing.view_event")

        def link(entry: Entry) -> str:
            return reverse("event", args=[entry.id]) if sees_events else f"#{entry.id}"

        return {
            "order": order,
            "ship_to": selectors.ship_to(order.id),
            "colour": COLOURS[order.status],
            "customer": User.objects.filter(pk=order.customer_id).first(),
            "bucket": numbers.bucket_of(order.id),
            "timeline": timeline.entries,
            "picture": picture.draw(timeline, order, operator=True, link=link, invitation="show this event"),
            "payments": [(one, PAYMENT_COLOURS.get(one.status, "default")) for one in payments.payments_of(order.id)],
            "notifications": notifications.about([entry.id for entry in timeline.entries]),
            "dead_letters": DeadLetter.objects.filter(stream_id=order.id).order_by("-id"),
        }

    def _not_found(self, request: HttpRequest, number: str) -> HttpResponse:
        messages.warning(request, f"There is no order “{number}”.")
        return HttpResponseRedirect(reverse("admin:orders_order_changelist"))

    def act(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Do what the operator has confirmed; the order's page shows a refusal."""
        order_id = _order_id(object_id)
        if order_id is None:
            return self._not_found(request, object_id)
        action = next((action for action in ACTIONS if action.name == request.POST.get("action")), None)
        if action is not None:
            written = request.POST.get(action.asks_for.name, "") if action.asks_for else ""
            outcome = self._carry_out(request, action, order_id, written)
            messages.add_message(request, outcome.level, outcome.text)
        return HttpResponseRedirect(backoffice.order_url(order_id))

    def act_on_many(self, request: HttpRequest) -> HttpResponse:
        """Ask for one confirmation for all selected orders, then show the outcome of each."""
        action = next((action for action in ACTIONS if action.name == request.POST.get("action")), None)
        order_ids = [order_id for text in request.POST.getlist("order") if (order_id := _order_id(text)) is not None][
            :PAGE_SIZE
        ]
        back = request.POST.get("back", "")
        here = f"{reverse('admin:orders_order_changelist')}{back if back.startswith('?') else ''}"
        if action is None or not order_ids:
            if request.method == "POST":
                messages.warning(request, "Tick the orders that something is to be done with, and choose what.")
            return HttpResponseRedirect(here)
        context: dict[str, Any] = {"action": action, "here": here, "back": back}
        if "confirmed" not in request.POST:
            page = selectors.several(order_ids)
            asked = [(row, row.order.status in action.statuses) for row in _listed(page.items)]
            context |= {
                "asked": asked,
                "possible": sum(possible for _, possible in asked),
                "unavailable": _named(page.unavailable),
            }
            title = f"{action.title}: {_orders(len(asked))}"
            return backoffice.render_page(request, "orders/order/act_on_many", title, context, of=self)
        outcomes = [
            (numbers.to_text(order_id), self._carry_out(request, action, order_id, _written(request, action, order_id)))
            for order_id in order_ids
        ]
        done = sum(outcome.level == messages.SUCCESS for _, outcome in outcomes)
        title = f"{action.title}: {done} of {_orders(len(outcomes))} done"
        context["outcomes"] = outcomes
        return backoffice.render_page(request, "orders/order/acted_on_many", title, context, of=self)

    def _carry_out(self, request: HttpRequest, action: Action, order_id: int, written: str) -> Outcome:
        number = numbers.to_text(order_id)
        try:
            value = None if action.asks_for is None else action.asks_for.read(written)
            command = action.command(order_id, timezone.now(), value)
            recorded = handlers.handle(command, backoffice.operator(request))
        except Misread as error:
            return Outcome(level=messages.ERROR, text=str(error))
        except OrderError as error:
            return Outcome(level=messages.ERROR, text=f"{action.title} was refused. {error}")
        except Error as error:
            if not is_transient(error):
                raise
            text = f"The database of order {number} does not answer, so nothing was changed."
            return Outcome(level=messages.ERROR, text=text)
        except WrongExpectedVersion:
            text = f"Order {number} was changed by somebody else just now: look at it and try again."
            return Outcome(level=messages.ERROR, text=text)
        if not recorded:
            return Outcome(level=messages.INFO, text=f"Order {number} {action.done} already.")
        LogEntry.objects.create(
            user_id=cast(User, request.user).pk,
            content_type_id=ContentType.objects.get_for_model(Order).pk,
            object_id=number,
            object_repr=f"Order {number}",
            action_flag=CHANGE,
            change_message=f"It {action.done}.",
        )
        return Outcome(level=messages.SUCCESS, text=f"Order {number} {action.done}.")


def _choices(search: str) -> list[Choice]:
    """What is called like this: an order by its number, customers, a product, parcels, numbers that contain it."""
    orders = reverse("admin:orders_order_changelist")

    def narrowed(**parameters: str | int) -> str:
        return f"{orders}?{urlencode(parameters)}"

    def is_any(criteria: Criteria) -> bool:
        return bool(selectors.all_orders(limit=1, criteria=criteria).items)

    try:
        return [Choice(url=backoffice.order_url(numbers.parse(search)), title=search)]
    except numbers.InvalidOrderNumber:
        pass  # then it is about something else
    choices = [
        Choice(
            url=narrowed(customer=customer.pk),
            title=customer.get_username(),
            detail=f"{customer.get_full_name()} {customer.email}".strip(),
        )
        for customer in backoffice.customers_called(search)[: backoffice.MOST_CUSTOMERS]
    ]
    choices += [
        Choice(url=narrowed(sku=product.sku), title=f"Orders of {product.sku}", detail=product.name)
        for product in inventory.products_by_sku({search, search.upper()}).values()
    ]
    if is_any(Criteria(tracking=search)):
        choices.append(Choice(url=narrowed(tracking=search), title=f"Orders sent as {search}"))
    if not choices:  # it takes a look at every order
        with suppress(numbers.InvalidOrderNumber):
            numbers.containing(search)
            if is_any(Criteria(part=search)):
                return [Choice(url=narrowed(part=search), title=search)]
    return choices


def _written(request: HttpRequest, action: Action, order_id: int) -> str:
    """What stands in the field of this order, among those of many."""
    return request.POST.get(f"{action.asks_for.name}-{numbers.to_text(order_id)}", "") if action.asks_for else ""


def _orders(count: int) -> str:
    return "1 order" if count == 1 else f"{count} orders"


def _named(aliases: Iterable[str]) -> list[str]:
    """The shards as operators call them: "Shard 3 (orders_3)"."""
    return [f"Shard {alias.rpartition('_')[2]} ({alias})" for alias in aliases]


def _listed(rows: Iterable[OrderRow]) -> list[Listed]:
    rows = list(rows)
    customers = User.objects.in_bulk({row.customer_id for row in rows})
    return [
        Listed(
            order=row,
            customer=customers.get(row.customer_id),
            colour=COLOURS[row.status],
            alias=shards.alias_of(row.id),
            bucket=numbers.bucket_of(row.id),
        )
        for row in rows
    ]


def _cursor(text: str | None) -> tuple[datetime, int] | None:
    """The (placed at, id) of an order that `_link` has written into an address; None for anything else."""
    try:
        microseconds, number = (text or "").split(keyset.SEPARATOR)
        return keyset.read(microseconds), numbers.parse(number)
    except (ValueError, OverflowError):
        return None


def _link(parameters: Mapping[str, Any], **edges: OrderRow) -> str:
    cursors = {name: f"{keyset.written(row.placed_at)}{keyset.SEPARATOR}{row.number}" for name, row in edges.items()}
    return "?" + urlencode({key: value for key, value in {**parameters, **cursors}.items() if value is not None})


def _order_id(text: str) -> int | None:
    """The id of the order in an address: its number, or, in links that the admin itself writes, the id."""
    try:
        return numbers.parse(text)
    except numbers.InvalidOrderNumber:
        order_id = _number(text)
        return order_id if order_id is not None and 0 < order_id <= numbers.HIGHEST else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
