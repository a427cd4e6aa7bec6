"""Which of several audio tracks of a file was read is said wherever something is said of the file."""

from pathlib import Path

import pytest
from sqlalchemy import select

from indexer.db.models import JobItemState, JobState, Recording, RecordingState
from indexer.db.session import Database
from indexer.settings import Settings, load_settings
from tests.api_kit import serving
from tests.formats.audio_samples import speech_like
from tests.formats.several_tracks import write_tracks
from tests.job_kit import ListQueue, items_of, job_of, make_bulk, submit, work_off, write_archive

SAID = "audio track 2 of 3 was read, the others were not; to have another one read, save it as a file of its own"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three tracks, of which the second is the one that players begin with."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "film.mkv"
    write_tracks(path, [speech_like(2.0, 16_000, seed=number) for number in range(3)], 16_000, default=1)
    return path


def test_the_item_of_a_job_says_it_and_the_recording_is_whole(
    film: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(film.parent, 1)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, film.parent)
    work_off(bulk, queue)
    assert job_of(database, job_id).state == JobState.SUCCEEDED
    items = items_of(database, job_id)
    assert {name: (item.state, item.notice) for name, item in items.items()} == {
        "film.mkv": (JobItemState.DONE, SAID),
        "00000.wav": (JobItemState.DONE, None),
    }
    with database.read_scope() as session:
        found = session.execute(select(Recording.state, Recording.error_message)).all()
    assert {tuple(row) for row in found} == {(RecordingState.READY, None)}


def test_the_service_says_it_of_what_is_added_and_of_what_is_asked(film: Path, tmp_path: Path) -> None:
    with serving(load_settings(home=tmp_path / "home", database={})) as client:
        assert client.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        sent = {"file": (film.name, film.read_bytes())}
        kept = client.post("/v1/galleries/calls/recordings", files=sent)
        assert (kept.status_code, kept.json()["warnings"]) == (201, [SAID])
        asked = client.post("/v1/galleries/calls/identify", files=sent)
        assert (asked.status_code, asked.json()["issues"]) == (200, [SAID])
        enrolled = client.post("/v1/galleries/calls/speakers/Ann/enrollments", files=sent)
        assert enrolled.status_code == 201, enrolled.text
        detail = client.get(f"/v1/galleries/calls/recordings/{kept.json()['id']}").json()
        assert detail["state"] == "ready"
