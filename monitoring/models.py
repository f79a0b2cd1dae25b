"""What monitoring has to write down: circuits that are not closed, which only their own processes know about."""

from django.db import models


class OpenCircuit(models.Model):
    """A process leaves a service alone until `retry_at`, and then lets the next call decide."""

    pk = models.CompositePrimaryKey("name", "process")
    name = models.CharField(max_length=40)
    process = models.CharField(max_length=100)
    since = models.DateTimeField()
    retry_at = models.DateTimeField()
    error = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.name} in {self.process}"
