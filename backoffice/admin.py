"""Registers every page of the back office; Django's admin looks for this file."""

from importlib import import_module
from importlib.util import find_spec

from django.apps import apps

# An installed app has its pages in the module of its name.
MODULES = [
    import_module(f"backoffice.{app.label}")
    for app in apps.get_app_configs()
    if app.label != "admin" and find_spec(f"backoffice.{app.label}")
]
