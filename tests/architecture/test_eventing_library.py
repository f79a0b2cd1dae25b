"""eventing is a library: the project on its page of the documentation runs with nothing else of this one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventing.conf import Conf, Setting

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "use-eventing-in-your-project.md").read_text()
FILE = re.compile(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)

pytestmark = pytest.mark.once


def test_project_of_the_page_runs_with_eventing_alone(tmp_path: Path) -> None:
    (tmp_path / "eventing").symlink_to(ROOT / "eventing")  # and nothing else of this project
    for name, text in FILE.findall(PAGE):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    ran = subprocess.run([sys.executable, "try_it.py"], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    [expected] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert ran.stdout == expected


def test_page_has_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(EVENTING_\w+)` \| `(.*?)` \|", PAGE, re.MULTILINE))
    assert rows == {name: repr(one.default) for name, one in vars(Conf).items() if isinstance(one, Setting)}


def test_eventing_reads_no_setting_of_others() -> None:
    read = {
        name
        for file in (ROOT / "eventing").rglob("*.py")
        for name in re.findall(r"\bsettings\.([A-Z]\w+)|settings, \"(\w+)\"", file.read_text())
    }
    assert read == {("DATABASES", "")}


def test_eventing_has_no_pages() -> None:
    assert not [file.name for file in (ROOT / "eventing").rglob("*") if file.suffix in (".html", ".css", ".js")]
    assert not list((ROOT / "eventing").rglob("admin.py"))
