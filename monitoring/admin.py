"""The schedules of django-celery-beat under the theme of the other pages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The registered tasks to choose from."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):
    form = PeriodicTaskForm
    change_form_template = (
        None  # django-celery-beat's own runs a script within the page, which browsers are told not to
    )
    date_hierarchy = None
    list_display = ("name", "enabled", "scheduler", "last_run_at", "one_off")
    list_filter = ("enabled", "one_off")
    list_filter_sheet = False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Who may only look neither runs nor stops a task."""
        return super().get_actions(request) if self.has_change_permission(request) else {}


class PeriodicTaskInline(TabularInline):
    """The tasks that use a schedule."""

    model = PeriodicTask
    fields = ("name", "task", "enabled")
    readonly_fields = fields
    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True
    verbose_name_plural = "tasks with this schedule"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PeriodicTask]:
        # The text of a task tells its schedule, of whichever kind that is.
        return super().get_queryset(request).select_related("interval", "crontab", "solar", "clocked")


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ModelAdmin):
    inlines = (PeriodicTaskInline,)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin):
    inlines = (PeriodicTaskInline,)
