"""The folders form no circle: each can be read, and taken away, without those above it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Which folder imports which others. The events of the contexts are the ground that all stand on."""
    graph = grimp.build_graph(*FOLDERS)
    return {
        folder: {
            imported.partition(".")[0]
            for module in graph.find_descendants(folder) | {folder}
            for imported in graph.find_modules_directly_imported_by(module)
            if not imported.endswith(".events")
        }
        - {folder}
        for folder in FOLDERS
    }


def test_every_folder_with_python_in_it_is_looked_at() -> None:
    there = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/**/*.py")}
    assert set(FOLDERS) == there - {"tests", "var", "deploy", "docs"}


def test_the_folders_form_no_circle(imports: dict[str, set[str]]) -> None:
    left = dict(imports)
    while ready := [folder for folder, others in left.items() if not others & left.keys()]:
        for folder in ready:
            del left[folder]
    assert not left, f"these import each other: {left}"


def test_only_the_laboratory_looks_at_the_folder_that_configures_all(imports: dict[str, set[str]]) -> None:
    assert {folder for folder, others in imports.items() if "config" in others} <= {"lab"}
