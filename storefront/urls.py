"""The addresses of the shop's pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from storefront import behind, views

app_name = "storefront"

urlpatterns = [
    path("", views.shop, name="shop"),
    path("quote/", views.quote, name="quote"),
    path("orders/", views.orders, name="orders"),
    path("orders/<str:number>/", views.order, name="order"),
    path("orders/<str:number>/live/", views.order_live, name="order_live"),
    path("orders/<str:number>/pay/", views.pay, name="pay"),
    path("orders/<str:number>/cancel/", views.cancel, name="cancel"),
    path("orders/<str:number>/behind/", behind.behind, name="behind"),
    path("orders/<str:number>/behind/live/", behind.behind_live, name="behind_live"),
    path("inbox/", views.inbox, name="inbox"),
    path("sign-in/", views.SignIn.as_view(), name="login"),
    path("sign-out/", LogoutView.as_view(), name="logout"),
    path("register/", views.Register.as_view(), name="register"),
    path("pictures/<str:sku>.svg", views.picture, name="picture"),
]
