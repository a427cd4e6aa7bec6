"""Jobs over HTTP: posted, watched to their end, paged through, canceled, taken up again."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import JobItemState, JobState
from indexer.db.session import Database, open_database
from indexer.settings import Settings
from indexer.types import GalleryId
from tests.api_kit import ServiceClient, changed, serving, wav


@pytest.fixture
def client(record_settings: Settings) -> Iterator[ServiceClient]:
    with serving(changed(record_settings, "jobs", sweep_s=0.5)) as opened:
        assert opened.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        yield opened


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for speaker, seed in (("Ada", 0), ("Bea", 1)):
        (folder / speaker).mkdir(parents=True)
        (folder / speaker / "one.wav").write_bytes(wav(2, seed))
    (folder / "Ada" / "empty.wav").write_bytes(b"")
    (folder / "Ada" / "text.wav").write_text("no audio at all", encoding="utf-8")
    return folder


def events(client: httpx.Client, job_id: int, **headers: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def ended(client: httpx.Client, job_id: int) -> dict[str, Any]:
    *before, (name, job) = events(client, job_id)
    assert name == "end"
    assert all(earlier == "progress" for earlier, _ in before)
    return job


def test_a_folder_is_taken_in_and_its_end_is_told(client: ServiceClient, archive: Path) -> None:
    posted = client.post("/v1/galleries/calls/jobs", json={"source": str(archive), "speaker_from": "parent:1"})
    assert posted.status_code == 202, posted.text
    job = posted.json()
    assert posted.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["gallery"], job["kind"], job["speaker_from"]) == ("calls", "folder", "parent:1")
    last = ended(client, job["id"])
    assert last["state"] == "succeeded_with_errors"
    assert (last["found"], last["done"], last["duplicate"], last["failed"]) == (4, 2, 0, 2)
    assert (last["audio_s"], last["speech_s"], last["planned"]) == (4.0, 4.0, True)
    assert last["times_real_time"] > 0
    assert last == client.get(f"/v1/jobs/{job['id']}").json()
    # Whoever comes late or again is told the end at once.
    assert [name for name, _ in events(client, job["id"], **{"Last-Event-ID": "whatever"})] == ["end"]
    found = client.post(
        "/v1/galleries/calls/identify?threshold=0.99", content=wav(2, 1), headers={"content-type": "audio/wav"}
    )
    assert found.json()["speaker"] == "Bea"
    assert client.get("/v1/stats").json() == {
        "galleries": 1,
        "speakers": 2,
        "recordings": 4,  # Those that failed are on record too.
        "embeddings": 2,
        "duration_s": 4.0,
        "jobs": {"succeeded_with_errors": 1},
    }


def test_failed_files_are_paged_through_with_their_reasons_and_tried_again(
    client: ServiceClient, archive: Path
) -> None:
    job_id = client.post("/v1/galleries/calls/jobs", json={"source": str(archive)}).json()["id"]
    ended(client, job_id)
    codes, cursor = {}, None
    for _ in range(2):
        query = {"state": "failed", "limit": "1", **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/jobs/{job_id}/items", params=query).json()
        [item] = page["items"]
        codes[Path(item["uri"]).name] = item["error_code"]
        assert item["error_message"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert codes == {"empty.wav": "corrupt-audio", "text.wav": "unsupported-format"}
    by_status = client.get(f"/v1/jobs/{job_id}/items?status=failed").json()
    assert by_status == client.get(f"/v1/jobs/{job_id}/items?state=failed").json()
    assert len(by_status["items"]) == 2
    assert client.get(f"/v1/jobs/{job_id}/items?status=failed&state=done").status_code == 422
    assert client.get(f"/v1/jobs/{job_id}/items?status=lost").status_code == 422
    (archive / "Ada" / "empty.wav").write_bytes(wav(2, 5))
    assert client.post(f"/v1/jobs/{job_id}/retry-failed?item=0").status_code == 422
    assert client.post(f"/v1/jobs/{job_id}/retry-failed?item=999999").status_code == 409
    assert client.post(f"/v1/jobs/{job_id}/retry-failed").json() == {"requeued": 2}
    again = ended(client, job_id)
    assert (again["state"], again["done"], again["failed"]) == ("succeeded_with_errors", 3, 1)


def test_a_canceled_job_stays_canceled(client: ServiceClient, archive: Path) -> None:
    client.runtime.services.queue.close()  # Nobody works on it: it can be canceled at leisure.
    job_id = client.post("/v1/galleries/calls/jobs", json={"source": str(archive)}).json()["id"]
    watched: list[str] = []
    watcher = threading.Thread(target=lambda: watched.extend(name for name, _ in events(client, job_id)))
    watcher.start()
    canceled = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (canceled.status_code, canceled.json()["state"]) == (200, "canceled")
    watcher.join(timeout=120)
    assert watched[-1] == "end"
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "canceled"
    assert [job["id"] for job in client.get("/v1/jobs?state=canceled").json()["items"]] == [job_id]
    assert client.get("/v1/jobs?state=running").json()["items"] == []


def test_a_job_of_another_process_is_watched_by_what_the_record_says(
    client: ServiceClient, record_settings: Settings
) -> None:
    other: Database = open_database(record_settings)
    try:
        with other.session_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name("calls").id)
            job_id = Jobs(session).start(gallery_id, kind="ingest", source="/elsewhere", found=2)
        stream = events(client, job_id)
        assert next(stream)[1]["done"] == 0
        for number in (1, 2):
            with other.session_scope() as session:
                Jobs(session).record(job_id, f"/elsewhere/{number}.wav", JobItemState.DONE)
            assert next(stream)[1]["done"] == number
        with other.session_scope() as session:
            Jobs(session).finish(job_id, JobState.SUCCEEDED)
        name, job = next(stream)
        assert (name, job["state"]) == ("end", "succeeded")
        assert list(stream) == []
    finally:
        other.close()


def test_a_watcher_that_leaves_costs_nothing_and_a_stopping_service_ends_the_others(
    client: ServiceClient, record_settings: Settings
) -> None:
    with client.runtime.database.session_scope() as session:
        gallery_id = GalleryId(Galleries(session).by_name("calls").id)
        job_id = Jobs(session).start(gallery_id, kind="ingest", source="/elsewhere", found=2)
    for _ in range(60):  # More than there are threads.
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
            assert next(stream.iter_lines()) == "event: progress"
    assert client.get("/v1/jobs").status_code == 200
    staying = events(client, job_id)
    assert next(staying)[0] == "progress"
    client.runtime.stopping.set()
    assert list(staying) == []


def test_a_key_of_one_gallery_sees_the_jobs_of_that_one(client: ServiceClient, archive: Path) -> None:
    client.post("/v1/galleries", json={"name": "other"})
    ids = {
        name: client.post(f"/v1/galleries/{name}/jobs", json={"source": str(archive)}).json()["id"]
        for name in ("calls", "other")
    }
    for job_id in ids.values():
        ended(client, job_id)
    key = client.runtime.keys.create(scopes=["write"], gallery="other").secret
    headers = {"authorization": f"Bearer {key}"}
    assert [job["id"] for job in client.get("/v1/jobs", headers=headers).json()["items"]] == [ids["other"]]
    assert client.get("/v1/jobs?gallery=calls", headers=headers).status_code == 404
    for path in ("", "/items", "/events"):
        assert client.get(f"/v1/jobs/{ids['other']}{path}", headers=headers).status_code == 200
        hidden = client.get(f"/v1/jobs/{ids['calls']}{path}", headers=headers)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not-found")
    assert client.post(f"/v1/jobs/{ids['calls']}/cancel", headers=headers).status_code == 404
    assert client.get("/v1/stats", headers=headers).json()["galleries"] == 1
    # Where jobs may read is up to an administrator, unless the settings list it.
    denied = client.post("/v1/galleries/other/jobs", json={"source": str(archive)}, headers=headers)
    assert (denied.status_code, denied.json()["code"]) == (403, "forbidden")


def test_a_job_that_means_nothing_is_refused(client: ServiceClient) -> None:
    for wrong in (
        {"source": ""},
        {"kind": "pile"},
        {"speaker_from": "regex:("},
        {"channels": "middle"},
        {"on_duplicate": "twice"},
        {"webhook_url": "file:///etc/passwd"},
        {"sauce": 1},
    ):
        refused = client.post("/v1/galleries/calls/jobs", json={"source": "/x", **wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request"), wrong
    assert client.post("/v1/galleries/calls/jobs", json={}).status_code == 422
    assert client.get("/v1/jobs").json() == {"items": [], "next_cursor": None}


def test_a_job_that_is_not_there_is_not_found(client: ServiceClient, archive: Path) -> None:
    for path in ("/v1/jobs/999", "/v1/jobs/999/items", "/v1/jobs/999/events"):
        assert client.get(path).status_code == 404
    for path in ("/v1/jobs/999/cancel", "/v1/jobs/999/retry-failed"):
        assert client.post(path).status_code == 404
    assert client.post("/v1/galleries/none/jobs", json={"source": str(archive)}).status_code == 404
