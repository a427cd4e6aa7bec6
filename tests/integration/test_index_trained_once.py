"""An index whose files have no codes is trained by the first command that opens it, and by no later one."""

import logging

import pytest

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId
from tests.vectors import voices

ENCODER = EncoderId("0575cb64/legacy")
COUNT = 1500


def _gallery(database: Database, settings: Settings) -> GalleryIndex:
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(voices(COUNT // 10, 10, seed=3))]
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        number = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
        Recordings(session).add(number, ENCODER, NewRecording("content", "/a.wav", utterances=parts))
    return GalleryIndex(database, settings, number)


def test_a_gallery_saved_before_it_was_compressed_is_trained_by_one_start_and_said_to_be(
    database: Database, record_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    flat = _gallery(database, record_settings)
    flat.open(ENCODER).close()
    index = record_settings.index.model_copy(update={"compress_above": COUNT})
    settings = record_settings.model_copy(update={"index": index})
    kept = GalleryIndex(database, settings, flat.gallery_id)

    with caplog.at_level(logging.INFO):
        kept.open(ENCODER).close()
    assert sum("compressed once" in line for line in caplog.messages) == 1
    assert kept.generation(ENCODER) == 2

    caplog.clear()
    with caplog.at_level(logging.INFO):
        opened = kept.open(ENCODER)
        kind = opened.info().kind
        opened.close()
    assert kind == "faiss-compressed"
    assert not any("trained" in line or "compressed once" in line for line in caplog.messages)
    assert kept.generation(ENCODER) == 2
