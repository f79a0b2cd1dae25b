"""The addresses of the shop's pages."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from inventory.domain import SKU
from storefront import account, behind, shopping, views

app_name = "storefront"


class SkuConverter(StringConverter):
    """What can be a SKU: everything else is no address, before anybody looks for it."""

    regex = SKU.pattern


class NumberConverter(StringConverter):
    """What can be an order's number, in all the ways of writing one."""

    regex = "[^/]{13,40}"


register_converter(SkuConverter, "sku")
register_converter(NumberConverter, "number")

urlpatterns = [
    path("", shopping.shop, name="shop"),
    path("products/<sku:sku>/", shopping.product, name="product"),
    path("products/<sku:sku>/stock/", shopping.stock, name="stock"),
    path("products/<sku:sku>/add/", shopping.add, name="add"),
    path("cart/", shopping.cart, name="cart"),
    path("cart/remove/", shopping.remove, name="remove"),
    path("checkout/", shopping.checkout_page, name="checkout"),
    path("checkout/quote/", shopping.quote, name="quote"),
    path("orders/", views.orders, name="orders"),
    path("orders/<number:number>/", views.order, name="order"),
    path("orders/<number:number>/live/", views.order_live, name="order_live"),
    path("orders/<number:number>/pay/", views.pay, name="pay"),
    path("orders/<number:number>/cancel/", views.cancel, name="cancel"),
    path("orders/<number:number>/behind/", behind.behind, name="behind"),
    path("orders/<number:number>/behind/live/", behind.behind_live, name="behind_live"),
    path("orders/<number:number>/again/", views.again, name="again"),
    path("account/", account.account, name="account"),
    path("inbox/", views.inbox, name="inbox"),
    path("sign-in/", views.SignIn.as_view(), name="login"),
    path("sign-out/", views.SignOut.as_view(), name="logout"),
    path("register/", views.Register.as_view(), name="register"),
    path("pictures/<sku:sku>.svg", views.picture, name="picture"),
]
