"""The pages beside the lists of buckets and moves: asking for a move, watching it, and ending it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from backoffice.base import guarded, log, render_page
from backoffice.resharding import picture
from eventing.queues import BrokerUnavailable
from resharding import background, moving
from resharding.background import Act
from sharding import shards
from sharding.errors import MoveRefused
from sharding.models import Bucket, BucketMove

State = BucketMove.State

COLOURS = {
    State.COPYING: "info",
    State.CUTTING_OVER: "warning",
    State.SWITCHED: "info",
    State.KEPT: "success",
    State.DONE: "success",
    State.ABORTED: "default",
}
ASKING = {
    Act.RESUME: ("Resume", "A worker was asked to resume the move."),
    Act.ABORT: ("Abort", "Its worker was asked to abort the move."),
    Act.DROP_SOURCE: ("Drop source", "A worker was asked to drop the old partitions."),
}


def may_move(request: HttpRequest) -> bool:
    return request.user.has_perm("sharding.add_bucketmove")


# --- Buckets ---------------------------------------------------------------------------------------------------------


def urls_of_buckets(buckets: Any) -> list[URLPattern]:
    """The addresses below the list of `buckets`, a BucketAdmin."""
    return [path("<int:pk>/move/", guarded(partial(move_bucket, buckets), may_move), name="sharding_bucket_move")]


def about_bucket(request: HttpRequest, bucket: Bucket) -> dict[str, Any]:
    """What a bucket's page shows besides its row."""
    return {
        "size": picture.size_of(bucket.bucket, bucket.alias),
        "moves": [shown(move) for move in BucketMove.objects.filter(bucket=bucket.bucket)[:20]],
        "targets": _targets(bucket) if may_move(request) and picture.can_move() else [],
        "may_move": may_move(request),
        "can_move": picture.can_move(),
    }


def _targets(bucket: Bucket) -> list[str]:
    return [alias for alias in shards.aliases() if alias != bucket.alias]


class MoveForm(forms.Form):
    drop_source = forms.BooleanField(required=False)

    def __init__(self, bucket: Bucket, *args: Any) -> None:
        super().__init__(*args)
        self.fields["to"] = forms.ChoiceField(choices=[(alias, alias) for alias in _targets(bucket)])


