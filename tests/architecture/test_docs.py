"""The documents name only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest.faults.catalogue import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_script_that_is_mentioned_exists(document: Path) -> None:
    mentioned = re.findall(r"`((?:tests|script|loadtest)/[\w./-]+?)(?:::\w+)?(?: [^`]*)?`", document.read_text())
    assert [path for path in mentioned if not (ROOT / path).exists()] == []


def test_every_promise_names_faults_and_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines() if line.startswith("| ")]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        proof = row.rstrip(" |").rpartition(" | ")[2]
        for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", proof):
            assert name in FAULTS, name
        for name in re.findall(r"`(test_\w+)`", proof):
            assert f"def {name}(" in tests, name
