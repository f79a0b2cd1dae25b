"""Forms of the back office that notice what somebody else has saved since they were opened.

Each field carries the value that it was opened with (Django's `show_hidden_initial`). What is stored by now and differs
from it was saved by somebody else meanwhile: the form says so, takes over what its operator has not touched, and is
saved when it is sent again. What the operator has not changed is never written.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import connections
from django.forms.boundfield import BoundField
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

MEANWHILE = "Somebody else has saved this since you opened it. Look at the marked fields, then save again."
INCOMPLETE = "This form is not complete any more. Open the page anew."


class NoticesOtherEdits(forms.ModelForm):
    """The form of a row that exists."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = not field.disabled and not field.widget.is_hidden

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        guarded = [self[name] for name, field in self.fields.items() if field.show_hidden_initial]
        if any(_is_missing(bound) for bound in guarded):
            self.add_error(None, INCOMPLETE)
            return values
        changed = [bound for bound in guarded if not _same(bound, _opened(bound))]
        conflicts = [bound for bound in changed if not _same(bound, bound.data)]
        if conflicts:
            data: Any = self.data
            self.data = data.copy()
            self.add_error(None, MEANWHILE)
        for bound in conflicts:
            stored = bound.field.prepare_value(bound.initial)
            if _is_touched(bound):
                self.add_error(bound.name, f"Stored meanwhile: {_shown(bound)}. Saving again replaces it by yours.")
            else:
                self.add_error(bound.name, f"Changed meanwhile to: {_shown(bound)}. Saving again keeps it.")
                _fill_in(self.data, bound.field.widget, bound.html_name, stored)
            _fill_in(self.data, bound.field.hidden_widget(), bound.html_initial_name, stored)
        return values

    @cached_property
    def changed_data(self) -> list[str]:
        """The fields that differ from what is stored, not from what was opened: saved are only forms of the newest."""
        return [name for name, field in self.fields.items() if field.has_changed(self[name].initial, self[name].data)]


class EditableModelAdmin(ModelAdmin):
    """Pages whose forms notice what others have saved, and write only what their operator has changed.

    Rows also have columns that workers count in; saving a whole row would write back an old count.
    """

    save_always: tuple[str, ...] = ()

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        return _noticing(form) if kwargs.get("change") else form

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return _noticing(super().get_changelist_form(request, **kwargs))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row; locked if it is about to be saved, so that two forms are compared with it one after the other."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST" and connections[str(found._state.db)].in_atomic_block:
            rows = self.model._base_manager.using(found._state.db)
            found.refresh_from_db(from_queryset=rows.select_for_update(no_key=True))
        return found

    def save_model(self, request: HttpRequest, obj: Any, form: forms.ModelForm, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
        elif fields := {field.name for field in obj._meta.concrete_fields} & set(form.changed_data):
            obj.save(update_fields=[*fields, *self.save_always])


def _noticing(form: type[forms.ModelForm]) -> type[forms.ModelForm]:
    return type(form.__name__, (NoticesOtherEdits, form), {})


def _opened(bound: BoundField) -> Any:
    """What the field was opened with, as the browser has sent it back."""
    return bound.field.hidden_widget().value_from_datadict(bound.form.data, bound.form.files, bound.html_initial_name)


def _is_touched(bound: BoundField) -> bool:
    """Whether the operator has changed the field, whatever is stored by now."""
    opened = _opened(bound)
    if not isinstance(bound.field, forms.ModelChoiceField):  # which compares what was sent, and would query here
        opened = bound.field.to_python(opened)
    return bool(bound.field.has_changed(opened, bound.data))


def _is_missing(bound: BoundField) -> bool:
    widget = bound.field.hidden_widget()
    # Where several may be chosen, nothing chosen sends nothing.
    return not isinstance(widget, forms.MultipleHiddenInput) and widget.value_omitted_from_data(
        bound.form.data, bound.form.files, bound.html_initial_name
    )


def _same(bound: BoundField, sent: Any) -> bool:
    """Whether a value that was sent is the one that is stored."""
    stored = bound.initial
    if isinstance(stored, str) and isinstance(sent, str):  # browsers end lines in their own way, and forms strip blanks
        stored, sent = ("\n".join(text.splitlines()).strip() for text in (stored, sent))
    return not bound.field.has_changed(stored, sent)


def _shown(bound: BoundField) -> str:
    """The stored value as people read it, cut where it is long."""
    stored = bound.field.prepare_value(bound.initial)
    if isinstance(stored, bool):
        return "yes" if stored else "no"
    if isinstance(bound.field, forms.ModelChoiceField) and stored not in (None, ""):
        rows = bound.field.queryset.filter(  # type: ignore[union-attr]
            pk__in=stored if isinstance(stored, list | tuple) else [stored]
        )
        stored = ", ".join(bound.field.label_from_instance(row) for row in rows)
    text = "empty" if stored in (None, "", [], ()) else str(stored)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _fill_in(data: Any, widget: Any, name: str, value: Any) -> None:
    """Put a value into the (mutable) data of a form, where the browser would have put it for this widget."""
    widget = getattr(widget, "widget", widget)  # the admin wraps those that lead to another row
    match widget:
        case forms.MultiWidget(widgets=parts, widgets_names=suffixes):  # type: ignore[misc]
            values: Any = widget.decompress(value)
            for part, suffix, one in zip(parts, suffixes, values, strict=True):
                _fill_in(data, part, f"{name}{suffix}", one)
        case forms.SelectMultiple() | forms.CheckboxSelectMultiple() | forms.MultipleHiddenInput():
            data.setlist(name, [str(one) for one in value or ()])
        case forms.CheckboxInput() if not value:
            data.pop(name, None)
        case _:
            shown = widget.format_value(value)
            data[name] = "" if shown is None else shown
