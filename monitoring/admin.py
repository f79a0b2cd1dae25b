"""The schedules of django-celery-beat under the theme of the other pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
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
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from config.backoffice import ReadOnlyModelAdmin, order_link
from config.editing import EditableModelAdmin
from eventing.html import stamp
from monitoring import schedules
from monitoring.models import DailySales, StuckOrder

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The registered tasks to choose from."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean()
        before = PeriodicTask.objects.filter(pk=self.instance.pk, name__in=schedules.OWN).first()
        if before is not None:
            for field, why in (
                ("name", data.get("name") != before.name and "keeps its name"),
                ("task", data.get("task") != before.task and "keeps its task"),
                ("enabled", before.enabled and not data.get("enabled") and "cannot be disabled"),
                ("one_off", data.get("one_off") and "must go on running"),
            ):
                if why:
                    self.add_error(field, f"The shop cannot do without “{before.name}”: it {why}.")
        return data


class CrontabForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not self.errors and (why := schedules.why_never(CrontabSchedule(**data))):
            raise ValidationError(f"This never comes. {why}")
        return data


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

    def get_urls(self) -> list[URLPattern]:
        pause = self.admin_site.admin_view(self.pause)
        return [path("pause-sweep/", pause, name="pause_sweep"), *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Who may only look neither runs nor stops a task."""
        return super().get_actions(request) if self.has_change_permission(request) else {}

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: forms.ModelForm, change: bool) -> None:
        obj.save()  # the whole row, which is locked: form and model derive columns from other fields

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in schedules.OWN)

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

    @admin.action(description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        own = list(queryset.filter(name__in=schedules.OWN).values_list("name", flat=True))
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
    form = CrontabForm
    inlines = (PeriodicTaskInline,)
