"""The rules of texts (values.text) at the doors: a field of forms, and a type for bodies and parameters of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from values.text import MOST_PARTS, InvalidText, Text


class TextField(forms.CharField):
    """What is typed, as it is stored; what the rule refuses is an error of the field."""

    def __init__(self, rule: Text, **options: Any) -> None:
        super().__init__(strip=False, **options)
        self.rule = rule
        self.widget.attrs.setdefault("maxlength", MOST_PARTS * rule.longest)  # browsers count other units than we do

    def to_python(self, value: Any) -> str:
        text = str(value or "")
        if text.isspace():
            text = ""
        if not text:
            return ""
        try:
            return self.rule.clean(text)
        except InvalidText as error:
            raise forms.ValidationError(f"{str(error).capitalize()}.", code="invalid_text") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether something else would be stored. What an older version has stored stays until somebody changes it."""
        if (initial or "") == (data or ""):
            return False
        try:
            return self.to_python(initial) != self.to_python(data)
        except forms.ValidationError:
            return True


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
