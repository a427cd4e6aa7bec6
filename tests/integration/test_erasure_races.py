"""Erasures beside transactions that write the same voices: on Postgres they overlap, and each must see the other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Embedding, Enrollment, RecordingState, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speaker_records import SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.db.transactions import in_transaction
from indexer.errors import Conflict
from indexer.index.feed import IndexFeed
from indexer.types import EncoderId, GalleryId, SpeakerId
from tests.vectors import ReferenceStore, unit_vectors

pytestmark = pytest.mark.postgres

ENCODER = EncoderId("0575cb64/legacy")
VECTORS = unit_vectors(3, seed=1)

First = TypeVar("First")
Second = TypeVar("Second")


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets one writer in at a time")
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


def content(
    name: str, *, speaker: SpeakerId | None = None, state: RecordingState = RecordingState.READY
) -> NewRecording:
    rows = () if state == RecordingState.FAILED else VECTORS
    parts = [NewUtterance(None, n, n + 1.0, row, speaker) for n, row in enumerate(rows)]
    return NewRecording(name, f"/{name}.wav", state, utterances=parts)


def add(database: Database, gallery: GalleryId, recording: NewRecording) -> RecordedIds:
    with database.session_scope() as session:
        return Recordings(session).add(gallery, ENCODER, recording)


def speaker(database: Database, gallery: GalleryId, name: str) -> SpeakerId:
    with database.session_scope() as session:
        return Speakers(session).get_or_create(gallery, [name])[name]


def overlapped(
    database: Database, first: Callable[[Session], First], second: Callable[[Session], Second]
) -> tuple[First, Second]:
    """Run two transactions; the first has written when the second begins, and commits when the second waits for it."""
    wrote, may_commit = Event(), Event()

    def early() -> First:
        with database.session_scope() as session:
            result = first(session)
            session.flush()
            wrote.set()
            assert may_commit.wait(120)
            return result

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(early)
        assert wrote.wait(120), slow.result()
        quick = pool.submit(in_transaction, database, second)
        while not _waits_for_a_lock(database) and not quick.done():
            pass
        may_commit.set()
        return slow.result(), quick.result()


def _waits_for_a_lock(database: Database) -> bool:
    with database.read_scope() as session:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(session.scalar(query))


def count(database: Database, table: type) -> int:
    with database.read_scope() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def heard(database: Database, gallery: GalleryId) -> set[int]:
    """What a reader holds that has followed the feed from its beginning."""
    held: set[int] = set()
    with database.read_scope() as session:
        for change in Changes(session).since(gallery, 0):
            ids: Sequence[int] = change.embedding_ids.tolist()
            held = held - set(ids) if change.removed else held | set(ids)
    return held


def speakers_seq(database: Database, gallery: GalleryId) -> int:
    with database.read_scope() as session:
        return Changes(session).position(gallery).speakers


def test_a_recording_erased_while_it_is_written_anew_leaves_every_index(database: Database, gallery: GalleryId) -> None:
    number = add(database, gallery, content("call", state=RecordingState.FAILED)).recording_id
    feed = IndexFeed(database, ReferenceStore(ENCODER), gallery, ENCODER)
    index = feed.open().index
    (written, _), erased = overlapped(
        database,
        lambda session: Recordings(session).replace(number, ENCODER, content("call")),
        lambda session: Recordings(session).delete(number),
    )
    assert len(written.embedding_ids) == 3
    assert erased.embedding_ids == written.embedding_ids
    feed.follow(index, lambda _: None)
    assert (count(database, Embedding), index.count, heard(database, gallery)) == (0, 0, set())


def test_a_recording_that_is_erased_first_is_not_written_anew_but_added_by_the_next_try(
    database: Database, gallery: GalleryId
) -> None:
    number = add(database, gallery, content("call", state=RecordingState.FAILED)).recording_id
    tries: list[str] = []

    def write(session: Session) -> RecordedIds:
        known = Recordings(session).known_contents(gallery, ["call"])
        tries.append("replace" if known else "add")
        if known:
            return Recordings(session).replace(number, ENCODER, content("call"))[0]
        return Recordings(session).add(gallery, ENCODER, content("call"))

    _, written = overlapped(database, lambda session: Recordings(session).delete(number), write)
    assert tries == ["replace", "add"]
    assert heard(database, gallery) == set(written.embedding_ids)
    with database.session_scope() as session, pytest.raises(Conflict, match="erased"):
        Recordings(session).replace(number, ENCODER, content("call"))


def test_a_recording_erased_while_somebody_is_enrolled_with_it_tells_of_the_enrollment(
    database: Database, gallery: GalleryId
) -> None:
    added, ann = add(database, gallery, content("call")), speaker(database, gallery, "ann")
    overlapped(
        database,
        lambda session: Speakers(session).enroll(ann, added.utterance_ids),
        lambda session: Recordings(session).delete(added.recording_id),
    )
    assert count(database, Enrollment) == 0
    assert speakers_seq(database, gallery) == 2  # enrolled, and gone again


def test_a_speaker_erased_while_a_job_adds_their_voice_leaves_no_unknown_voice_behind(
    database: Database, gallery: GalleryId
) -> None:
    ann = speaker(database, gallery, "ann")
    added, erased = overlapped(
        database,
        lambda session: Recordings(session).add(gallery, ENCODER, content("call", speaker=ann)),
        lambda session: Speakers(session).delete(ann),
    )
    assert erased.embedding_ids == added.embedding_ids
    assert erased.recording_ids == (added.recording_id,)
    assert (count(database, Utterance), heard(database, gallery)) == (0, set())


def test_a_job_that_meets_an_erasure_of_its_speaker_makes_a_speaker_anew(
    database: Database, gallery: GalleryId
) -> None:
    ann = speaker(database, gallery, "ann")

    def enroll(session: Session) -> SpeakerId:
        number = Speakers(session).get_or_create(gallery, ["ann"])["ann"]
        Recordings(session).add(gallery, ENCODER, content("call", speaker=number))
        return number

    _, again = overlapped(database, lambda session: Speakers(session).delete(ann), enroll)
    assert again != ann
    assert count(database, Enrollment) == 3


def test_a_voice_of_two_speakers_goes_when_both_are_erased_at_once(database: Database, gallery: GalleryId) -> None:
    ann, bob = speaker(database, gallery, "ann"), speaker(database, gallery, "bob")
    added = add(database, gallery, content("call", speaker=ann))
    with database.session_scope() as session:
        Speakers(session).enroll(bob, added.utterance_ids)
    overlapped(database, lambda session: Speakers(session).delete(ann), lambda session: Speakers(session).delete(bob))
    assert (count(database, Utterance), heard(database, gallery)) == (0, set())


def test_what_a_job_enrolls_while_two_speakers_are_merged_is_of_the_one_that_stays(
    database: Database, gallery: GalleryId
) -> None:
    ann, anne = speaker(database, gallery, "ann"), speaker(database, gallery, "anne")
    overlapped(
        database,
        lambda session: Recordings(session).add(gallery, ENCODER, content("call", speaker=ann)),
        lambda session: SpeakerRecords(session, gallery).merge(ann, into=anne),
    )
    with database.read_scope() as session:
        assert session.scalars(select(Enrollment.speaker_id)).all() == [anne] * 3
