"""The schedules of django-celery-beat under the theme of the other pages."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backoffice.base import time
from backoffice.editing import EditableModelAdmin
from eventing import periodic, schedules
from eventing.publishing import request_task
from eventing.queues import BrokerUnavailable
from eventing.schedules import CannotRun, Entry, refuse_never
from values.fields import TextField
from values.filters import stamp
from values.text import Text

SCHEDULE_NAME = Text(longest=200)
SCHEDULE_DESCRIPTION = Text(shortest=0, longest=5000, lines=True)
SWEEP = "Cancel overdue orders"
OWN_FIELDS = ("name", "task", "enabled", "description")

admin.site.unregister((ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule))


def pause_sweep(*, paused: bool) -> bool:
    """Pause or resume the cancellation of overdue orders; False if nothing has changed.

    Orders that become overdue during the pause are cancelled when it ends.
    """
    changed = PeriodicTask.objects.filter(name=SWEEP, enabled=paused).update(enabled=not paused)
    if changed:
        PeriodicTasks.update_changed()
    return bool(changed)


def sweep_is_paused() -> bool:
    return PeriodicTask.objects.filter(name=SWEEP, enabled=False).exists()


def next_run(task: PeriodicTask, now: datetime) -> datetime | None:
    """When the task is due, which may be in the past if no beat runs; None if never."""
    if not task.enabled:
        return None
    if task.clocked is not None:
        clocked: datetime = task.clocked.clocked_time
        return clocked
    last = min(task.last_run_at or task.date_changed or now, now)
    if task.start_time is not None and task.start_time > now:
        last = task.start_time
    try:
        return schedules.following(task.schedule, last)
    except Exception:  # a crontab that never comes, an interval beyond the calendar, the sun without its library
        return None


def refuse_for_users(schedule: IntervalSchedule | CrontabSchedule) -> None:
    """Raises CannotRun if a row that uses a schedule could not run once the schedule is as it is here, unsaved."""
    kind = "crontab" if isinstance(schedule, CrontabSchedule) else "interval"
    schedules.runnable(schedule, kind)
    for task in PeriodicTask.objects.filter(**{f"{kind}_id": schedule.pk}) if schedule.pk else ():
        setattr(task, kind, schedule)
        try:
            refuse_never(task)
        except CannotRun as error:
            raise CannotRun(error.field, f"“{task.name}” uses it. {error}") from error


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The periodic tasks to choose from."""

    def tasks_as_choices(self) -> tuple[tuple[str, str], ...]:
        return (("", ""), *((task, task) for task in sorted(periodic.by_task())))


class PeriodicTaskForm(beat.PeriodicTaskForm):
    name = TextField(SCHEDULE_NAME, widget=UnfoldAdminTextInputWidget)
    description = TextField(SCHEDULE_DESCRIPTION, required=False, widget=UnfoldAdminTextareaWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" not in self.fields:
            del self.fields["regtask"]  # which is no field of the model, and so is not left out like the others
        else:
            self.fields["task"].widget = UnfoldAdminTextInputWidget()
            self.fields["regtask"].widget = TaskSelect()

    def _clean_json(self, field: str) -> Any:
        """`_post_clean` says what is wrong with it."""
        return self.cleaned_data[field]

    def clean(self) -> dict[str, Any]:
        if "task" not in self.fields:  # one of the system's own: only its schedule is asked for
            return self.cleaned_data
        data: dict[str, Any] = super().clean()
        return data

    def _post_clean(self) -> None:
        """Build the row as beat does, and refuse what beat could not run."""
        super()._post_clean()
        if self.errors:
            return
        try:
            refuse_never(copy(self.instance))
        except CannotRun as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))


