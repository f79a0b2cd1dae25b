"""What the seed has written in bulk."""

from django.db import models


class BulkBatch(models.Model):
    """Orders that the seed has written at once, to two databases one after the other.

    `unfinished` has the ids of its orders until both have them: a run that was cut off in between has left them in one.
    """

    orders = models.PositiveIntegerField()
    hot = models.BooleanField()  # all of the one customer with a great many
    unfinished = models.JSONField(null=True)
    written_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "storefront_bulkbatch"

    def __str__(self) -> str:
        return f"{self.orders} orders"
