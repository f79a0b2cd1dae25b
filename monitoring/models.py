"""What was found by the audits that ran in the background."""

from __future__ import annotations

from django.db import models


class AuditRun(models.Model):
    """One audit. `report` is that of `manage.py audit --json`, once it is finished; `was_clean` is None until then.

    Nobody (`by` is empty) is the clock. `error` says why there is no report.
    """

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    by = models.CharField(max_length=150, blank=True)
    settle_seconds = models.FloatField()
    progress = models.CharField(max_length=200, blank=True)
    was_clean = models.BooleanField(null=True, blank=True)
    report = models.JSONField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view", "add")
        verbose_name = "audit run"

    def __str__(self) -> str:
        return f"audit of {self.started_at:%Y-%m-%d %H:%M}"
