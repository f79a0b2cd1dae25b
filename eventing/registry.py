"""The names under which event classes are stored, their schema versions, and upcasters from older ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgspec

from eventing import chain
from eventing.errors import EventingError, UnknownEventType, UnknownSchemaVersion
from eventing.recorded import Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

_classes: dict[str, type[Event]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}
_sealed: set[str] = set()


def register_module(module: ModuleType, *, sealed: bool = False) -> None:
    """Register every event class of an `events.py`. Raises EventingError if two classes claim one name.

    What is `sealed` says what an outside system has done, such as a payment gateway: no operator may change it.
    """
    for value in vars(module).values():
        if isinstance(value, type) and dataclasses.is_dataclass(value) and hasattr(value, "TYPE"):
            register(value)
            if sealed:
                _sealed.add(value.TYPE)


def is_sealed(event_type: str) -> bool:
    return event_type in _sealed


def register(event_class: type[Any]) -> None:
    """Register one event class. Raises EventingError if another one has its name."""
    known = _classes.setdefault(event_class.TYPE, event_class)
    if known is not event_class:
        raise EventingError(f"{event_class.TYPE} is claimed by both {known!r} and {event_class!r}")
    describe(event_class)


def describe(*kinds: Any) -> None:
    """Have msgspec describe classes that it is to read, while one thread is there: to be called at import.

    It does so at the first reading otherwise, and a second thread that reads the same class just then follows the
    description that is not complete yet, which ends the process (msgspec 0.22: a segmentation fault).
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)


def upcaster(event_type: str, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Decorate a function that turns the data of `from_version` into that of the next version."""

    def register(function: Upcaster) -> Upcaster:
        _upcasters[event_type, from_version] = function
        return function

    return register


def event_classes() -> Iterator[type[Event]]:
    return iter(_classes.values())


def encode(event: Event) -> str:
    """The event as it is stored and hashed."""
    return chain.canonical(event)


def decode(event_type: str, schema_version: int, data: str | dict[str, Any]) -> Event:
    """The event of stored JSON (text, or already parsed), upcast to the current schema version.

    Raises UnknownEventType, UnknownSchemaVersion, or msgspec.ValidationError when the data has another shape.
    """
    event_class = _classes.get(event_type)
    if event_class is None:
        raise UnknownEventType(f"no event class is registered as {event_type!r}")
    current = event_class.SCHEMA_VERSION
    if schema_version == current and isinstance(data, str):
        return msgspec.json.decode(data, type=event_class)
    fields = msgspec.json.decode(data) if isinstance(data, str) else data
    for version in range(schema_version, current):
        step = _upcasters.get((event_type, version))
        if step is None:
            raise UnknownSchemaVersion(f"{event_type} {version} has no upcaster to {version + 1}")
        fields = step(fields)
    if schema_version > current:
        raise UnknownSchemaVersion(f"{event_type} {schema_version} is newer than {current}, the newest known here")
    return msgspec.convert(fields, event_class)
