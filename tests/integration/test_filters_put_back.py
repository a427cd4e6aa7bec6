"""A filter's rows where the record was put back in time and has come to the same number again."""

from sqlalchemy import delete, text

from api.filtered import FilteredGallery
from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.filters import RowFilter
from indexer.db.galleries import Galleries
from indexer.db.models import Embedding, IndexChange, Recording, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("0123456789abcdef-spectrum")


def add(database: Database, gallery: GalleryId, content: str, count: int) -> RecordedIds:
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(unit_vectors(count, seed=count))]
    with database.session_scope() as session:
        recording = NewRecording(content, f"/{content}.wav", utterances=parts, labels=["meeting"])
        return Recordings(session).add(gallery, ENCODER, recording)


def head(database: Database, gallery: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        found = Galleries(session).heads([gallery])[gallery]
        assert found.position == Changes(session).position(gallery)
    return found


def test_the_rows_of_a_filter_are_read_anew_where_another_change_has_the_number_of_the_last_one(
    database: Database,
) -> None:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "test", "0" * 64, "spectrum", 192))
        gallery = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
    filtered = FilteredGallery(database, gallery, ENCODER)
    meetings = RowFilter(labels=("meeting",))
    before = head(database, gallery)
    assert len(filtered.rows(meetings, before)) == 0
    assert before.position.vectors_at is None
    first = add(database, gallery, "first", 2)
    assert filtered.rows(meetings, head(database, gallery)).ids.tolist() == list(first.embedding_ids)
    with database.session_scope() as session:
        for table in (Embedding, Utterance, Recording, IndexChange):
            session.execute(delete(table))
        session.execute(text("UPDATE gallery_feeds SET vectors_seq = 0"))
    second = add(database, gallery, "second", 3)
    now = head(database, gallery)
    assert now.position.vectors == 1
    assert filtered.rows(meetings, now).ids.tolist() == list(second.embedding_ids)
