"""The pages: a form, a handler or selector, and a redirect or a template."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe
from django.views.generic import FormView

from accounts import registration as accounts
from caching import breakers
from checkout import service as checkout
from inventory import pictures
from inventory import selectors as inventory
from notifications import handlers as notifications
from notifications import selectors as inboxes
from orders import selectors
from orders.domain import OrderError, Status
from orders.selectors import OrderDetail
from payments import gateway
from payments import selectors as payments
from payments.handlers import PaymentInProgress
from payments.selectors import Progress
from sharding import numbers
from storefront import throttle
from storefront.cart import CartError, cart_of, changing
from storefront.forms import ONCE, PaymentForm, RegistrationForm, SignInForm
from storefront.redirects import LocalNext, for_customers, form_on
from timeline import progress
from values.errors import RuleError
from values.names import account_name

PAGE_OF_PRODUCTS = inventory.MAX_PAGE
PAGE_OF_ORDERS = 20
NAMED_PRODUCTS = 3  # of each order in the list
MAX_SEARCH = 100
PAGE_OF_MESSAGES = 20
MAX_NAME = 150
PICTURE_SECONDS = 365 * 24 * 3600
PAYABLE = (Progress.NONE, Progress.DECLINED)
CANCELLABLE = (Status.PLACED, Status.CONFIRMED)


# --- Pictures --------------------------------------------------------------------------------------------------------


@require_safe
@cache_control(public=True, max_age=PICTURE_SECONDS, immutable=True)
def picture(request: HttpRequest, sku: str) -> HttpResponse:
    product = inventory.product(sku)
    if product is None:
        raise Http404("There is no such product.")
    return HttpResponse(pictures.render(product), content_type="image/svg+xml")


# --- Orders ----------------------------------------------------------------------------------------------------------


@never_cache
@require_safe
@for_customers
def orders(request: HttpRequest) -> HttpResponse:
    """The customer's orders, newest first, some at a time: all of them, or those with a text."""
    before = None
    text = unicodedata.normalize("NFC", request.GET.get("q", "")).strip()[:MAX_SEARCH]
    if position := request.GET.get("before"):
        try:
            before = numbers.parse(position)
        except numbers.InvalidOrderNumber as error:
            raise Http404("There is no such page.") from error
    rows = selectors.orders_of(_customer_id(request), before=before, limit=PAGE_OF_ORDERS + 1, text=text)
    shown = rows[:PAGE_OF_ORDERS]
    names = selectors.products_in(shown, NAMED_PRODUCTS + 1)
    choice = {"q": text} if text else {}
    return render(
        request,
        "storefront/orders.html",
        {
            "orders": [(row, names[row.id][:NAMED_PRODUCTS], len(names[row.id]) > NAMED_PRODUCTS) for row in shown],
            "text": text,
            "newest": f"?{urlencode(choice)}",
            "older": f"?{urlencode(choice | {'before': shown[-1].number})}" if len(rows) > len(shown) else None,
            "first": before is None,
        },
    )


@never_cache
@require_safe
@for_customers
def order(request: HttpRequest, number: str) -> HttpResponse:
    found = _own_order(request, number)
    if number != found.number:
        return redirect("storefront:order", found.number)
    return _order(request, found, PaymentForm())


@require_GET
def order_live(request: HttpRequest, number: str) -> HttpResponse:
    """The part of the order's page that changes, if it has changed since the page saw it."""
    if not request.user.is_authenticated:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})  # the page itself leads to signing in
    if not request.headers.get("HX-Request"):
        return redirect("storefront:order", number)
    context = _order_context(request, _own_order(request, number), PaymentForm())
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "storefront/_order.html", {**context, "live": True})


@form_on("storefront:order")
@for_customers
def pay(request: HttpRequest, number: str) -> HttpResponse:
    found = _own_order(request, number)
    form = PaymentForm(request.POST)
    if not form.is_valid():
        return _order(request, found, form)
    customer_id = _customer_id(request)
    try:
        checkout.pay(found.id, customer_id, form.cleaned_data["token"], checkout.metadata_for(customer_id))
    except PaymentInProgress as error:
        messages.info(request, str(error))
    except RuleError as error:
        messages.error(request, str(error))
    return redirect("storefront:order", found.number)


@form_on("storefront:order")
@for_customers
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    found = _own_order(request, number)
    customer_id = _customer_id(request)
    try:
        checkout.cancel(found.id, customer_id, checkout.metadata_for(customer_id))
    except RuleError as error:
        messages.error(request, str(error))
    return redirect("storefront:order", found.number)


@form_on("storefront:order")
@for_customers
def again(request: HttpRequest, number: str) -> HttpResponse:
    """Put everything of an order into the cart once more, at the prices of today."""
    found = _own_order(request, number)
    products = inventory.products_by_sku(line.sku for line in found.lines)
    on_sale = [line for line in found.lines if line.sku in products and products[line.sku].active]
    if gone := ", ".join(line.name for line in found.lines if line not in on_sale):
        messages.warning(request, f"No longer on sale: {gone}.")
    try:
        with changing(request) as content:
            wanted = [(products[line.sku], line.quantity) for line in on_sale]
            content.put(wanted, form=request.POST.get("once", "")[:ONCE])
            if found.status is Status.REJECTED:
                content.coupon = found.coupon_code or ""
    except CartError as error:
        messages.error(request, str(error))
    return redirect("storefront:cart")