class ScheduleForm(forms.ModelForm):
    """An interval or crontab, with which the tasks that use it can go on running."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's hook for what the model says of its fields
        if self.errors:
            return
        try:
            refuse_for_users(copy(self.instance))
        except CannotRun as error:
            self.add_error(None, str(error))


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, EditableModelAdmin):
    form = PeriodicTaskForm
    change_form_template = (
        None  # django-celery-beat's own runs a script within the page, which the content policy forbids
    )
    date_hierarchy = None
    list_display = ("name", "enabled", "scheduler", "last_run", "next_run", "one_off")
    list_filter = ("enabled", "one_off")
    list_filter_sheet = False
    list_before_template = "admin/monitoring/sweep.html"
    actions = ("enable_tasks", "disable_tasks", "run_tasks")

    def get_fieldsets(self, request: HttpRequest, obj: PeriodicTask | None = None) -> Any:
        """Of the system's own tasks only the schedule can be changed."""
        if obj is None or obj.name not in periodic.by_title():
            return super().get_fieldsets(request, obj)
        return (
            (None, {"fields": OWN_FIELDS}),
            ("Schedule", {"fields": ("interval", "crontab", "crontab_translation", "last_run_at")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None or obj.name not in periodic.by_title() else (*fields, *OWN_FIELDS)

    def crontab_translation(self, obj: PeriodicTask) -> str:
        return obj.crontab.human_readable if obj.crontab else ""

    def get_urls(self) -> list[URLPattern]:
        pause = self.admin_site.admin_view(self.pause)
        return [path("pause-sweep/", pause, name="pause_sweep"), *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Who may only look neither runs nor stops a task."""
        return super().get_actions(request) if self.has_change_permission(request) else {}

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: forms.ModelForm, change: bool) -> None:
        obj.save()  # the whole row, which is locked: form and model derive columns from other fields

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in periodic.by_title())

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        sweep = {"sweep_is_paused": sweep_is_paused(), "may_pause": self.has_change_permission(request)}
        return super().changelist_view(request, {**sweep, **(extra_context or {})})

    def pause(self, request: HttpRequest) -> HttpResponse:
        """Let unpaid orders be for a while, or have them cancelled again."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            paused = request.POST.get("paused") == "yes"
            done = "paused" if paused else "resumed"
            if pause_sweep(paused=paused):
                task = PeriodicTask.objects.get(name=SWEEP)
                self.log_change(request, task, f"It was {done}.")
                messages.success(request, f"“{SWEEP}” was {done}.")
            else:
                messages.info(request, f"“{SWEEP}” was {done} already.")
        return HttpResponseRedirect(reverse("admin:django_celery_beat_periodictask_changelist"))

    @admin.action(description="Enable selected tasks")
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        if self._can_all_run(request, queryset):
            super().enable_tasks(request, queryset)

    @admin.action(description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Send their messages as beat would."""
        entries = self._can_all_run(request, queryset)
        try:
            for entry in entries:
                options = entry.send_options(timezone.now())
                request_task(entry.task, entry.kwargs, args=entry.args, **options)
        except BrokerUnavailable as error:
            messages.error(request, f"The broker does not answer: {error}.")
            return
        for entry in entries:
            self.log_change(request, entry.model, "It was run.")
        if entries:
            messages.success(request, f"Sent to the workers: {', '.join(entry.name for entry in entries)}.")

    def _can_all_run(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> list[Entry]:
        """The rows as beat runs them; none, with a message, if one of them cannot run."""
        try:
            entries = []
            for task in queryset:
                task.enabled = True
                entries.append(refuse_never(task))
        except CannotRun as error:
            messages.error(request, f"“{task.name}” cannot run; {error.field}: {error}")
            return []
        return entries

    @admin.action(description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        own = list(queryset.filter(name__in=periodic.by_title().keys()).values_list("name", flat=True))
        if own:
            names = ", ".join(f"“{name}”" for name in own)
            messages.error(request, f"{names} cannot be disabled: the system needs them.")
        else:
            super().disable_tasks(request, queryset)

    last_run = time("last_run_at", "last run")

    @display(description="next run")
    def next_run(self, task: PeriodicTask) -> str | None:
        return stamp(next_run(task, timezone.now()))


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
        # The text of a task contains its schedule, of whichever kind that is.
        return super().get_queryset(request).select_related("interval", "crontab", "solar", "clocked")


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(EditableModelAdmin):
    form = ScheduleForm
    inlines = (PeriodicTaskInline,)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, EditableModelAdmin):
    form = ScheduleForm
    inlines = (PeriodicTaskInline,)
