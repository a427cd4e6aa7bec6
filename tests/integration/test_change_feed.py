import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from indexer.db.changes import IDS_OF_A_CHANGE, Changes, FeedPosition, VectorChange
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Embedding, IndexChange, utc_now
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.errors import NotFound
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors
from tests.waiting import eventually

ENCODER = EncoderId("0575cb64/legacy")
VECTORS = unit_vectors(3, seed=1)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    return make_gallery(database, "archive")


def make_gallery(database: Database, name: str) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create(name, encoder).id)


def add(session: Session, gallery: GalleryId, content: str, speaker: str | None = None) -> RecordedIds:
    owner = Speakers(session).get_or_create(gallery, [speaker])[speaker] if speaker else None
    parts = [NewUtterance(None, n, n + 1.0, row, owner) for n, row in enumerate(VECTORS)]
    return Recordings(session).add(gallery, ENCODER, NewRecording(content, f"/{content}.wav", utterances=parts))


def position(database: Database, gallery: GalleryId) -> FeedPosition:
    with database.read_scope() as session:
        return Changes(session).position(gallery)


def since(database: Database, gallery: GalleryId, seq: int = 0) -> list[VectorChange]:
    with database.read_scope() as session:
        return Changes(session).since(gallery, seq)


def test_a_transaction_is_one_change_however_many_recordings_it_adds(database: Database, gallery: GalleryId) -> None:
    assert position(database, gallery) == FeedPosition(0, 0)
    with database.session_scope() as session:
        added = [add(session, gallery, f"{number}", "ann") for number in range(300)]
    assert position(database, gallery) == FeedPosition(1, 1)
    (change,) = since(database, gallery)
    assert (change.seq, change.encoder_id, change.removed) == (1, ENCODER, False)
    assert change.embedding_ids.tolist() == [number for ids in added for number in ids.embedding_ids]


def test_what_is_rolled_back_leaves_no_change_and_no_hole(database: Database, gallery: GalleryId) -> None:
    with contextlib.suppress(RuntimeError), database.session_scope() as session:
        add(session, gallery, "first")
        raise RuntimeError
    with database.session_scope() as session:
        add(session, gallery, "second")
    assert [change.seq for change in since(database, gallery)] == [1]


