"""Which of several audio tracks of a file was read is kept, said wherever something is said of it, and read again."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select, update
from typer.testing import CliRunner

from api import dependencies
from api.cli.main import app
from indexer.db.models import JobItemState, JobState, Recording, RecordingState
from indexer.db.session import Database
from indexer.reembed import drop_encoder
from indexer.settings import Settings, load_settings
from tests.api_kit import SpectrumServices, serving, wav
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.formats.audio_samples import speech_like
from tests.formats.several_tracks import write_tracks
from tests.job_kit import ListQueue, items_of, job_of, make_bulk, make_gallery, submit, work_off, write_archive
from tests.reembed_kit import ingest_files, reembedding, vectors_of

SAID = "audio track 2 of 3 was read, the others were not; to have another one read, save it as a file of its own"
TRACKS = [speech_like(2.0, 16_000, seed=number) for number in range(3)]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three tracks, of which the second is the one that players begin with."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "film.mkv"
    write_tracks(path, TRACKS, 16_000, default=1)
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
    columns = (Recording.state, Recording.error_message, Recording.audio_track, Recording.audio_tracks)
    with database.read_scope() as session:
        found = session.execute(select(*columns)).all()
    assert {tuple(row) for row in found} == {(RecordingState.READY, None, 2, 3), (RecordingState.READY, None, 1, 1)}


def test_the_service_says_it_of_what_is_added_and_of_what_is_asked(film: Path, tmp_path: Path) -> None:
    with serving(load_settings(home=tmp_path / "home", database={})) as client:
        assert client.post("/v1/galleries", json={"name": "calls"}).status_code == 201
        sent = {"file": (film.name, film.read_bytes())}
        kept = client.post("/v1/galleries/calls/recordings", files=sent)
        assert (kept.status_code, kept.json()["warnings"]) == (201, [SAID])
        assert (kept.json()["audio_track"], kept.json()["audio_tracks"]) == (2, 3)
        asked = client.post("/v1/galleries/calls/identify", files=sent)
        assert (asked.status_code, asked.json()["issues"]) == (200, [SAID])
        enrolled = client.post("/v1/galleries/calls/speakers/Ann/enrollments", files=sent)
        assert enrolled.status_code == 201, enrolled.text
        detail = client.get(f"/v1/galleries/calls/recordings/{kept.json()['id']}").json()
        assert (detail["state"], detail["audio_track"], detail["audio_tracks"]) == ("ready", 2, 3)
        looked_at = client.post("/v1/inspect", files=sent).json()
        assert (looked_at["issues"], looked_at["audio_track"], looked_at["audio_tracks"]) == ([SAID], 2, 3)


def test_what_is_played_and_drawn_is_the_track_that_was_kept(film: Path, tmp_path: Path) -> None:
    """Also where players would begin with another one by now; of what is not known, with the one they begin with."""
    with serving(load_settings(home=tmp_path / "home", database={})) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        made = client.post("/v1/galleries/calls/recordings", files={"file": (film.name, film.read_bytes())}).json()
        path = f"/v1/galleries/calls/recordings/{made['id']}"
        etags = set()
        for kept, read in ((2, 2), (3, 3), (1, 1), (None, 2)):
            with client.runtime.database.session_scope() as session:
                session.execute(update(Recording).values(audio_track=kept))
            assert client.get(path).json()["audio_track"] == kept
            played = client.get(f"{path}/audio")
            samples, _ = soundfile.read(io.BytesIO(played.content), dtype="float32")
            # 16 bits in FLAC, 16 bits in WAV: nothing is lost on the way.
            np.testing.assert_allclose(samples, TRACKS[read - 1], atol=2 / 32768)
            etags.add(played.headers["etag"])
            drawn = client.get(f"{path}/waveform", params={"points": 4}).json()
            assert (drawn["audio_track"], drawn["audio_tracks"]) == (read, 3)
            assert drawn["issues"] == [SAID.replace("track 2", f"track {read}")]
            loudest = np.abs(TRACKS[read - 1]).reshape(4, -1).max(axis=1)
            np.testing.assert_allclose(drawn["peaks"], loudest, atol=1e-3)
        assert len(etags) == 4  # No player takes one for another.
        with client.runtime.database.session_scope() as session:
            session.execute(update(Recording).values(audio_track=4))
        gone = client.get(f"{path}/waveform")
        assert (gone.status_code, "audio track 4 is to be read" in gone.json()["detail"]) == (422, True), gone.text


def test_what_is_embedded_again_is_the_track_that_was_kept(
    film: Path, tmp_path: Path, database: Database, record_settings: Settings
) -> None:
    old, new = SpectrumEncoder(), ReversedSpectrumEncoder()
    gallery_id = make_gallery(database, old)
    ingest_files(database, record_settings, gallery_id, old, [film])
    expected = {}
    for kept in (3, None):
        with database.session_scope() as session:
            session.execute(update(Recording).values(audio_track=kept))
        assert reembedding(database, record_settings, gallery_id, new).run().switched
        ((_, expected[kept]),) = vectors_of(database, new.id).items()
        reembedding(database, record_settings, gallery_id, old).run()
        drop_encoder(database, gallery_id, new.id)
    for kept, read in ((3, 3), (None, 2)):
        alone = np.round(TRACKS[read - 1] * 32767).astype(np.float32) / 32768
        np.testing.assert_allclose(expected[kept], new.embed([alone])[0], atol=1e-5)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record for commands whose encoder needs no weights."""
    monkeypatch.setattr(dependencies, "Services", SpectrumServices)
    services = SpectrumServices(load_settings(home=tmp_path / "home", database={}))
    services.create_gallery("calls", None)
    services.close()
    return tmp_path / "home"


