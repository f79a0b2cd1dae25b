"""The pages around the list of dead letters: groups, the form that edits a dead letter's event, and redrive runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db.models import Count, Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backoffice.base import guarded, log, render_page
from eventing import deadletters, redrives
from eventing.models import DeadLetter, RedriveRun

MAX_GROUPS = 20
RUNS = 50
DEFAULT_RATE = 10
COLOURS = {"running": "info", "done": "success", "cancelled": "default", "failed": "danger", "stalled": "warning"}


def urls(dead_letters: Any) -> list[URLPattern]:
    """The addresses below the list of `dead_letters`, a DeadLetterAdmin."""

    def address(route: str, view: Callable[..., HttpResponse], name: str, may: Callable[[HttpRequest], bool]) -> Any:
        return path(route, guarded(partial(view, dead_letters), may), name=f"eventing_deadletter_{name}")

    sees, settles = dead_letters.has_view_permission, dead_letters.has_settle_permission
    return [
        address("<int:pk>/edit/", edit, "edit", settles),
        address("redrive/", redrive_all, "redrive_all", settles),
        address("runs/", runs, "runs", sees),
        address("runs/<int:pk>/", run_page, "run", sees),
        address("runs/<int:pk>/progress/", progress, "progress", sees),
        address("runs/<int:pk>/move/", move, "move", settles),
    ]


def summary(request: HttpRequest) -> dict[str, Any]:
    """The open dead letters by subscriber and error, the largest groups first, and what the list's filter selects."""
    rows = (
        DeadLetter.objects.filter(status=DeadLetter.Status.OPEN)
        .values("subscriber", "error")
        .annotate(dead_letters=Count("id"), last=Max("failed_at"))
        .order_by("-dead_letters", "subscriber", "error")[: MAX_GROUPS + 1]
    )
    groups = [
        {**row, "query": urlencode({"status__exact": "open", "subscriber": row["subscriber"], "error": row["error"]})}
        for row in rows
    ]
    return {
        "groups": groups[:MAX_GROUPS],
        "more_groups": len(groups) > MAX_GROUPS,
        "filter_query": urlencode(redrives.selection_of(request.GET)),
        "runs_under_way": RedriveRun.objects.filter(state=RedriveRun.State.RUNNING).exists(),
    }


# --- Editing ------------------------------------------------------------------------------------------------------


