"""The project: settings, URLs, the Celery application. Importing it makes `shared_task` find its application."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
