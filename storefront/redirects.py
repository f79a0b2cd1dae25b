"""Where a visitor is led: to sign in and back, and from the address of a form to the page that the form is on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import RedirectURLMixin, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import Resolver404, resolve
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

View = Callable[..., HttpResponse]

NAMESPACE = "storefront"
# The first three lead on to the next address again; the others are parts of pages.
NO_DESTINATIONS = {f"{NAMESPACE}:{name}" for name in ("login", "logout", "register", "stock", "picture")}
LONGEST = 2000


def local_page(request: HttpRequest, address: str) -> str:
    """The address if it is a page of the shop to which a visitor can be sent, else nothing."""
    if len(address) > LONGEST:
        return ""
    if not url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure()):
        return ""
    try:
        match = resolve(unquote(urlsplit(address).path))
    except Resolver404:
        return ""
    return address if match.namespace == NAMESPACE and match.view_name not in NO_DESTINATIONS else ""


class LocalNext(RedirectURLMixin):
    """A view that leads to the `next` of its request only if that is a page of the shop."""

    request: HttpRequest

    def get_redirect_url(self, *args: Any, **kwargs: Any) -> str:
        found = self.request.POST.get(self.redirect_field_name, self.request.GET.get(self.redirect_field_name))
        return local_page(self.request, str(found or ""))


def for_customers(view: View) -> View:
    """Asks a visitor to sign in first, and then leads back. A form is not sent again on its own: the page says so."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.method == "POST":
            messages.warning(request, "You were signed out, so nothing was done. Please sign in and do it again.")
        return redirect_to_login(request.get_full_path())

    return wrapper


def session_has_ended(request: HttpRequest) -> bool:
    """Whether the browser still has the cookie of a session that is no more."""
    return settings.SESSION_COOKIE_NAME in request.COOKIES and not request.session.keys()


def form_on(page: str) -> Callable[[View], View]:
    """A view that takes a form. Its address, opened after signing in or by reloading, leads to the form's page."""

    def decorate(view: View) -> View:
        @require_http_methods(["GET", "HEAD", "POST"])
        @wraps(view)
        def wrapper(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            if request.method != "POST":
                return redirect(page, **kwargs)
            return view(request, **kwargs)

        return wrapper

    return decorate
