"""What people come to the page for, done as they do it: by names and labels, with real voices, to the end."""

from typing import Any

import pytest

from tests.api_kit import ServiceClient
from tests.page_kit import GALLERY, Speech, Watched, heard_for


@pytest.fixture
def page(shown: Watched) -> Any:
    return shown.page


def verdict(page: Any, words: str) -> Any:
    """Wait until the answer says this."""
    said = page.get_by_role("region", name="Answer").get_by_role("status").filter(has_text=words)
    said.wait_for()
    return said


def test_a_known_voice_is_named_with_what_it_resembles_beside_it(shown: Watched, speech: Speech) -> None:
    page = shown.open("identify", "Identify")
    page.get_by_label("Recording").set_input_files(speech.probes["mcrt"])
    said = verdict(page, "This is mcrt")
    assert "times likelier" in said.inner_text()
    first = page.get_by_role("list", name="Candidates").get_by_role("listitem").first
    assert first.get_by_role("link").inner_text() == "mcrt"
    first.get_by_role("button", name="Listen").click()
    with page.expect_response(lambda answer: "/audio?" in answer.url) as heard:
        page.get_by_role("list", name="Candidates").get_by_role("button", name="Play").last.click()
    assert heard.value.status in (200, 206)
    assert heard.value.headers["content-type"] == "audio/wav"


def test_a_voice_is_looked_up_and_listened_to_without_a_mouse(shown: Watched, speech: Speech) -> None:
    page = shown.open("identify", "Identify")
    tab_to(page, page.get_by_label("Recording"))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(speech.probes["mcrt"])
    verdict(page, "This is mcrt")
    tab_to(page, page.get_by_role("button", name="Listen to mcrt"))
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Play mcrt's best match").and_(page.locator(":enabled")).wait_for()
    best = page.get_by_role("slider", name="Position in mcrt's best match")
    tab_to(page, best)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("slider => Number(slider.ariaValueNow) >= 1", arg=best.element_handle())
    tab_to(page, page.get_by_role("button", name="Play mcrt's best match"))


