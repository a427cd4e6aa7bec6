"""Who is enrolled with what is read by an answer about a few speakers: it must not cost more where there are many."""

import sqlite3

import pytest

from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")


@pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
def test_a_few_speakers_are_read_without_going_through_all_others(database: Database) -> None:
    names = [f"speaker {number}" for number in range(3000)]
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        gallery = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
        ids = Speakers(session).get_or_create(gallery, names)
        some = [ids[names[0]], ids[names[2999]]]
        heard = [NewUtterance(None, 0.0, 8.0, row, who) for row, who in zip(unit_vectors(2), some, strict=True)]
        Recordings(session).add_many(gallery, ENCODER, [NewRecording("a", "/a.wav", utterances=heard)])
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    with database.read_scope() as session:
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        connection.set_progress_handler(count, 100)
        found = Embeddings(session).enrolled(gallery, ENCODER, some)
        connection.set_progress_handler(None, 100)
    assert found.speaker_ids.tolist() == sorted(some)
    assert hundreds < 10, f"{hundreds} hundred steps of SQLite's machine for two speakers of 3,000"
