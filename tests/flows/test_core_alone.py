"""The core runs without its extensions: they are left out of INSTALLED_APPS, and their folders cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = """
from tests.settings import *

INSTALLED_APPS = [app for app in INSTALLED_APPS if app not in ("monitoring", "resharding", "seed")]
"""

pytestmark = [pytest.mark.once, pytest.mark.slow]


def test_an_order_is_placed_paid_and_shipped_by_the_core_alone(tmp_path: Path) -> None:
    (tmp_path / "core_alone_settings.py").write_text(SETTINGS)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = kept | {
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "PROFILE": "embedded",
        "DEMO_DIR": str(tmp_path / "data"),
        "LOG_LEVEL": "ERROR",
    }
    ran = subprocess.run(
        [sys.executable, "tests/flows/core_alone.py"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
