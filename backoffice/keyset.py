"""Paging by key, for lists that grow with the orders: nothing is counted, and no page costs more than the first.

A page begins behind (`before`) or ends in front of (`after`) a row whose place in the list stands in the address.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import DateTimeField, Field, Model, QuerySet
from django.http import HttpRequest
from unfold.views import ChangeList

from eventing.keyset import beyond

BEFORE, AFTER = "before", "after"
SEPARATOR = "~"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def written(at: datetime) -> str:
    """A time in an address, to the microsecond."""
    return str((at - _EPOCH) // _MICROSECOND)


def read(text: str) -> datetime:
    """The time that was `written`; raises ValueError, OverflowError."""
    return _EPOCH + int(text) * _MICROSECOND


class KeysetPaginator(Paginator):
    """Says how its list is paged; the list fetches its rows itself."""

    template_name = "admin/backoffice/keyset_pages.html"


class KeysetChangeList(ChangeList):
    """Rows in the descending order of the admin's `ordering`, from `before` on or up to `after`.

    The order is the admin's own and no choice of the operator's, because it takes an index to begin in the middle.
    """

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str]:
        return [f"-{field.name}" for field in self._key]

    @property
    def _key(self) -> list[Field[Any, Any]]:
        """What the place of a row consists of."""
        return [self.lookup_opts.get_field(name.removeprefix("-")) for name in self.model_admin.ordering]

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        filters: dict[str, Any] = super().get_filters_params(params)
        return {name: value for name, value in filters.items() if name not in (BEFORE, AFTER)}

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Links of filters lead to the first page of what they leave."""
        return str(super().get_query_string({BEFORE: None, AFTER: None, **(new_params or {})}, remove))

    def get_results(self, request: HttpRequest) -> None:
        # The form of the search repeats the other parameters.
        for name in (BEFORE, AFTER):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        limit = self.list_per_page
        before, after = (self._place(request.GET.get(name, "")) for name in (BEFORE, AFTER))
        rows, columns = self.queryset, [field.name for field in self._key]
        if before is not None:
            rows = rows.filter(beyond(columns, before))
        elif after is not None:
            rows = rows.filter(beyond(columns, after, "gt")).reverse()
        found = list(rows[: limit + 1])
        more = len(found) > limit
        shown = found[:limit]
        backwards = after is not None and before is None
        if backwards:
            shown.reverse()
        self.result_list = shown
        self.result_count = len(shown)
        self.full_result_count = self.result_count  # else the page offers to show all, which no page does
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = KeysetPaginator(shown, limit)
        is_newest = before is None and (after is None or not more)
        self.first = None if is_newest else self.get_query_string()
        self.newer = None if is_newest or not shown else self._link(AFTER, shown[0])
        self.older = self._link(BEFORE, shown[-1]) if shown and (more or backwards) else None

    def _link(self, parameter: str, row: Model) -> str:
        values = (getattr(row, field.attname) for field in self._key)
        text = SEPARATOR.join(written(value) if isinstance(value, datetime) else str(value) for value in values)
        return self.get_query_string({parameter: text})

    def _place(self, text: str) -> list[Any] | None:
        """The values of the key that `_link` has written; None for anything else."""
        fields, parts = self._key, text.split(SEPARATOR)
        if len(parts) != len(fields):
            return None
        try:
            return [_value(field, part) for field, part in zip(fields, parts, strict=True)]
        except (ValueError, OverflowError, ValidationError):
            return None


def _value(field: Field[Any, Any], text: str) -> Any:
    value = read(text) if isinstance(field, DateTimeField) else field.to_python(text)
    field.run_validators(value)  # a number that the column cannot hold
    return value
