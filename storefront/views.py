"""The pages: a form, a handler or selector, and a redirect or a template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode

import stamina
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, RedirectURLMixin, redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe
from django.views.generic import FormView

from coupons.domain import CouponError
from inventory import selectors as inventory
from inventory.domain import InventoryError, UnknownSku
from inventory.selectors import CataloguePage
from notifications import handlers as notifications
from notifications import selectors as inboxes
from orders import selectors
from orders.domain import OrderError, Status
from orders.handlers import IdempotencyInFlight, IdempotencyMismatch, Placement
from orders.selectors import OrderDetail
from payments import selectors as payments
from payments.handlers import PaymentError, PaymentInProgress
from payments.selectors import Progress
from sharding import numbers
from storefront import accounts, checkout, pictures, progress, throttle
from storefront.checkout import Quote
from storefront.forms import QUANTITY, OrderForm, PaymentForm, RegistrationForm, SignInForm, picked

PAGE_OF_PRODUCTS = inventory.MAX_PAGE
PAGE_OF_ORDERS = 20
PAGE_OF_MESSAGES = 20
PICTURE_SECONDS = 365 * 24 * 3600
PAYABLE = (Progress.NONE, Progress.DECLINED)
CANCELLABLE = (Status.PLACED, Status.CONFIRMED)


# --- The shop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the chosen products cost; `refused` says why the coupon takes nothing off."""

    quote: Quote | None
    refused: str = ""


@require_http_methods(["GET", "HEAD", "POST"])
def shop(request: HttpRequest) -> HttpResponse:
    """All products in one order form; what it has, and the way back to it, are in its address."""
    page = _products(request)
    if request.method != "POST":
        return _shop(request, page, _order_form(request, page))
    form = _order_form(request, page)
    if not form.is_valid():
        return _shop(request, page, form)
    match request.POST.get("action"):
        case "review":
            return redirect(_address(request.GET.get("after"), request.GET.get("sku"), form) + "#order")
        case "more" if page.next is not None:
            return redirect(_address(*page.next, form))
        case _:
            return _place(request, page, form)


@require_POST
def quote(request: HttpRequest) -> HttpResponse:
    """What the form would cost, while it is being filled in."""
    form = _order_form(request, CataloguePage(items=(), next=None))
    summary = _summary(request, form) if form.is_valid() else None
    return render(request, "storefront/_summary.html", {"form": form, "summary": summary, "live": True})


def _products(request: HttpRequest) -> CataloguePage:
    after, sku = request.GET.get("after"), request.GET.get("sku")
    try:
        return inventory.catalogue(after=(after, sku) if after and sku else None, limit=PAGE_OF_PRODUCTS)
    except inventory.InvalidPosition as error:
        raise Http404("There is no such page.") from error


def _order_form(request: HttpRequest, page: CataloguePage) -> OrderForm:
    """With a field for each product of the page, and for those of other pages that are chosen already."""
    data = request.POST if request.method == "POST" else None
    here = {product.sku for product in page.items}
    elsewhere = inventory.products_by_sku(sku for sku in picked(data or request.GET) if sku not in here)
    return OrderForm(
        data,
        [*elsewhere.values(), *page.items],
        initial=request.GET,
        may_be_empty=request.POST.get("action") == "more",
    )


def _place(request: HttpRequest, page: CataloguePage, form: OrderForm) -> HttpResponse:
    if not isinstance(request.user, User):
        return redirect_to_login(_address(None, None, form) + "#order")
    try:
        placement = _place_once(request.user, form)
    except IdempotencyMismatch:
        form.renew_key()
        form.add_error(
            None,
            "This form has placed an order before it was changed. That order stands, see “Orders”. "
            "Place the order again if you want this one as well.",
        )
    except IdempotencyInFlight:
        form.add_error(None, "This order is being placed at this moment. Try again: it will not be placed twice.")
    except CouponError as error:
        form.add_error("coupon", str(error))
    except UnknownSku as error:
        for sku in error.skus:
            form.add_error(QUANTITY + sku, "No longer on sale.")
    except (InventoryError, OrderError) as error:
        form.add_error(None, str(error))
    else:
        if placement.replayed:
            messages.info(request, "This is the order that your form has placed already. Nothing was ordered twice.")
        return redirect("storefront:order", numbers.to_text(placement.order_id))
    return _shop(request, page, form)


def _place_once(customer: User, form: OrderForm) -> Placement:
    """The second half of a double click waits for the first, because the browser shows the answer to the second."""
    for attempt in stamina.retry_context(
        on=IdempotencyInFlight, attempts=6, timeout=3, wait_initial=0.05, wait_max=0.5, wait_jitter=0.05
    ):
        with attempt:
            return checkout.place(
                customer.pk,
                form.wanted,
                form.coupon_code,
                key=form.cleaned_data["key"],
                metadata=checkout.metadata_for(customer.pk),
            )
    raise AssertionError("the last attempt returns or raises")


