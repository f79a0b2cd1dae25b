"""Reports by the clock. A run that comes twice writes the same again."""

from celery import shared_task
from django.utils import timezone

from monitoring import reports


@shared_task(name="monitoring.summarise_sales")
def summarise_sales() -> int:
    return reports.summarise_sales(timezone.localdate())


@shared_task(name="monitoring.report_stuck_orders")
def report_stuck_orders() -> int:
    return reports.report_stuck_orders(timezone.now())
