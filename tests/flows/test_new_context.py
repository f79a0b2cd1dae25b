"""A new context is its folder and one line: `loyalty`, as its page of the documentation has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "add-a-subscriber.md").read_text()
FILE = re.compile(r"`(loyalty/\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
SETTINGS = "from tests.settings import *\n\nINSTALLED_APPS = [*INSTALLED_APPS, 'loyalty']\n"

pytestmark = [pytest.mark.once, pytest.mark.slow]


def test_context_of_the_page_works_in_a_flow(tmp_path: Path) -> None:
    folder = tmp_path / "loyalty"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in FILE.findall(PAGE):
        (tmp_path / name).write_text(text)
    (tmp_path / "with_loyalty_settings.py").write_text(SETTINGS)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = kept | {
        "PYTHONPATH": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "with_loyalty_settings",
        "PROFILE": "embedded",
        "TEST_PROFILE": "embedded",
        "TEST_RUN": f"{os.environ['TEST_RUN']}_loyalty",
        "DEMO_DIR": str(tmp_path / "data"),
    }
    for command in (
        ["manage.py", "makemigrations", "loyalty"],
        ["-m", "pytest", "--ds=with_loyalty_settings", "-p", "no:cacheprovider", "-q", "tests/flows/with_loyalty.py"],
    ):
        ran = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
