"""The Celery application; its queues are those of the subscribers (see eventing.topology)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("wharf")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Threads that did not create the application (the embedded worker's) must find it too.
app.set_default()
app.autodiscover_tasks()
