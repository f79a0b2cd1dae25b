"""The customer's own page: who they are, where their orders usually go, and their password."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import registration as accounts
from storefront import addresses, throttle
from storefront.forms import AddressForm, DetailsForm, NewPasswordForm
from storefront.redirects import for_customers


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@for_customers
def account(request: HttpRequest) -> HttpResponse:
    """Three forms, of which one is sent at a time."""
    user = User.objects.get(pk=cast(User, request.user).pk)  # a form may change it without the page saying so
    usual = addresses.usual_of(user)
    forms: dict[str, Any] = {
        "details": DetailsForm(instance=user),
        "address": AddressForm(initial=addresses.default_of(user)),
        "password": NewPasswordForm(user),
    }
    match request.POST.get("action") if request.method == "POST" else None:
        case "details":
            forms["details"] = form = DetailsForm(request.POST, instance=user)
            done = form.is_valid() and _change_details(user, form)
        case "address":
            forms["address"] = address = AddressForm(request.POST)
            if done := address.is_valid():
                addresses.remember(user, address.address)
        case "forget":
            addresses.forget(user)
            done = True
        case "password":
            if not throttle.PASSWORD.spend(str(user.pk)):
                context = {"minutes": throttle.PASSWORD.seconds // 60}
                return render(request, "storefront/too_often.html", context, status=429)
            forms["password"] = password = NewPasswordForm(user, request.POST)
            if done := password.is_valid():
                update_session_auth_hash(request, password.save())  # ends every other session
                throttle.PASSWORD.forgive(str(user.pk))
        case _:
            done = False
    if done:
        messages.success(request, "Saved.")
        return redirect("storefront:account")
    return render(request, "storefront/account.html", {"forms": forms, "usual": usual})


def _change_details(user: User, form: DetailsForm) -> bool:
    typed = form.cleaned_data
    try:
        accounts.change(user, typed["first_name"], typed["last_name"], typed["email"])
    except accounts.AccountError as error:
        form.add_error(error.field, str(error))
        return False
    return True
