"""The addresses of the back office: its own pages, then those of Django's admin."""

from django.contrib import admin
from django.urls import path

from backoffice import audit_pages, event_pages, views

_for_operators = admin.site.admin_view

urlpatterns = [
    path("dashboard/", views.dashboard, name="dashboard"),
    path("eventing/event/", _for_operators(event_pages.events), name="events"),
    path("eventing/event/<str:name>/", _for_operators(event_pages.event), name="event"),
    path("eventing/outbox/", _for_operators(event_pages.outbox), name="outbox"),
    path("monitoring/audit/", _for_operators(audit_pages.audits), name="audit"),
    path("monitoring/audit/<int:run_id>/", _for_operators(audit_pages.audit_run), name="audit_run"),
    path("", admin.site.urls),
]
