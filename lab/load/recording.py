"""What the customers of a load test have done, as lines of a file: their process writes it, ours reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

PLACE = "place an order"  # the name of these requests
LATER = "told to come back later (503)"  # added to the name of those that were
OVERLOADED = "overloaded"  # the code of that answer


class Recorder:
    """Writes the file. Nothing reaches the disk before `flush`, which its owner calls every second or so."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, kind: str, *values: Any) -> None:
        """What `Recording.add` takes: a request, the number of an order, how many users there are, start and end."""
        self._file.write(
            json.dumps([kind, *(round(one, 4) if isinstance(one, float) else one for one in values)]) + "\n"
        )

    def flush(self) -> None:
        self._file.flush()


@dataclass(frozen=True, slots=True)
class Request:
    """Moments in seconds since the epoch; `failure` is empty if the answer was one that may be given."""

    answered_at: float
    seconds: float
    name: str
    failure: str = ""

    @property
    def sent_at(self) -> float:
        return self.answered_at - self.seconds


@dataclass(slots=True)
class Recording:
    """What is known of a load so far. `users` are moments and how many customers there were."""

    requests: list[Request] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    users: list[tuple[float, int]] = field(default_factory=list)
    started_at: float | None = None
    stopped_at: float | None = None

    @property
    def failures(self) -> list[Request]:
        return [request for request in self.requests if request.failure]

    def add(self, line: Sequence[Any]) -> None:
        kind, *values = line
        match kind:
            case "request":
                self.requests.append(Request(*values))
            case "order":
                self.orders += values
            case "users":
                self.users.append((values[0], values[1]))
            case "started_at" | "stopped_at":
                setattr(self, kind, values[0])
            case _:
                raise ValueError(f"{kind!r} is not a kind of line")


class Reader:
    """Reads what has been added to the file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.recording = Recording()

    def read(self) -> Recording:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]  # the last line may be half written
            self._offset += len(whole)
            for line in whole.splitlines():
                self.recording.add(json.loads(line))
        return self.recording
