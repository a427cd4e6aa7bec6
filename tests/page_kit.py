"""What tests of the page share: real recordings, and a page of which everything that goes wrong is noted."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

GALLERY = "calls"
ANSWER_MS = 60_000
"""How long the page may take for an answer: two cores that others use too embed a recording in it."""


def absent(reason: str) -> NoReturn:
    """Skip for a stated reason, or fail where `make test-page` has promised a browser."""
    if os.environ.get("VOXDEX_TEST_PAGE") == "1":
        pytest.fail(f"required here, and not available: {reason}")
    pytest.skip(reason)


@dataclass(frozen=True)
class Speech:
    """Real recordings: of known people with a manifest, others of theirs, of a stranger, of a conversation; an archive
    of which one file is none, one that takes long, two recordings of somebody without a name, and what the microphone
    hears: LS27."""

    manifest: Path
    archive: Path
    long: Path
    probes: dict[str, Path]
    stranger: Path
    conversation: Path
    unnamed: tuple[Path, Path]
    spoken: Path


@dataclass
class Watched:
    """A page, and everything that went wrong in it."""

    page: Any
    url: str
    errors: list[str] = field(default_factory=list)

    def open(self, place: str, heading: str) -> Any:
        """Go to a place of the page and wait for its heading."""
        self.page.goto(f"{self.url}/#/{place}")
        self.page.get_by_role("heading", level=1, name=heading, exact=True).wait_for()
        return self.page


def watched(browser: Any, url: str, **context: Any) -> Iterator[Watched]:
    """Open a page and note what goes wrong in it; in the end nothing must have."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, **context) as opened:
        page = opened.new_page()
        page.set_default_timeout(ANSWER_MS)
        seen = Watched(page, url)
        page.on("console", lambda said: seen.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda sent: None if _is_here(sent.url, url) else seen.errors.append(f"left: {sent.url}"))
        yield seen
        assert seen.errors == [], seen.errors


def heard_for(recorder: Any, seconds: int) -> None:
    """Wait until a recorder has heard so much, or more: a busy browser does not show every second."""
    timer = recorder.get_by_role("timer")
    timer.wait_for()
    timer.page.wait_for_function(
        "([timer, least]) => { const [m, s] = timer.innerText.match(/(\\d+):(\\d+)/).slice(1).map(Number);"
        " return 60 * m + s >= least; }",
        arg=[timer.element_handle(), seconds],
    )


def settle(page: Any) -> None:
    """Wait until everything that the page shows has come."""
    page.wait_for_load_state("networkidle")
    page.locator(".loading").first.wait_for(state="detached")


def _is_here(address: str, url: str) -> bool:
    return address.startswith((url + "/", "blob:" + url, "data:"))