def tab_to(page: Any, control: Any) -> None:
    """Press Tab until a control has the focus, and see that it shows."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if control.evaluate("one => document.activeElement === one"):
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"sixty times Tab do not lead to {control}")


def test_a_stranger_is_nobody(shown: Watched, speech: Speech) -> None:
    page = shown.open("identify", "Identify")
    page.get_by_label("Recording").set_input_files(speech.stranger)
    verdict(page, "None of the enrolled speakers")


def test_in_a_conversation_each_voice_has_its_own_answer(shown: Watched, speech: Speech) -> None:
    page = shown.open("identify", "Identify")
    page.get_by_label("Recording").set_input_files(speech.conversation)
    said = verdict(page, "2 voices")
    assert "LS27" in said.inner_text()
    assert "LS4406" in said.inner_text()
    assert page.get_by_role("list", name="Candidates").count() == 2


def test_a_file_that_is_no_audio_is_refused_in_plain_words(shown: Watched, speech: Speech) -> None:
    page = shown.open("identify", "Identify")
    page.get_by_label("Recording").set_input_files(speech.manifest)
    page.get_by_role("alert").filter(has_text="not audio").first.wait_for()
    # The browser says itself that the request was answered with 4xx; that is no error of the page.
    assert shown.errors
    shown.errors[:] = [said for said in shown.errors if "415" not in said]


def test_a_claim_is_accepted_or_rejected(shown: Watched, speech: Speech) -> None:
    page = shown.open("verify", "Verify")
    page.get_by_label("Recording").set_input_files(speech.probes["mcrt"])
    for claimed, words in (("mcrt", "this is mcrt"), ("LS27", "not taken for LS27")):
        page.get_by_label("Speaker").fill(claimed)
        page.get_by_role("button", name="Verify").click()
        verdict(page, words)


def test_the_archive_is_searched_for_a_voice(shown: Watched, speech: Speech) -> None:
    page = shown.open("search", "Search the archive")
    page.get_by_label("Recording").set_input_files(speech.probes["LS27"])
    verdict(page, "Found in")
    hits = page.get_by_role("list", name="Recordings")
    assert "LS27" in hits.inner_text()
    assert hits.get_by_role("button", name="Play").count() >= 1


def test_a_microphone_is_as_good_as_a_file(shown: Watched) -> None:
    page = shown.open("identify", "Identify")
    page.get_by_role("button", name="Record", exact=True).click()
    heard_for(page, 3)
    page.get_by_role("button", name="Stop").click()
    verdict(page, "This is LS27")


def test_somebody_is_enrolled_found_and_erased(shown: Watched, speech: Speech, service: ServiceClient) -> None:
    page = shown.open("speakers", "Speakers")
    page.get_by_role("button", name="Enroll a speaker").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Ann Lee")
    dialog.get_by_label("Consent").fill("form 2026-114")
    dialog.get_by_label("Recording").set_input_files(speech.stranger)
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    dialog.get_by_role("status", name="Results").filter(has_text="Enrolled").wait_for()
    dialog.get_by_role("link", name="Show Ann Lee").click()
    page.get_by_role("heading", level=1, name="Ann Lee").wait_for()
    assert "form 2026-114" in page.get_by_role("region", name="In short").inner_text()

    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete Ann Lee")
    dialog.get_by_role("status").filter(has_text="1 recording").wait_for()
    dialog.get_by_role("button", name="Delete").click()
    page.get_by_role("heading", level=1, name="Speakers").wait_for()
    page.get_by_role("table", name="Speakers").get_by_text("mcrt").wait_for()
    assert page.get_by_text("Ann Lee").count() == 0
    assert service.get(f"/v1/galleries/{GALLERY}/speakers/Ann Lee").status_code == 404


def test_a_recording_shows_who_speaks_in_it_and_plays(shown: Watched, service: ServiceClient) -> None:
    listed = service.get(f"/v1/galleries/{GALLERY}/recordings").json()["items"]
    number = next(one["id"] for one in listed if one["speakers"] == ["mcrt"])
    with shown.page.expect_response(lambda answer: "/audio" in answer.url) as heard:
        shown.page.goto(f"{shown.url}/#/recordings/{number}")
    assert heard.value.status in (200, 206)
    shown.page.get_by_role("list", name="Voices").get_by_text("mcrt").first.wait_for()
    shown.page.get_by_role("button", name="Play").first.click()
    shown.page.get_by_role("button", name="Pause").first.wait_for()


def test_a_slider_tells_what_to_expect_of_another_threshold(shown: Watched) -> None:
    page = shown.open("quality", "Quality")
    card = page.get_by_role("region", name="Operating point")
    said = card.get_by_role("status")
    before = said.inner_text()
    slider = card.get_by_role("slider")
    slider.press("Home")
    said.filter(has_text="100 %").wait_for()
    assert said.inner_text() != before
    lowest = slider.get_attribute("aria-valuetext")
    slider.press("ArrowRight")
    page.wait_for_function(
        "([slider, lowest]) => slider.ariaValueText !== lowest", arg=[slider.element_handle(), lowest]
    )
    card.get_by_role("button", name="Back to where it is").click()
    page.wait_for_function("([said, before]) => said.innerText === before", arg=[said.element_handle(), before])


def test_everybody_on_the_map_leads_to_their_page(shown: Watched) -> None:
    page = shown.open("quality", "Quality")
    points = page.get_by_role("group", name="Map of the voices").get_by_role("link")
    points.first.wait_for()
    assert points.count() >= 8
    name = str(points.first.get_attribute("aria-label")).split(":")[0]
    points.first.press("Enter")
    page.get_by_role("heading", level=1, name=name, exact=True).wait_for()
