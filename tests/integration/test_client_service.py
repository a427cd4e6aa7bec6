"""The Python client, of both kinds, on the running service: the whole round once, and what only a service can show."""

import asyncio
import base64
import datetime as dt
import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from indexer.settings import load_settings
from tests.api_kit import ServiceClient, serving, wav
from tests.waiting import eventually
from tests.webhook_receiver import running_receiver
from voxdex_client import AsyncClient, Client, errors, verify_webhook
from voxdex_client.pages import Pages

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

Run = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    home = tmp_path_factory.mktemp("home")
    webhooks = {"secret": SECRET, "allow_private": True}
    with serving(load_settings(home=home, database={}, jobs={"sweep_s": 0.5}, webhooks=webhooks)) as running:
        yield running


@pytest.fixture(params=["blocking", "asynchronous"])
def run(request: pytest.FixtureRequest, service: ServiceClient) -> Iterator[Run]:
    """Use a client of either kind; what it lists comes as a list."""
    url = str(service.base_url)
    if request.param == "blocking":
        with Client(url) as client:

            def blocking(use: Callable[[Any], Any]) -> Any:
                found = use(client)
                return list(found) if isinstance(found, Pages | Iterator) else found

            yield blocking
        return
    with asyncio.Runner() as runner:
        client_ = AsyncClient(url)

        async def finished(use: Callable[[Any], Any]) -> Any:
            found = use(client_)
            return await found if isinstance(found, Awaitable) else [item async for item in found]

        yield lambda use: runner.run(finished(use))
        runner.run(client_.close())


