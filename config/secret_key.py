"""Keys that sign: which ones are refused, and the one of an installation that was given none, made once and kept in a
file beside its data."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.environment import refuse

CHARACTERS = 50  # fewer than Django asks for, or fewer than five different ones, is a file that was cut or filled up
DIFFERENT = 5
# Every key that stands in this repository has one of these words in it, so that everybody knows that it is no secret.
KNOWN_WORDS = ("insecure", "only-for", "change", "example", "development", "password", "secret")
RANDOM_BYTES = 40  # what 50 random characters need at least when they are compressed
HOW_TO_MAKE_ONE = """python -c 'import secrets; print(secrets.token_urlsafe(50))'"""


def refuse_weak(name: str, key: str) -> None:
    """End the program if anybody could sign with this key."""
    if why := weakness(key):
        refuse(f"{name} {why}; with DEBUG=0 it can be what this prints: {HOW_TO_MAKE_ONE}")


def weakness(key: str) -> str:
    """Why others know the key, or can guess it; empty if they cannot."""
    if len(key) < CHARACTERS:
        return f"has {len(key)} characters, which are fewer than {CHARACTERS}"
    if word := next((word for word in KNOWN_WORDS if word in key.lower()), ""):
        return f"has the word {word!r} in it, so it is an example that everybody knows"
    if len(set(key)) < 2 * DIFFERENT or len(zlib.compress(key.encode())) < RANDOM_BYTES:
        return "repeats itself, so it can be guessed"
    return ""


def kept_in(file: Path) -> str:
    """The key in the file, which is made if it is missing or empty. Ends the program if it cannot be used."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(file.parent) as folder:
            key = _read(file)
            if key is None:
                key = secrets.token_urlsafe(CHARACTERS)
                _write(file, key)
                os.fsync(folder)
    except OSError as error:
        refuse(f"The secret key cannot be kept in {file}: {error.strerror or error}.")
    return key


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Two processes that start together use one key: the second finds that of the first."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield number
    finally:
        os.close(number)


def _read(file: Path) -> str | None:
    """The key; None if there is none. A file that holds something else may be a key that matters, so it stays."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    key = content.decode("ascii", "replace").strip()
    if not key:
        sys.stderr.write(f"{file} is empty, as after a full disk: a new key is made, everybody has to sign in again.\n")
        return None
    if len(key) < CHARACTERS or len(set(key)) < DIFFERENT or not re.fullmatch(r"[!-~]+", key):
        refuse(
            f"{file} is not a secret key: it has {len(content)} bytes, and a key is {CHARACTERS} or more printable"
            " ASCII characters without blanks. Delete it and a new one is made; everybody has to sign in again then."
        )
    return key


def _write(file: Path, key: str) -> None:
    """The file is there as a whole or not at all."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(number, "w") as output:
            output.write(key)
            output.flush()
            os.fsync(output.fileno())
        Path(name).replace(file)
    except OSError:
        Path(name).unlink()
        raise
