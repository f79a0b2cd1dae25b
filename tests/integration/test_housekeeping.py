"""What is too old is forgotten, a bounded part at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from eventing import tasks
from eventing.models import InboxEntry

pytestmark = pytest.mark.django_db(databases="__all__")


def handled(alias: str, stream_id: int, days_ago: float) -> None:
    at = timezone.now() - timedelta(days=days_ago)
    InboxEntry.objects.using(alias).create(
        stream_id=stream_id,
        category="note",
        version=1,
        subscriber="notes",
        attempts=1,
        published_at=at,
        handled_at=at,
    )


def test_old_inbox_rows_of_every_database_are_forgotten_and_young_ones_kept() -> None:
    kept = settings.EVENTING_INBOX_RETENTION_DAYS
    for alias in settings.DATABASES:
        handled(alias, 1, kept + 1)
        handled(alias, 2, kept - 1)

    assert tasks.prune_inbox() == len(settings.DATABASES)

    for alias in settings.DATABASES:
        assert list(InboxEntry.objects.using(alias).values_list("stream_id", flat=True)) == [2]
    assert tasks.prune_inbox() == 0


def test_one_run_forgets_a_bounded_number_of_rows() -> None:
    for stream_id in range(1, 8):
        handled("default", stream_id, settings.EVENTING_INBOX_RETENTION_DAYS + 1)

    assert tasks.prune_inbox(batch=2, batches=2) == 4
    assert tasks.prune_inbox(batch=2, batches=2) == 3
