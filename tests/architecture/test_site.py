"""The site of docs/ builds without a broken link and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a browser loads by itself; other links only lead somewhere when somebody follows them.
LOADED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
)


def build(site: Path, **options: Path) -> subprocess.CompletedProcess[str]:
    config = options.get("config", ROOT / "mkdocs.yml")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "--site-dir", site]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    missing = [
        str(page) for page in pages if not (site / str(page.with_suffix(".html")).replace("README", "index")).exists()
    ]
    assert missing == []


def test_every_part_is_in_the_menu(site: Path) -> None:
    menu = re.findall(r'md-tabs__link">\s*(.*?)\s*</a>', (site / "index.html").read_text(), re.DOTALL)
    assert menu == ["Documentation", "Tutorial", "How-to", "Reference", "Explanation"]


def test_links_to_code_lead_to_pages_of_the_site(site: Path) -> None:
    page = (site / "tutorial" / "reading-the-code.html").read_text()
    assert 'href="../code/orders/domain.py.html"' in page
    assert "def decide" in re.sub("<[^>]*>", "", (site / "code" / "orders" / "domain.py.html").read_text())


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if "performance" not in path.parts]
    assert len(pages) > 30
    assert [str(path.relative_to(site)) for path in pages if LOADED.search(path.read_text())] == []


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("# Page\n\n[nowhere](missing.md)\n")
    options = (ROOT / "mkdocs.yml").read_text().replace("hooks:\n  - docs/site_hooks.py\n", "")
    (tmp_path / "mkdocs.yml").write_text(options)
    built = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert built.returncode != 0
    assert "missing.md" in built.stdout + built.stderr
