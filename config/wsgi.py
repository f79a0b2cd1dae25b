"""The WSGI application that granian and waitress serve."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

from monitoring import startup  # noqa: E402 (needs the applications to be loaded)

startup.check()
