"""The schedules of django-celery-beat under the theme of the other pages."""

from __future__ import annotations

from copy import copy
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backoffice.base import ReadOnlyModelAdmin, order_link
from backoffice.editing import EditableModelAdmin
from eventing import periodic
from eventing.publishing import ask_worker
from eventing.queues import BrokerUnavailable
from eventing.schedules import CannotRun, Entry, refuse_never
from monitoring import schedules
from monitoring.models import DailySales, StuckOrder
from values.fields import TextField
from values.filters import stamp
from values.text import Text

SCHEDULE_NAME = Text(longest=200)
SCHEDULE_DESCRIPTION = Text(shortest=0, longest=5000, lines=True)
OWN_FIELDS = ("name", "task", "enabled", "description")

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


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
        """What is wrong with it is told by `_post_clean`."""
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
            schedules.refuse_for_users(copy(self.instance))
        except CannotRun as error:
            self.add_error(None, str(error))


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, EditableModelAdmin):
    form = PeriodicTaskForm
    change_form_template = (
        None  # django-celery-beat's own runs a script within the page, which browsers are told not to
    )
    date_hierarchy = None
    list_display = ("name", "enabled", "scheduler", "last_run", "next_run", "one_off")
    list_filter = ("enabled", "one_off")
    list_filter_sheet = False
    list_before_template = "admin/monitoring/sweep.html"
    actions = ("enable_tasks", "disable_tasks", "run_tasks")

    def get_fieldsets(self, request: HttpRequest, obj: PeriodicTask | None = None) -> Any:
        """Of the system's own tasks only the schedule can be changed."""
        if obj is None or obj.name not in schedules.own():
            return super().get_fieldsets(request, obj)
        return (
            (None, {"fields": OWN_FIELDS}),
            ("Schedule", {"fields": ("interval", "crontab", "crontab_translation", "last_run_at")}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None or obj.name not in schedules.own() else (*fields, *OWN_FIELDS)

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
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in schedules.own())

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        sweep = {"sweep_is_paused": schedules.sweep_is_paused(), "may_pause": self.has_change_permission(request)}
        return super().changelist_view(request, {**sweep, **(extra_context or {})})

    def pause(self, request: HttpRequest) -> HttpResponse:
        """Let unpaid orders be for a while, or have them cancelled again."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            paused = request.POST.get("paused") == "yes"
            done = "paused" if paused else "resumed"
            if schedules.pause_sweep(paused=paused):
                task = PeriodicTask.objects.get(name=schedules.SWEEP)
                self.log_change(request, task, f"It was {done}.")
                messages.success(request, f"“{schedules.SWEEP}” was {done}.")
            else:
                messages.info(request, f"“{schedules.SWEEP}” was {done} already.")
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
                options = entry.send_options(timezone.now(), None)
                ask_worker(entry.task, entry.kwargs, args=entry.args, **options)
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
        own = list(queryset.filter(name__in=schedules.own()).values_list("name", flat=True))
        if own:
            names = ", ".join(f"“{name}”" for name in own)
            messages.error(request, f"The shop cannot do without {names}: nothing was disabled.")
        else:
            super().disable_tasks(request, queryset)

    @display(description="last run", ordering="last_run_at")
    def last_run(self, task: PeriodicTask) -> str | None:
        return stamp(task.last_run_at)

    @display(description="next run")
    def next_run(self, task: PeriodicTask) -> str | None:
        return stamp(schedules.next_run(task, timezone.now()))


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
class IntervalScheduleAdmin(EditableModelAdmin):
    form = ScheduleForm
    inlines = (PeriodicTaskInline,)


@admin.register(DailySales)
class DailySalesAdmin(ReadOnlyModelAdmin):
    """What was ordered on each day, and what has become of it: today's every minute, others for a week."""

    nothing_yet = "The orders of today are counted every minute, and those of other days once a day."

    list_display = ("day", "orders", "paid", "rejected", "cancelled", "refunded", "amount", "counted")
    list_filter = ("currency",)
    ordering = ("-day", "-id")

    @display(description="revenue")
    def amount(self, sales: DailySales) -> str:
        return f"{sales.revenue / 100:,.2f} {sales.currency}"

    @display(description="counted at")
    def counted(self, sales: DailySales) -> str | None:
        return stamp(sales.counted_at)


@admin.register(StuckOrder)
class StuckOrderAdmin(ReadOnlyModelAdmin):
    """Orders that nobody has confirmed or rejected for a minute, looked for every minute."""

    list_display = ("order", "placed", "waits_for", "reported")
    list_display_links = None
    ordering = ("-placed_at", "-order_id")

    @display(description="order")
    def order(self, stuck: StuckOrder) -> str | None:
        return order_link(stuck.order_id)

    @display(description="placed")
    def placed(self, stuck: StuckOrder) -> str | None:
        return stamp(stuck.placed_at)

    @display(description="waits for")
    def waits_for(self, stuck: StuckOrder) -> str:
        return format_html_join(mark_safe("<br>"), "{}", ((reason,) for reason in stuck.waiting_for.splitlines()))

    @display(description="as of")
    def reported(self, stuck: StuckOrder) -> str | None:
        return stamp(stuck.reported_at)


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, EditableModelAdmin):
    form = ScheduleForm
    inlines = (PeriodicTaskInline,)
