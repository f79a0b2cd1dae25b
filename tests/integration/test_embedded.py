"""The embedded profile is alone in its process, whatever services the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.harness import ROOT

QUESTION = """
from celery import current_app
from django.db import connections
from django.core.cache import caches
print(current_app.connection_for_read().transport_cls, current_app.connection_for_write().transport_cls)
print({connections[alias].vendor for alias in connections}, type(caches["default"]).__name__)
"""


def test_services_that_the_environment_names_are_not_used(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PROFILE": "embedded",
        "DEMO_DIR": str(tmp_path),
        "CELERY_BROKER_URL": "amqp://guest:guest@127.0.0.1:5672//",
        "DATABASE_URL": "postgres://root@127.0.0.1/wharf",
        "REDIS_URL": "redis://127.0.0.1:6379/9",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", QUESTION],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["memory memory", "{'sqlite'} LocMemCache"]
