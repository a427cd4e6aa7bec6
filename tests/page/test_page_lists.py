"""A list longer than a page: read on, narrowed by name and by label, and found again as it was left."""

import re
from typing import Any

import pytest

from indexer.db.galleries import Galleries
from indexer.db.speaker_records import SpeakerRecords
from indexer.types import GalleryId
from tests.api_kit import ServiceClient
from tests.page_kit import ANSWER_MS, Watched, settle

CROWD = "crowd"
PEOPLE, ON_A_PAGE = 120, 50


@pytest.fixture(scope="module", autouse=True)
def crowd(service: ServiceClient) -> None:
    """More people than pages hold, written into the record: enrolling them would take minutes."""
    assert service.post("/v1/galleries", json={"name": CROWD}).status_code == 201
    with service.runtime.services.database.session_scope() as session:
        gallery_id = GalleryId(Galleries(session).by_name(CROWD).id)
        for number in range(PEOPLE):
            labels = ["night shift"] if number >= PEOPLE - 2 else []
            SpeakerRecords(session, gallery_id).create(f"Person {number:03}", labels=labels)


@pytest.fixture
def page(shown: Watched) -> Any:
    opened = shown.open("speakers", "Speakers")
    opened.get_by_role("combobox", name="Gallery", exact=True).select_option(CROWD)
    opened.get_by_role("link", name="Person 000").wait_for()
    return opened


def shows(page: Any, *names: str) -> None:
    """Wait until the list holds these, in this order, and no others."""
    from playwright.sync_api import expect

    expect(page.get_by_role("table", name="Speakers").get_by_role("link")).to_have_text(list(names), timeout=ANSWER_MS)


def test_everybody_is_reached_page_by_page_in_one_order(page: Any) -> None:
    more = page.get_by_role("button", name="Show more")
    for shown in (ON_A_PAGE, 2 * ON_A_PAGE, PEOPLE):
        page.get_by_role("link", name=f"Person {shown - 1:03}").wait_for()
        shows(page, *[f"Person {number:03}" for number in range(shown)])
        if shown < PEOPLE:
            more.click()
    more.wait_for(state="detached")


def test_people_on_later_pages_are_found_by_a_part_of_their_name_and_by_a_label(page: Any) -> None:
    name = page.get_by_label("Name")
    name.fill("N 11")  # In whatever case.
    page.get_by_role("link", name="Person 110").wait_for()
    shows(page, *[f"Person {number}" for number in range(110, 120)])
    page.get_by_role("button", name="Show more").wait_for(state="detached")

    page.get_by_role("button", name="night shift").first.click()
    page.get_by_role("link", name="Person 110").wait_for(state="detached")
    shows(page, "Person 118", "Person 119")
    name.fill("Nobody")
    page.get_by_role("heading", name="Nobody fits the filter").wait_for()
    page.get_by_role("button", name="Show everybody").click()
    page.get_by_role("link", name="Person 000").wait_for()
    shows(page, *[f"Person {number:03}" for number in range(ON_A_PAGE)])
    assert name.input_value() == ""


def test_a_narrowed_list_is_as_it_was_left_when_one_comes_back_to_it(page: Any) -> None:
    page.get_by_label("Name").fill("119")
    page.get_by_role("link", name="Person 000").wait_for(state="detached")
    page.get_by_role("button", name="night shift").click()
    page.get_by_role("link", name="Person 119").click()
    page.get_by_role("heading", level=1, name="Person 119").wait_for()
    page.go_back()
    page.get_by_role("link", name="Person 119").wait_for()
    settle(page)
    shows(page, "Person 119")
    assert page.get_by_label("Name").input_value() == "119"
    page.get_by_role("button", name=re.compile("^Label night shift")).wait_for()
    # The menu leads to everybody.
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Speakers").click()
    page.get_by_role("link", name="Person 000").wait_for()
    assert page.get_by_label("Name").input_value() == ""


def test_a_long_list_is_read_as_far_and_shown_where_one_left_it(page: Any) -> None:
    more = page.get_by_role("button", name="Show more")
    more.click()
    page.get_by_role("link", name="Person 099").wait_for()
    more.click()
    late = page.get_by_role("link", name="Person 110")
    late.scroll_into_view_if_needed()
    settle(page)
    page.wait_for_function("(history.state || {}).scroll > 0")
    late.click()
    page.get_by_role("heading", level=1, name="Person 110").wait_for()
    page.go_back()
    late.wait_for()
    shows(page, *[f"Person {number:03}" for number in range(PEOPLE)])
    page.wait_for_function("window.scrollY > 1000")
    # Somebody who comes by the menu begins at its start.
    menu = page.get_by_role("navigation", name="Main")
    menu.get_by_role("link", name="Recordings").click()
    page.get_by_role("heading", level=1, name="Recordings").wait_for()
    menu.get_by_role("link", name="Speakers").click()
    page.get_by_role("link", name="Person 000").wait_for()
    shows(page, *[f"Person {number:03}" for number in range(ON_A_PAGE)])
