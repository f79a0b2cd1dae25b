"""Orders hear of declined payments from now on. Those of before need nothing of them: they count as handled.

Without that the audit would take each of them for a message that got lost.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import migrations
from django.utils import timezone

from sharding import shards
from sharding.numbers import bucket_range
from sharding.router import database_of

BATCH = 2_000


def count_as_handled(apps: Any, schema_editor: Any) -> None:
    alias = schema_editor.connection.alias
    if alias not in shards.aliases() or not apps.get_model("orders", "Order").objects.using(alias).exists():
        return
    entry, event = apps.get_model("eventing", "InboxEntry"), apps.get_model("eventing", "Event")
    declines = event.objects.using(database_of("payments")).filter(
        category="payment",
        type="payment.declined",
        # Older ones have no inbox rows any more, and nobody looks for them.
        recorded_at__gt=timezone.now() - timedelta(days=settings.EVENTING_INBOX_RETENTION_DAYS),
    )
    for bucket in shards.buckets_of(alias):
        low, high = bucket_range(bucket)
        entries = [
            entry(
                stream_id=stream_id,
                category="payment",
                version=version,
                subscriber="orders",
                attempts=1,
                published_at=recorded_at,
                handled_at=recorded_at,
            )
            for stream_id, version, recorded_at in declines.filter(stream_id__gte=low, stream_id__lt=high).values_list(
                "stream_id", "version", "recorded_at"
            )
        ]
        entry.objects.using(alias).bulk_create(entries, batch_size=BATCH, ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("orders", "0003_find_by_tracking"), ("eventing", "0005_inbox_by_age")]

    operations = [migrations.RunPython(count_as_handled, migrations.RunPython.noop)]
