"""The addresses of the back office: those that its modules add, then those of Django's admin."""

from django.contrib import admin
from django.urls import path

from backoffice.admin import MODULES

urlpatterns = [
    *(pattern for module in MODULES for pattern in getattr(module, "urlpatterns", ())),
    path("", admin.site.urls),
]