def test_a_deletion_says_what_went_and_whether_speakers_are_concerned(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        named, unnamed = add(session, gallery, "named", "ann"), add(session, gallery, "unnamed")
    with database.session_scope() as session:
        Recordings(session).delete(unnamed.recording_id)
    assert position(database, gallery) == FeedPosition(2, 1)
    with database.session_scope() as session:
        Recordings(session).delete(named.recording_id)
    assert position(database, gallery) == FeedPosition(3, 2)
    changes = since(database, gallery, seq=1)
    assert [(change.removed, tuple(change.embedding_ids.tolist())) for change in changes] == [
        (True, unnamed.embedding_ids),
        (True, named.embedding_ids),
    ]


def test_replacing_a_recording_announces_the_old_vectors_and_the_new(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        before = add(session, gallery, "one")
    with database.session_scope() as session:
        parts = [NewUtterance(None, 0.0, 1.0, VECTORS[0])]
        after, _ = Recordings(session).replace(
            before.recording_id, ENCODER, NewRecording("one", "/one.wav", utterances=parts)
        )
    changes = since(database, gallery, seq=1)
    assert [(change.seq, change.removed, tuple(change.embedding_ids.tolist())) for change in changes] == [
        (2, False, after.embedding_ids),
        (3, True, before.embedding_ids),
    ]


def test_enrolling_and_deleting_a_speaker_move_the_speakers_number(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        added = add(session, gallery, "one")
        ann = Speakers(session).get_or_create(gallery, ["ann"])["ann"]
    assert position(database, gallery) == FeedPosition(1, 0)  # nobody is enrolled yet
    with database.session_scope() as session:
        Speakers(session).enroll(ann, added.utterance_ids)
    assert position(database, gallery) == FeedPosition(1, 1)
    with database.session_scope() as session:
        Speakers(session).delete(ann, erase_voice=False)
    assert position(database, gallery) == FeedPosition(1, 2)
    with database.session_scope() as session:
        bob = Speakers(session).get_or_create(gallery, ["bob"])["bob"]
        Speakers(session).enroll(bob, added.utterance_ids)
        Speakers(session).delete(bob)
    assert position(database, gallery) == FeedPosition(2, 3)
    assert since(database, gallery)[-1].embedding_ids.tolist() == list(added.embedding_ids)


def test_a_gallery_deleted_in_the_transaction_that_changed_it_is_no_error(
    database: Database, gallery: GalleryId
) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", "ann")
        Galleries(session).delete(gallery)
    assert since(database, gallery) == []
    with database.read_scope() as session, pytest.raises(NotFound):
        Galleries(session).get(gallery)


def test_a_large_change_is_cut_into_rows_of_bounded_size(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        Changes(session).vectors_added(gallery, ENCODER, range(1, 2 * IDS_OF_A_CHANGE + 2))
    changes = since(database, gallery)
    assert [(change.seq, len(change.embedding_ids)) for change in changes] == [
        (1, IDS_OF_A_CHANGE),
        (2, IDS_OF_A_CHANGE),
        (3, 1),
    ]
    assert np.concatenate([change.embedding_ids for change in changes]).tolist() == list(
        range(1, 2 * IDS_OF_A_CHANGE + 2)
    )


def test_pruning_keeps_the_newest_change_and_the_numbers_going(database: Database, gallery: GalleryId) -> None:
    for content in "ab":
        with database.session_scope() as session:
            add(session, gallery, content)
    with database.session_scope() as session:
        assert Changes(session).prune(utc_now()) == 1
        add(session, gallery, "c")
    assert [change.seq for change in since(database, gallery)] == [2, 3]
    assert position(database, gallery).vectors == 3


def test_changes_of_the_same_number_are_told_apart_by_their_digests(database: Database, gallery: GalleryId) -> None:
    other = make_gallery(database, "other")
    for one in (gallery, other):
        with database.session_scope() as session:
            Changes(session).vectors_added(one, ENCODER, [1])
    (change,), (same_number,) = since(database, gallery), since(database, other)
    with database.read_scope() as session:
        changes = Changes(session)
        assert changes.digest_of(gallery, 1) == change.digest
        assert changes.digest_of(gallery, 2) is None
    assert change.digest != same_number.digest


def test_galleries_are_numbered_apart(database: Database, gallery: GalleryId) -> None:
    other = make_gallery(database, "other")
    with database.session_scope() as session:
        add(session, gallery, "a")
        theirs = add(session, other, "a")
    assert [tuple(change.embedding_ids.tolist()) for change in since(database, other)] == [theirs.embedding_ids]
    with database.read_scope() as session:
        assert Changes(session).positions([gallery, other, GalleryId(99)]) == {
            gallery: FeedPosition(1, 0),
            other: FeedPosition(1, 0),
        }


WRITERS = 8
ROUNDS = 30


def test_a_tailing_reader_hears_of_every_row_once_and_in_order_whatever_order_writers_commit_in(
    database: Database, gallery: GalleryId
) -> None:
    """Eight writers, some of which insert early and commit late, and one reader that never looks back."""
    written: list[int] = []
    failures = 0
    done = threading.Event()
    guard = threading.Lock()

    def write(writer: int) -> None:
        nonlocal failures
        random = Random(writer)
        for number in range(ROUNDS):
            try:
                with database.session_scope() as session:
                    ids = add(session, gallery, f"{writer}-{number}").embedding_ids
                    done.wait(random.choice([0, 0, 0.002, 0.01]))
                    if random.random() < 0.1:
                        raise RuntimeError
            except RuntimeError:
                failures += 1
                continue
            with guard:
                written.extend(ids)

    heard: list[int] = []
    numbers: list[int] = []
    naive: set[int] = set()
    highest = 0

    def write_late() -> None:
        """Insert before others, and commit after they were seen."""
        with database.session_scope() as session:
            ids = add(session, gallery, "late").embedding_ids
            eventually(lambda: highest > max(ids))
        with guard:
            written.extend(ids)

    def tail() -> None:
        nonlocal highest
        last_round = False
        while True:
            last_round = done.is_set()
            for change in since(database, gallery, seq=numbers[-1] if numbers else 0):
                numbers.append(change.seq)
                heard.extend(change.embedding_ids.tolist())
            with database.read_scope() as session:
                # A row that was announced is there to be read.
                count = select(func.count()).select_from(Embedding)
                assert session.scalar(count) is not None
                rows = session.scalars(select(Embedding.id).where(Embedding.id > highest).order_by(Embedding.id))
                naive.update(found := list(rows))
                highest = max([highest, *found])
            if last_round:
                return

    several = database.engine.dialect.name == "postgresql"  # SQLite has one writer at a time.
    with ThreadPoolExecutor(WRITERS + 2) as pool:
        reader = pool.submit(tail)
        late = [pool.submit(write_late)] if several else []
        for writer in [*late, *(pool.submit(write, number) for number in range(WRITERS))]:
            writer.result()
        done.set()
        reader.result()

    assert failures
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == WRITERS * ROUNDS - failures + len(late)
    assert len(heard) == len(set(heard))
    assert set(heard) == set(written)
    if several:
        # The reader that remembers the highest id skips rows here: the test can tell the two apart.
        assert naive < set(written)


@pytest.mark.postgres
def test_a_change_is_not_visible_before_an_earlier_number_is(postgres_pair: tuple[Database, GalleryId]) -> None:
    """The lock of the gallery's feed is held from the numbering to the commit."""
    database, gallery = postgres_pair
    first_wrote, may_commit = threading.Event(), threading.Event()

    def early() -> None:
        with database.session_scope() as session:
            add(session, gallery, "early")
            Changes(session).write()  # numbered, and not committed yet
            first_wrote.set()
            assert may_commit.wait(120)

    def late() -> None:
        with database.session_scope() as session:
            add(session, gallery, "late")

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(early)
        assert first_wrote.wait(120)
        quick = pool.submit(late)
        while not _waits_for_a_lock(database):
            assert not quick.done()
        assert since(database, gallery) == []
        may_commit.set()
        slow.result()
        quick.result()
    contents = []
    with database.read_scope() as session:
        for change in Changes(session).since(gallery, 0):
            contents.append(change.seq)
        assert session.scalar(select(func.count()).select_from(IndexChange)) == 2
    assert contents == [1, 2]


@pytest.fixture
def postgres_pair(database: Database, gallery: GalleryId) -> tuple[Database, GalleryId]:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets one writer in at a time")
    return database, gallery


def _waits_for_a_lock(database: Database) -> bool:
    with database.read_scope() as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(session.scalar(query))
