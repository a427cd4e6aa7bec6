"""Who is enrolled, kept in memory by reading only those who changed: always what reading everybody gives."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.enrolled import EnrolledGallery
from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import RecordingState, utc_now
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speaker_records import SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.index.faiss_index import FaissIndex
from indexer.types import EncoderId, GalleryId, SpeakerId
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("0575cb64/legacy")
PROBES = unit_vectors(3, seed=1)
LABELS: list[list[str] | None] = [None, ["night"], ["staff"], ["night", "staff"]]


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


def add(session: Session, gallery: GalleryId, content: str, speaker: str | None = None) -> RecordedIds:
    owner = Speakers(session).get_or_create(gallery, [speaker])[speaker] if speaker else None
    vectors = unit_vectors(2, seed=sum(content.encode()))  # other ones in each recording
    parts = [NewUtterance(None, n, 2 * n + 1.0, row, owner) for n, row in enumerate(vectors)]
    return Recordings(session).add(gallery, ENCODER, NewRecording(content, f"/{content}.wav", utterances=parts))


def head(database: Database, gallery: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        return Galleries(session).heads([gallery])[gallery]


def following(database: Database, gallery: GalleryId) -> EnrolledGallery:
    """Who is enrolled, by an index that holds nothing: the vectors are read from the record."""
    return EnrolledGallery(database, gallery, ENCODER, ReferenceIndex(ENCODER))


def test_a_change_that_fails_in_memory_has_everybody_read_anew(
    database: Database, gallery: GalleryId, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session_scope() as session:
        for name in ("ann", "bob"):
            add(session, gallery, name, name)
    enrolled = following(database, gallery)
    enrolled.load()
    with database.session_scope() as session:
        add(session, gallery, "again", "ann")

    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(FaissIndex, "add", no_room)
        with pytest.raises(MemoryError):
            enrolled.refresh()
    now = head(database, gallery)
    assert known(enrolled, now, None) == known(following(database, gallery), now, None)
    enrolled.close()


def known(enrolled: EnrolledGallery, now: GalleryHead, labels: list[str] | None) -> object:
    """All that an answer can depend on."""
    view = enrolled.as_of(now, labels)
    return [view.nearest(probe, 100) for probe in PROBES]


def test_after_every_kind_of_change_an_answer_is_what_the_record_says_whether_memory_followed_or_not(
    database: Database, gallery: GalleryId
) -> None:
    enrolled, behind = following(database, gallery), following(database, gallery)
    enrolled.load()
    behind.load()  # and never again: each query reads who changed since
    recordings: dict[str, RecordedIds] = {}

    def number(session: Session, name: str) -> SpeakerId:
        return SpeakerId(Speakers(session).by_name(gallery, name).id)

    def records(session: Session) -> SpeakerRecords:
        return SpeakerRecords(session, gallery)

    def enroll(content: str, name: str | None) -> Callable[[Session], object]:
        return lambda session: recordings.update({content: add(session, gallery, content, name)})

    def fail(session: Session) -> None:
        recording = NewRecording("six", "/six.wav", RecordingState.FAILED)
        recordings["six"] = Recordings(session).add(gallery, ENCODER, recording)

    def succeed(session: Session) -> None:
        parts = [NewUtterance(None, 0.0, 1.0, PROBES[0], number(session, "dora"))]
        recording = NewRecording("six", "/six.wav", utterances=parts)
        Recordings(session).replace(recordings["six"].recording_id, ENCODER, recording)

    steps: list[Callable[[Session], object]] = [
        enroll("one", "ann"),
        enroll("two", "bob"),
        enroll("three", None),
        enroll("four", "ann"),
        lambda session: records(session).create("cleo", labels=["night"]),
        lambda session: Speakers(session).enroll(number(session, "cleo"), recordings["three"].utterance_ids),
        lambda session: Speakers(session).enroll(number(session, "bob"), recordings["three"].utterance_ids),
        lambda session: records(session).label(number(session, "bob"), ["night", "staff"]),
        lambda session: records(session).label(number(session, "bob"), ["staff"]),
        lambda session: records(session).rename(number(session, "ann"), "anne"),
        lambda session: records(session).withdraw(number(session, "anne"), recordings["one"].recording_id),
        lambda session: Speakers(session).withdraw(gallery, recordings["three"].utterance_ids),
        enroll("five", "dora"),
        lambda session: records(session).merge(number(session, "bob"), into=number(session, "dora")),
        fail,
        succeed,
        lambda session: Recordings(session).delete(recordings["four"].recording_id),
        lambda session: Speakers(session).delete(number(session, "dora"), erase_voice=False),
        enroll("seven", "cleo"),
        lambda session: Speakers(session).delete(number(session, "cleo")),
    ]
    for place, step in enumerate(steps):
        with database.session_scope() as session:
            step(session)
        now = head(database, gallery)
        anew = following(database, gallery)
        expected = [known(anew, now, labels) for labels in LABELS]
        assert [known(behind, now, labels) for labels in LABELS] == expected, place
        assert [known(enrolled, now, labels) for labels in LABELS] == expected, place
        enrolled.require(now)
        assert not enrolled.outdated(now)
        assert [known(enrolled, now, labels) for labels in LABELS] == expected, place
        anew.close()
    for opened in (enrolled, behind):
        opened.close()


@pytest.mark.parametrize("missed", ["nothing", "pruned", "anybody"])
def test_only_those_who_changed_are_read_unless_the_record_cannot_tell_who(
    database: Database, gallery: GalleryId, missed: str
) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", "ann")
    enrolled = following(database, gallery)
    enrolled.load()
    with database.session_scope() as session:  # Behind the feed, so it is seen where everybody is read.
        session.execute(text("UPDATE speakers SET name = 'renamed'"))
        add(session, gallery, "two", "bob")
        if missed == "anybody":
            Changes(session).speakers_changed(gallery)
    with database.session_scope() as session:  # The newest change is never pruned.
        add(session, gallery, "three", "bob")
    if missed == "pruned":
        with database.session_scope() as session:
            assert Changes(session).prune(utc_now()) == 4
    now = head(database, gallery)
    enrolled.require(now)
    found = enrolled.as_of(now).nearest(PROBES[0], 100)
    assert {speaker.speaker for speaker in found} == {"ann" if missed == "nothing" else "renamed", "bob"}


def test_where_nobody_knows_who_changed_an_answer_names_nobody_who_is_gone(
    database: Database, gallery: GalleryId
) -> None:
    with database.session_scope() as session:
        for content, speaker in (("one", "ann"), ("two", "bob"), ("three", "cleo")):
            add(session, gallery, content, speaker)
    enrolled = following(database, gallery)
    enrolled.load()
    with database.session_scope() as session:
        Speakers(session).delete(SpeakerId(Speakers(session).by_name(gallery, "bob").id))
        SpeakerRecords(session, gallery).rename(SpeakerId(Speakers(session).by_name(gallery, "cleo").id), "chloe")
        Changes(session).speakers_changed(gallery)
    now = head(database, gallery)
    assert {speaker.speaker for speaker in enrolled.as_of(now).nearest(PROBES[0], 10)} == {"ann", "chloe"}
    assert known(enrolled, now, None) == known(following(database, gallery), now, None)
    enrolled.close()


def test_a_damaged_vector_counts_for_nobody_and_spoils_no_other_voiceprint(
    database: Database, gallery: GalleryId, caplog: pytest.LogCaptureFixture
) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", "ann")
        hurt = add(session, gallery, "two", "bob").embedding_ids
        lost = add(session, gallery, "three", "cleo").embedding_ids
        for number in (hurt[0], *lost):
            session.execute(text("UPDATE embeddings SET checksum = 1 WHERE id = :id"), {"id": number})
    enrolled = following(database, gallery)
    found = enrolled.as_of(head(database, gallery)).nearest(PROBES[0], 10)
    assert {speaker.speaker: speaker.enrollments for speaker in found} == {"ann": 2, "bob": 1}
    assert "3 enrolled vectors do not match their checksums" in caplog.text
    assert "1 enrolled speakers have no voiceprint" in caplog.text
    enrolled.close()


def test_who_is_enrolled_is_read_anew_where_another_change_has_the_number_of_the_last_one(
    database: Database, gallery: GalleryId
) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", "ann")
    enrolled = following(database, gallery)
    enrolled.load()
    with database.session_scope() as session:  # the record as it was before, which then went on
        for table in ("embeddings", "utterances", "recordings", "speakers", "index_changes", "speaker_changes"):
            session.execute(text(f"DELETE FROM {table}"))
        session.execute(text("UPDATE gallery_feeds SET vectors_seq = 0, speakers_seq = 0"))
    with database.session_scope() as session:
        add(session, gallery, "two", "bob")
    now = head(database, gallery)
    assert now.position.speakers == enrolled.load().seq
    view = enrolled.as_of(now)
    assert {speaker.name for speaker in view.nearest(PROBES[0], 10)} <= {"bob"}
    enrolled.require(now)
    assert known(enrolled, now, None) == known(following(database, gallery), now, None)
    enrolled.close()
