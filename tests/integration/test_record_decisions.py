"""What decisions are made of goes through the record unchanged, on both databases."""

import pytest

from indexer.audio.quality import Quality
from indexer.db.calibrations import Calibrations, StoredCalibration
from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.errors import NotFound
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("one/legacy")
OTHER = EncoderId("two/legacy")
HEARD = Quality(net_speech_s=3.25, snr_db=12.5, clipped_share=0.01, bandwidth_hz=3400.0, level_dbfs=-27.5)
SILENT = Quality(net_speech_s=0.0, snr_db=None, clipped_share=0.0, bandwidth_hz=0.0, level_dbfs=-120.0)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        for encoder_id, digest in ((ENCODER, "1"), (OTHER, "2")):
            Encoders(session).register(NewEncoder(encoder_id, "e", "ecapa", digest * 64, "legacy", 192))
        encoder = Encoders(session).get(ENCODER)
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


def test_what_was_heard_of_each_utterance_comes_back_as_it_was(database: Database, gallery: GalleryId) -> None:
    vectors = unit_vectors(3)
    with database.session_scope() as session:
        ada = Speakers(session).get_or_create(gallery, ["Ada"])["Ada"]
        parts = [
            NewUtterance(None, 0.0, 5.0, vectors[0], ada, voice=0, quality=HEARD),
            NewUtterance(None, 5.0, 9.0, vectors[1], voice=1, quality=SILENT),
            NewUtterance(None, 9.0, 12.0, vectors[2], ada),
        ]
        recording = NewRecording("a", "/a.wav", duration_s=12.0, voices=2, utterances=parts)
        number = Recordings(session).add(gallery, ENCODER, recording).recording_id
    with database.read_scope() as session:
        kept = Recordings(session).utterances(number)
        assert [(part.voice, part.quality) for part in kept] == [(0, HEARD), (1, SILENT), (None, None)]
        assert Recordings(session).summary(number).voices == 2
        stretches = Speakers(session).enrolled_stretches(ada)
        assert [(stretch.voice, stretch.quality) for stretch in stretches] == [(0, HEARD), (None, None)]
        # What a voiceprint is weighted by: net speech, and the length where nobody looked.
        assert Embeddings(session).enrolled(gallery, ENCODER).durations_s.tolist() == [3.25, 3.0]


def test_a_recording_that_nobody_listened_to_says_so(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        number = Recordings(session).add(gallery, ENCODER, NewRecording("a", "/a.wav")).recording_id
    with database.read_scope() as session:
        assert Recordings(session).summary(number).voices is None


STORED = StoredCalibration("c1", "telephone", (ENCODER,), {"weights": [1.5, None, "x"]})


def test_a_gallery_says_which_calibration_and_operating_point_it_has(database: Database, gallery: GalleryId) -> None:
    rules = {
        "second_encoder_id": OTHER,
        "calibration_id": "c1",
        "target_fpir": 0.01,
        "possible_fpir": 0.1,
        "possible_threshold": 0.3,
        "target_p_fa": 0.001,
        "score_normalization": True,
    }
    with database.session_scope() as session:
        Calibrations(session).add(STORED)
        Galleries(session).change(gallery, **rules)
    with database.read_scope() as session:
        head, summary = Galleries(session).head("archive"), Galleries(session).summary(gallery)
        assert Galleries(session).heads([gallery]) == {gallery: head}
        assert {name: getattr(head, name) for name in rules} == rules
        assert {name: getattr(summary, name) for name in rules} == rules
        assert Calibrations(session).get("c1") == STORED


def test_a_deleted_calibration_is_nobodys_any_more(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        Calibrations(session).add(STORED)
        Galleries(session).change(gallery, calibration_id="c1")
    with database.session_scope() as session:
        Calibrations(session).delete("c1")
    with database.read_scope() as session:
        assert Galleries(session).head("archive").calibration_id is None
        with pytest.raises(NotFound, match="no calibration 'c1'"):
            Calibrations(session).get("c1")


def test_a_calibration_outlives_the_galleries_that_use_it(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        for _ in range(2):
            Calibrations(session).add(STORED)
        Galleries(session).change(gallery, calibration_id="c1")
        Galleries(session).delete(gallery)
    with database.read_scope() as session:
        assert Calibrations(session).all() == [STORED]


def test_each_encoder_of_a_gallery_keeps_its_calibration_and_band(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        Calibrations(session).add(STORED)
        Galleries(session).change(gallery, calibration_id="c1", possible_threshold=0.3, target_fpir=0.02)
        GalleryEncoders(session, gallery).switch(OTHER)
    with database.session_scope() as session:
        head = Galleries(session).head("archive")
        assert (head.calibration_id, head.possible_threshold, head.target_fpir) == (None, None, 0.02)
        GalleryEncoders(session, gallery).switch(ENCODER)
    with database.read_scope() as session:
        head = Galleries(session).head("archive")
        assert (head.calibration_id, head.possible_threshold) == ("c1", 0.3)
