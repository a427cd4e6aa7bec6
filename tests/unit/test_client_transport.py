import asyncio
import datetime as dt
import io
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_server import Answer, Script, document, problem, running_script
from voxdex_client import UNSET, AsyncClient, Client, Retries, errors
from voxdex_client.models import Job
from voxdex_client.pages import Pages

QUICK = Retries(tries=3, backoff_s=0.01, most_s=2.0)
GALLERY = {
    "name": "calls",
    "encoder": "ecapa",
    "encoder_id": "0575cb64/legacy",
    "created_at": "2026-01-31T09:00:00Z",
    "second_encoder_id": None,
    "identification_threshold": None,
    "verification_threshold": None,
    "possible_threshold": None,
    "target_fpir": None,
    "possible_fpir": None,
    "target_p_fa": None,
    "calibration_id": None,
    "score_normalization": False,
    "consent_required": False,
    "retention_days": None,
    "speakers": 0,
    "recordings": 0,
    "embeddings": 0,
    "duration_s": 0.0,
    "added_by_a_newer_service": True,
}
POINT = {
    "asked": "score of 0.4 or more (uncalibrated)",
    "decides_by": "score",
    "llr_threshold": None,
    "score_threshold": 0.4,
    "possible_llr_threshold": None,
    "possible_score_threshold": None,
    "source": "encoder",
    "calibration_id": None,
    "gallery_size": None,
    "prior": 0.5,
}
HEARD = {"speech_s": 4.2, "needed_s": 0.1, "issues": [], "quality": None, "voices_heard": 1}
COMPARED = {
    "decision": "accept",
    "score": 0.8,
    "llr": None,
    "posterior": None,
    "operating_point": POINT,
    "warnings": [],
    "first": HEARD,
    "second": HEARD,
    "encoder_id": "0575cb64/legacy",
}
IDENTIFIED = {
    **HEARD,
    "decision": "unknown",
    "speaker": None,
    "operating_point": POINT,
    "candidates": [],
    "warnings": [],
    "voices": [],
    "encoder_id": "0575cb64/legacy",
    "embedding": None,
}


def _job(state: str, done: int = 0) -> dict[str, Any]:
    counts = {"found": 3, "done": done, "duplicate": 0, "failed": 0, "audio_s": 1.0, "speech_s": 1.0}
    times = {"created_at": "2026-01-31T09:00:00Z", "started_at": None, "finished_at": None}
    pace = {"elapsed_s": 1.0, "times_real_time": 0.0, "eta_s": None}
    source = {
        "kind": "folder",
        "source": "/a",
        "speaker_from": "none",
        "channels": None,
        "speakers": None,
        "speech": None,
        "on_duplicate": "skip",
    }
    known = {"id": 7, "gallery": "calls", "state": state, "planned": True, "error": None}
    return {**known, **source, **counts, **times, **pace}


def blocking(script: Script, use: Callable[[Any], Any]) -> Any:
    with Client(script.url, "vdx_a_b", retries=QUICK) as client:
        found = use(client)
        return list(found) if isinstance(found, Pages | Iterator) else found


def asynchronous(script: Script, use: Callable[[Any], Any]) -> Any:
    async def main() -> Any:
        async with AsyncClient(script.url, "vdx_a_b", retries=QUICK) as client:
            found = use(client)
            return await found if isinstance(found, Awaitable) else [item async for item in found]

    return asyncio.run(main())


@pytest.fixture
def script() -> Iterator[Script]:
    with running_script() as running:
        yield running


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "asynchronous"])
def run(request: pytest.FixtureRequest, script: Script) -> Callable[[Callable[[Any], Any]], Any]:
    """Use a client of either kind on the scripted server."""
    return lambda use: request.param(script, use)


def test_an_answer_becomes_a_model_and_the_request_carries_the_key(run: Any, script: Script) -> None:
    script.answers = [document(GALLERY)]
    gallery = run(lambda client: client.galleries.get("a/b & ünï"))
    assert (gallery.name, gallery.created_at.tzinfo) == ("calls", dt.UTC)
    [request] = script.requests
    assert request.target == "/v1/galleries/a%2Fb%20%26%20%C3%BCn%C3%AF"
    assert request.headers["authorization"] == "Bearer vdx_a_b"


