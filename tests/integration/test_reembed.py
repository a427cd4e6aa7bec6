"""A gallery goes from one encoder to another and back, whatever happens on the way."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from indexer.db.repositories import Galleries
from indexer.db.session import Database
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, GalleryId
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
