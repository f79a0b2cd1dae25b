"""The WSGI application that granian and waitress serve."""

import os

from django.apps import apps
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django = get_wsgi_application()

import config.urls  # noqa: E402, F401 (every page is loaded before the first visitor comes)
from config.edge import Application, Edge  # noqa: E402
from config.responses import cached  # noqa: E402

served: Application = cached(django)
for app in apps.get_app_configs():
    if hasattr(app, "serve"):  # puts something in front of the application, such as the probes
        served = app.serve(served)
application = Edge(served)
