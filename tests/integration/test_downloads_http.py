"""Downloads against a server on the loopback that misbehaves in every way a test asks for."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer.downloads import ALTERNATIVE_TIMEOUT_S, FetchReport, UrlSource, fetch
from indexer.errors import DownloadFailed, HashMismatch
from indexer.http_download import download_to_part, state_path
from indexer.sources import SourceError
from tests.loopback_server import BLOCK, CONTENT, Server, running
from tests.waiting import eventually

OTHER = CONTENT[::-1]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Server()) as one:
        yield one


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.ckpt"


def get(server: Server, target: Path, content: bytes | None = CONTENT, **options: Any) -> FetchReport:
    digest = sha256(content) if content is not None else None
    return fetch([UrlSource(server.url)], target, sha256=digest, **options)


def leave_part(server: Server, target: Path, length: int) -> None:
    """Bring about what an interrupted download leaves: cut off twice without progress."""
    server.behavior.cuts = [length, 0]
    with pytest.raises(DownloadFailed, match=f"{length} bytes"):
        get(server, target)
    assert target.with_name(target.name + ".part").stat().st_size == length
    assert not target.exists()
    server.behavior.cuts = []
    server.behavior.requests.clear()


def test_a_file_arrives_with_its_hash_mode_and_progress(server: Server, target: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    report = get(server, target, progress=lambda done, total, label: seen.append((done, total, label)))
    assert report == FetchReport(target, sha256(CONTENT), UrlSource(server.url), len(CONTENT), resumed=False)
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o644
    assert target.parent.stat().st_mode & 0o777 == 0o700
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT), "model.ckpt")
    assert not list(target.parent.glob("*.part*"))


def test_a_cached_file_needs_no_network(server: Server, target: Path) -> None:
    get(server, target)
    server.behavior.requests.clear()
    report = get(server, target, offline=True)
    assert (report.source, report.bytes, server.behavior.requests) == (None, len(CONTENT), [])


def test_a_missing_file_offline_says_where_to_place_it(target: Path) -> None:
    with pytest.raises(DownloadFailed, match=re.escape(str(target))) as caught:
        fetch([], target, sha256=sha256(CONTENT), offline=True)
    assert sha256(CONTENT) in str(caught.value)
    assert "VOXDEX_CACHE" in str(caught.value)
    assert not target.parent.exists()


def test_a_damaged_cached_file_is_fetched_anew_and_refused_offline(server: Server, target: Path) -> None:
    get(server, target)
    target.write_bytes(OTHER)
    with pytest.raises(HashMismatch, match=f"{sha256(OTHER)}.*{sha256(CONTENT)}.*delete"):
        get(server, target, offline=True)
    assert get(server, target).source is not None
    assert target.read_bytes() == CONTENT


def test_damage_that_keeps_size_and_time_is_found_on_request(server: Server, target: Path) -> None:
    get(server, target)
    status = target.stat()
    target.write_bytes(OTHER)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(server, target, offline=True).source is None  # the price of not reading 83 MB at each start
    with pytest.raises(HashMismatch):
        get(server, target, offline=True, verify=True)


def test_a_redirect_is_followed_and_the_range_travels_along(server: Server, target: Path) -> None:
    source = UrlSource(server.url.replace("/file", "/from"))
    server.behavior.redirect_to = server.url
    server.behavior.cuts = [100_000, 0]
    with pytest.raises(DownloadFailed):
        fetch([source], target, sha256=sha256(CONTENT))
    server.behavior.cuts = []
    assert fetch([source], target, sha256=sha256(CONTENT)).resumed
    assert server.behavior.requests[-1] == ("/file", "bytes=100000-", '"one"')
    assert target.read_bytes() == CONTENT


def test_a_redirect_off_the_loopback_without_encryption_is_refused(server: Server, target: Path) -> None:
    server.behavior.redirect_to = "http://192.0.2.1/file"
    with pytest.raises(DownloadFailed, match="unencrypted"):
        fetch([UrlSource(server.url.replace("/file", "/from"))], target, sha256=sha256(CONTENT))


def test_a_redirect_loop_ends(server: Server, target: Path) -> None:
    server.behavior.redirect_to = server.url.replace("/file", "/from")
    with pytest.raises(DownloadFailed, match="302"):
        fetch([UrlSource(server.behavior.redirect_to)], target, sha256=sha256(CONTENT))


def test_connections_that_keep_breaking_are_continued_within_one_call(server: Server, target: Path) -> None:
    server.behavior.cuts = [300_000, 300_000, 300_000]
    report = get(server, target)
    assert target.read_bytes() == CONTENT
    assert report.resumed
    assert [wanted for _, wanted, _ in server.behavior.requests] == [
        None,
        "bytes=300000-",
        "bytes=600000-",
        "bytes=900000-",
    ]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    assert get(server, target).resumed
    assert server.behavior.requests == [("/file", "bytes=500000-", '"one"')]
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_taken_from_the_start(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    server.behavior.ranges = False
    assert not get(server, target).resumed
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_between_attempts_is_not_mixed(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    server.behavior.content, server.behavior.etag = OTHER, '"two"'
    assert not get(server, target, OTHER).resumed
    assert target.read_bytes() == OTHER


def test_a_file_that_changed_under_the_same_validator_is_fetched_again_from_the_start(
    server: Server, target: Path
) -> None:
    leave_part(server, target, 500_000)
    server.behavior.content = OTHER
    assert not get(server, target, OTHER).resumed
    assert [wanted for _, wanted, _ in server.behavior.requests] == ["bytes=500000-", None]
    assert target.read_bytes() == OTHER


@pytest.mark.parametrize(
    ("etag", "date", "sent"), [('W/"weak"', None, None), (None, "Mon, 01 Jan 2024", "Mon, 01 Jan 2024")]
)
def test_without_a_strong_tag_the_date_is_used_or_nothing(
    server: Server, target: Path, etag: str | None, date: str | None, sent: str | None
) -> None:
    server.behavior.etag, server.behavior.last_modified = etag, date
    leave_part(server, target, 500_000)
    assert get(server, target).resumed
    assert server.behavior.requests == [("/file", "bytes=500000-", sent)]


def test_a_file_of_unknown_hash_is_never_continued_without_a_validator(server: Server, target: Path) -> None:
    server.behavior.etag = None
    leave_part(server, target, 500_000)
    report = get(server, target, None)
    assert not report.resumed
    assert report.sha256 == sha256(CONTENT)
    assert server.behavior.requests == [("/file", None, None)]


def test_a_part_that_is_complete_is_recognized(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    target.with_name(target.name + ".part").write_bytes(CONTENT)
    assert get(server, target).resumed
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_discarded(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    target.with_name(target.name + ".part").write_bytes(CONTENT + b"more")
    assert not get(server, target).resumed
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_address_is_not_continued(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    state = state_path(target.with_name(target.name + ".part"))
    state.write_text(state.read_text().replace("/file", "/elsewhere"))
    assert not get(server, target).resumed


def test_a_damaged_note_beside_a_part_means_starting_anew(server: Server, target: Path) -> None:
    leave_part(server, target, 500_000)
    state_path(target.with_name(target.name + ".part")).write_text("{")
    assert not get(server, target).resumed
    assert target.read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_nothing_of_it_is_kept(server: Server, target: Path) -> None:
    server.behavior.content = OTHER
    with pytest.raises(HashMismatch, match=f"{sha256(OTHER)}, expected {sha256(CONTENT)}"):
        get(server, target)
    assert [path.name for path in target.parent.iterdir()] == [".model.ckpt.lock"]


def test_a_wrong_size_is_refused_before_its_bytes_are_taken(server: Server, target: Path) -> None:
    with pytest.raises(DownloadFailed, match=f"offers {len(CONTENT)} bytes where 7 are expected"):
        get(server, target, size_bytes=7)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_error_of_the_server_is_named(server: Server, target: Path, status: int) -> None:
    server.behavior.status = status
    with pytest.raises(DownloadFailed, match=f"127.0.0.1/file: the server answered {status} .*place the file"):
        get(server, target)
    assert len(server.behavior.requests) == 1


def test_a_body_without_its_length_is_taken_to_its_end(server: Server, target: Path) -> None:
    server.behavior.send_length = False
    assert get(server, target).bytes == len(CONTENT)


def test_a_truncated_body_without_its_length_is_noticed_by_size_or_hash(server: Server, target: Path) -> None:
    server.behavior.send_length = False
    server.behavior.cuts = [1000, 0]
    with pytest.raises(DownloadFailed, match="closed early after 1000 bytes"):
        get(server, target, size_bytes=len(CONTENT))
    server.behavior.cuts = [1000, 1000]
    with pytest.raises(HashMismatch):
        get(server, target.with_name("other"))


def test_a_body_longer_than_expected_is_cut_short(server: Server, target: Path) -> None:
    server.behavior.send_length = False
    with pytest.raises(DownloadFailed, match="more than the 1000 bytes"):
        get(server, target, size_bytes=1000)
    assert not list(target.parent.glob("*.part*"))


def test_the_next_source_is_asked_and_all_reasons_are_told(server: Server, target: Path) -> None:
    dead = UrlSource("http://127.0.0.1:1/dead")
    assert fetch([dead, UrlSource(server.url)], target, sha256=sha256(CONTENT)).source == UrlSource(server.url)
    server.behavior.status = 404
    with pytest.raises(DownloadFailed) as caught:
        fetch([dead, UrlSource(server.url)], target.with_name("other"), sha256=sha256(CONTENT))
    assert "127.0.0.1/dead: not reachable" in str(caught.value)
    assert "127.0.0.1/file: the server answered 404" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silent_server_is_passed_over_within_five_seconds(server: Server, target: Path) -> None:
    server.behavior.silent = True
    with running(Server()) as second:
        started = time.monotonic()
        report = fetch([UrlSource(server.url), UrlSource(second.url)], target, sha256=sha256(CONTENT))
        # The silent one says nothing for 20 s.
        assert ALTERNATIVE_TIMEOUT_S <= time.monotonic() - started < ALTERNATIVE_TIMEOUT_S + 14
        assert report.source == UrlSource(second.url)


def attempt(server: Server, target: Path, timeout_s: float = 2.0) -> None:
    target.parent.mkdir(exist_ok=True)
    download_to_part(server.url, target, timeout_s=timeout_s, hash_is_known=True)


def test_a_server_that_stalls_in_the_body_is_given_up_and_its_bytes_are_kept(server: Server, target: Path) -> None:
    server.behavior.pause_after = 4 * BLOCK
    server.behavior.ranges = False
    with pytest.raises(SourceError, match="fell silent"):
        attempt(server, target)
    assert target.stat().st_size == 4 * BLOCK


def test_a_server_that_drips_is_given_up(server: Server, target: Path) -> None:
    server.behavior.trickle = True
    server.behavior.ranges = False
    with pytest.raises(SourceError, match="less than 10000 bytes/s"):
        attempt(server, target)


def test_a_name_look_up_that_hangs_is_given_up(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **__: Any) -> Any:
        server.behavior.released.wait(20)
        raise OSError("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    target.parent.mkdir()
    started = time.monotonic()
    with pytest.raises(SourceError, match="no answer within"):
        download_to_part("https://example.invalid/x", target, timeout_s=0.4, hash_is_known=True)
    assert time.monotonic() - started < 10  # The look-up hangs for 20 s.


def test_proxies_of_the_environment_are_used(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file"))
    fetch([UrlSource("http://127.0.0.1:1/behind/proxy")], target, sha256=sha256(CONTENT))
    assert server.behavior.requests[0][0] == "http://127.0.0.1:1/behind/proxy"


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadFailed, match=r"cannot write .*VOXDEX_CACHE"):
        get(server, tmp_path / "file" / "model.ckpt")


def test_a_file_that_the_caller_refuses_gets_no_final_name(server: Server, target: Path) -> None:
    with pytest.raises(DownloadFailed, match="sent a file that is a login page"):
        get(server, target, None, problem_of=lambda path: f"is a login page{path.name[:0]}")
    assert not target.exists()


FETCH = """
import json, sys
from pathlib import Path
from indexer.downloads import UrlSource, fetch
report = fetch([UrlSource(sys.argv[1])], Path(sys.argv[2]), sha256=sys.argv[3])
print(json.dumps({"resumed": report.resumed, "cached": report.source is None}))
"""


def start_fetch(server: Server, target: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FETCH, server.url, str(target), sha256(CONTENT)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def wait_for_part(target: Path, length: int) -> None:
    part = target.with_name(target.name + ".part")
    eventually(lambda: part.exists() and part.stat().st_size >= length, told=lambda: "the download did not start")


def test_a_killed_process_leaves_what_the_next_one_continues(server: Server, target: Path) -> None:
    server.behavior.pause_after = 8 * BLOCK
    with start_fetch(server, target) as process:
        wait_for_part(target, 4 * BLOCK)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    server.behavior.pause_after = None
    assert get(server, target).resumed
    assert target.read_bytes() == CONTENT


def test_two_processes_download_once(server: Server, target: Path) -> None:
    server.behavior.pause_after = 8 * BLOCK
    with start_fetch(server, target) as first:
        wait_for_part(target, 4 * BLOCK)
        with start_fetch(server, target) as second:
            time.sleep(1.0)  # it is now waiting for the lock, or has broken it
            assert len(server.behavior.requests) == 1
            server.behavior.pause_after = None
            server.behavior.released.set()
            answers = [json.loads(process.communicate(timeout=120)[0]) for process in (first, second)]
    assert answers == [{"resumed": True, "cached": False}, {"resumed": False, "cached": True}]
    assert target.read_bytes() == CONTENT


@pytest.fixture
def https_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Path]]:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl command to make a certificate with")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure = Server()
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    with running(secure):
        yield secure, certificate


def test_https_is_verified_and_never_left_for_http(
    server: Server, https_server: tuple[Server, Path], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure, certificate = https_server
    url = secure.url.replace("http:", "https:")
    with pytest.raises(DownloadFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetch([UrlSource(url)], target, sha256=sha256(CONTENT))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.behavior.redirect_to = server.url
    with pytest.raises(DownloadFailed, match="redirects from https to unencrypted http"):
        fetch([UrlSource(url.replace("/file", "/from"))], target, sha256=sha256(CONTENT))
    assert fetch([UrlSource(url)], target, sha256=sha256(CONTENT)).bytes == len(CONTENT)