def _shop(request: HttpRequest, page: CataloguePage, form: OrderForm) -> HttpResponse:
    return render(
        request,
        "storefront/shop.html",
        {
            "form": form,
            "action": _address(request.GET.get("after"), request.GET.get("sku"), None),
            "shelves": form.shelves(inventory.categories()),
            "more": page.next is not None,
            "first": "after" not in request.GET,
            "summary": _summary(request, form),
        },
    )


def _summary(request: HttpRequest, form: OrderForm) -> Summary | None:
    """None while nothing is chosen, or something that cannot be ordered."""
    if not form.wanted or form.errors.keys() - {"coupon"}:
        return None
    customer_id = request.user.pk or 0  # who is not signed in has not used any coupon yet
    now = timezone.now()
    try:
        return Summary(quote=checkout.quote(customer_id, form.wanted, form.coupon_code, now))
    except CouponError as error:
        return Summary(quote=checkout.quote(customer_id, form.wanted, None, now), refused=str(error))
    except (InventoryError, OrderError):
        return None


def _address(after: str | int | None, sku: str | None, form: OrderForm | None) -> str:
    """Where the form can be found again, with all that is chosen in it."""
    position = urlencode({"after": after, "sku": sku}) if after and sku else ""
    query = "&".join(filter(None, [position, form.as_query() if form else ""]))
    return reverse("storefront:shop") + (f"?{query}" if query else "")


@require_safe
@cache_control(public=True, max_age=PICTURE_SECONDS, immutable=True)
def picture(request: HttpRequest, sku: str) -> HttpResponse:
    product = inventory.product(sku)
    if product is None:
        raise Http404("There is no such product.")
    return HttpResponse(pictures.render(product), content_type="image/svg+xml")


# --- Orders ----------------------------------------------------------------------------------------------------------


@require_safe
@login_required
def orders(request: HttpRequest) -> HttpResponse:
    """The customer's orders, newest first, some at a time."""
    before = None
    if text := request.GET.get("before"):
        try:
            before = numbers.parse(text)
        except numbers.InvalidOrderNumber as error:
            raise Http404("There is no such page.") from error
    rows = selectors.orders_of(_customer_id(request), before=before, limit=PAGE_OF_ORDERS + 1)
    shown = rows[:PAGE_OF_ORDERS]
    return render(
        request,
        "storefront/orders.html",
        {"orders": shown, "next": shown[-1].number if len(rows) > len(shown) else None, "first": before is None},
    )


@require_safe
@login_required
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
    context = _order_context(_own_order(request, number), PaymentForm())
    if request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "storefront/_order.html", {**context, "live": True})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def pay(request: HttpRequest, number: str) -> HttpResponse:
    found = _own_order(request, number)
    if request.method == "POST":
        form = PaymentForm(request.POST)
        if not form.is_valid():
            return _order(request, found, form)
        customer_id = _customer_id(request)
        try:
            checkout.pay(found.id, customer_id, form.cleaned_data["token"], checkout.metadata_for(customer_id))
        except PaymentInProgress as error:
            messages.info(request, str(error))
        except (OrderError, PaymentError) as error:
            messages.error(request, str(error))
    return redirect("storefront:order", found.number)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    found = _own_order(request, number)
    if request.method == "POST":
        customer_id = _customer_id(request)
        try:
            checkout.cancel(found.id, customer_id, checkout.metadata_for(customer_id))
        except OrderError as error:
            messages.error(request, str(error))
    return redirect("storefront:order", found.number)


def _customer_id(request: HttpRequest) -> int:
    return cast(User, request.user).pk  # every caller is for people who are signed in


def _own_order(request: HttpRequest, number: str) -> OrderDetail:
    try:
        return checkout.order_of(_customer_id(request), numbers.parse(number))
    except (numbers.InvalidOrderNumber, OrderError) as error:
        raise Http404("There is no such order among yours.") from error


def _order(request: HttpRequest, found: OrderDetail, form: PaymentForm) -> HttpResponse:
    return render(request, "storefront/order.html", _order_context(found, form))


def _order_context(found: OrderDetail, form: PaymentForm) -> dict[str, Any]:
    history = selectors.history(found.id)
    payment = payments.state(found.id)
    status = progress.status_of(history)
    return {
        "order": found,
        "status": status,
        "headline": progress.headline(history, payment),
        "steps": progress.steps(history),
        "short": progress.short_items(history),
        "events": progress.tell(history),
        "payment": payment,
        "can_pay": status is Status.CONFIRMED and payment.progress in PAYABLE,
        "can_cancel": status in CANCELLABLE and payment.progress in PAYABLE,
        "payment_form": form,
        "seen": f"{len(history)}.{payment.progress}.{payment.payment_id}",
        "pause": progress.pause(status, payment),
    }


# --- Messages and accounts -------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
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
        position = datetime.fromisoformat(at), int(message_id)
    except ValueError as error:
        raise Http404("There is no such page.") from error
    if position[0].tzinfo is None or not 0 < position[1] < 1 << 63:
        raise Http404("There is no such page.")
    return position


class SignIn(LoginView):
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
        return throttle.address_of(self.request), self.request.POST.get("username", "").strip().lower()


class Register(RedirectURLMixin, FormView):
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
