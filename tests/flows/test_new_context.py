"""A new context is its folder and one line: `loyalty`, as its page of the documentation has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.harness.installations import temporary_installation
from lab.harness.shell import Shell
from tests.programs import consumers
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "add-a-subscriber.md").read_text()
FILE = re.compile(r"`(\w+/\w+\.py)`[^`]*:\n\n```python\n(.*?)```", re.DOTALL)
SETTINGS = """
from pathlib import Path

import backoffice
from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "loyalty"]
backoffice.__path__.append(str(Path(__file__).parent / "backoffice"))
"""

pytestmark = [pytest.mark.once, pytest.mark.slow]


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of the page in a folder of their own, and the environment in which they are installed."""
    for name, text in FILE.findall(PAGE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "loyalty" / "__init__.py").touch()
    (tmp_path / "with_loyalty_settings.py").write_text(SETTINGS)
    monkeypatch.syspath_prepend(tmp_path)  # for processes that are made by multiprocessing
    return {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "with_loyalty_settings"}


def test_context_of_the_page_works_in_a_flow(env: dict[str, str], tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= kept | {
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


@pytest.mark.services
def test_context_of_the_page_has_a_worker(env: dict[str, str], tmp_path: Path) -> None:
    name = f"wharf_{os.environ['TEST_RUN']}_loyalty"
    with temporary_installation(name, tmp_path, {**env, "DEBUG": "1"}) as made, Shell(made) as shell:
        shell.run("manage.py", "migrate_all", quiet=True)
        shell.run("manage.py", "setup_broker", quiet=True)
        worker = shell.spawn("manage.py", "run", "worker", "loyalty")
        try:
            wait_until(lambda: worker.poll() is not None or shell.call(consumers)["loyalty"] == 1, seconds=60)
            assert worker.poll() is None
        finally:
            worker.terminate()
            worker.wait(timeout=60)
