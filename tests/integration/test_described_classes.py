"""Two threads that read the same class for the first time: msgspec would end the process if it were not described."""

from __future__ import annotations

from typing import Any

import pytest

from eventing import registry
from eventing.recorded import Metadata
from eventing.wire import Envelope, Message
from lab.harness.shell import Shell
from monitoring.audit.portions import Round

pytestmark = pytest.mark.once

READ = (Metadata, Message[Any], Message[Envelope], Round)  # what msgspec knows of a plain Struct cannot be seen


def unknown() -> list[str]:
    """The classes that msgspec does not know in a process that has read nothing yet."""
    kinds = (*READ, *registry.event_classes())
    return [repr(kind) for kind in kinds if "__msgspec_cache__" not in vars(kind)]


def test_what_is_read_is_described_before_the_first_reading() -> None:
    with Shell({}) as shell:
        assert shell.call(unknown) == []
