"""What every route has in common: paths, pages, keys, errors, limits."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from api.approach import is_loopback
from api.body_limit import BODY_LIMIT, BodyLimitState
from api.errors import STATUSES, UnexpectedErrors, problem_of, status_of
from api.keys import SCOPES, granted, is_right, split_key
from api.pagination import after_of, cursor_of
from api.paths import decoded, slashes_restored
from api.security import require_safe_binding
from api.uploads import Upload, received
from indexer import errors
from indexer.errors import InvalidRequest, Overloaded, RateLimited, Unavailable, VoxdexError
from indexer.media import MediaStore
from indexer.settings import ApiSettings
from tests.api_kit import wav


def every_error(family: type[VoxdexError] = VoxdexError) -> list[type[VoxdexError]]:
    return [family, *(one for child in family.__subclasses__() for one in every_error(child))]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\ufdd0\ufdd1"), min_size=1), min_size=1))
def test_segments_of_a_path_survive_encoding(names: list[str]) -> None:
    raw = "/".join(quote(name, safe="") for name in names).encode()
    assert [slashes_restored(segment) for segment in decoded(raw).split("/")] == names


def test_bytes_that_are_no_text_stay_what_no_name_is() -> None:
    assert not decoded(b"/v1/%ff").isprintable()


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_cursor_leads_back_to_its_row(number: int) -> None:
    assert after_of(cursor_of(number, "items", 3), "items", 3) == number
    with pytest.raises(InvalidRequest, match="this list"):
        after_of(cursor_of(number, "items", 3), "recordings", "calls")
    with pytest.raises(InvalidRequest, match="this list"):
        after_of(cursor_of(number, "items", 3), "items", 4)


@given(st.integers(min_value=1, max_value=2**63 - 1), st.text(min_size=1))
def test_any_other_text_is_no_cursor(number: int, added: str) -> None:
    for text in (added, cursor_of(number, "jobs") + added, added + cursor_of(number, "jobs")):
        with pytest.raises(InvalidRequest, match="next_cursor"):
            after_of(text, "jobs")


def test_every_error_has_a_status_and_every_family_an_own_one() -> None:
    for kind in every_error():
        made = kind("x", retry_after_s=1.5) if kind is RateLimited else kind("x")  # type: ignore[call-arg]
        assert status_of(made) == next((s for family, s in STATUSES if issubclass(kind, family)), 500)
    assert status_of(errors.SilentAudio("x")) == 422
    assert status_of(errors.UnsupportedFormat("x")) == 415
    assert status_of(errors.AudioTooLarge("x")) == 413
    assert status_of(errors.ConsentRequired("x")) == 409
    assert status_of(errors.AudioGone("x")) == 410
    assert status_of(errors.HashMismatch("x")) == 500
    assert status_of(errors.DownloadFailed("x")) == 503


def body_of(response: Response) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(bytes(response.body))
    return parsed


@pytest.mark.parametrize("kind", [Unavailable, errors.CorruptArtifact, errors.SchemaMismatch])
def test_what_failed_inside_is_not_told_outside(kind: type[VoxdexError]) -> None:
    answer = problem_of(kind("postgresql://voxdex@db.internal/voxdex: no route to host"))
    assert "db.internal" not in bytes(answer.body).decode()
    assert body_of(answer)["code"] == kind.code


@pytest.mark.parametrize(
    ("error", "header", "value"),
    [
        (RateLimited("x", retry_after_s=12.2), "retry-after", "13"),
        (Overloaded("256 wait", retry_after_s=0.2), "retry-after", "1"),
        (Unavailable("x"), "retry-after", "5"),
        (errors.Unauthenticated("x"), "www-authenticate", 'Bearer realm="voxdex"'),
    ],
)
def test_an_answer_says_what_to_do(error: VoxdexError, header: str, value: str) -> None:
    assert problem_of(error).headers[header] == value


def test_half_a_character_in_a_message_is_written_as_an_escape() -> None:
    assert body_of(problem_of(InvalidRequest("name '\ud800'")))["detail"] == "name '\\ud800'"


def test_an_unforeseen_error_becomes_an_answer_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("Ann Lee")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(UnexpectedErrors(broken)({"type": "http", "headers": []}, receive, send))
    assert sent[0]["status"] == 500
    assert b"Ann" not in sent[1]["body"]
    assert "Ann" not in caplog.records[0].getMessage()


def test_scopes_include_what_they_say() -> None:
    assert granted(["write"]) == {"write", "read"}
    assert granted(["identify"]) == {"identify"}
    assert granted(["admin"]) == set(SCOPES) - {"embeddings"}


@pytest.mark.parametrize(
    "text", ["", "vdx_", "vdx_0123456789abcdef_short", "vdx_0123456789ABCDEF_" + "a" * 43, "é" * 64]
)
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert split_key(text) is None


def test_no_key_is_right_without_a_row() -> None:
    assert not is_right(None, "0" * 64)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "LOCALHOST"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example"])
def test_what_others_can_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "is_open", "keys", "expected"),
    [
        ("127.0.0.1", None, False, True),
        ("127.0.0.1", None, True, False),
        ("127.0.0.1", False, False, False),
        ("0.0.0.0", True, False, True),
        ("0.0.0.0", None, True, False),
        ("0.0.0.0", False, False, False),
        ("0.0.0.0", None, False, None),
    ],
)
def test_an_address_that_others_reach_needs_a_key(
    host: str, is_open: bool | None, keys: bool, expected: bool | None
) -> None:
    settings = ApiSettings(host=host, open=is_open)
    if expected is None:
        with pytest.raises(InvalidRequest, match="key create"):
            require_safe_binding(settings, keys_exist=keys)
    else:
        assert require_safe_binding(settings, keys_exist=keys) is expected


def request_of(chunks: list[bytes], content_type: str, *, length: int | None = None) -> Request:
    """Make a request whose body arrives in these pieces; reading on after the last one is an error."""
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    headers = [(b"content-type", content_type.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b"filename=x%2Fy.wav", "path": "/"}
    return Request({**scope, BODY_LIMIT: BodyLimitState(1)}, receive)


def receive_all(request: Request, folder: Path, *, max_bytes: int = 10**6) -> dict[str, Upload]:
    async def run() -> dict[str, Upload]:
        async with received(request, MediaStore(folder), max_bytes=max_bytes) as uploads:
            assert all(one.path.stat().st_size == one.size_bytes for one in uploads.values())
            return uploads

    return asyncio.run(run())


def multipart(content: bytes) -> bytes:
    head = b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="C:\\\\fakepath\\\\a.wav"\r\n\r\n'
    return head + content + b"\r\n--XyZ--\r\n"


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
def test_an_upload_is_the_same_however_it_is_cut(tmp_path: Path, size: int) -> None:
    content = wav(0.1) + b"\r\n--Xy" + b"\r\n-"  # What looks like a boundary and is none.
    for body, kind, name in (
        (multipart(content), "multipart/form-data; boundary=XyZ", "a.wav"),
        (content, "audio/x-anything", "y.wav"),
    ):
        upload = receive_all(request_of(cut(body, size), kind), tmp_path)["file"]
        assert (upload.size_bytes, upload.name) == (len(content), name)
        assert upload.sha256 == hashlib.sha256(content).hexdigest()
        assert not upload.path.exists()


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("kind", ["audio/wav", "multipart/form-data; boundary=XyZ"])
def test_a_body_above_the_limit_is_not_read_to_its_end(tmp_path: Path, kind: str, announced: bool) -> None:
    body = multipart(b"x" * 500_000)
    pieces = cut(body, 1000)
    request = request_of(pieces, kind, length=len(body) if announced else None)
    with pytest.raises(errors.AudioTooLarge, match="10000 bytes"):
        receive_all(request, tmp_path, max_bytes=10_000)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    request = request_of([b"RIFF", b""], "audio/wav")
    gone = iter([{"type": "http.request", "body": b"RIFF", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(gone)

    request._receive = receive
    with pytest.raises(InvalidRequest, match="4 bytes"):
        receive_all(request, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
