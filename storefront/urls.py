"""The addresses of the shop's pages."""

from django.urls import path

from storefront import account, behind, shopping, views

app_name = "storefront"

urlpatterns = [
    path("", shopping.shop, name="shop"),
    path("products/<str:sku>/", shopping.product, name="product"),
    path("products/<str:sku>/stock/", shopping.stock, name="stock"),
    path("products/<str:sku>/add/", shopping.add, name="add"),
    path("cart/", shopping.cart, name="cart"),
    path("cart/remove/", shopping.remove, name="remove"),
    path("checkout/", shopping.checkout_page, name="checkout"),
    path("checkout/quote/", shopping.quote, name="quote"),
    path("orders/", views.orders, name="orders"),
    path("orders/<str:number>/", views.order, name="order"),
    path("orders/<str:number>/live/", views.order_live, name="order_live"),
    path("orders/<str:number>/pay/", views.pay, name="pay"),
    path("orders/<str:number>/cancel/", views.cancel, name="cancel"),
    path("orders/<str:number>/behind/", behind.behind, name="behind"),
    path("orders/<str:number>/behind/live/", behind.behind_live, name="behind_live"),
    path("orders/<str:number>/again/", views.again, name="again"),
    path("account/", account.account, name="account"),
    path("inbox/", views.inbox, name="inbox"),
    path("sign-in/", views.SignIn.as_view(), name="login"),
    path("sign-out/", views.SignOut.as_view(), name="logout"),
    path("register/", views.Register.as_view(), name="register"),
    path("pictures/<str:sku>.svg", views.picture, name="picture"),
]
