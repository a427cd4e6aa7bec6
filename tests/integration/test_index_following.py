"""What an open index keeps of a change when the next step of following fails."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.changes import Changes
from indexer.db.models import utc_now
from indexer.db.recordings import Recordings
from indexer.db.repositories import Encoders, Galleries
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.errors import CorruptArtifact
from indexer.index.feed import IndexFeed
from indexer.index.follower import FollowedIndex
from indexer.index.snapshots import index_folder
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
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


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


def files(home: Path, gallery: GalleryId) -> bytes:
    return b"".join(path.read_bytes() for path in index_folder(home, gallery, ENCODER).glob("*.vectors"))


def opened(database: Database, home: Path, gallery: GalleryId) -> FollowedIndex:
    return FollowedIndex(IndexFeed(database, home, gallery, ENCODER), gallery)


def test_a_vector_damaged_in_the_record_holds_up_neither_erasures_nor_what_came_later(
    database: Database, home: Path, gallery: GalleryId, caplog: pytest.LogCaptureFixture
) -> None:
    gone, kept = add(database, gallery, GONE), add(database, gallery, KEPT)
    followed = opened(database, home, gallery)
    assert GONE.tobytes() in files(home, gallery)
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
    assert GONE.tobytes() not in files(home, gallery)
    assert KEPT.tobytes() in files(home, gallery)


def test_what_was_erased_leaves_the_files_also_when_following_fails_after_it(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    gone = add(database, gallery, GONE)
    add(database, gallery, KEPT)
    followed = opened(database, home, gallery)
    delete(database, gone)
    damage(database, add(database, gallery, DAMAGED))
    with database.session_scope() as session:
        Changes(session).prune(utc_now())
    with pytest.raises(CorruptArtifact):  # All is compared, and what is damaged cannot be.
        followed.follow()
    followed.keep(closing=True)
    assert GONE.tobytes() not in files(home, gallery)
    assert KEPT.tobytes() in files(home, gallery)


def test_an_erasure_in_one_step_is_kept_when_the_next_step_fails(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    gone = add(database, gallery, GONE)
    add(database, gallery, KEPT)
    followed = opened(database, home, gallery)
    delete(database, gone)
    with database.session_scope() as session:
        for _ in range(70):  # More than one step takes.
            Changes(session).vectors_added(gallery, ENCODER, [10_000])
            Changes(session).write()
        session.execute(text("UPDATE index_changes SET embedding_ids = :odd WHERE seq > 66"), {"odd": b"odd"})
    with pytest.raises(ValueError, match="buffer size"):
        followed.follow()
    followed.keep(closing=True)
    assert GONE.tobytes() not in files(home, gallery)