def test_a_gallery_called_dots_stays_one_segment_of_the_path(run: Any, script: Script) -> None:
    script.answers = [document(GALLERY)]
    run(lambda client: client.galleries.get(".."))
    assert script.requests[0].target == "/v1/galleries/%2E%2E"


def test_a_refused_write_is_sent_again_under_the_same_idempotency_key(run: Any, script: Script) -> None:
    script.answers = [
        problem(503, "unavailable"),
        Answer(break_off=True),
        document(GALLERY, 201),
        document(GALLERY, 201),
    ]
    run(lambda client: client.galleries.create("calls", retention_days=30))
    run(lambda client: client.galleries.create("calls", idempotency_key="mine"))
    first, second, third, other = script.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == third.headers["idempotency-key"]
    assert first.body == second.body == third.body
    assert other.headers["idempotency-key"] == "mine"


def test_a_change_sends_null_for_none_and_nothing_for_what_stays(run: Any, script: Script) -> None:
    script.answers = [document(GALLERY)]
    run(lambda client: client.galleries.change("calls", retention_days=None, consent_required=UNSET))
    assert script.requests[0].body == b'{"retention_days":null}'


def test_retry_after_is_waited_for_and_a_longer_one_than_wanted_is_not(run: Any, script: Script) -> None:
    script.answers = [problem(429, "rate-limited", Retry_After="1"), document(GALLERY)]
    before = time.monotonic()
    run(lambda client: client.galleries.get("calls"))
    assert time.monotonic() - before >= 1.0
    script.answers = [problem(429, "rate-limited", Retry_After="60")]
    with pytest.raises(errors.RateLimited) as refused:
        run(lambda client: client.galleries.get("calls"))
    assert refused.value.retry_after == 60
    later = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100), usegmt=True)
    script.answers = [problem(503, "unavailable", Retry_After=later)]
    with pytest.raises(errors.Unavailable) as refused:
        run(lambda client: client.galleries.get("calls"))
    assert 40 < (refused.value.retry_after or 0) <= 100


def test_what_keeps_failing_is_raised_after_the_last_try(run: Any, script: Script) -> None:
    script.answers = [problem(503, "unavailable")] * 3
    with pytest.raises(errors.Unavailable) as failure:
        run(lambda client: client.stats())
    assert (failure.value.status, failure.value.code, failure.value.request_id) == (503, "unavailable", "r-1")
    assert len(script.requests) == 3
    script.answers = [Answer(break_off=True)] * 3
    with pytest.raises(errors.ConnectionFailed, match="3 tries"):
        run(lambda client: client.stats())
    script.answers = [Answer(body=b'{"gall', headers={"Content-Type": "application/json"}, break_off=True)] * 3
    with pytest.raises(errors.ConnectionFailed):
        run(lambda client: client.stats())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", errors.Unauthenticated),
        (403, "forbidden", errors.AccessDenied),
        (404, "not-found", errors.NotFound),
        (409, "encoder-mismatch", errors.Conflict),
        (410, "audio-gone", errors.NotFound),
        (413, "payload-too-large", errors.InvalidAudio),
        (415, "unsupported-format", errors.InvalidAudio),
        (422, "audio-too-short", errors.InvalidAudio),
        (422, "invalid-request", errors.InvalidRequest),
        (500, "internal", errors.ServerError),
    ],
)
def test_each_problem_is_raised_as_its_kind_and_not_tried_again(
    script: Script, status: int, code: str, kind: type[errors.ApiError]
) -> None:
    script.answers = [problem(status, code, "3 where 5 is the limit")]
    with pytest.raises(kind, match=f"{code}: 3 where 5 is the limit") as failure:
        blocking(script, lambda client: client.stats())
    assert type(failure.value) is kind
    assert (failure.value.status, failure.value.detail) == (status, "3 where 5 is the limit")
    assert len(script.requests) == 1


