"""What can go wrong in the backbone; every message carries the numbers needed to understand it."""


class EventingError(Exception):
    """The backbone was used wrongly or found something that it cannot understand."""


class WrongExpectedVersion(EventingError):
    """Another writer appended to the stream first."""


class TransactionRequired(EventingError):
    """Events are appended only together with their effect: open `transaction.atomic(using=...)` first."""


class UnknownEventType(EventingError):
    """No event class is registered under this name."""


class UnknownSchemaVersion(EventingError):
    """The event was written by a newer program, or an upcaster is missing."""


class NotRedrivable(EventingError):
    """A dead letter cannot be sent again as it is."""


class Overloaded(EventingError):
    """Events are not published as fast as they are written; new work should wait."""


class Transient(Exception):
    """A handler could not act yet; it is called again later, with a growing pause."""
