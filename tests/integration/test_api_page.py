"""What browsers are sent: the page under every address that is not the API's, and headers that keep it to itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.page_files import PageFiles
from indexer.settings import load_settings
from tests.api_kit import ServiceClient, serving

BROWSER = {"accept": "text/html,application/xhtml+xml"}
INDEX = b'<!doctype html><script type="module" src="/assets/index-1a2b.js"></script>'
SCRIPT = b"export const voices = 1;\n" * 200


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page as the build leaves it, with something beside it that is not for anybody."""
    folder = tmp_path_factory.mktemp("page") / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(INDEX)
    (folder / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (folder / "assets" / "index-1a2b.js.br").write_bytes(b"packed")
    (folder / "icon.svg").write_bytes(b"<svg/>")
    (folder.parent / "secret.txt").write_bytes(b"secret")
    return folder


@pytest.fixture(scope="module")
def client(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    with serving(load_settings(home=tmp_path_factory.mktemp("home")), page=PageFiles(dist)) as opened:
        yield opened


def get(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return client.get(path, headers={"accept-encoding": "identity", **headers})


@pytest.mark.parametrize("path", ["/", "/index.html", "/speakers", "/galleries/calls/speakers/Ann%2FLee", "/v2"])
def test_every_address_that_is_not_of_the_api_is_the_page(client: ServiceClient, path: str) -> None:
    answer = get(client, path, **BROWSER)
    assert (answer.status_code, answer.content) == (200, INDEX)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"  # Another build has other files behind the same addresses.


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("GET", "/v1"), ("POST", "/speakers"), ("GET", "/metrics/x"), ("DELETE", "/")],
)
def test_what_is_not_there_below_the_api_is_a_problem_no_page(client: ServiceClient, method: str, path: str) -> None:
    answer = client.request(method, path, headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone.js",
        "/favicon.ico",
        "/../secret.txt",
        "/..%2Fsecret.txt",
        "/%2e%2e/secret.txt",
        "/assets/../../secret.txt",
    ],
)
def test_a_file_that_is_not_of_the_page_is_not_sent(client: ServiceClient, path: str) -> None:
    answer = get(client, path, accept="*/*")
    assert answer.status_code == 404
    assert b"secret" not in get(client, path, **BROWSER).content


def test_a_file_whose_name_tells_its_content_is_kept_for_ever_and_others_are_asked_for(client: ServiceClient) -> None:
    script = get(client, "/assets/index-1a2b.js")
    assert (script.content, script.headers["content-type"]) == (SCRIPT, "text/javascript; charset=utf-8")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    icon = get(client, "/icon.svg")
    assert (icon.headers["content-type"], icon.headers["cache-control"]) == ("image/svg+xml", "no-cache")
    again = get(client, "/icon.svg", **{"if-none-match": icon.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_is_sent_compressed_to_whoever_takes_it(client: ServiceClient) -> None:
    gzipped = client.get("/assets/index-1a2b.js", headers={"accept-encoding": "gzip"})
    assert (gzipped.headers["content-encoding"], gzipped.content) == ("gzip", SCRIPT)
    assert int(gzipped.headers["content-length"]) < len(SCRIPT) / 4
    with client.stream("GET", "/assets/index-1a2b.js", headers={"accept-encoding": "gzip, br;q=1"}) as packed:
        assert (packed.headers["content-encoding"], b"".join(packed.iter_raw())) == ("br", b"packed")
    etags = {answer.headers["etag"] for answer in (gzipped, packed, get(client, "/assets/index-1a2b.js"))}
    assert len(etags) == 3
    assert get(client, "/assets/index-1a2b.js.br", accept="*/*").status_code == 404


def test_the_page_may_load_nothing_from_elsewhere_and_run_no_script_of_a_document(client: ServiceClient) -> None:
    for answer in (get(client, "/", **BROWSER), get(client, "/assets/index-1a2b.js")):
        rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["base-uri"] == "'none'"
        assert not [rule for rule in rules.values() if "http" in rule or "*" in rule or "unsafe-eval" in rule]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "microphone=(self)" in answer.headers["permissions-policy"]
        assert "camera=()" in answer.headers["permissions-policy"]


def test_style_elements_need_a_nonce_that_no_two_answers_share(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b'<meta name="csp-nonce" content="CSP_NONCE">')
    with serving(load_settings(home=tmp_path / "home"), page=PageFiles(tmp_path)) as client:
        answers = [get(client, "/", **BROWSER) for _ in range(2)]
    nonces = {answer.text.split('"')[3] for answer in answers}
    assert len(nonces) == 2
    assert "CSP_NONCE" not in nonces
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert f"style-src 'self' 'nonce-{answer.text.split(chr(34))[3]}'" in answer.headers["content-security-policy"]
        assert "unsafe-inline" not in answer.headers["content-security-policy"]


def test_answers_of_the_api_are_kept_nowhere_and_shown_in_no_frame(client: ServiceClient) -> None:
    for answer in (client.get("/v1/galleries"), client.get("/v1/nothing"), client.get("/healthz")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_another_build_is_sent_without_a_restart_and_none_says_how_to_make_one(tmp_path: Path) -> None:
    files = PageFiles(tmp_path / "dist")
    with serving(load_settings(home=tmp_path / "home"), page=files) as client:
        unbuilt = get(client, "/", **BROWSER)
        assert "make page" in unbuilt.text
        assert unbuilt.headers["cache-control"] == "no-store"
        assert get(client, "/healthz").json() == {"status": "ok"}
        (tmp_path / "dist").mkdir()
        (tmp_path / "dist" / "index.html").write_bytes(INDEX)
        assert get(client, "/", **BROWSER).content == INDEX
