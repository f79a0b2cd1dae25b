"""What has happened to messages for customers. The stream has the message's id."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

CATEGORY = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSent:
    TYPE: ClassVar[str] = "notification.sent"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    channel: str
    about: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFailed:
    """Sending was given up after several attempts."""

    TYPE: ClassVar[str] = "notification.failed"
    SCHEMA_VERSION: ClassVar[int] = 1

    customer_id: int
    channel: str
    about: str
    error: str
    at: datetime
