"""Reads a `.env` file without putting it into the environment of this process."""

from pathlib import Path
from typing import ClassVar

import environ


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables in the file, by the rules of the settings; empty if there is none."""

    class File(environ.Env):
        ENVIRON: ClassVar[dict[str, str]] = {}

    if path.exists():
        File.read_env(path)
    return File.ENVIRON
