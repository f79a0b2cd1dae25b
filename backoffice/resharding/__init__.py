"""The shard map for operators: which database owns which bucket, and buckets on their way to another."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.text import Truncator
from unfold.decorators import display

from backoffice.base import ReadOnly, ReadOnlyList, time
from backoffice.resharding import pages, picture
from sharding.models import Bucket, BucketMove
from sharding.numbers import BUCKETS, bucket_range, to_text


@admin.register(Bucket)
class BucketAdmin(ReadOnly):
    list_display = ("bucket", "alias", "first_number", "last_number", "version", "moved_at")
    list_filter = ("alias",)
    list_per_page = BUCKETS
    list_before_template = "admin/sharding/bucket/map.html"
    change_form_outer_before_template = "admin/sharding/bucket/about.html"
    change_form_outer_after_template = "admin/sharding/bucket/moves.html"
    fields = ("bucket", "alias", "first_number", "last_number", "version", "moved_at")
    readonly_fields = ("first_number", "last_number")
    ordering = ("bucket",)

    def get_urls(self) -> list[URLPattern]:
        return [*pages.urls_of_buckets(self), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        taken = picture.take()
        context = {
            "picture": taken,
            "moves": [pages.shown(move) for move in taken.moves],
            "may_move": pages.may_move(request),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        bucket = self.get_object(request, object_id)
        context = {} if bucket is None or not self.has_view_permission(request) else pages.about_bucket(request, bucket)
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @display(description="first number")
    def first_number(self, bucket: Bucket) -> str:
        low, _ = bucket_range(bucket.bucket)
        return format_html('<span class="bo-number">{}</span>', to_text(max(low, 1)))

    @display(description="last number")
    def last_number(self, bucket: Bucket) -> str:
        _, high = bucket_range(bucket.bucket)
        return format_html('<span class="bo-number">{}</span>', to_text(high - 1))


@admin.register(BucketMove)
class BucketMoveAdmin(ReadOnlyList):
    """The page of a move, and what can be done about it, is in backoffice.resharding.pages."""

    list_display = ("name", "way", "status", "copied", "started", "by", "waited", "short_error")
    list_display_links = ("name",)
    list_filter = ("state",)
    ordering = ("-id",)

    def get_urls(self) -> list[URLPattern]:
        return [*pages.urls_of_moves(self), *super().get_urls()]

    @display(description="bucket")
    def name(self, move: BucketMove) -> str:
        return f"Bucket {move.bucket}"

    @display(description="from, to")
    def way(self, move: BucketMove) -> str:
        return f"{move.source} → {move.target}"

    @display(description="state", label=pages.COLOURS)
    def status(self, move: BucketMove) -> tuple[str, str]:
        return move.state, move.get_state_display()

    @display(description="rows copied")
    def copied(self, move: BucketMove) -> str:
        return format_html(
            '<progress class="bo-progress" max="100" value="{}" aria-label="Copied of bucket {}"></progress> {}',
            pages.percent(move),
            move.bucket,
            pages.copied(move),
        )

    started = time("started_at", "started")

    @display(description="writes waited")
    def waited(self, move: BucketMove) -> str | None:
        return None if move.closed_ms is None else f"{move.closed_ms} ms"

    @display(description="error")
    def short_error(self, move: BucketMove) -> str:
        return format_html('<span title="{}">{}</span>', move.error, Truncator(move.error).chars(60))
