"""Where a move of a bucket can stand. Knows no database, so that programs outside the shop can name a step."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """The points of a move after which it stands somewhere else if the mover dies."""

    STARTED = "started"
    FENCED = "write fence installed"
    PREPARED = "tables made"
    COPIED = "copied"
    CLOSED = "write fence closed"
    DETACHED = "detached from the source"
    ATTACHED = "attached to the target"
    SWITCHED = "shard map switched"
    CLEARED = "source cleared"
    DROPPED = "source dropped"
