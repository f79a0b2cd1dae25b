"""Starts and ends services and shops, and asks a running shop."""

from pathlib import Path
from typing import ClassVar

import environ

ROOT = Path(__file__).resolve().parent.parent.parent


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables in the file, by the rules of the settings; empty if there is none."""

    class File(environ.Env):
        ENVIRON: ClassVar[dict[str, str]] = {}

    if path.exists():
        File.read_env(path)
    return File.ENVIRON
