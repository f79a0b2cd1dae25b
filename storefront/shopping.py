"""The pages from the shelves to the order: catalogue, product, cart and checkout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

import stamina
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from caching.responses import Cacheable
from checkout import service as checkout
from checkout.service import Quote
from coupons.domain import CouponError
from eventing.errors import Overloaded
from eventing.transient import RETRY_SECONDS
from inventory import selectors as inventory
from inventory.domain import SKU
from inventory.selectors import ProductView, Sort
from orders import selectors
from orders.domain import Status
from orders.handlers import IdempotencyInFlight, IdempotencyMismatch, Placement
from sharding import numbers
from storefront import addresses
from storefront.cart import Cart, CartError, Contents, cart_of, changing
from storefront.forms import ONCE, QUANTITY, AddForm, CartForm, CheckoutForm
from storefront.redirects import for_customers, form_on, local_page, session_has_ended
from values.errors import RuleError

PAGE_OF_PRODUCTS = 24
TAKE_LESS = "Please take less of it, or remove it from your cart."
REFUSALS: dict[type[RuleError], str] = {
    IdempotencyMismatch: "This form has placed an order before it was changed. That order stands, see “Orders”. "
    "Place the order again if you want this one as well.",
    IdempotencyInFlight: "This order is being placed at this moment. Try again: it will not be placed twice.",
}
SORTS = {Sort.NAME: "By name", Sort.CHEAPEST: "Cheapest first", Sort.DEAREST: "Dearest first"}


# Shelves and product pages are the same for all visitors without a cookie (see caching.responses).
CACHED = Cacheable(
    address=re.compile(rf"/|/products/{SKU.pattern}/"),
    parameters=frozenset({"category", "sort", "after", "sku"}),
    of_product="/products/{}/".format,
    pages=True,
)


# --- The shelves -----------------------------------------------------------------------------------------------------


@never_cache  # Back asks again: the cart may hold something else by now
@require_safe
def shop(request: HttpRequest) -> HttpResponse:
    """Products by category, text and order; the whole choice is in the address."""
    try:
        sort = Sort(request.GET.get("sort", Sort.NAME))
    except ValueError:
        raise Http404("There is no such order of things.") from None
    slug, text = request.GET.get("category", ""), request.GET.get("q", "").strip()
    categories = inventory.categories()
    category = next((category for category in categories if category.slug == slug), None)
    if slug and category is None:
        raise Http404("There is no such category.")
    after = _position(request, sort)
    try:
        page = inventory.catalogue(slug or None, text, sort, after, PAGE_OF_PRODUCTS)
    except inventory.InvalidPosition as error:
        raise Http404("There is no such page.") from error
    choice = {"category": slug, "q": text, "sort": "" if sort is Sort.NAME else sort.value}
    following = {"after": page.next[0], "sku": page.next[1]} if page.next else {}
    return render(
        request,
        "storefront/shop.html",
        {
            "products": page.items,
            "tabs": [("Everything", _shelf(choice | {"category": ""}), category is None)]
            + [(each.name, _shelf(choice | {"category": each.slug}), each == category) for each in categories],
            "category": category,
            "text": text,
            "sort": sort.value,
            "sorts": [(value.value, label) for value, label in SORTS.items()],
            "chosen": bool(category or text),
            "next": _shelf(choice | following) if following else None,
            "first": _shelf(choice) if after else None,
            "here": request.get_full_path(),
        },
    )


@never_cache  # Back asks again: the cart may hold something else by now
@require_safe
def product(request: HttpRequest, sku: str) -> HttpResponse:
    return _product(request, _find(sku), AddForm())


@require_GET
def stock(request: HttpRequest, sku: str) -> HttpResponse:
    """How many pieces there are now, if that is something else than what the page has seen."""
    found = _find(sku)
    seen = request.GET.get("seen")
    if seen == str(found.available):
        return HttpResponse(status=204)
    if (seen == "0") is not (found.available <= 0):
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})  # the page gets a button, or loses it
    return render(request, "storefront/_stock.html", {"product": found})


def _shelf(choice: dict[str, Any]) -> str:
    query = urlencode({name: value for name, value in choice.items() if value != ""})
    return reverse("storefront:shop") + (f"?{query}" if query else "")


def _position(request: HttpRequest, sort: Sort) -> inventory.Key | None:
    after, sku = request.GET.get("after"), request.GET.get("sku")
    if not after or not sku:
        return None
    if sort is Sort.NAME:
        return after, sku
    if not after.isdecimal() or len(after) > 15:
        raise Http404("There is no such page.")
    return int(after), sku


def _find(sku: str) -> ProductView:
    found = inventory.product(sku)
    if found is None:
        raise Http404("There is no such product.")
    return found


def _product(request: HttpRequest, found: ProductView, form: AddForm) -> HttpResponse:
    return render(request, "storefront/product.html", {"product": found, "form": form})


# --- The cart --------------------------------------------------------------------------------------------------------


@form_on("storefront:product")
def add(request: HttpRequest, sku: str) -> HttpResponse:
    """Put a product into the cart and go back to where it was found."""
    found = _find(sku)
    form = AddForm(request.POST)
    if not form.is_valid():
        return _product(request, found, form)
    quantity: int = form.cleaned_data["quantity"]
    try:
        with changing(request) as content:
            content.add(found, quantity, form=request.POST.get("once", "")[:ONCE])
    except CartError as error:
        form.add_error("quantity", str(error))
        return _product(request, found, form)
    messages.success(request, f"Added to your cart: {found.name}" + (f", {quantity} pieces." if quantity > 1 else "."))
    return redirect(local_page(request, request.POST.get("next", "")) or reverse("storefront:product", args=[sku]))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def cart(request: HttpRequest) -> HttpResponse:
    """What is in the cart, with its quantities to be changed."""
    _give_back(request)
    contents = cart_of(request).contents()
    lines = [(line.sku, line.name, line.quantity) for line in contents.lines]
    if request.method != "POST":
        return _cart(request, contents, CartForm(None, lines))
    if session_has_ended(request):
        return _cart_is_gone(request)
    form = CartForm(request.POST, lines)
    if not form.is_valid():
        return _cart(request, contents, form)
    with changing(request) as content:
        content.set_quantities(form.quantities)
    if request.POST.get("action") != "checkout":
        return redirect("storefront:cart")
    if short := content.contents().short:
        for line in short:
            messages.error(request, f"{line.shortage} {TAKE_LESS}")
        return redirect("storefront:cart")
    return redirect("storefront:checkout")


@form_on("storefront:cart")
def remove(request: HttpRequest) -> HttpResponse:
    if session_has_ended(request):
        return _cart_is_gone(request)
    with changing(request) as content:
        content.set_quantities({request.POST.get("sku", ""): 0})
    return redirect("storefront:cart")


def _give_back(request: HttpRequest) -> None:
    """Fill an empty cart with what its last order wanted, if that order was rejected."""
    content = cart_of(request)
    number = content.last_order
    if number is None or content.wanted:
        return
    order = selectors.by_number(number)
    if order is None or order.status is not Status.REJECTED:
        return
    with changing(request) as content:
        if content.give_back(number):
            messages.info(request, f"Order {number} was rejected, so everything in it is back in your cart.")


def _cart_is_gone(request: HttpRequest) -> HttpResponse:
    messages.warning(request, "Your session has ended, so nothing was changed.")
    return redirect("storefront:cart")


def _cart(request: HttpRequest, contents: Contents, form: CartForm) -> HttpResponse:
    rows = [(line, form[QUANTITY + line.sku]) for line in contents.lines]
    return render(request, "storefront/cart.html", {"contents": contents, "rows": rows, "form": form})


# --- The checkout ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the cart costs; `refused` says why the coupon takes nothing off."""

    quote: Quote | None
    refused: str = ""


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_customers
def checkout_page(request: HttpRequest) -> HttpResponse:
    """The last look at everything before it is ordered."""
    customer = cast(User, request.user)
    content = cart_of(request)
    key = request.POST.get("key", "")
    if number := content.placed_under(key):
        messages.info(request, "This is the order that your form has placed already. Nothing was ordered twice.")
        return redirect("storefront:order", number)
    contents = content.contents()
    if not contents.on_sale:
        return redirect("storefront:cart")
    if request.method != "POST":
        address = addresses.default_of(customer)
        form = CheckoutForm(
            initial={**address, "key": content.key, "prices": contents.prices, "coupon": content.coupon}
        )
        return _checkout(request, contents, form)
    form = CheckoutForm(request.POST)
    if request.POST.get("action") == "review":
        form.show_again(content.key, contents.prices)
        form.forgive_address()
        return _checkout(request, contents, form)
    if key != content.key:
        form.show_again(content.key, contents.prices)
        form.add_error(None, "Your cart is not what it was when this page was opened. Please look at it again.")
    elif request.POST.get("prices") != contents.prices:
        form.show_again(content.key, contents.prices)
        form.add_error(None, "A price has changed while you were looking. Please look at the new total.")
    if not form.is_valid():
        return _checkout(request, contents, form)
    if contents.short and _placed_before(customer, content, form) is None:
        for line in contents.short:
            form.add_error(None, f"{line.shortage} {TAKE_LESS}")
        return _checkout(request, contents, form)
    try:
        placement = _place_once(customer, content, form)
    except Overloaded:
        form.add_error(
            None,
            "More orders come in than we can work on at this moment, so yours was not placed. "
            "Your cart is as it was: please try again in a few seconds.",
        )
        response = _checkout(request, contents, form)
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response
    except RuleError as error:
        if isinstance(error, IdempotencyMismatch):
            with changing(request) as content:
                content.renew_key()
            form.show_again(content.key, contents.prices)
        form.add_error("coupon" if isinstance(error, CouponError) else None, REFUSALS.get(type(error)) or str(error))
    else:
        number = numbers.to_text(placement.order_id)
        with changing(request) as content:
            content.has_placed(key, number, form.coupon_code)
        if placement.replayed:
            messages.info(request, "This is the order that your form has placed already. Nothing was ordered twice.")
        return redirect("storefront:order", number)
    return _checkout(request, contents, form)


