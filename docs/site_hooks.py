"""Hooks of mkdocs: the menu comes from the folders of docs/, and files of code that pages link to become pages."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PARTS = ("tutorial", "how-to", "reference", "explanation")
CODE = "code"  # the folder of the site that has the files from outside docs/
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".html": "html+jinja", ".conf": "nginx", "": "bash"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu: the parts in their order, the pages of a part by name, its README first."""
    config.nav = ["README.md", *({part.capitalize(): _menu(DOCS / part)} for part in PARTS)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in every file outside docs/ that a page links to, and what these link to in turn."""
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        page = waiting.pop()
        for link, _ in LINK.findall(page.content_string):
            target = _target(page.src_uri, link)
            place = _place(target)
            if place.startswith(f"{CODE}/") and place not in files.src_uris and (ROOT / target).is_file():
                taken = File.generated(config, place, content=_content(ROOT / target))
                files.append(taken)
                if target.endswith(".md"):
                    waiting.append(taken)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ lead to the pages made of them."""
    uri = page.file.src_uri
    return LINK.sub(lambda found: f"]({_link(uri, found[1])}{found[2] or ''})", markdown)


def _menu(folder: Path) -> list[object]:
    pages = sorted(folder.glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    inner = [{path.name.capitalize(): _menu(path)} for path in sorted(folder.iterdir()) if any(path.glob("*.md"))]
    return [*(str(path.relative_to(DOCS)) for path in pages), *inner]


def _origin(uri: str) -> str:
    """Where in the repository a page of the site comes from."""
    return uri.removeprefix(f"{CODE}/").removesuffix(".md") if uri.startswith(f"{CODE}/") else f"docs/{uri}"


def _target(uri: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(_origin(uri)), link))


def _place(target: str) -> str:
    """Where in the site a file of the repository is."""
    return target.removeprefix("docs/") if target.startswith("docs/") else f"{CODE}/{target}.md"


def _link(uri: str, link: str) -> str:
    return posixpath.relpath(_place(_target(uri, link)), posixpath.dirname(uri) or ".")


def _content(path: Path) -> str:
    text = path.read_text()
    if path.suffix == ".md":
        return text
    return f"# {path.relative_to(ROOT)}\n\n`````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n`````\n"
