"""The door of a service that needs keys."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.page_files import PageFiles
from indexer.settings import load_settings
from tests.api_kit import ServiceClient, changed, serving
from tests.page_kit import Watched, absent, watched


@pytest.fixture(scope="module")
def locked(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    """A service that needs a key, with nothing in it: its encoder needs no weights."""
    page = PageFiles()
    if not page.is_built:
        absent("the page is not built: `make page` builds it")
    settings = changed(load_settings(home=tmp_path_factory.mktemp("home"), database={}), "api", open=False)
    with serving(settings, page=page) as client:
        yield client


@pytest.fixture
def door(browser: Any, locked: ServiceClient) -> Iterator[Watched]:
    yield from watched(browser, str(locked.base_url).rstrip("/"))


def test_a_key_opens_the_page_until_one_signs_out(door: Watched, locked: ServiceClient) -> None:
    page = door.page
    page.goto(door.url)
    page.get_by_label("API key").fill("vdx_0123456789abcdef_" + "a" * 43)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").filter(has_text="unknown or revoked").wait_for()
    door.errors[:] = [said for said in door.errors if "401" not in said]  # The browser's own word for the answer.

    page.get_by_label("API key").fill(locked.runtime.keys.create(scopes=["admin"]).secret)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Main").wait_for()
    assert page.evaluate("document.cookie") == ""  # No script can read it.
    page.reload()
    page.get_by_role("navigation", name="Main").wait_for()

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.reload()
    page.get_by_role("heading", name="Sign in").wait_for()
