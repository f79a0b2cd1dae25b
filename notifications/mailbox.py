"""The folder of mails that are written to files where no mail server is configured."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings

KEEP_FILES = timedelta(days=30)


def prune_files(now: datetime) -> int:
    """Delete the files that are older than KEEP_FILES; returns how many."""
    folder = getattr(settings, "EMAIL_FILE_PATH", None)
    pruned = 0
    for file in Path(folder).glob("*.log") if folder else ():
        with suppress(FileNotFoundError):  # another worker was faster
            if file.stat().st_mtime < (now - KEEP_FILES).timestamp():
                file.unlink()
                pruned += 1
    return pruned
