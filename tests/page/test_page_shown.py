"""Every page as it is shown: readable by everybody, in both themes, on wide and narrow screens."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.page_kit import Watched

PLACES = {
    "identify": "Identify",
    "verify": "Verify",
    "search": "Search the archive",
    "speakers": "Speakers",
    "speakers/mcrt": "mcrt",
    "recordings": "Recordings",
    "unknown": "Unknown voices",
    "jobs": "Jobs",
    "jobs/1": "Job 1",
    "quality": "Quality",
    "system": "System",
}


def grave(page: Any) -> list[str]:
    """Say what keeps somebody out of the page, by axe-core."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def settle(page: Any) -> None:
    page.wait_for_load_state("networkidle")
    page.locator(".loading").first.wait_for(state="detached")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody_in_both_themes(shown: Watched, theme: str) -> None:
    pictures = os.environ.get("VOXDEX_TEST_PICTURES")
    shown.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    wrong = {}
    for place, heading in PLACES.items():
        page = shown.open(place, heading)
        settle(page)
        if found := grave(page):
            wrong[place] = found
        if pictures:
            page.screenshot(path=Path(pictures) / f"{place.replace('/', '-')}-{theme}.png", full_page=True)
    assert wrong == {}


def test_no_page_is_wider_than_a_telephone(shown: Watched) -> None:
    shown.page.set_viewport_size({"width": 360, "height": 740})
    wide = {}
    for place, heading in PLACES.items():
        page = shown.open(place, heading)
        settle(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            wide[place] = width
    assert wide == {}


def test_the_navigation_leads_everywhere_by_keyboard(shown: Watched) -> None:
    page = shown.open("identify", "Identify")
    names = page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()
    assert len(names) == 9
    for name in names:
        page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).press("Enter")
        page.get_by_role("heading", level=1).filter(has_text=name.split()[0]).wait_for()


def test_a_theme_that_was_chosen_stays(shown: Watched) -> None:
    page = shown.open("system", "System")
    page.emulate_media(color_scheme="light")
    for _ in range(3):
        if "dark" in page.get_by_role("button", name="Theme").inner_text():
            break
        page.get_by_role("button", name="Theme").click()
    dark = page.locator("html[data-theme=dark]")
    dark.wait_for()
    page.reload()
    page.get_by_role("heading", level=1, name="System").wait_for()
    assert dark.count() == 1


def test_the_page_is_small(shown: Watched) -> None:
    sizes = []
    shown.page.on("response", lambda answer: sizes.append(answer.request.sizes()["responseBodySize"]))
    page = shown.open("identify", "Identify")
    settle(page)
    assert 0 < sum(sizes) < 500_000