class EditForm(forms.Form):
    """The event as its subscriber is to get it. Whatever it could not read is refused with the reason."""

    type = forms.CharField(max_length=80, widget=UnfoldAdminTextInputWidget)
    schema_version = forms.IntegerField(min_value=1, max_value=32767, widget=UnfoldAdminIntegerFieldWidget)
    # Django takes fields off the class, so that `form.data` still is what was posted.
    data = forms.CharField(  # type: ignore[assignment]
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16, "spellcheck": "false"})
    )
    metadata = forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "spellcheck": "false"}))

    def clean_data(self) -> dict[str, Any]:
        return _json_object(self.cleaned_data["data"])

    def clean_metadata(self) -> dict[str, Any]:
        return _json_object(self.cleaned_data["metadata"])


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_json)
    except json.JSONDecodeError as error:
        raise forms.ValidationError(
            f"This is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise forms.ValidationError(f"This is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise forms.ValidationError("This is JSON, but not an object: it has to begin with {.")
    if "\x00" in json.dumps(value, ensure_ascii=False) or "\\u0000" in json.dumps(value):
        raise forms.ValidationError("Texts cannot contain the character \\u0000.")
    return value


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def edit(dead_letters: Any, request: HttpRequest, pk: int) -> HttpResponse:
    dead_letter = get_object_or_404(DeadLetter, pk=pk)
    back = reverse("admin:eventing_deadletter_change", args=[pk])
    if dead_letter.category == deadletters.UNREADABLE:
        messages.warning(request, "The message is unreadable, so there is no event to edit.")
        return HttpResponseRedirect(back)
    now = {
        "type": dead_letter.type,
        "schema_version": dead_letter.schema_version,
        "data": _pretty(dead_letter.data),
        "metadata": _pretty(dead_letter.metadata),
    }
    form = EditForm(request.POST or None, initial=now)
    # What the operator has looked at, so that a dead letter which failed anew meanwhile is not changed unseen.
    seen = request.POST.get("seen", dead_letter.failed_at.isoformat())
    if form.is_valid():
        try:
            if seen != dead_letter.failed_at.isoformat():
                raise ValueError("it has failed again meanwhile; open it again")
            changed = deadletters.edit(dead_letter, form.cleaned_data, by=request.user.get_username())
        except ValueError as error:
            form.add_error(None, f"Not saved: {error}.")
        else:
            if changed:
                dead_letters.log_change(request, dead_letter, f"Edited: {', '.join(changed)}.")
                messages.success(request, "Saved. Redrive the dead letter to send the event as it is now.")
            else:
                messages.info(request, "Nothing was changed.")
            return HttpResponseRedirect(back)
    context = {
        "title": f"Edit {dead_letter.event_id}",
        "dead_letter": dead_letter,
        "form": form,
        "seen": seen,
        "back": back,
    }
    return _page(dead_letters, request, "edit", context)


def difference(dead_letter: DeadLetter) -> str:
    """What operators have changed of the event, as lines that were taken away and put in."""
    was = dead_letter.original or {}
    now = {name: getattr(dead_letter, name) for name in deadletters.CONTENT}
    return "\n".join(
        line
        for line in difflib.unified_diff(_pretty(was).splitlines(), _pretty(now).splitlines(), lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    )


# --- Redriving all that match -------------------------------------------------------------------------------------


class RunForm(forms.Form):
    rate = forms.IntegerField(
        min_value=1,
        max_value=redrives.MAX_RATE,
        initial=DEFAULT_RATE,
        label="Dead letters a second",
        help_text=f"At most {redrives.MAX_RATE}; their subscribers have their other events to handle as well.",
        widget=UnfoldAdminIntegerFieldWidget,
    )


def redrive_all(dead_letters: Any, request: HttpRequest) -> HttpResponse:
    """Ask how fast, then redrive every dead letter that matches the filter of the list."""
    selection = redrives.selection_of(request.GET)
    matching = redrives.selected(selection).count()
    form = RunForm(request.POST or None)
    if form.is_valid() and matching:
        run = redrives.start(selection, form.cleaned_data["rate"], by=request.user.get_username())
        log(request, run, f"Started: {matching} dead letters, {run.rate} a second, {_words(selection)}.")
        return HttpResponseRedirect(reverse("admin:eventing_deadletter_run", args=[run.pk]))
    context = {
        "title": "Redrive all that match",
        "form": form,
        "matching": matching,
        "words": _words(selection),
        "back": f"{reverse('admin:eventing_deadletter_changelist')}?{urlencode(selection)}",
    }
    return _page(dead_letters, request, "redrive", context)


def runs(dead_letters: Any, request: HttpRequest) -> HttpResponse:
    latest = [_shown(run) for run in RedriveRun.objects.all()[:RUNS]]
    return _page(dead_letters, request, "runs", {"title": "Redrive runs", "runs": latest})


def run_page(dead_letters: Any, request: HttpRequest, pk: int) -> HttpResponse:
    return _page(dead_letters, request, "run", {"title": f"Redrive run {pk}", **_with_run(dead_letters, request, pk)})


def progress(dead_letters: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the page that is fetched anew while the run goes on."""
    return TemplateResponse(request, "admin/eventing/deadletter/progress.html", _with_run(dead_letters, request, pk))


def move(dead_letters: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel a run, or continue one that has stopped."""
    run = get_object_or_404(RedriveRun, pk=pk)
    actions = {"cancel": (redrives.cancel, "Cancelled"), "continue": (redrives.resume, "Continued")}
    if request.method == "POST":
        if (action := request.POST.get("action", "")) not in actions:
            raise Http404(f"A run has no action {action}.")
        act, done = actions[action]
        if act(run, by=request.user.get_username()):
            log(request, run, f"{done}.")
        else:
            messages.warning(request, f"The run is {_shown(run)['state']}; there is nothing to {action}.")
    return HttpResponseRedirect(reverse("admin:eventing_deadletter_run", args=[pk]))


def _with_run(dead_letters: Any, request: HttpRequest, pk: int) -> dict[str, Any]:
    deadletters.note_handled()
    shown = _shown(get_object_or_404(RedriveRun, pk=pk))
    return {**shown, "may_settle": dead_letters.has_settle_permission(request)}


def _shown(run: RedriveRun) -> dict[str, Any]:
    state = "stalled" if redrives.is_stalled(run) else str(run.state)
    return {
        "run": run,
        "state": state,
        "colour": COLOURS[state],
        "dealt_with": run.sent + run.skipped,
        "words": _words(run.selection),
        "moves": state == "running",
        "can_continue": state in ("stalled", "cancelled", "failed"),
    }


def _words(selection: dict[str, str]) -> str:
    named = {name: "text" if name == redrives.SEARCH else name for name in (*redrives.FIELDS, redrives.SEARCH)}
    return ", ".join(f"{word} {selection[name]}" for name, word in named.items() if name in selection)


def _page(dead_letters: Any, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    return render_page(request, f"eventing/deadletter/{name}", context.pop("title"), context, of=dead_letters)
