"""A field of a form for a text of the shop: what is typed is stored in the one form that its rule knows."""

from __future__ import annotations

from typing import Any

from django import forms

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
