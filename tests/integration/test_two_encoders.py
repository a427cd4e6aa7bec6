"""A gallery that is searched under two encoders: both embed everything, and both forget what is erased."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from indexer.db.calibrations import Calibrations, StoredCalibration
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.models import Embedding, Gallery, JobState, Recording, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import Conflict, EncoderChanged, EncoderMismatch
from indexer.index.gallery_index import GalleryIndex
from indexer.index.snapshots import index_folder
from indexer.jobs.bulk import BulkIngest
from indexer.reembed import Reembed, drop_encoder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, RecordingId
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.job_kit import ListQueue, job_of, make_gallery, submit, work_off, write_archive
from tests.reembed_kit import ingest_files, reembedding, register, utterances, vectors_of
from tests.vectors import unit_vectors

FIRST, SECOND = SpectrumEncoder(), ReversedSpectrumEncoder()


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    """A gallery of the first encoder alone."""
    return make_gallery(database, FIRST)


@pytest.fixture
def fused_id(database: Database) -> GalleryId:
    """A gallery that was made for both."""
    register(database, FIRST, SECOND)
    with database.session_scope() as session:
        encoders = Encoders(session)
        made = Galleries(session).create("fused", encoders.get(FIRST.id), encoders.get(SECOND.id))
        return GalleryId(made.id)


def second_of(database: Database, gallery_id: GalleryId) -> EncoderId | None:
    with database.read_scope() as session:
        gallery = session.get(Gallery, gallery_id)
        assert gallery is not None
        return gallery.second_encoder_id


def beside(database: Database, settings: Settings, gallery_id: GalleryId) -> Reembed:
    register(database, SECOND)
    return Reembed(database, settings, gallery_id, SECOND, beside=True)


def test_one_encoder_is_no_two() -> None:
    with pytest.raises(EncoderMismatch, match="twice"):
        EncoderSet(FIRST, SpectrumEncoder())
    assert EncoderSet(FIRST).ids == (FIRST.id,)
    assert [encoder.id for encoder in EncoderSet(FIRST, SECOND)] == [FIRST.id, SECOND.id]
    assert EncoderSet(FIRST, ReversedSpectrumEncoder(min_samples=3200)).min_samples == 3200


def test_a_gallery_is_not_made_for_an_encoder_and_itself(database: Database) -> None:
    register(database, FIRST)
    with pytest.raises(EncoderMismatch, match="twice"), database.session_scope() as session:
        Galleries(session).create("fused", Encoders(session).get(FIRST.id), Encoders(session).get(FIRST.id))


def test_ingest_writes_each_utterance_under_both_encoders_and_the_feed_tells_of_both(
    tmp_path: Path, database: Database, record_settings: Settings, fused_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 4, seconds=0.4)
    report = ingest_files(database, record_settings, fused_id, FIRST, [tmp_path / "in"], second=SECOND)

    assert report.tally.ingested == 4
    first, second = vectors_of(database, FIRST.id), vectors_of(database, SECOND.id)
    assert list(first) == list(second) == utterances(database)
    signs = np.where(np.arange(192) % 2 == 0, 1.0, -1.0)
    for number, vector in first.items():
        np.testing.assert_allclose(second[number], vector[::-1] * signs, atol=1e-6)
    kept = GalleryIndex.of(database, record_settings, fused_id)
    for encoder_id, vectors in ((FIRST.id, first), (SECOND.id, second)):
        index = kept.open(encoder_id)
        try:
            assert index.count == 4
            hits = index.search(next(iter(vectors.values()))[None, :], 1)[0]
            assert hits[0].score == pytest.approx(1.0, abs=1e-5)
        finally:
            index.close()
        assert kept.check(encoder_id).in_step


@pytest.mark.parametrize("second", [None, SECOND])
def test_vectors_of_other_encoders_than_the_gallery_has_are_refused_whole(
    second: ReversedSpectrumEncoder | None, database: Database, gallery_id: GalleryId
) -> None:
    register(database, SECOND)
    if second is None:  # The gallery has two, and one is given.
        with database.session_scope() as session:
            GalleryEncoders(session, gallery_id).set_second(SECOND.id)
    rows = unit_vectors(2, seed=3)
    part = NewUtterance(None, 0.0, 1.0, rows[0], beside={second.id: rows[1]} if second else {})
    with pytest.raises(EncoderChanged, match="embed the recordings again"), database.session_scope() as session:
        Recordings(session).add(gallery_id, FIRST.id, NewRecording("a" * 64, "/a.wav", utterances=[part]))
    with database.read_scope() as session:
        assert session.scalars(select(Embedding.id)).all() == []
        assert Recordings(session).known_contents(gallery_id, ["a" * 64]) == {}


def test_an_archive_gets_a_second_encoder_beside_its_own_and_what_comes_later_is_under_both(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 3, seconds=0.4)
    ingest_files(database, record_settings, gallery_id, FIRST, [tmp_path / "in"])
    before = vectors_of(database, FIRST.id)

    report = beside(database, record_settings, gallery_id).run()

    assert (report.switched, report.encoder_before, report.tally.written) == (True, FIRST.id, 3)
    assert second_of(database, gallery_id) == SECOND.id
    with database.read_scope() as session:
        head = Galleries(session).heads([gallery_id])[gallery_id]
    assert head.encoder_ids == (FIRST.id, SECOND.id)
    after = vectors_of(database, FIRST.id)
    assert all(np.array_equal(after[number], vector) for number, vector in before.items())
    assert list(vectors_of(database, SECOND.id)) == list(before)
    assert beside(database, record_settings, gallery_id).run().tally.written == 0  # There is nothing left to do.

    write_archive(tmp_path / "later", 2, seconds=0.4, first=3)
    part = NewUtterance(None, 0.0, 1.0, unit_vectors(1, seed=1)[0])
    with pytest.raises(EncoderChanged), database.session_scope() as session:
        Recordings(session).add(gallery_id, FIRST.id, NewRecording("b" * 64, "/b.wav", utterances=[part]))
    ingest_files(database, record_settings, gallery_id, FIRST, [tmp_path / "later"], second=SECOND)
    assert list(vectors_of(database, SECOND.id)) == utterances(database)


def test_an_encoder_does_not_go_beside_itself(
    database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    with pytest.raises(Conflict, match="name another encoder"):
        Reembed(database, record_settings, gallery_id, FIRST, beside=True).run()


def test_what_cannot_be_embedded_again_keeps_the_second_encoder_out_until_it_is_allowed_to_be_missing(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    paths = write_archive(tmp_path / "in", 3, seconds=0.4)
    ingest_files(database, record_settings, gallery_id, FIRST, [tmp_path / "in"])
    paths[1].unlink()

    report = beside(database, record_settings, gallery_id).run()
    assert (report.switched, [one.code for one in report.missing]) == (False, ["audio-gone"])
    assert second_of(database, gallery_id) is None

    assert beside(database, record_settings, gallery_id).run(without_missing=True).switched
    assert second_of(database, gallery_id) == SECOND.id


def test_an_erased_recording_leaves_rows_and_files_of_both_encoders(
    tmp_path: Path, database: Database, record_settings: Settings, fused_id: GalleryId
) -> None:
    paths = write_archive(tmp_path / "in", 4, seconds=0.4)
    ingest_files(database, record_settings, fused_id, FIRST, [tmp_path / "in"], second=SECOND)
    kept = GalleryIndex.of(database, record_settings, fused_id)
    for encoder_id in (FIRST.id, SECOND.id):
        kept.open(encoder_id).close()
    with database.read_scope() as session:
        recording = session.scalars(select(Recording).where(Recording.uri == str(paths[2]))).one()
        utterance = session.scalars(select(Utterance.id).where(Utterance.recording_id == recording.id)).one()
    gone = {encoder_id: vectors_of(database, encoder_id)[utterance] for encoder_id in (FIRST.id, SECOND.id)}
    for encoder_id, vector in gone.items():
        assert vector.tobytes() in bytes_below(index_folder(record_settings.home, fused_id, encoder_id))

    with database.session_scope() as session:
        erased = Recordings(session).delete(RecordingId(recording.id))
    kept.scrub()

    assert len(erased.embedding_ids) == 2
    for encoder_id, vector in gone.items():
        assert len(vectors_of(database, encoder_id)) == 3
        assert vector.tobytes() not in bytes_below(index_folder(record_settings.home, fused_id, encoder_id))
        assert kept.check(encoder_id).in_step


def test_the_second_encoder_in_use_is_not_dropped_and_one_out_of_use_is(
    tmp_path: Path, database: Database, record_settings: Settings, fused_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 3, seconds=0.4)
    ingest_files(database, record_settings, fused_id, FIRST, [tmp_path / "in"], second=SECOND)
    for encoder_id in (FIRST.id, SECOND.id):
        with pytest.raises(Conflict, match="is searched under"):
            drop_encoder(database, fused_id, encoder_id)
    with database.read_scope() as session:
        encoders = GalleryEncoders(session, fused_id)
        assert (encoders.others(), encoders.previous(), encoders.unused([SECOND.id])) == ([], None, [])

    with database.session_scope() as session:
        GalleryEncoders(session, fused_id).set_second(None)
    with database.read_scope() as session:
        assert GalleryEncoders(session, fused_id).others() == [SECOND.id]
    assert drop_encoder(database, fused_id, SECOND.id) == 3
    assert vectors_of(database, SECOND.id) == {}
    assert len(vectors_of(database, FIRST.id)) == 3


def test_a_gallery_that_goes_over_to_its_second_encoder_keeps_its_first_beside(
    tmp_path: Path, database: Database, record_settings: Settings, fused_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 2, seconds=0.4)
    ingest_files(database, record_settings, fused_id, FIRST, [tmp_path / "in"], second=SECOND)

    report = reembedding(database, record_settings, fused_id, SECOND).run()

    assert (report.switched, report.tally.written) == (True, 0)
    with database.read_scope() as session:
        assert Galleries(session).heads([fused_id])[fused_id].encoder_ids == (SECOND.id, FIRST.id)


def test_a_third_encoder_takes_the_place_of_the_first_and_the_second_stays(
    tmp_path: Path, database: Database, record_settings: Settings, fused_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 2, seconds=0.4)
    ingest_files(database, record_settings, fused_id, FIRST, [tmp_path / "in"], second=SECOND)
    third = SpectrumEncoder()
    third.id = EncoderId("ffffffffffffffff-other")

    assert reembedding(database, record_settings, fused_id, third).run().switched

    with database.read_scope() as session:
        assert Galleries(session).heads([fused_id])[fused_id].encoder_ids == (third.id, SECOND.id)
        assert GalleryEncoders(session, fused_id).others() == [FIRST.id]


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def calibrate(database: Database, gallery_id: GalleryId, name: str, *encoder_ids: EncoderId) -> None:
    with database.session_scope() as session:
        Calibrations(session).add(StoredCalibration(name * 64, name, encoder_ids, {}))
        Galleries(session).change(gallery_id, calibration_id=name * 64)


def calibration_in_use(database: Database, gallery_id: GalleryId) -> str | None:
    with database.read_scope() as session:
        found = Galleries(session).heads([gallery_id])[gallery_id].calibration_id
        return found[0] if found else None


def test_a_calibration_goes_with_the_encoders_that_it_is_of_and_comes_back_with_them_alone(
    database: Database, fused_id: GalleryId
) -> None:
    calibrate(database, fused_id, "f", FIRST.id, SECOND.id)
    with database.session_scope() as session:
        GalleryEncoders(session, fused_id).set_second(SECOND.id)  # It is that already.
    assert calibration_in_use(database, fused_id) == "f"
    third = SpectrumEncoder()
    third.id = EncoderId("ffffffffffffffff-other")
    register(database, third)

    def switch(encoder_id: EncoderId) -> str | None:
        with database.session_scope() as session:
            GalleryEncoders(session, fused_id).switch(encoder_id)
        return calibration_in_use(database, fused_id)

    assert switch(third.id) is None
    assert switch(FIRST.id) == "f"
    assert switch(third.id) is None
    with database.session_scope() as session:
        GalleryEncoders(session, fused_id).set_second(None)
    assert switch(FIRST.id) is None  # It was of two, and the gallery has one.
    calibrate(database, fused_id, "s", FIRST.id)
    assert switch(third.id) is None
    assert switch(FIRST.id) == "s"
    with database.session_scope() as session:
        GalleryEncoders(session, fused_id).set_second(SECOND.id)
    assert calibration_in_use(database, fused_id) is None
    calibrate(database, fused_id, "s", FIRST.id)
    with database.session_scope() as session:
        GalleryEncoders(session, fused_id).set_second(None)
    assert calibration_in_use(database, fused_id) == "s"


def test_a_job_that_began_under_one_encoder_ends_under_both(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    register(database, SECOND)
    with database.session_scope() as session:
        GalleryEncoders(session, gallery_id).set_second(SECOND.id)
    write_archive(tmp_path / "in", 3)
    asked: list[EncoderSet] = []

    def encoders_for(_: GalleryId) -> EncoderSet:
        asked.append(EncoderSet(FIRST, SECOND if asked else None))  # What this worker knew was out of date.
        return asked[-1]

    queue = ListQueue()
    bulk = BulkIngest(database, record_settings, queue=queue, encoders_for=encoders_for)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)

    assert [len(one.ids) for one in asked] == [1, 2]
    assert (job_of(database, job_id).state, job_of(database, job_id).done) == (JobState.SUCCEEDED, 3)
    assert list(vectors_of(database, FIRST.id)) == list(vectors_of(database, SECOND.id)) == utterances(database)
