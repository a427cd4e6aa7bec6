"""A gallery goes from one encoder to another and back, whatever happens on the way."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import func, select, update

from indexer.db.changes import Changes
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.models import Embedding, Recording, Reembedding, Utterance, utc_now
from indexer.db.recordings import Recordings
from indexer.db.reembeddings import Reembeddings
from indexer.db.session import Database
from indexer.errors import Conflict, EncoderMismatch
from indexer.index.gallery_index import GalleryIndex
from indexer.index.snapshots import index_folder
from indexer.reembed import Reembed, drop_encoder
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, GalleryId, RecordingId, Vectors, Waveform
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.job_kit import make_gallery, write_archive
from tests.reembed_kit import current_encoder, ingest_files, reembedding, utterances, vectors_of

OLD, NEW = SpectrumEncoder(), ReversedSpectrumEncoder()


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, OLD)


def test_every_utterance_gets_the_vector_that_ingest_would_have_given_it(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 5, seconds=0.4)
    noise = np.random.default_rng(9).standard_normal((27 * SAMPLE_RATE_HZ, 2)) * 0.1
    soundfile.write(tmp_path / "in" / "long.flac", noise, SAMPLE_RATE_HZ)  # three utterances
    ingest_files(database, record_settings, gallery_id, OLD, [tmp_path / "in"])
    soundfile.write(tmp_path / "call.wav", noise[: 2 * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ)
    ingest_files(database, record_settings, gallery_id, OLD, [tmp_path / "call.wav"], channels="each")
    soundfile.write(tmp_path / "right.wav", noise[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ)
    ingest_files(database, record_settings, gallery_id, OLD, [tmp_path / "right.wav"], channels="right")
    before = vectors_of(database, OLD.id)

    report = reembedding(database, record_settings, gallery_id, NEW).run()

    assert report.switched
    assert (report.tally.written, report.missing) == (len(before), ())
    assert current_encoder(database, gallery_id) == NEW.id
    assert list(before) == utterances(database)
    after = vectors_of(database, NEW.id)
    signs = np.where(np.arange(192) % 2 == 0, 1.0, -1.0)
    for number, vector in before.items():  # The same samples, to the bit: what NEW makes of them follows from OLD's.
        np.testing.assert_allclose(after[number], vector[::-1] * signs, atol=1e-6)
    kept = vectors_of(database, OLD.id)
    assert all((kept[number] == vector).all() for number, vector in before.items())


def test_thresholds_belong_to_an_encoder_and_come_back_with_it(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 2))
    with database.session_scope() as session:
        Galleries(session).change(gallery_id, identification_threshold=0.61, verification_threshold=0.44)
    reembedding(database, record_settings, gallery_id, NEW).run()
    with database.session_scope() as session:
        row = Galleries(session).get(gallery_id)
        assert (row.identification_threshold, row.verification_threshold) == (None, None)
        Galleries(session).change(gallery_id, identification_threshold=0.3)
    reembedding(database, record_settings, gallery_id, OLD).run()
    with database.session_scope() as session:
        row = Galleries(session).get(gallery_id)
        assert (row.identification_threshold, row.verification_threshold) == (0.61, 0.44)
    reembedding(database, record_settings, gallery_id, NEW).run()
    with database.session_scope() as session:
        assert Galleries(session).get(gallery_id).identification_threshold == 0.3


def test_what_cannot_be_embedded_again_is_named_with_its_reason_and_keeps_the_gallery_where_it_is(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    paths = write_archive(tmp_path / "in", 6)
    ingest_files(database, record_settings, gallery_id, OLD, paths, speaker_from="regex:(?P<speaker>[0-9]+).wav")
    taken_away = tmp_path / "away.wav"
    paths[1].rename(taken_away)
    paths[2].write_bytes(paths[3].read_bytes())
    with database.session_scope() as session:
        session.execute(update(Recording).where(Recording.uri == str(paths[4])).values(uri="upload:gone"))

    report = reembedding(database, record_settings, gallery_id, NEW).run()

    assert not report.switched
    assert current_encoder(database, gallery_id) == OLD.id
    assert report.tally.written == 3
    assert [(one.uri, one.utterances, one.code) for one in report.missing] == [
        (str(paths[1]), 1, "audio-gone"),
        (str(paths[2]), 1, "audio-gone"),
        ("upload:gone", 1, "audio-gone"),
    ]
    assert "another file" in report.missing[1].message
    assert report.voiceless == ("00001", "00002", "00004")

    taken_away.rename(paths[1])  # It was on a disk that was not mounted.
    again = reembedding(database, record_settings, gallery_id, NEW).run(without_missing=True)
    assert again.switched
    assert again.tally.written == 1
    assert [one.uri for one in again.missing] == [str(paths[2]), "upload:gone"]
    assert current_encoder(database, gallery_id) == NEW.id
    assert len(vectors_of(database, NEW.id)) == 4


def test_an_utterance_too_short_for_the_new_encoder_is_missing_and_the_rest_of_its_recording_is_not(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    cut = record_settings.audio.model_copy(update={"utterance_s": 2.0})
    short = record_settings.model_copy(update={"audio": cut})
    write_archive(tmp_path, 1, seconds=5.2)  # 2 s, and 3.2 s: longer than a half, so cut into 2 s and 1.2 s
    ingest_files(database, short, gallery_id, OLD, [tmp_path])
    demanding = ReversedSpectrumEncoder(min_samples=round(1.9 * SAMPLE_RATE_HZ))
    report = reembedding(database, record_settings, gallery_id, demanding).run()
    assert not report.switched
    assert report.tally.written == 2
    assert [(one.utterances, one.code) for one in report.missing] == [(1, "audio-too-short")]


def test_going_back_embeds_what_came_since_and_the_way_back_ends_when_the_old_vectors_are_erased(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path / "first", 3))
    reembedding(database, record_settings, gallery_id, NEW).run()
    ingest_files(database, record_settings, gallery_id, NEW, write_archive(tmp_path / "second", 2, first=10))
    with database.read_scope() as session:
        assert GalleryEncoders(session, gallery_id).previous() == OLD.id
    back = reembedding(database, record_settings, gallery_id, OLD).run()
    assert (back.switched, back.tally.written) == (True, 2)
    assert set(vectors_of(database, OLD.id)) == set(utterances(database))
    with database.read_scope() as session:
        assert GalleryEncoders(session, gallery_id).previous() == NEW.id
        before = Changes(session).position(gallery_id).vectors

    with pytest.raises(Conflict, match="is searched under"):
        drop_encoder(database, gallery_id, OLD.id)
    assert drop_encoder(database, gallery_id, NEW.id) == 5
    assert vectors_of(database, NEW.id) == {}
    assert len(vectors_of(database, OLD.id)) == 5
    with database.read_scope() as session:
        assert GalleryEncoders(session, gallery_id).previous() is None
        assert GalleryEncoders(session, gallery_id).others() == []
        (change,) = Changes(session).since(gallery_id, before)
    assert (change.encoder_id, change.removed, len(change.embedding_ids)) == (NEW.id, True, 5)


def test_an_erasure_of_vectors_that_was_broken_off_goes_on_and_none_begins_under_somebodys_hands(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 4))
    reembedding(database, record_settings, gallery_id, NEW).run()
    with database.session_scope() as session:
        encoders = GalleryEncoders(session, gallery_id)
        encoders.close_way_back(OLD.id)
        assert encoders.drop_some(OLD.id, 3) == 3
    with database.session_scope() as session:
        assert GalleryEncoders(session, gallery_id).previous() is None  # Half of it is no way back.
        assert GalleryEncoders(session, gallery_id).others() == [OLD.id]
        (number, _), *_ = Reembeddings(session, gallery_id, OLD.id).open(since=utc_now())
        assert Reembeddings(session, gallery_id, OLD.id).claim([number], "somebody", lease_s=60)
    with pytest.raises(Conflict, match="are being embedded"):
        drop_encoder(database, gallery_id, OLD.id)
    with database.session_scope() as session:
        Reembeddings(session, gallery_id, OLD.id).release("somebody")
    assert drop_encoder(database, gallery_id, OLD.id) == 1
    assert vectors_of(database, OLD.id) == {}


def test_several_processes_share_the_work_and_embed_nothing_twice(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 120, seconds=0.15))
    encoders = [ReversedSpectrumEncoder() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        runs = [reembedding(database, record_settings, gallery_id, encoder) for encoder in encoders]
        reports = list(pool.map(lambda run: run.run(), runs))
    assert [report.switched for report in reports] == [True, True, True]
    assert sum(report.tally.written for report in reports) == 120
    assert sum(encoder.embedded for encoder in encoders) == 120
    assert set(vectors_of(database, NEW.id)) == set(utterances(database))


def test_what_is_erased_on_the_way_is_not_brought_back(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 6))
    with database.read_scope() as session:
        numbers = [RecordingId(number) for number in session.scalars(select(Recording.id).order_by(Recording.id))]

    class Erasing(ReversedSpectrumEncoder):
        """Somebody erases recordings while they are being embedded."""

        def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
            while numbers:
                with database.session_scope() as session:
                    Recordings(session).delete(numbers.pop())
            return super().embed(waveforms)

    report = reembedding(database, record_settings, gallery_id, Erasing()).run()
    assert report.switched
    assert report.tally.written == 0
    assert vectors_of(database, NEW.id) == {}
    with database.read_scope() as session:
        assert session.scalar(select(func.count()).select_from(Reembedding)) == 0


def test_a_recording_that_kills_whoever_works_on_it_is_given_up(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 3))
    run = reembedding(database, record_settings, gallery_id, NEW)
    tries = record_settings.jobs.tries
    with database.session_scope() as session:
        progress = Reembeddings(session, gallery_id, NEW.id)
        (number, _), *_ = progress.open(since=utc_now())
        for _ in range(tries + 1):
            assert progress.claim([number], "died", lease_s=-1)
    report = run.run()
    assert [(one.recording_id, one.code) for one in report.missing] == [(number, "worker-lost")]
    assert report.tally.written == 2
    assert run.run().switched  # Who asks again means it.


def test_an_encoder_of_another_dimension_is_refused_before_anything_is_embedded(
    database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    wide = ReversedSpectrumEncoder()
    wide.dim = 256
    with pytest.raises(EncoderMismatch, match="dimension 256"):
        Reembed(database, record_settings, gallery_id, wide).run()


def test_an_erasure_reaches_rows_and_index_files_of_both_encoders(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path / "in", 3))
    kept = GalleryIndex.of(database, record_settings, gallery_id)
    kept.open(OLD.id).close()
    run = reembedding(database, record_settings, gallery_id, NEW)
    run.prepare_index = lambda: kept.open(NEW.id).close()
    run.run()
    folders = [index_folder(record_settings.home, gallery_id, encoder.id) for encoder in (OLD, NEW)]
    with database.session_scope() as session:
        number = session.scalars(select(Recording.id).limit(1)).one()
        theirs = select(Embedding.vector).join(Utterance, Utterance.id == Embedding.utterance_id)
        vectors = session.scalars(theirs.where(Utterance.recording_id == number))
        erased = [vector.tobytes() for vector in vectors]
        assert [_holds(folder, erased) for folder in folders] == [1, 1]
        Recordings(session).delete(RecordingId(number))
    kept.scrub()
    assert [_holds(folder, erased) for folder in folders] == [0, 0]
    for encoder in (OLD, NEW):
        assert len(vectors_of(database, encoder.id)) == 2
        assert kept.check(encoder.id).in_step


def _holds(folder: Path, vectors: Sequence[bytes]) -> int:
    """Count the vectors that are in the files of a folder."""
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return sum(vector in content for vector in vectors)
