"""Keys that may little, and galleries with nothing in them: what is shown can be used, and says what to do."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.page_files import PageFiles
from indexer.settings import load_settings
from tests.api_kit import ServiceClient, changed, serving, wav
from tests.page_kit import Watched, absent, settle, watched

OURS, THEIRS = "calls", "board"

CHANGES = ("Enroll", "Edit", "Merge", "Delete", "Take", "Add", "Look for", "Make", "Revoke", "Name", "Stop", "Ask for")
"""How the names of controls begin that change something."""


@pytest.fixture(scope="module")
def locked(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    """A service that needs a key, with two galleries, one of them empty; its encoder needs no weights."""
    page = PageFiles()
    if not page.is_built:
        absent("the page is not built: `make page` builds it")
    settings = changed(load_settings(home=tmp_path_factory.mktemp("home"), database={}), "api", open=False)
    with serving(settings, page=page) as client:
        client.headers["Authorization"] = f"Bearer {client.runtime.keys.create(scopes=['admin']).secret}"
        for name in (OURS, THEIRS):
            assert client.post("/v1/galleries", json={"name": name}).status_code == 201
        for speaker, seed in (("Ann", 1), ("Ann", 2), ("Ben", 3)):
            sent = client.post(
                f"/v1/galleries/{OURS}/speakers/{speaker}/enrollments",
                files={"file": (f"{speaker}-{seed}.wav", wav(3, seed))},
            )
            assert sent.status_code == 201, sent.text
        yield client


@pytest.fixture
def door(browser: Any, locked: ServiceClient) -> Iterator[Watched]:
    yield from watched(browser, str(locked.base_url).rstrip("/"))


def sign_in(door: Watched, locked: ServiceClient, *scopes: str, gallery: str | None = None) -> list[str]:
    """Sign in with such a key, and return the pages that the navigation leads to."""
    secret = locked.runtime.keys.create(scopes=list(scopes), gallery=gallery).secret
    door.page.goto(door.url)
    door.page.get_by_label("API key").fill(secret)
    door.page.get_by_role("button", name="Sign in").click()
    links = door.page.get_by_role("navigation", name="Main").get_by_role("link")
    links.first.wait_for()
    return [str(name) for name in links.all_inner_texts()]


def changing(page: Any) -> list[str]:
    """Return the controls of a page that would change something."""
    names = [one.get_attribute("aria-label") or one.inner_text() for one in page.get_by_role("button").all()]
    return [name for name in names if name.strip().startswith(CHANGES)]


def test_a_key_that_may_read_one_gallery_is_shown_that_and_nothing_that_would_be_refused(
    door: Watched, locked: ServiceClient
) -> None:
    pages = sign_in(door, locked, "read", gallery=OURS)
    page = door.page
    assert pages == ["Speakers", "Recordings", "Unknown voices", "Jobs", "Quality", "System"]
    page.get_by_role("heading", level=1, name="Speakers").wait_for()  # The first page that it may see.
    assert page.get_by_label("Gallery").get_by_role("option").all_inner_texts() == [OURS]
    found = {}
    for place, heading in (
        ("speakers", "Speakers"),
        ("speakers/Ann", "Ann"),
        ("recordings", "Recordings"),
        ("recordings/1", "Ann-1.wav"),
        ("unknown", "Unknown voices"),
        ("jobs", "Jobs"),
        ("quality", "Quality"),
        ("system", "System"),
    ):
        door.open(place, heading)
        page.locator(".loading").first.wait_for(state="detached")
        found[place] = changing(page)
    settle(page)
    assert {place: names for place, names in found.items() if names} == {}
    page.goto(f"{door.url}/#/jobs?start=yes")  # As a link of somebody who may.
    page.get_by_text("Your key may look and not add.").wait_for()
    assert page.get_by_role("dialog").count() == 0
    page.goto(f"{door.url}/#/identify")
    page.get_by_role("heading", name="There is no such page").wait_for()
    # Nothing was refused meanwhile: the browser would have said so on its console.


@pytest.mark.parametrize("bound", [True, False])
def test_a_key_that_may_only_ask_can_ask(door: Watched, locked: ServiceClient, bound: bool) -> None:
    page = door.page
    assert sign_in(door, locked, "identify", gallery=OURS if bound else None) == ["Identify", "Verify", "Search"]
    if not bound:
        page.get_by_label("Name").fill(OURS)
        page.get_by_role("button", name="Ask this one").click()
    page.get_by_role("heading", level=1, name="Identify").wait_for()
    assert page.get_by_role("textbox", name="Gallery", exact=True).input_value() == OURS
    probe = {"name": "who.wav", "mimeType": "audio/wav", "buffer": wav(3, 1)}
    page.get_by_label("Recording").set_input_files(probe)
    candidates = page.get_by_role("list", name="Candidates")
    candidates.get_by_text("Ann", exact=True).wait_for()
    settle(page)
    assert candidates.get_by_role("link").count() == 0
    assert candidates.get_by_role("button", name="Listen").count() == 0
    page.get_by_role("link", name="Search").click()
    page.get_by_role("heading", level=1, name="Search the archive").wait_for()  # Not the page before.
    page.get_by_label("Recording").set_input_files(probe)
    page.get_by_role("list", name="Recordings").get_by_text("Ann-1.wav").wait_for()
    assert page.get_by_role("list", name="Recordings").get_by_role("button").count() == 0
    page.get_by_role("link", name="Verify").click()
    page.get_by_role("heading", level=1, name="Verify").wait_for()
    page.get_by_label("Recording").set_input_files(probe)
    page.get_by_label("Speaker").fill("Ann")
    page.get_by_role("button", name="Verify").click()
    page.get_by_role("region", name="Answer").get_by_role("status").filter(has_text="Ann").wait_for()
    settle(page)


def test_a_key_that_may_write_shows_a_refusal_in_plain_words(door: Watched, locked: ServiceClient) -> None:
    sign_in(door, locked, "write", gallery=THEIRS)
    page = door.page
    page.get_by_role("button", name="Enroll a speaker").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Cara")
    dialog.get_by_label("Recording").set_input_files(
        {"name": "note.wav", "mimeType": "audio/wav", "buffer": b"RIFF and no audio at all"}
    )
    dialog.get_by_role("button", name="Enroll", exact=True).click()
    dialog.get_by_role("status", name="Results").filter(has_text="not audio").wait_for()
    door.errors[:] = [said for said in door.errors if "415" not in said]  # The browser's own word for the answer.


def test_what_was_not_tried_is_not_called_free_of_errors(door: Watched, locked: ServiceClient) -> None:
    assert locked.post("/v1/galleries", json={"name": "once"}).status_code == 201
    for speaker, seed in (("Ann", 1), ("Ben", 3)):
        file = {"file": (f"{speaker}.wav", wav(3, seed))}
        assert locked.post(f"/v1/galleries/once/speakers/{speaker}/enrollments", files=file).status_code == 201
    sign_in(door, locked, "admin")
    page = door.page
    page.get_by_role("combobox", name="Gallery", exact=True).select_option("once")
    page.goto(f"{door.url}/#/quality")
    card = page.get_by_role("region", name="Operating point")
    card.get_by_text("cannot be told: nobody is enrolled with two").wait_for()
    assert "unknown share of own people" in str(card.get_by_role("slider").get_attribute("aria-valuetext"))
    page.get_by_role("region", name="Errors").get_by_text("Enroll somebody with a second recording").wait_for()
    settle(page)


def test_pages_of_an_empty_gallery_say_what_to_do(door: Watched, locked: ServiceClient) -> None:
    sign_in(door, locked, "admin")
    page = door.page
    page.get_by_role("combobox", name="Gallery", exact=True).select_option(THEIRS)
    for place, says, does in (
        ("identify", "Nobody is enrolled yet", "Enroll a speaker"),
        ("search", "The archive is empty", "Take a folder in"),
        ("speakers", "Nobody is enrolled yet", "Take a folder in"),
        ("recordings", "The archive is empty", "Take a folder in"),
        ("unknown", "No unknown voices were found yet", "Look for unknown voices"),
        ("jobs", "No archive was taken in yet", "Take an archive in"),
        ("quality", "Too few speakers to tell", "Enroll a speaker"),
    ):
        page.goto(f"{door.url}/#/{place}")
        empty = page.locator(".empty").filter(has_text=says)
        control = empty.get_by_role("button", name=does).or_(empty.get_by_role("link", name=does))
        control.wait_for()
    control.click()
    page.get_by_role("dialog", name="Enroll a speaker").wait_for()


def test_the_first_gallery_and_a_key_for_it_are_made_on_the_page(browser: Any, tmp_path: Any) -> None:
    settings = changed(load_settings(home=tmp_path / "home", database={}), "api", open=False)
    with serving(settings, page=PageFiles()) as client:
        for door in watched(browser, str(client.base_url).rstrip("/")):
            page = door.page
            page.goto(door.url)
            page.get_by_label("API key").fill(client.runtime.keys.create(scopes=["admin"]).secret)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_label("Name").fill("calls")
            page.get_by_role("button", name="Make the gallery").click()
            page.get_by_role("heading", name="Nobody is enrolled yet").wait_for()
            page.goto(f"{door.url}/#/system")
            page.get_by_role("button", name="Make a key").click()
            dialog = page.get_by_role("dialog", name="Make a key")
            dialog.get_by_label("admin").check()
            assert dialog.get_by_label("Opens").is_disabled()  # The service refuses an admin key for one gallery.
            dialog.get_by_label("admin").uncheck()
            dialog.get_by_label("Opens").select_option("calls")
            dialog.get_by_role("button", name="Make the key").click()
            assert dialog.get_by_role("status").locator("code").inner_text().startswith("vdx_")
