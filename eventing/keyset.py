"""Paging by key: a page begins at the key of the last row of the page before, so no page costs more than the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from django.db.models import Q


def beyond(columns: Sequence[str], key: Sequence[Any], side: Literal["lt", "gt"] = "lt") -> Q:
    """The rows with a smaller key than this one, or a larger ("gt"), in a list sorted by these columns."""
    beyond_first = Q(**{f"{columns[0]}__{side}": key[0]})
    if len(columns) == 1:
        return beyond_first
    # The first condition lets the index start in the right place; the second cuts exactly.
    return Q(**{f"{columns[0]}__{side}e": key[0]}) & (beyond_first | beyond(columns[1:], key[1:], side))