def test_the_answer_to_an_earlier_try_is_waited_for(run: Any, script: Script) -> None:
    in_flight = problem(409, "request-in-flight", Retry_After="0")
    script.answers = [Answer(break_off=True), *[in_flight] * 5, document(GALLERY, 201)]
    assert run(lambda client: client.galleries.create("calls")).name == "calls"


def test_something_else_that_answers_is_named(run: Any, script: Script) -> None:
    script.answers = [Answer(200, b"<html>Hello</html>", {"Content-Type": "text/html"})]
    with pytest.raises(errors.UnexpectedAnswer, match="GET /v1/stats was answered with 200"):
        run(lambda client: client.stats())
    script.answers = [Answer(302, b"", {"Location": "/login"})]
    with pytest.raises(errors.UnexpectedAnswer, match="302"):
        run(lambda client: client.stats())
    script.answers = [Answer(404, b"<html>", {"Content-Type": "text/html"})]
    with pytest.raises(errors.NotFound, match="http-404"):
        run(lambda client: client.stats())


def test_a_list_goes_through_all_its_pages(run: Any, script: Script) -> None:
    names = ["a", "b", "c"]
    pages = [[GALLERY | {"name": name} for name in page] for page in (names[:2], [], names[2:])]
    cursors = ["c/1", "c2", None]
    script.answers = [
        document({"items": items, "next_cursor": cursor}) for items, cursor in zip(pages, cursors, strict=True)
    ]
    assert [gallery.name for gallery in run(lambda client: client.galleries.list(limit=2))] == names
    targets = [request.target for request in script.requests]
    assert targets == [f"/v1/galleries?limit=2{more}" for more in ("", "&cursor=c%2F1", "&cursor=c2")]


def test_a_file_is_sent_in_blocks_with_its_length_and_again_when_the_service_asks(
    run: Any, script: Script, tmp_path: Path
) -> None:
    content = os.urandom(1_000_001)
    path = tmp_path / 'ünï "call".wav'
    path.write_bytes(content)
    script.answers = [problem(503, "unavailable"), document(IDENTIFIED)]
    answer = run(lambda client: client.identify("calls", path, top_k=3, labels=["vip", "a b"], embedding=False))
    assert (answer.decision, answer.candidates) == ("unknown", [])
    for request in script.requests:
        assert request.body == content
        assert request.headers["content-length"] == "1000001"
        assert request.headers["content-type"] == "application/octet-stream"
        assert "idempotency-key" not in request.headers
    assert script.requests[0].target == (
        "/v1/galleries/calls/identify?top_k=3&label=vip&label=a+b&embedding=false&filename=%C3%BCn%C3%AF+%22call%22.wav"
    )


def test_an_open_file_is_sent_from_where_it_stands(run: Any, script: Script) -> None:
    file = io.BytesIO(b"headRIFFdata")
    file.seek(4)
    script.answers = [problem(503, "unavailable"), document(IDENTIFIED)]
    run(lambda client: client.identify("calls", file))
    assert [request.body for request in script.requests] == [b"RIFFdata"] * 2
    script.answers = [document(IDENTIFIED)]
    run(lambda client: client.identify("calls", b"RIFF"))
    assert script.requests[-1].body == b"RIFF"


def test_a_pipe_is_sent_as_it_comes_and_only_once(run: Any, script: Script) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as sink:
            sink.write(b"x" * 300_000)

    writer = threading.Thread(target=write)
    writer.start()
    script.answers = [problem(503, "unavailable")]
    with os.fdopen(reading, "rb") as source, pytest.raises(errors.Unavailable):
        run(lambda client: client.identify("calls", source))
    writer.join()
    [request] = script.requests
    assert request.body == b"x" * 300_000
    assert request.headers["transfer-encoding"] == "chunked"