def _customer_id(request: HttpRequest) -> int:
    return cast(User, request.user).pk  # every caller is for people who are signed in


def _own_order(request: HttpRequest, number: str) -> OrderDetail:
    try:
        return checkout.order_of(_customer_id(request), numbers.parse(number))
    except (numbers.InvalidOrderNumber, OrderError) as error:
        raise Http404("There is no such order among yours.") from error


def _order(request: HttpRequest, found: OrderDetail, form: PaymentForm) -> HttpResponse:
    return render(request, "storefront/order.html", _order_context(request, found, form))


def _order_context(request: HttpRequest, found: OrderDetail, form: PaymentForm) -> dict[str, Any]:
    history = selectors.history(found.id)
    payment = payments.state(found.id)
    status = progress.status_of(history)
    is_in_cart = status is Status.REJECTED and _is_in_cart(request, found)
    # The page says so only while a customer waits for the gateway.
    gateway_unavailable = payment.progress is Progress.IN_PROGRESS and not breakers.is_closed(gateway.BREAKER.name)
    return {
        "order": found,
        "ship_to": progress.ship_to(history),
        "status": status,
        "headline": progress.headline(history, payment),
        "steps": progress.steps(history),
        "short": progress.short_items(history),
        "events": progress.entries(history),
        "payment": payment,
        "can_pay": status is Status.CONFIRMED and payment.progress in PAYABLE,
        "is_in_cart": is_in_cart,
        "can_cancel": status in CANCELLABLE and payment.progress in PAYABLE,
        "payment_form": form,
        "gateway_unavailable": gateway_unavailable,
        "seen": f"{len(history)}.{payment.progress}.{payment.payment_id}{'!' if gateway_unavailable else ''}",
        "pause": progress.pause(status, payment),
    }


def _is_in_cart(request: HttpRequest, rejected: OrderDetail) -> bool:
    """Whether the cart has what a rejected order wanted. An empty cart gets it back."""
    content = cart_of(request)
    if content.last_order == rejected.number:
        with changing(request) as content:
            content.give_back(rejected.number)
    return {line.sku for line in rejected.lines} <= {sku for sku, _ in content.wanted}


# --- Messages and accounts -------------------------------------------------------------------------------------------


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_customers
def inbox(request: HttpRequest) -> HttpResponse:
    """The customer's messages, newest first, some at a time; POST marks all of them as read."""
    customer_id = _customer_id(request)
    if request.method == "POST":
        notifications.mark_read(customer_id)
        return redirect("storefront:inbox")
    before = _position(request.GET.get("before", ""))
    rows = inboxes.inbox(customer_id, before=before, limit=PAGE_OF_MESSAGES + 1)
    shown = rows[:PAGE_OF_MESSAGES]
    following = f"{shown[-1].created_at.isoformat()},{shown[-1].pk}" if len(rows) > len(shown) else None
    entries = [(row, numbers.to_text(row.order_id) if row.order_id else None) for row in shown]
    return render(request, "storefront/inbox.html", {"entries": entries, "next": following, "first": before is None})


def _position(text: str) -> tuple[datetime, int] | None:
    if not text:
        return None
    at, _, message_id = text.partition(",")
    try:
        written, number = datetime.fromisoformat(at), int(message_id)
        position = written.astimezone(UTC), number
    except (ValueError, OverflowError) as error:  # a time zone can lead out of the years that there are
        raise Http404("There is no such page.") from error
    if written.tzinfo is None or not 0 < number < 1 << 63:
        raise Http404("There is no such page.")
    return position


class SignIn(LocalNext, LoginView):
    template_name = "storefront/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not throttle.SIGN_IN.spend(*self._who()):
            return _too_often(request, throttle.SIGN_IN)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: SignInForm) -> HttpResponse:  # type: ignore[override]
        throttle.SIGN_IN.forgive(*self._who())
        return super().form_valid(form)

    def _who(self) -> tuple[str, str]:
        name = self.request.POST.get("username", "").strip()[:MAX_NAME]
        return throttle.address_of(self.request), account_name(name)


class SignOut(LocalNext, LogoutView):
    """Ends the session on a form. Whoever opens the address by itself stays signed in."""

    http_method_names = ["get", "head", "post", "options"]
    next_page = "storefront:shop"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect("storefront:shop")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().post(request, *args, **kwargs)
        messages.success(request, "You are signed out.")
        return response


class Register(LocalNext, FormView):
    """Makes an account and signs in to it."""

    template_name = "storefront/register.html"
    form_class = RegistrationForm
    next_page = "storefront:shop"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return redirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not throttle.REGISTER.spend(throttle.address_of(request)):
            return _too_often(request, throttle.REGISTER)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: RegistrationForm) -> HttpResponse:
        typed = form.cleaned_data
        try:
            user = accounts.register(typed["username"], typed["email"], typed["password1"])
        except accounts.AccountError as error:
            form.add_error(error.field, str(error))
            return self.form_invalid(form)
        login(self.request, user)  # gives the session a new key
        messages.success(self.request, f"Welcome to Wharf, {user.username}.")
        return redirect(self.get_success_url())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "next": self.get_redirect_url()}


def _too_often(request: HttpRequest, limit: throttle.Limit) -> HttpResponse:
    response = render(request, "storefront/too_often.html", {"minutes": limit.seconds // 60}, status=429)
    response.headers["Retry-After"] = str(limit.seconds)
    return response
