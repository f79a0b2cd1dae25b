"""Subscribers: who reacts to which events. They are declared next to their handlers and read like a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eventing.errors import EventingError
from eventing.recorded import Event, Recorded

BatchHandler = Callable[[Sequence[Recorded[Any]]], None]
Effect = Callable[[Recorded[Any]], Callable[[], None]]
H = TypeVar("H", bound=BatchHandler)
F = TypeVar("F", bound=Effect)

ANY = "*"


class Subscriber:
    """A named queue of events and the handlers for their types.

    `database` says in which database an event's inbox row and effect are written; a handler gets events of one
    database at a time. Handlers run in parallel and see events at least once, in any order; the inbox makes each
    effect happen once.

    With `outside_effects`, what the handlers of `on` and `on_any` do does not stay in the databases (mail, messages for
    other programs). A replay leaves them out unless it may act outside; see `quietly`.
    """

    def __init__(self, name: str, *, database: Callable[[Recorded[Any]], str], outside_effects: bool = False) -> None:
        if name in _subscribers:
            raise EventingError(f"there are two subscribers named {name!r}")
        self.name = name
        self.database = database
        self.outside_effects = outside_effects
        self.handlers: dict[str, BatchHandler] = {}
        self.effects: dict[str, Effect] = {}
        self.quiet: dict[str, BatchHandler] = {}
        _subscribers[name] = self

    def on(self, *event_classes: type[Event]) -> Callable[[H], H]:
        """Handle batches of these events, inside the transaction in which they are marked as handled."""

        def register(handler: H) -> H:
            for event_class in event_classes:
                self._claim(event_class.TYPE)
                self.handlers[event_class.TYPE] = handler
            return handler

        return register

    def on_any(self, handler: H) -> H:
        """Handle batches of every event that has no handler of its own."""
        self._claim(ANY)
        self.handlers[ANY] = handler
        return handler

    def effect(self, event_class: type[Event]) -> Callable[[F], F]:
        """Act outside the database on single events of this type, and return what to write down afterwards.

        The handler is called outside any transaction and may be called again after a crash, so what it does must be
        idempotent by a key; what it returns is called in the transaction that marks the event as handled.
        """

        def register(handler: F) -> F:
            self._claim(event_class.TYPE)
            self.effects[event_class.TYPE] = handler
            return handler

        return register

    def quietly(self, *event_classes: type[Event]) -> Callable[[H], H]:
        """Handle a replay of these events that must not act outside, in place of the handler that does.

        It is idempotent by keys of its own: the inbox speaks of the whole effect, so it is not written here.
        """

        def register(handler: H) -> H:
            self.quiet |= {event_class.TYPE: handler for event_class in event_classes}
            return handler

        return register

    def acts_outside(self, event_type: str) -> bool:
        """Whether the effect of such an event reaches beyond the databases."""
        return event_type in self.effects or self.outside_effects

    def acts_inside(self, event_type: str) -> bool:
        """Whether a replay that must not act outside has something to do about such an event."""
        return self.wants(event_type) and (event_type in self.quiet or not self.acts_outside(event_type))

    def _claim(self, event_type: str) -> None:
        if event_type in self.handlers or event_type in self.effects:
            raise EventingError(f"subscriber {self.name!r} has two handlers for {event_type}")

    @property
    def types(self) -> set[str]:
        """The event types that have a handler; ANY among them if every type has one."""
        return {*self.handlers, *self.effects}

    def wants(self, event_type: str) -> bool:
        return event_type in self.handlers or event_type in self.effects or ANY in self.handlers

    def handler_of(self, event_type: str) -> BatchHandler:
        return self.handlers.get(event_type) or self.handlers[ANY]


_subscribers: dict[str, Subscriber] = {}


def get(name: str) -> Subscriber:
    """Raises EventingError if there is no such subscriber."""
    try:
        return _subscribers[name]
    except KeyError:
        raise EventingError(f"no subscriber {name!r}; there are {', '.join(sorted(_subscribers))}") from None


def all_subscribers() -> list[Subscriber]:
    return list(_subscribers.values())
