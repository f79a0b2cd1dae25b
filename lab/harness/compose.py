"""Reads docker-compose.yml the way docker compose does, as far as its commands and environments are concerned."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.harness import ROOT

# `$$`, `$NAME`, or the start of `${NAME`; what follows the name is read by hand because it may hold further variables.
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*))")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


class ComposeError(Exception):
    """The file asks for something that is not there, or says something that is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One of the application's own services. `environment` is still to be interpolated; None hands a variable on."""

    name: str
    command: Any
    entrypoint: Any
    environment: Mapping[str, str | None]
    one_shot: bool

    def arguments(self, variables: Mapping[str, str]) -> list[str]:
        """The command line with its variables filled in. Raises ComposeError if a required one is missing."""
        return [*_words(self.entrypoint, variables), *_words(self.command, variables)]

    def environ(self, variables: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
        """The environment with its variables filled in, and `given` in place of what the file says.

        Raises ComposeError if a required variable is missing that `given` does not make needless.
        """
        filled = {
            name: interpolate(value, variables) if value is not None else variables[name]
            for name, value in self.environment.items()
            if name not in given and (value is not None or name in variables)
        }
        return {**filled, **given}


def read_services(path: Path = ROOT / "docker-compose.yml") -> dict[str, Service]:
    """The services that are built from this checkout, in the order of the file."""
    document = yaml.safe_load(path.read_text())
    dependencies = [service.get("depends_on", {}) for service in document["services"].values()]
    one_shot = {
        name
        for wanted in dependencies
        for name, how in wanted.items()
        if how["condition"] == "service_completed_successfully"
    }
    return {
        name: Service(
            name=name,
            command=service["command"],
            entrypoint=service.get("entrypoint", []),
            environment={key: _text(value) for key, value in service.get("environment", {}).items()},
            one_shot=name in one_shot,
        )
        for name, service in document["services"].items()
        if "build" in service
    }


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Fill in `$NAME`, `${NAME}` and the forms with a default, an alternative or an error message.

    Raises ComposeError for a missing variable that is required, and for text that compose would refuse.
    """
    result = ""
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        result += text[position:dollar]
        found = _REFERENCE.match(text, dollar)
        if found is None:
            raise ComposeError(f"not a variable at character {dollar} of {text!r}")
        position = found.end()
        if found["dollar"]:
            result += "$"
        elif found["plain"]:
            result += variables.get(found["plain"], "")
        else:
            end = _closing_brace(text, position)
            result += _resolve(found["braced"], text[position:end], variables)
            position = end + 1
    return result + text[position:]


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for position in range(start, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise ComposeError(f"a closing brace is missing in {text!r}")


def _resolve(name: str, rest: str, variables: Mapping[str, str]) -> str:
    value = variables.get(name)
    if not rest:
        return value or ""
    operator = next((operator for operator in _OPERATORS if rest.startswith(operator)), None)
    if operator is None:
        raise ComposeError(f"not understood: ${{{name}{rest}}}")
    argument = rest.removeprefix(operator)
    is_there = bool(value) if operator.startswith(":") else value is not None
    match operator[-1]:
        case "+":
            return interpolate(argument, variables) if is_there else ""
        case "-":
            return value or "" if is_there else interpolate(argument, variables)
        case _:
            if not is_there:
                raise ComposeError(f"{name} is not set: {interpolate(argument, variables)}")
            return value or ""


def _words(command: str | Sequence[str] | None, variables: Mapping[str, str]) -> list[str]:
    """A command written as text is split like a shell's, without a shell, after its variables are filled in."""
    match command:
        case None:
            return []
        case str():
            return shlex.split(interpolate(command, variables))
        case _:
            return [interpolate(str(word), variables) for word in command]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
