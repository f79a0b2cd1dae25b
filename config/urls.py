"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

from api.root import api
from monitoring import probes

admin.autodiscover()

urlpatterns = [
    *[path(address.removeprefix("/"), probes.view) for address in probes.PROBES],
    path("admin/", include("backoffice.urls")),
    path("api/v1/", api.urls),
    path("", include("storefront.urls", namespace="storefront")),
]

handler500 = "config.middleware.server_error"
