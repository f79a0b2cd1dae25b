"""What the laboratory's commands have in common on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


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
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
