"""A recording of somebody else among a speaker's enrollments is pointed out, and can be taken back by itself."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from api.cli.main import app
from indexer.audio.quality import Quality
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database, open_database
from indexer.db.speaker_records import SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.likeness import LEAST_JUDGED_S, enrollment_likeness
from indexer.settings import load_settings
from indexer.types import EncoderId, GalleryId, RecordingId, SpeakerId, Vectors
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")
ANN, BO = unit_vectors(2, seed=1)


def near(center: Vectors, seed: int, count: int = 2) -> Vectors:
    drawn = center + 0.5 * unit_vectors(count, seed=seed)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def enroll(database: Database, recordings: dict[str, Vectors], speech_s: float = 4.0) -> tuple[GalleryId, SpeakerId]:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        gallery_id = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
        speaker_id = Speakers(session).get_or_create(gallery_id, ["ann"])["ann"]
        for name, vectors in recordings.items():
            quality = Quality(speech_s / 2, 20.0, 0.0, 8000.0, -24.0)
            parts = [
                NewUtterance(None, 5.0 * n, 5.0 * n + 5, row, speaker_id, quality=quality)
                for n, row in enumerate(vectors)
            ]
            Recordings(session).add(gallery_id, ENCODER, NewRecording(name, f"/{name}.wav", utterances=parts))
    return gallery_id, speaker_id


def strange(database: Database, gallery_id: GalleryId, speaker_id: SpeakerId) -> list[RecordingId]:
    with database.read_scope() as session:
        found = enrollment_likeness(session, gallery_id, ENCODER, speaker_id)
    return [number for number, likeness in found.items() if likeness.is_outlier]


def test_the_recording_of_somebody_else_is_pointed_out_with_its_cosine(database: Database) -> None:
    voices = {"a": near(ANN, 2), "b": near(ANN, 3), "c": near(BO, 4), "d": near(ANN, 5)}
    gallery_id, speaker_id = enroll(database, voices)
    with database.read_scope() as session:
        found = enrollment_likeness(session, gallery_id, ENCODER, speaker_id)
        shown = SpeakerRecords(session, gallery_id).enrollments(speaker_id)
    cosines = [likeness.cosine for likeness in found.values()]
    assert [likeness.is_outlier for likeness in found.values()] == [False, False, True, False]
    assert [cosine is not None and cosine > 0.6 for cosine in cosines] == [True, True, False, True]
    assert [(row.net_speech_s, row.snr_db) for row in shown] == [(4.0, 20.0)] * 4


def test_too_little_speech_is_not_called_strange(database: Database) -> None:
    gallery_id, speaker_id = enroll(database, {"a": near(ANN, 2), "b": near(BO, 3)}, LEAST_JUDGED_S - 0.1)
    assert strange(database, gallery_id, speaker_id) == []


def test_a_speaker_with_one_recording_or_none_has_nothing_strange(database: Database) -> None:
    gallery_id, speaker_id = enroll(database, {"a": near(ANN, 2)})
    assert strange(database, gallery_id, speaker_id) == []
    assert strange(database, gallery_id, SpeakerId(999_999)) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with closing(open_database(load_settings(home=tmp_path, database={}))) as database:
        enroll(database, {"a": near(ANN, 2), "b": near(ANN, 3), "c": near(BO, 4)})
    return tmp_path


def test_the_command_line_points_it_out_and_takes_it_back_alone(home: Path) -> None:
    place = ["-g", "archive", "--home", str(home)]
    shown = CliRunner().invoke(app, ["speakers", "show", "ann", *place])
    assert shown.exit_code == 0, shown.output
    assert shown.stderr.count("does not sound like the others") == 1
    assert "recording 3 (/c.wav) does not sound like the others: cosine " in shown.stderr
    listed = json.loads(CliRunner().invoke(app, ["speakers", "show", "ann", "--json", *place]).stdout)["enrollments"]
    assert [row["uri"] for row in listed] == ["/a.wav", "/b.wav", "/c.wav"]
    taken = CliRunner().invoke(app, ["speakers", "withdraw", "ann", "3", *place])
    assert taken.exit_code == 0, taken.output
    again = CliRunner().invoke(app, ["speakers", "show", "ann", *place])
    assert "4 enrolled utterances" in again.output
    assert "does not sound" not in again.stderr
