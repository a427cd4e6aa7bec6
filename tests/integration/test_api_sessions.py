"""Browsers that sign in with a key: what the cookie is, what it may, how it ends, and what other sites cannot do."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select, update

from api.security import SIGN_INS_PER_MINUTE
from indexer.db.models import PageSession, utc_now
from indexer.settings import Settings
from tests.api_kit import ServiceClient, changed, serving, wav

PAGE = {"X-Voxdex-Request": "page"}


@pytest.fixture(scope="module")
def service(module_settings: Settings) -> Iterator[ServiceClient]:
    """A service that needs keys."""
    with serving(changed(module_settings, "api", open=False)) as opened:
        yield opened


@pytest.fixture
def browser(service: ServiceClient) -> Iterator[httpx.Client]:
    """A client with cookies of its own."""
    with httpx.Client(base_url=service.base_url, timeout=60) as opened:
        yield opened


def key(service: ServiceClient, *scopes: str, gallery: str | None = None, limit: int | None = None) -> str:
    return service.runtime.keys.create(scopes=scopes, gallery=gallery, rate_limit_per_minute=limit).secret


def sign_in(browser: httpx.Client, secret: str, **headers: str) -> httpx.Response:
    return browser.post("/v1/session", json={"key": secret}, headers={**PAGE, **headers})


def test_a_key_becomes_a_cookie_that_may_what_the_key_may(service: ServiceClient, browser: httpx.Client) -> None:
    assert browser.get("/v1/session").json()["state"] == "signed_out"
    secret = key(service, "write")
    answer = sign_in(browser, secret)
    assert (answer.status_code, answer.json()["state"], answer.json()["scopes"]) == (
        200,
        "signed_in",
        ["read", "write"],
    )
    kept = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(kept.split("; "))
    assert "Secure" not in kept
    assert secret not in kept + answer.text
    assert browser.get("/v1/session").json() == answer.json()
    assert browser.get("/v1/galleries").status_code == 200
    assert browser.get("/v1/keys").status_code == 403


def test_only_the_hash_of_a_session_is_stored(service: ServiceClient, browser: httpx.Client) -> None:
    sign_in(browser, key(service, "read"))
    with service.runtime.database.read_scope() as session:
        stored = session.scalars(select(PageSession.token_sha256)).all()
    assert browser.cookies["voxdex_session"] not in stored


def test_a_browser_that_came_by_tls_keeps_the_cookie_to_it(service: ServiceClient, browser: httpx.Client) -> None:
    secure = sign_in(browser, key(service, "read"), Origin="https://voices.example", Host="voices.example")
    assert "Secure" in secure.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("given", ["vdx_0123456789abcdef_" + "a" * 43, "hunter2", "\x00"])
def test_what_is_no_key_in_force_signs_nobody_in(browser: httpx.Client, given: str) -> None:
    refused = sign_in(browser, given)
    assert refused.status_code in (401, 422)
    assert "set-cookie" not in refused.headers


def test_a_session_ends_with_signing_out_for_every_copy_of_its_cookie(
    service: ServiceClient, browser: httpx.Client
) -> None:
    sign_in(browser, key(service, "read"))
    copied = {"Cookie": f"voxdex_session={browser.cookies['voxdex_session']}"}
    assert browser.get("/v1/galleries").status_code == 200
    assert browser.delete("/v1/session", headers=PAGE).json()["state"] == "signed_out"
    assert "voxdex_session" not in browser.cookies
    assert service.get("/v1/galleries", headers=copied).status_code == 401
    assert browser.delete("/v1/session", headers=PAGE).status_code == 200


def test_a_session_ends_with_its_key_and_with_its_time(service: ServiceClient, browser: httpx.Client) -> None:
    secret = key(service, "read")
    sign_in(browser, secret)
    service.runtime.keys.revoke(secret.split("_")[1])
    assert browser.get("/v1/galleries").status_code == 401
    assert browser.get("/v1/session").json()["state"] == "signed_out"

    sign_in(browser, key(service, "read"))
    with service.runtime.database.session_scope() as session:
        session.execute(update(PageSession).values(expires_at=utc_now()))
    assert browser.get("/v1/galleries").status_code == 401
    sign_in(browser, key(service, "read"))
    with service.runtime.database.read_scope() as session:
        assert len(session.scalars(select(PageSession.id)).all()) == 1


def test_a_session_of_a_bound_key_sees_its_gallery_and_no_other(service: ServiceClient, browser: httpx.Client) -> None:
    admin = {"X-API-Key": key(service, "admin")}
    for name in ("mine", "theirs"):
        assert service.post("/v1/galleries", json={"name": name}, headers=admin).status_code == 201
    assert sign_in(browser, key(service, "read", gallery="mine")).json()["gallery"] == "mine"
    assert browser.get("/v1/galleries/mine").status_code == 200
    assert browser.get("/v1/galleries/theirs").status_code == 404


def test_a_session_counts_as_its_key_against_the_limit(service: ServiceClient, browser: httpx.Client) -> None:
    secret = key(service, "read", limit=2)
    sign_in(browser, secret)
    asked = [browser.get("/v1/galleries").status_code, service.get("/v1/galleries", headers={"X-API-Key": secret})]
    assert [asked[0], asked[1].status_code] == [200, 200]
    assert browser.get("/v1/galleries").status_code == 429


def test_what_changes_anything_needs_the_header_that_only_the_page_can_send(
    service: ServiceClient, browser: httpx.Client
) -> None:
    secret = key(service, "admin")
    assert browser.post("/v1/session", json={"key": secret}).status_code == 403  # Signed in by another site: no.
    sign_in(browser, secret)
    form = {"content-type": "audio/wav"}
    for refused in (
        browser.post("/v1/galleries", json={"name": "forged"}),
        browser.post("/v1/compare", content=wav(1), headers=form),
        browser.delete("/v1/galleries/forged"),
        browser.delete("/v1/session"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert browser.post("/v1/galleries", json={"name": "made"}, headers=PAGE).status_code == 201
    # Whoever has the key itself is no browser that somebody misleads.
    bearer = {"Authorization": f"Bearer {secret}"}
    assert browser.post("/v1/galleries", json={"name": "made too"}, headers=bearer).status_code == 201


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"}]
)
def test_another_site_cannot_use_a_session_even_to_read(
    service: ServiceClient, browser: httpx.Client, headers: dict[str, str]
) -> None:
    sign_in(browser, key(service, "admin"))
    assert browser.get("/v1/galleries", headers=headers).status_code == 401
    assert browser.post("/v1/galleries", json={"name": "x"}, headers={**PAGE, **headers}).status_code == 401
    assert sign_in(browser, key(service, "read"), **headers).status_code == 403
    assert browser.delete("/v1/session", headers={**PAGE, **headers}).status_code == 403
    assert browser.get("/v1/galleries").status_code == 200


def test_tries_to_sign_in_are_counted(module_settings: Settings) -> None:
    with serving(changed(module_settings, "api", open=False)) as service:
        tried = [
            sign_in(service, "vdx_0123456789abcdef_" + "a" * 43).status_code for _ in range(SIGN_INS_PER_MINUTE + 1)
        ]
    assert set(tried) == {401, 429}
    assert tried[-1] == 429


def test_a_service_without_keys_needs_no_session_and_minds_no_old_cookie(module_settings: Settings) -> None:
    with serving(changed(module_settings, "api", open=True)) as service:
        service.cookies.set("voxdex_session", "of-another-service-on-another-port")
        session = service.get("/v1/session").json()
        assert (session["state"], session["scopes"]) == ("open", ["read", "identify", "write", "admin"])
        assert service.post("/v1/galleries", json={"name": "opened"}).status_code == 201
        forged = service.post("/v1/galleries", json={"name": "y"}, headers={"sec-fetch-site": "cross-site"})
        assert forged.status_code == 403
