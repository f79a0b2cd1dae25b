"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

from config.api import api
from monitoring import views as monitoring

urlpatterns = [
    path("admin/dashboard/", monitoring.dashboard, name="dashboard"),
    path("healthz", monitoring.healthz),
    path("readyz", monitoring.readyz),
    path("metrics", monitoring.metrics),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("", include("storefront.urls", namespace="storefront")),
]