def move_bucket(buckets: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """Say what a move means, then let a worker do it."""
    bucket = get_object_or_404(Bucket, pk=pk)
    back = reverse("admin:sharding_bucket_change", args=[pk])
    form = MoveForm(bucket, request.POST if request.method == "POST" else request.GET)
    if not form.is_valid():
        messages.error(request, f"Choose another database than {bucket.alias} for bucket {bucket.bucket}.")
        return HttpResponseRedirect(back)
    target = form.cleaned_data["to"]
    if request.method == "POST":
        try:
            move = background.start(
                pk, target, by=request.user.get_username(), drop_source=form.cleaned_data["drop_source"]
            )
        except MoveRefused as error:
            messages.error(request, str(error))
        except BrokerUnavailable:
            messages.error(request, _no_broker(f"reshard move --bucket {pk} --to {target}"))
        else:
            log(request, move, f"Started: from {move.source} to {move.target}.", ADDITION)
            return HttpResponseRedirect(_address(move))
        return HttpResponseRedirect(back)
    context = {
        "title": f"Move bucket {pk} to {target}",
        "bucket": bucket,
        "target": target,
        "size": picture.size_of(pk, bucket.alias),
        "back": back,
    }
    return _page(buckets, request, "bucket/move", context)


# --- Moves -----------------------------------------------------------------------------------------------------------


def urls_of_moves(moves: Any) -> list[URLPattern]:
    """The addresses below the list of `moves`, a BucketMoveAdmin."""

    def address(route: str, name: str, may: Callable[[HttpRequest], bool], view: Any, **more: Any) -> URLPattern:
        return path(
            f"<int:pk>/{route}/", guarded(partial(view, moves, **more), may), name=f"sharding_bucketmove_{name}"
        )

    return [
        address("change", "change", moves.has_view_permission, move_page),
        address("progress", "progress", moves.has_view_permission, progress),
        address("resume", "resume", may_move, act, wanted=Act.RESUME),
        address("abort", "abort", may_move, act, wanted=Act.ABORT),
        address("drop-source", "drop_source", may_move, act, wanted=Act.DROP_SOURCE),
    ]


def move_page(moves: Any, request: HttpRequest, pk: int) -> HttpResponse:
    if request.method == "POST":  # the admin's address of a form, which there is not
        raise PermissionDenied
    move = get_object_or_404(BucketMove, pk=pk)
    return _page(moves, request, "bucketmove/move", {"title": _name(move), **_live(request, move)})


def progress(moves: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the page that is fetched anew while the move goes on."""
    live = _live(request, get_object_or_404(BucketMove, pk=pk))
    return TemplateResponse(request, "admin/sharding/bucketmove/progress.html", live)


def act(moves: Any, request: HttpRequest, pk: int, *, wanted: Act) -> HttpResponse:
    """Say what it means to go on with a move, to give it up or to drop its source, then let a worker do it."""
    move = get_object_or_404(BucketMove, pk=pk)
    label, asked = ASKING[wanted]
    try:
        if request.method == "POST":
            background.request(wanted, move)
            log(request, move, f"{label}.")
            messages.success(request, asked)
            return HttpResponseRedirect(_address(move))
        background.refuse_nonsense(wanted, move)
    except MoveRefused as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(_address(move))
    except BrokerUnavailable:
        command = wanted.name.lower().replace("_", "-")
        messages.error(request, _no_broker(f"reshard {command} --bucket {move.bucket}"))
        return HttpResponseRedirect(_address(move))
    context = {
        "title": f"{label}: {_name(move)[0].lower()}{_name(move)[1:]}",
        "label": label,
        "act": wanted.name,
        "move": move,
        "back": _address(move),
    }
    return _page(moves, request, "bucketmove/confirm", context)


def shown(move: BucketMove) -> dict[str, Any]:
    """A move with what its template needs to know."""
    return {
        "move": move,
        "state": move.get_state_display(),
        "colour": COLOURS[State(move.state)],
        "percent": percent(move),
        "source_look": picture.look(move.source),
        "target_look": picture.look(move.target),
        "source_tag": picture.tag(move.source),
        "target_tag": picture.tag(move.target),
    }


def percent(move: BucketMove) -> int:
    """How much has been copied; what is expected is an estimate, so it may be reached before the end."""
    if move.state in (State.SWITCHED, State.KEPT, State.DONE):
        return 100
    if move.snapshot is not None:
        return 99  # only what has changed meanwhile is to follow
    return min(98, 100 * move.rows // move.expected) if move.expected else 0


def copied(move: BucketMove) -> str:
    """The same in words. Only the first copy has an exact number: what follows later is counted anew."""
    if not move.expected:
        return ""
    if move.snapshot is None:
        return f"{move.rows:,} of about {move.expected:,} rows"
    return f"about {move.expected:,} rows"


def _live(request: HttpRequest, move: BucketMove) -> dict[str, Any]:
    unfinished = background.is_unfinished(move)
    waiting = background.is_waiting(move)
    at_work = moving.is_running()
    acts = []
    if may_move(request) and not waiting:
        acts = [wanted for wanted in Act if _makes_sense(wanted, move, at_work=at_work)]
    return {
        **shown(move),
        "copied": f"Copied: {words}." if (words := copied(move)) else "",
        "unfinished": unfinished,
        "waiting": waiting,
        "giving_up": move.give_up and at_work,
        "cut_off": unfinished and not waiting and not at_work,
        "finishes_itself": move.state in (State.CUTTING_OVER, State.SWITCHED),
        "refreshes": unfinished or waiting,
        "acts": [
            {
                "label": ASKING[wanted][0],
                "url": reverse(f"admin:sharding_bucketmove_{wanted.name.lower()}", args=[move.pk]),
            }
            for wanted in acts
        ],
    }


def _makes_sense(wanted: Act, move: BucketMove, *, at_work: bool) -> bool:
    if at_work:
        return wanted is Act.ABORT and move.state == State.COPYING and not move.give_up
    match wanted:
        case Act.RESUME:
            return background.is_unfinished(move)
        case Act.ABORT:
            return move.state in (State.COPYING, State.CUTTING_OVER)
        case Act.DROP_SOURCE:
            return move.state == State.KEPT


def _name(move: BucketMove) -> str:
    return f"Bucket {move.bucket} from {move.source} to {move.target}"


def _address(move: BucketMove) -> str:
    return reverse("admin:sharding_bucketmove_change", args=[move.pk])


def _no_broker(command: str) -> str:
    return f"The broker does not answer, so no worker can start. `manage.py {command}` needs none."


def _page(admin: Any, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    return render_page(request, f"sharding/{name}", context.pop("title"), context, of=admin)