def test_every_command_says_it_in_the_same_words_as_it_says_what_was_read_in_part(film: Path, home: Path) -> None:
    cut = film.parent / "cut.wav"
    cut.write_bytes(wav(4)[:60_044])
    in_part = "partial: decoded 1.9 s of the 4.0 s its header claims: the file is truncated"

    def said(*words: object) -> list[str]:
        done = CliRunner().invoke(app, [*map(str, words), "--home", str(home)])
        assert done.exit_code == 0, done.output
        return sorted(line.removeprefix("voxdex: ") for line in done.stderr.splitlines() if line)

    expected = [f"{cut}: {in_part}", f"{film}: {SAID}"]
    where = ("-g", "calls")
    assert said("ingest", cut, film, *where) == expected
    for command in (("identify", *where), ("diarize",), ("embed", "-o", home / "v.npz")):
        name, *options = command
        heard = said(name, cut, film, *options)
        assert [line for line in heard if "audio track" in line or "decoded" in line] == expected, name
    here = (*where, "--home", str(home))
    listed = json.loads(CliRunner().invoke(app, ["recordings", "list", *here, "--json"]).stdout)
    tracks = {row["uri"]: (row["audio_track"], row["audio_tracks"]) for row in listed["recordings"]}
    assert tracks == {str(cut): (1, 1), str(film): (2, 3)}
    (number,) = (str(row["id"]) for row in listed["recordings"] if row["uri"] == str(film))
    shown = CliRunner().invoke(app, ["recordings", "show", number, *here])
    assert re.search(r"audio_track\s+2\naudio_tracks\s+3", shown.stdout), shown.stdout


def test_whoever_is_enrolled_with_too_little_of_one_track_is_told_of_the_others(film: Path, tmp_path: Path) -> None:
    with serving(load_settings(home=tmp_path / "home", database={})) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        sent = {"file": (film.name, film.read_bytes())}
        refused = client.post("/v1/galleries/calls/speakers/Ann/enrollments?min_speech_s=30", files=sent)
        assert refused.status_code == 422, refused.text
        assert refused.json()["detail"].endswith(f"give a longer recording, best 10 s or more; {SAID}")


def test_the_service_says_what_was_read_in_part_in_those_words_too(tmp_path: Path) -> None:
    in_part = "partial: decoded 1.9 s of the 4.0 s its header claims: the file is truncated"
    with serving(load_settings(home=tmp_path / "home", database={})) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        path, audio = "/v1/galleries/calls", {"content-type": "audio/wav"}

        def sent(to: str, seed: int = 0) -> dict[str, Any]:
            answer = client.post(to, content=wav(4, seed=seed)[:60_044], headers=audio)
            assert answer.status_code in (200, 201), answer.text
            document: dict[str, Any] = answer.json()
            return document

        made = sent(f"{path}/recordings")
        assert (made["warnings"], made["state"], made["error_code"]) == ([in_part], "partial", "partial")
        assert made["error_message"] == in_part.removeprefix("partial: ")  # Its code says the rest.
        enrolled = sent(f"{path}/speakers/Ann/enrollments", seed=1)
        assert in_part in enrolled["warnings"]
        assert in_part in enrolled["quality"]["issues"]
        assert in_part in sent(f"{path}/identify")["issues"]
        assert sent("/v1/inspect")["issues"] == [in_part]
        assert client.get(f"{path}/recordings/{made['id']}/waveform").json()["issues"] == [in_part]
