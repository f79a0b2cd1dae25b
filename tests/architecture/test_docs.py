"""The documents name only what is there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from lab.faults.catalogue import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_script_that_is_mentioned_exists(document: Path) -> None:
    mentioned = re.findall(r"`((?:tests|script|lab)/[\w./-]+?)(?:::\w+)?(?: [^`]*)?`", document.read_text())
    assert [path for path in mentioned if not (ROOT / path).exists()] == []


def names_in(path: Path) -> set[str]:
    """The functions, classes and constants of a module, and the methods and fields of its classes."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                names.add(prefix + node.name)
                collect(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    collect(ast.parse(path.read_text()).body, "")
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_in_a_file_exists(document: Path) -> None:
    named = re.findall(r"`([\w./-]+\.py)::([\w.]+)`", document.read_text())
    missing = [f"{file}::{name}" for file, name in named if name not in names_in(ROOT / file)]
    assert missing == []


def test_the_way_of_an_order_links_each_function_to_its_file() -> None:
    page = (ROOT / "docs" / "explanation" / "the-way-of-an-order.md").read_text()
    links = re.findall(r"\[`([\w./-]+\.py)::[\w.]+`\]\(\.\./\.\./([\w./-]+)\)", page)
    assert len(links) > 30
    assert [pair for pair in links if pair[0] != pair[1]] == []
    assert len(links) == page.count(".py::")


def commands_in(document: Path) -> Iterator[list[str]]:
    """The words of each `script/…` and `manage.py …` that stands in a code block, or is a code span of its own."""
    text = document.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    for line in [*lines, *re.findall(r"(?<!`)`((?:script/|manage\.py )[^`]+)`(?!`)", text)]:
        if found := re.match(r"(?:\w+=\S+ )*(script/\w+|manage\.py \w+)( .*)?$", re.split(r"\s#|\s{3,}", line)[0]):
            yield [*found[1].split(), *shlex.split(found[2] or "")]


@cache
def help_of(script: str) -> str:
    shown = subprocess.run([*script.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return shown.stdout


def unknown_options(parser: ArgumentParser, words: list[str]) -> list[str]:
    """Options that neither the command nor the subcommands that are named with it take."""
    known = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for name in set(words) & set(action.choices):
                known |= set(action.choices[name]._option_string_actions)
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_shown_takes_the_options_that_it_is_shown_with(document: Path) -> None:
    wrong = []
    for program, *words in commands_in(document):
        if program == "manage.py":
            name = words.pop(0)
            app = get_commands().get(name)
            command = None if app is None else load_command_class(app, name) if isinstance(app, str) else app
            if command is None or unknown_options(command.create_parser("manage.py", name), words):
                wrong.append(f"manage.py {name} {shlex.join(words)}")
        elif program != "script/test":  # which is pytest
            if program == "script/lab" and words:
                program = f"{program} {words.pop(0)}"
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            if options and any(not re.search(rf"{option}\b", help_of(program)) for option in options):
                wrong.append(f"{program} {shlex.join(words)}")
    assert wrong == []


def test_every_promise_names_faults_and_tests_that_exist() -> None:
    page = (ROOT / "docs" / "reference" / "guarantees.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        proof = row.rstrip(" |").rpartition(" | ")[2]
        for name in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", proof):
            assert name in FAULTS, name
        for name in re.findall(r"`(test_\w+)`", proof):
            assert f"def {name}(" in tests, name


def test_the_readme_is_short_and_names_every_folder() -> None:
    page = (ROOT / "README.md").read_text()
    assert page.count("\n") <= 150
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    rows = page.partition("## Folders")[2].partition("\n## ")[0]
    folders = {*packages, "deploy", "docs", "script", "tests"}
    assert {folder for folder in folders if f"[{folder}/]({folder})" not in rows} == set()


@pytest.mark.parametrize(
    "recipe,files", [("A new event of an order", 8), ("A new context", 6), ("A new field of the API", 6)]
)
def test_a_recipe_needs_few_files(recipe: str, files: int) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = page.partition(f"### {recipe}\n")[2].partition("\n##")[0]
    assert 0 < len(re.findall(r"^\| \d+ \|", rows, re.MULTILINE)) <= files