def test_the_whole_round_of_a_gallery(run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    g = f"calls/{request.node.callspec.id}"
    made = run(lambda c: c.galleries.create(g, retention_days=30))
    assert (made.name, made.speakers, made.retention_days) == (g, 0, 30)
    assert run(lambda c: c.galleries.change(g, retention_days=None)).retention_days is None

    ann, bo = tmp_path / "ann.wav", wav(seed=2)
    ann.write_bytes(wav(seed=1))
    assert run(lambda c: c.speakers.create(g, "Ann", labels=["staff"])).labels == ["staff"]
    enrolled = run(lambda c: c.enrollments.create(g, "Ann", ann))
    assert enrolled.enrolled_s == pytest.approx(2.0, abs=0.1)
    run(lambda c: c.enrollments.create(g, "Bo Chen", io.BytesIO(bo), consent_reference="form 7"))
    assert [speaker.name for speaker in run(lambda c: c.speakers.list(g))] == ["Ann", "Bo Chen"]
    assert [speaker.name for speaker in run(lambda c: c.speakers.list(g, label="staff"))] == ["Ann"]

    heard = run(lambda c: c.identify(g, ann, top_k=2))
    assert (heard.decision, heard.speaker) == ("identified", "Ann")
    assert heard.candidates[0].score == pytest.approx(1.0, abs=1e-3)
    assert run(lambda c: c.identify(g, bo, labels=["staff"])).speaker != "Bo Chen"
    assert run(lambda c: c.verify(g, bo, "Bo Chen")).decision == "accept"
    assert run(lambda c: c.compare(ann, ann)).decision == "accept"
    found = run(lambda c: c.search(g, ann, limit=1))
    assert [recording.recording_id for recording in found.recordings] == [enrolled.recording_id]

    kept = run(
        lambda c: c.recordings.create(
            g, wav(seed=3), session="monday", recorded_at=dt.datetime(2026, 1, 31, 9, tzinfo=dt.UTC), labels=["meeting"]
        )
    )
    assert (kept.session, kept.labels, kept.speakers) == ("monday", ["meeting"], [])
    assert len(run(lambda c: c.recordings.list(g, limit=1))) == 3
    assert run(lambda c: c.recordings.get(g, kept.id)).utterances[0].start_s == 0
    samples, rate = soundfile.read(io.BytesIO(run(lambda c: c.recordings.audio(g, kept.id, start_s=0.5, end_s=1.5))))
    assert len(samples) == pytest.approx(rate, rel=0.01)

    assert run(lambda c: c.speakers.merge(g, "Bo Chen", "Ann")).enrolled_utterances == 2
    assert run(lambda c: c.speakers.change(g, "Ann", name="Ann Lee", labels=[])).labels == []
    listed = run(lambda c: c.enrollments.list(g, "Ann Lee"))
    assert (len(listed), listed[0].uri) == (2, "upload:ann.wav")
    run(lambda c: c.enrollments.delete(g, "Ann Lee", enrolled.enrollment_id))
    assert run(lambda c: c.recordings.delete(g, kept.id)).recordings == 1
    assert run(lambda c: c.speakers.delete(g, "Ann Lee", keep_recordings=True)).speakers == 1
    with pytest.raises(errors.NotFound, match="Ann Lee"):
        run(lambda c: c.speakers.get(g, "Ann Lee"))
    run(lambda c: c.galleries.delete(g))
    assert g not in [gallery.name for gallery in run(lambda c: c.galleries.list())]


def test_a_job_is_posted_followed_and_looked_into(run: Run, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    g = f"archive-{request.node.callspec.id}"
    run(lambda c: c.galleries.create(g))
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(wav(seed=10 + number))
    (tmp_path / "torn.wav").write_bytes(b"")
    job = run(lambda c: c.jobs.create(g, str(tmp_path), speaker_from="parent"))
    seen = run(lambda c: c.jobs.events(job.id))
    assert (seen[-1].state, seen[-1].ended) == ("succeeded_with_errors", True)
    assert (seen[-1].found, seen[-1].done, seen[-1].failed) == (4, 3, 1)
    assert run(lambda c: c.jobs.wait(job.id, timeout_s=60)).state == "succeeded_with_errors"
    [torn] = run(lambda c: c.jobs.items(job.id, state="failed"))
    assert (torn.error_code, torn.uri) == ("corrupt-audio", str(tmp_path / "torn.wav"))
    (tmp_path / "torn.wav").write_bytes(wav(seed=20))
    assert run(lambda c: c.jobs.retry_failed(job.id)).requeued == 1
    assert run(lambda c: c.jobs.wait(job.id, timeout_s=120)).state == "succeeded"
    assert job.id in [one.id for one in run(lambda c: c.jobs.list(gallery=g, state="succeeded"))]
    with pytest.raises(errors.Conflict):
        run(lambda c: c.jobs.cancel(job.id))


def test_the_end_of_a_job_is_told_to_the_address_that_was_given(run: Run, request: pytest.FixtureRequest) -> None:
    g = f"told-{request.node.callspec.id}"
    run(lambda c: c.galleries.create(g))
    with running_receiver() as receiver:
        job = run(lambda c: c.jobs.create(g, "/nowhere/at/all", webhook_url=receiver.url))
        eventually(lambda: receiver.received)
        [message] = receiver.received
    event = verify_webhook(SECRET, message.body, message.headers)
    assert (event.type, event.data.job_id, event.data.found) == ("job.failed", job.id, 0)
    with pytest.raises(errors.InvalidRequest, match="webhook_url"):
        run(lambda c: c.jobs.create(g, "/nowhere", webhook_url="https://ann:secret@example.org/"))


def test_the_service_tells_of_itself(run: Run) -> None:
    assert run(lambda c: c.health()).status == "ok"
    assert run(lambda c: c.readiness()).database.ok
    assert any(encoder.default for encoder in run(lambda c: c.encoders()).items)
    assert run(lambda c: c.stats()).galleries >= 0
    assert "voxdex_http_requests_total" in run(lambda c: c.metrics())
    assert run(lambda c: c.openapi())["openapi"].startswith("3.1")


def test_a_write_that_is_repeated_with_its_key_is_done_once_and_another_one_is_refused(
    run: Run, request: pytest.FixtureRequest
) -> None:
    g = f"once-{request.node.callspec.id}"
    first = run(lambda c: c.galleries.create(g, idempotency_key=g))
    assert run(lambda c: c.galleries.create(g, idempotency_key=g)) == first
    with pytest.raises(errors.ApiError) as refused:
        run(lambda c: c.galleries.create(f"{g}-other", idempotency_key=g))
    assert refused.value.status in (409, 422)
    with pytest.raises(errors.Conflict, match="already-exists"):
        run(lambda c: c.galleries.create(g))


def test_audio_that_cannot_be_used_and_wrong_requests_are_raised_as_what_they_are(run: Run) -> None:
    run(lambda c: c.compare(wav(), wav()))
    with pytest.raises(errors.InvalidAudio, match="unsupported-format") as refused:
        run(lambda c: c.compare(b"hello, this is text", wav()))
    assert refused.value.request_id
    with pytest.raises(errors.NotFound):
        run(lambda c: c.identify("nowhere", wav()))
    with pytest.raises(errors.InvalidRequest):
        run(lambda c: c.compare(wav(), wav(), threshold=7.0))


def test_a_service_with_keys_opens_for_those_who_hold_one(tmp_path: Path) -> None:
    with serving(load_settings(home=tmp_path, database={})) as running:
        url = str(running.base_url)
        with Client(url) as client:
            admin = client.keys.create(["admin"], name="chief")
        with Client(url) as stranger, pytest.raises(errors.Unauthenticated):
            stranger.stats()
        with Client(url, admin.key) as client:
            client.galleries.create("calls")
            bound = client.keys.create(["identify"], gallery="calls", rate_limit_per_minute=100)
            assert {key.public_id for key in client.keys.list()} == {admin.public_id, bound.public_id}
            with Client(url, bound.key) as guest:
                assert guest.identify("calls", wav()).decision == "unknown"
                with pytest.raises(errors.AccessDenied):
                    guest.identify("calls", wav(), embedding=True)
                with pytest.raises(errors.AccessDenied):
                    guest.recordings.delete("calls", 1)
                assert client.keys.revoke(bound.public_id).revoked_at is not None
                with pytest.raises(errors.Unauthenticated):
                    guest.identify("calls", wav())
