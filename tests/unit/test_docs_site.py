"""The site of the documentation builds strictly, holds every page, and asks no other server for anything."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import unavailable
from tests.docs_kit import REPOSITORY

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|alternate))[^>]*\bhref=["']?(https?:)?//"""
    r"""|url\(["']?(https?:)?//|@import"""
)
"""What a browser would fetch by itself from another server."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.exists():
        unavailable("zensical is not installed: make dev")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(REPOSITORY / "docs", folder / "docs", ignore=shutil.ignore_patterns("build", ".cache"))
    build = [zensical, "build", "--strict", "--config-file", "docs/zensical.toml"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "docs" / "build"


def test_every_page_becomes_a_page_of_the_site(site: Path) -> None:
    pages = {page.relative_to(REPOSITORY / "docs").with_suffix("") for page in (REPOSITORY / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    readmes = {page for page in pages if page.name == "README"}
    assert pages - readmes <= built
    assert {page.with_name("index") for page in readmes} <= built | {page.with_name("README") for page in built}


def test_the_site_asks_no_other_server_for_anything(site: Path) -> None:
    asks = [
        (file.name, found.group(0)[:120])
        for file in [*site.rglob("*.html"), *site.rglob("*.css")]
        for found in FETCHED.finditer(file.read_text(encoding="utf-8"))
    ]
    assert asks == []


def test_a_page_that_would_ask_another_server_is_found() -> None:
    assert FETCHED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    assert FETCHED.search('<script src="//cdn.example/a.js"></script>')
    assert not FETCHED.search('<a href="https://example.org">a link</a> <script src="assets/a.js"></script>')


def test_the_menu_leads_to_every_page_but_the_decisions() -> None:
    settings = tomllib.loads((REPOSITORY / "docs" / "zensical.toml").read_text(encoding="utf-8"))
    docs = REPOSITORY / "docs"
    led_to = list(pages_of(settings["project"]["nav"]))
    assert len(led_to) == len(set(led_to))
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    decisions = {page for page in pages if re.match(r"decisions/\d{4}-", page)}
    assert set(led_to) == pages - decisions
    listed = (docs / "decisions" / "README.md").read_text(encoding="utf-8")
    assert [page for page in decisions if f"({Path(page).name})" not in listed] == []


def pages_of(menu: list[Any]) -> Iterator[str]:
    for entry in menu:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from pages_of(target)
