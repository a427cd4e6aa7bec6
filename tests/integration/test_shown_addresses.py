"""Web addresses that let in whoever reads them: nowhere shown, and not kept longer than the job."""

import uuid
from collections.abc import Iterator

import pytest

from indexer.db.galleries import Galleries
from indexer.db.models import Job, JobItem, JobItemState, JobState, OnDuplicate, utc_now
from indexer.db.recordings import Recordings
from indexer.db.rows import NewRecording
from indexer.jobs.uris import without_queries
from indexer.settings import Settings
from indexer.types import EncoderId
from tests.api_kit import ServiceClient, serving

SIGNED = "https://calls.example/2026/a.wav?X-Amz-Credential=AKIA&X-Amz-Signature=f00d"
PLAIN = "https://calls.example/2026/a.wav"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SIGNED, PLAIN),
        (SIGNED.replace("https", "HTTPS"), PLAIN.replace("https", "HTTPS")),
        (f"{SIGNED}: the file is empty; copy it again", f"{PLAIN}: the file is empty; copy it again"),
        (f"'{SIGNED}' is no audio, nor is {SIGNED}", f"'{PLAIN}' is no audio, nor is {PLAIN}"),
        ("https://calls.example/a b.wav?sig=f00d", "https://calls.example/a b.wav"),
        ("s3://calls/what?.wav", "s3://calls/what?.wav"),
        ("/archive/what?.wav", "/archive/what?.wav"),
        (PLAIN, PLAIN),
    ],
)
def test_the_query_of_a_web_address_is_cut_off(text: str, shown: str) -> None:
    assert without_queries(text) == shown


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[ServiceClient]:
    with serving(module_settings) as opened:
        yield opened


@pytest.fixture
def gallery(client: ServiceClient) -> str:
    name = uuid.uuid4().hex
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    return name


def test_a_recording_is_kept_under_an_address_that_lets_nobody_in(client: ServiceClient, gallery: str) -> None:
    with client.runtime.database.session_scope() as session:
        row = Galleries(session).by_name(gallery)
        recording = NewRecording("0" * 64, SIGNED, error_code="corrupt-audio", error_message=f"{SIGNED}: torn")
        ids = Recordings(session).add(client.runtime.gallery_id(gallery), EncoderId(row.encoder_id), recording)
        kept = Recordings(session).get(ids.recording_id)
        assert (kept.uri, "f00d" in str(kept.error_message)) == (PLAIN, False)
    shown = client.get(f"/v1/galleries/{gallery}/recordings").json()["items"]
    assert [item["uri"] for item in shown] == [PLAIN]


def test_a_job_and_its_files_are_shown_without_what_lets_in(client: ServiceClient, gallery: str) -> None:
    with client.runtime.database.session_scope() as session:
        job = Job(
            gallery_id=client.runtime.gallery_id(gallery),
            kind="url",
            source=SIGNED,
            state=JobState.FAILED,
            error=f"{SIGNED}: refused (403)",
            found=1,
            on_duplicate=OnDuplicate.SKIP,
            options={},
            finished_at=utc_now(),
        )
        session.add(job)
        session.flush()
        failed = {"state": JobItemState.FAILED, "error_code": "x", "error_message": f"{SIGNED}: torn"}
        session.add(JobItem(job_id=job.id, uri=SIGNED, notice=f"{SIGNED}: odd", **failed))
        job_id = job.id
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", f"/v1/jobs/{job_id}/items", f"/v1/jobs/{job_id}/events"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert PLAIN in answer.text
        assert "f00d" not in answer.text
