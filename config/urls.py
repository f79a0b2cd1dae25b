"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

from config.api import api
from monitoring import audit_pages, event_pages, probes
from monitoring import views as monitoring

admin.autodiscover()

urlpatterns = [
    path("admin/dashboard/", monitoring.dashboard, name="dashboard"),
    *[path(address.removeprefix("/"), probes.view) for address in probes.PROBES],
    path("admin/eventing/event/", admin.site.admin_view(event_pages.events), name="events"),
    path("admin/eventing/event/<str:name>/", admin.site.admin_view(event_pages.event), name="event"),
    path("admin/eventing/outbox/", admin.site.admin_view(event_pages.outbox), name="outbox"),
    path("admin/monitoring/audit/", admin.site.admin_view(audit_pages.audits), name="audit"),
    path("admin/monitoring/audit/<int:run_id>/", admin.site.admin_view(audit_pages.audit_run), name="audit_run"),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("", include("storefront.urls", namespace="storefront")),
]

handler500 = "config.middleware.server_error"
