"""Shapes that all parts of the API share: strict bodies, texts without control characters, pages with cursors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from ninja import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.problems import Problem
from values.text import InvalidText, Text

T = TypeVar("T")

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # control characters mean nothing in a text, and PostgreSQL takes no NUL
MAX_PAGE = 100
MAX_CURSOR = 2000  # a name of 200 characters, each written with six bytes, as base 64

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many items a page has at most.")]
Cursor = Annotated[
    str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before; opaque.", pattern=PRINTABLE)
]


class Body(BaseModel):
    """What a client sends: no unknown fields, and a number is a number, not a text that looks like one."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Answer(BaseModel):
    """What a client gets: the attributes of a row or event of the same names."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    """A part of a list; `next_cursor` asks for the next one and is null on the last."""

    items: list[T]
    next_cursor: str | None


def to_cursor(position: Any) -> str:
    """A place in a list as text in which nobody needs to look."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def from_cursor(cursor: str, shape: Any) -> Any:
    """The place in a list, of the given type; raises Problem `invalid_cursor` for anything else."""
    try:
        encoded = cursor.encode("ascii")
        decoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(decoded, type=shape)
    except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError) as error:
        raise invalid_cursor() from error


def invalid_cursor() -> Problem:
    return Problem("invalid_cursor", "This is not a cursor of this list.")


def schema_of(rule: Text) -> tuple[Any, ...]:
    """What makes a `str` of a body or a query into a text of this rule: `Annotated[str, *schema_of(rule)]`."""
    return (
        AfterValidator(_cleaner(rule)),
        WithJsonSchema({"type": "string", "minLength": rule.shortest, "maxLength": rule.longest}),
    )


def _cleaner(rule: Text) -> Callable[[str], str]:
    def clean(text: str) -> str:
        try:
            return rule.clean(text)
        except InvalidText as error:
            raise PydanticCustomError("invalid_text", "{reason}", {"reason": str(error).capitalize()}) from None

    return clean
