"""What the laboratory's commands have in common on the command line."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.figures import Figure, missed, write
from lab.harness import say
from lab.harness.instances import Unusable
from lab.harness.shell import ShellError
from lab.harness.stack import StackError
from lab.harness.system import NotQuiet


def parser(name: str, description: str | None, *, json: bool = True, **options: object) -> argparse.ArgumentParser:
    """A parser for `script/NAME`, described by the first line of a docstring."""
    text = (description or "").partition("\n\n")[0]
    made = argparse.ArgumentParser(prog=f"script/{name}", description=text, **options)  # type: ignore[arg-type]
    if json:
        made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, too")
    return made


def number(
    kind: Callable[[str], float], least: float, most: float = float("inf"), *, above: bool = False
) -> Callable[[str], float]:
    """A type of argument: a number from `least`, or above it, to `most`."""

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most or (above and value == least) or value == float("inf"):
            limits = f"more than {least:g}" if above else f"at least {least:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {limits}{f' and at most {most:g}' if most < 1e18 else ''}")
        return value

    read.__name__ = "number"
    return read


def positive(text: str) -> float:
    return number(float, 0, above=True)(text)


def report(measure: Callable[[Path], list[Figure]], json: Path | None, *, strict: bool = True, **facts: object) -> int:
    """Measure in a temporary folder, and show the figures. Exit code 1: it failed or, if `strict`, missed a limit."""
    try:
        with tempfile.TemporaryDirectory(prefix="wharf-") as folder:
            figures = measure(Path(folder))
    except (Unusable, StackError, ShellError, NotQuiet) as error:
        say(str(error))
        return 1
    write(figures, json, **facts)
    return 1 if strict and missed(figures) else 0
