"""Every page as it is shown: readable by everybody, in both themes, on wide and narrow screens."""

from pathlib import Path
from typing import Any

from tests.api_kit import ServiceClient
from tests.page_kit import GALLERY, Watched, settle

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


SOON_MS = 30_000

WIDTHS = (360, 375, 768, 1920)

NEEDED_WIDTH = """() => new Promise((told) => requestAnimationFrame(() => requestAnimationFrame(
    () => told(document.documentElement.scrollWidth))))"""


def grave(page: Any, *rules: str) -> list[str]:
    """Say what keeps somebody out of the page, by these rules of axe-core, or by all."""
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_every_page_can_be_read_by_everybody_in_both_themes_and_on_every_screen(
    shown: Watched, service: ServiceClient
) -> None:
    recording = service.get(f"/v1/galleries/{GALLERY}/recordings").json()["items"][0]
    wrong: dict[str, list[str]] = {}
    for place, heading in {**PLACES, f"recordings/{recording['id']}": Path(recording["uri"]).name}.items():
        page = shown.open(place, heading)
        settle(page)
        faults = []
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.locator(f"html[data-theme={theme}]").wait_for(state="attached")
            page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")  # Colors change.
            # What else axe looks at is the same in both themes.
            faults += [f"{theme}: {fault}" for fault in grave(page, *(["color-contrast"] if theme == "dark" else []))]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (needed := page.evaluate(NEEDED_WIDTH)) > width:
                faults.append(f"{needed} px wide on a screen of {width}")
        page.set_viewport_size({"width": 1280, "height": 900})
        if faults:
            wrong[place] = faults
    assert wrong == {}
    # axe-core puts a style of its own beside the one of the player that it looks into, and the policy refuses it.
    shown.errors[:] = [said for said in shown.errors if "inline style" not in said]


def test_on_a_telephone_the_menu_leads_everywhere(shown: Watched) -> None:
    page = shown.open("identify", "Identify")
    page.set_viewport_size({"width": 375, "height": 667})
    link = page.get_by_role("link", name="Recordings", exact=True)
    assert not link.is_visible()
    menu = page.get_by_role("button", name="Menu")
    menu.click()
    link.click()
    page.get_by_role("heading", level=1, name="Recordings").wait_for()
    link.wait_for(state="hidden")
    assert menu.get_attribute("aria-expanded") == "false"


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


def test_the_page_is_small_and_soon_usable(shown: Watched) -> None:
    sizes = []
    shown.page.on("response", lambda answer: sizes.append(answer.request.sizes()["responseBodySize"]))
    page = shown.open("identify", "Identify")
    settle(page)
    assert 0 < sum(sizes) < 500_000
    # By far: python -m tests.reports.page measures it. What takes this long on any machine waits for something.
    assert page.evaluate("performance.getEntriesByName('usable')[0].startTime") < SOON_MS
