"""The shard map for operators: which database owns which bucket. Buckets are moved by a command, not here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display

from sharding import shards
from sharding.models import Bucket
from sharding.numbers import BUCKETS, bucket_range, to_text


@admin.register(Bucket)
class BucketAdmin(ModelAdmin):
    list_display = ("bucket", "alias", "first_number", "last_number", "version", "moved_at")
    list_filter = ("alias",)
    list_filter_sheet = False
    list_per_page = BUCKETS
    list_before_template = "admin/sharding/bucket/map.html"
    readonly_fields = ("first_number", "last_number")
    ordering = ("bucket",)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        owned: dict[str, list[Bucket]] = {alias: [] for alias in shards.aliases()}
        for bucket in Bucket.objects.order_by("bucket"):
            owned.setdefault(bucket.alias, []).append(bucket)
        return super().changelist_view(request, {"owned": owned, **(extra_context or {})})

    @display(description="first number")
    def first_number(self, bucket: Bucket) -> str:
        low, _ = bucket_range(bucket.bucket)
        return format_html('<span class="bo-number">{}</span>', to_text(max(low, 1)))

    @display(description="last number")
    def last_number(self, bucket: Bucket) -> str:
        _, high = bucket_range(bucket.bucket)
        return format_html('<span class="bo-number">{}</span>', to_text(high - 1))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
