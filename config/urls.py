"""Every address of the site."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

from api.root import api

admin.autodiscover()

urlpatterns = [
    *[path("", include(app.urls)) for app in apps.get_app_configs() if hasattr(app, "urls")],
    path("admin/", include("backoffice.urls")),
    path("api/v1/", api.urls),
    path("", include("storefront.urls", namespace="storefront")),
]

handler500 = "config.middleware.server_error"