def test_two_recordings_travel_as_the_fields_of_a_form(run: Any, script: Script, tmp_path: Path) -> None:
    path = tmp_path / 'a"b.wav'
    path.write_bytes(b"first\r\n--")
    script.answers = [document(COMPARED)]
    assert run(lambda client: client.compare(path, b"second")).score == 0.8
    [request] = script.requests
    boundary = request.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    first, second = request.body.split(f"--{boundary}".encode())[1:3]
    assert b'name="first"; filename="a%22b.wav"' in first
    assert first.endswith(b"\r\n\r\nfirst\r\n--\r\n")
    assert b'name="second"' in second
    assert second.endswith(b"\r\n\r\nsecond\r\n")
    assert int(request.headers["content-length"]) == len(request.body)


def test_a_file_that_is_not_there_is_named_before_anything_is_sent(run: Any, script: Script, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        run(lambda client: client.identify("calls", tmp_path / "none.wav"))
    assert script.requests == []


def _events(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def _event(kind: str, job: dict[str, Any]) -> str:
    return f"event: {kind}\r\ndata: {Job.model_validate(job).model_dump_json()}\r\nid: 1\r\n"


def test_events_are_followed_across_broken_connections_until_the_end(run: Any, script: Script) -> None:
    stream = {"Content-Type": "text/event-stream"}
    half = _event("progress", _job("running", 2)).encode()[:-20]
    script.answers = [
        Answer(body=_events(": ping", "", _event("progress", _job("planning"))) + half, headers=stream, break_off=True),
        problem(503, "unavailable"),
        Answer(body=_events(_event("progress", _job("running", 2))), headers=stream),
        Answer(body=_events("event: other", "data: 1", "", _event("end", _job("succeeded", 3))), headers=stream),
    ]
    seen = run(lambda client: client.jobs.events(7))
    assert [(job.state, job.done) for job in seen] == [("planning", 0), ("running", 2), ("succeeded", 3)]
    assert all(isinstance(job, Job) for job in seen)


def test_events_that_never_come_are_given_up(run: Any, script: Script) -> None:
    script.answers = [Answer(headers={"Content-Type": "text/event-stream"})] * 3
    with pytest.raises(errors.UnexpectedAnswer, match="again and again"):
        run(lambda client: client.jobs.events(7))
    script.answers = [problem(404, "not-found")]
    with pytest.raises(errors.NotFound):
        run(lambda client: client.jobs.events(7))


def test_waiting_for_a_job_ends_with_the_job_or_with_the_time(run: Any, script: Script) -> None:
    script.answers = [document(_job("running")), document(_job("succeeded_with_errors", 3))]
    assert run(lambda client: client.jobs.wait(7, poll_s=0.01)).state == "succeeded_with_errors"
    script.answers = [document(_job("running"))] * 20
    with pytest.raises(errors.WaitTimeout, match="job 7 is running"):
        run(lambda client: client.jobs.wait(7, poll_s=0.02, timeout_s=0.1))


def test_a_readiness_that_says_no_is_an_answer(run: Any, script: Script) -> None:
    check = {"ok": False, "problem": "unavailable"}
    index = {"ok": True, "problem": None, "lag_s": 0, "galleries": []}
    ready = {"ready": False, "database": check, "broker": None, "encoder": check | {"encoder_id": None}, "index": index}
    script.answers = [document(ready, 503)]
    assert run(lambda client: client.readiness()).ready is False


def test_an_address_that_is_none_and_a_time_without_a_zone_are_refused_at_once(script: Script) -> None:
    for url in ("localhost:8080", "ftp://host", "http://", "http://host:port"):
        with pytest.raises(ValueError, match="http://127"):
            Client(url)
    for url, key in ((script.url, "vdx_a_\n"), (script.url, "vdx ü"), ("http://ann:secret@host", None)):
        with pytest.raises(ValueError, match=r"^the (key|URL) holds") as refused:
            Client(url, key)
        assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="no time zone"):
        blocking(
            script, lambda client: client.speakers.create("calls", "Ann", consented_at=dt.datetime(2026, 1, 31, 9))
        )