@form_on("storefront:checkout")
def quote(request: HttpRequest) -> HttpResponse:
    """What the cart would cost with the coupon that is being typed."""
    if not request.user.is_authenticated:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})  # the page itself leads to signing in
    form = CheckoutForm(request.POST)
    contents = cart_of(request).contents()
    context = {"summary": _summary(request, contents, form), "form": form, "contents": contents}
    return render(request, "storefront/_summary.html", context)


def _checkout(request: HttpRequest, contents: Contents, form: CheckoutForm) -> HttpResponse:
    return render(
        request,
        "storefront/checkout.html",
        {"form": form, "contents": contents, "summary": _summary(request, contents, form)},
    )


def _summary(request: HttpRequest, contents: Contents, form: CheckoutForm) -> Summary:
    wanted = [(line.sku, line.quantity) for line in contents.lines]
    customer_id, now = request.user.pk or 0, timezone.now()
    try:
        return Summary(quote=checkout.quote(customer_id, wanted, form.coupon_code, now))
    except CouponError as error:
        return Summary(quote=checkout.quote(customer_id, wanted, None, now), refused=str(error))
    except RuleError as error:
        return Summary(quote=None, refused=str(error))


def _placed_before(customer: User, content: Cart, form: CheckoutForm) -> Placement | None:
    """What the first half of a double click has placed: it may have taken the last pieces."""
    key = form.cleaned_data["key"]
    return checkout.placed_before(customer.pk, content.wanted, form.coupon_code, key=key, ship_to=form.address)


def _place_once(customer: User, content: Cart, form: CheckoutForm) -> Placement:
    """The second half of a double click waits for the first, because the browser shows the answer to the second."""
    for attempt in stamina.retry_context(
        on=IdempotencyInFlight, attempts=6, timeout=3, wait_initial=0.05, wait_max=0.5, wait_jitter=0.05
    ):
        with attempt:
            return checkout.place(
                customer.pk,
                content.wanted,
                form.coupon_code,
                key=form.cleaned_data["key"],
                metadata=checkout.metadata_for(customer.pk),
                ship_to=form.address,
            )
    raise AssertionError("the last attempt returns or raises")
