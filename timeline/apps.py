"""An order's timeline over all contexts, as a list, as swim lanes, and as what it waits for."""

from django.apps import AppConfig


class TimelineConfig(AppConfig):
    name = "timeline"
