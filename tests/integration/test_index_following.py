"""What an open index keeps of a change when the next step of following fails."""

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import utc_now
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.index.snapshots import index_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")
GONE, KEPT, DAMAGED, LATER = unit_vectors(4, seed=3)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


@pytest.fixture
def settings(record_settings: Settings) -> Settings:
    return record_settings


def add(database: Database, gallery: GalleryId, vector: np.ndarray) -> RecordedIds:
    content = vector.tobytes().hex()[:32]
    recording = NewRecording(content, f"/{content}.wav", utterances=[NewUtterance(None, 0.0, 1.0, vector)])
    with database.session_scope() as session:
        return Recordings(session).add(gallery, ENCODER, recording)


def delete(database: Database, added: RecordedIds) -> None:
    with database.session_scope() as session:
        Recordings(session).delete(added.recording_id)


def damage(database: Database, added: RecordedIds) -> None:
    with database.session_scope() as session:
        change = text("UPDATE embeddings SET checksum = checksum + 1 WHERE id = :id")
        session.execute(change, {"id": added.embedding_ids[0]})


def files(settings: Settings, gallery: GalleryId) -> bytes:
    return b"".join(path.read_bytes() for path in index_folder(settings.home, gallery, ENCODER).glob("*.rows"))


def opened(database: Database, settings: Settings, gallery: GalleryId) -> FollowedIndex:
    return FollowedIndex(GalleryIndex(database, settings, gallery), ENCODER)


def test_a_vector_damaged_in_the_record_holds_up_neither_erasures_nor_what_came_later(
    database: Database, settings: Settings, gallery: GalleryId, caplog: pytest.LogCaptureFixture
) -> None:
    gone, kept = add(database, gallery, GONE), add(database, gallery, KEPT)
    followed = opened(database, settings, gallery)
    assert GONE.tobytes() in files(settings, gallery)
    damaged = add(database, gallery, DAMAGED)
    damage(database, damaged)
    delete(database, gone)
    later = add(database, gallery, LATER)
    followed.follow()
    assert followed.index.ids().tolist() == [*kept.embedding_ids, *later.embedding_ids]
    assert f"first: embedding {damaged.embedding_ids[0]}" in caplog.text
    with database.read_scope() as session:
        assert followed.position == Changes(session).position(gallery).vectors
    followed.keep(closing=True)
    assert GONE.tobytes() not in files(settings, gallery)
    assert KEPT.tobytes() in files(settings, gallery)


def test_what_was_erased_leaves_the_files_also_when_all_is_compared_and_something_is_damaged(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    gone = add(database, gallery, GONE)
    add(database, gallery, KEPT)
    followed = opened(database, settings, gallery)
    delete(database, gone)
    damage(database, add(database, gallery, DAMAGED))
    with database.session_scope() as session:
        Changes(session).prune(utc_now())
    followed.follow()  # All is compared, and what is damaged is passed over.
    followed.keep(closing=True)
    assert GONE.tobytes() not in files(settings, gallery)
    assert KEPT.tobytes() in files(settings, gallery)


def test_an_erasure_in_one_step_is_kept_when_the_next_step_fails(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    gone = add(database, gallery, GONE)
    add(database, gallery, KEPT)
    followed = opened(database, settings, gallery)
    delete(database, gone)
    with database.session_scope() as session:
        for _ in range(70):  # More than one step takes.
            Changes(session).vectors_added(gallery, ENCODER, [10_000])
            Changes(session).write()
        session.execute(text("UPDATE index_changes SET embedding_ids = :odd WHERE seq > 66"), {"odd": b"odd"})
    with pytest.raises(ValueError, match="buffer size"):
        followed.follow()
    followed.keep(closing=True)
    assert GONE.tobytes() not in files(settings, gallery)
