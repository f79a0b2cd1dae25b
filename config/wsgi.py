"""The WSGI application that granian and waitress serve."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django = get_wsgi_application()

from config import urls  # noqa: E402, F401 (every page is loaded before the first visitor comes)
from config.edge import Edge  # noqa: E402
from config.responses import cached  # noqa: E402
from monitoring.probes import Probes, serve  # noqa: E402

application = Edge(Probes(cached(django)))
serve()
