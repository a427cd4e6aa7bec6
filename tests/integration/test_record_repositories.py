import datetime as dt
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import InvalidRequestError

from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import (
    Embedding,
    Encoder,
    Enrollment,
    Gallery,
    Job,
    JobItem,
    JobItemState,
    Recording,
    RecordingState,
    Speaker,
    Utterance,
)
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database, open_database
from indexer.db.speaker_records import SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.errors import (
    AlreadyExists,
    Conflict,
    CorruptArtifact,
    EncoderMismatch,
    InvalidRequest,
    NonFiniteEmbedding,
    NotFound,
)
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, RecordingId, SpeakerId
from indexer.vectors import EMPTY, Fingerprint, checksums_of
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")
_SPEC = NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(_SPEC)
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


def _add(
    database: Database,
    gallery: GalleryId,
    content: str,
    vectors: np.ndarray,
    *,
    speakers: list[SpeakerId | None] | None = None,
    state: RecordingState = RecordingState.READY,
) -> RecordedIds:
    owners = speakers or [None] * len(vectors)
    parts = [
        NewUtterance(None, 10.0 * position, 10.0 * position + 8, vector, owner)
        for position, (vector, owner) in enumerate(zip(vectors, owners, strict=True))
    ]
    recording = NewRecording(content, f"/archive/{content}.wav", state, duration_s=60.0, utterances=parts)
    with database.session_scope() as session:
        return Recordings(session).add(gallery, ENCODER, recording)


def _count(database: Database, *tables: type) -> list[int]:
    with database.read_scope() as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


# --- galleries and encoders -------------------------------------------------------------------------------------------


def test_registering_an_encoder_twice_keeps_one_row(database: Database) -> None:
    for _ in range(2):
        with database.session_scope() as session:
            assert Encoders(session).register(_SPEC).id == ENCODER
    assert _count(database, Encoder) == [1]


def test_one_encoder_id_never_names_two_encoders(database: Database) -> None:
    with database.session_scope() as session:
        Encoders(session).register(_SPEC)
    other = NewEncoder(ENCODER, "ecapa", "speechbrain", "1" * 64, "legacy", 192)
    with pytest.raises(EncoderMismatch, match="an id must name one encoder"), database.session_scope() as session:
        Encoders(session).register(other)


def test_a_gallery_refuses_an_encoder_of_another_dimension_naming_both(database: Database) -> None:
    def make() -> None:
        with database.session_scope() as session:
            wide = Encoders(session).register(NewEncoder(EncoderId("wide"), "w", "nemo", "2" * 64, "legacy", 256))
            Galleries(session).get_or_create("archive", wide)

    with pytest.raises(EncoderMismatch, match="dimension 256 and galleries keep 192"):
        make()
    assert _count(database, Encoder, Gallery) == [0, 0]  # the scope was rolled back


def test_a_gallery_refuses_another_encoder_by_name(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        other = Encoders(session).register(NewEncoder(EncoderId("other"), "o", "nemo", "3" * 64, "legacy", 192))
        assert Galleries(session).get_or_create("second", other).id != gallery
    message = r"'archive' holds .* 0575cb64/legacy, not other"
    with pytest.raises(EncoderMismatch, match=message), database.session_scope() as session:
        Galleries(session).get_or_create("archive", Encoders(session).get(EncoderId("other")))


@pytest.mark.parametrize("name", ["", "  ", " padded", "line\nbreak", "nul\0", "x" * 201, "bad \udcff"])
def test_names_that_could_not_be_kept_or_shown_are_refused(database: Database, gallery: GalleryId, name: str) -> None:
    with pytest.raises(InvalidRequest), database.session_scope() as session:
        Speakers(session).get_or_create(gallery, [name])
    with pytest.raises(InvalidRequest), database.session_scope() as session:
        Galleries(session).get_or_create(name, Encoders(session).get(ENCODER))


def test_unknown_names_are_not_found(database: Database, gallery: GalleryId) -> None:
    with database.read_scope() as session:
        for ask in (
            lambda: Galleries(session).by_name("nobody"),
            lambda: Galleries(session).get(GalleryId(99)),
            lambda: Galleries(session).summary(GalleryId(99)),
            lambda: Encoders(session).get(EncoderId("nobody")),
            lambda: Speakers(session).by_name(gallery, "nobody"),
            lambda: Speakers(session).summary(SpeakerId(99)),
            lambda: Recordings(session).get(RecordingId(99)),
            lambda: Recordings(session).summary(RecordingId(99)),
            lambda: Embeddings(session).vectors([99]),
        ):
            with pytest.raises(NotFound):
                ask()


# --- recordings -------------------------------------------------------------------------------------------------------


def test_vectors_come_back_bit_for_bit_in_the_order_asked_for(database: Database, gallery: GalleryId) -> None:
    vectors = unit_vectors(5)
    ids = _add(database, gallery, "a", vectors).embedding_ids
    with database.read_scope() as session:
        found = Embeddings(session).vectors([*ids[::-1], ids[0]])
        assert Embeddings(session).vectors([]).shape == (0, 192)
    np.testing.assert_array_equal(found, vectors[[4, 3, 2, 1, 0, 0]])


def test_content_is_the_identity_of_a_recording_within_a_gallery(database: Database, gallery: GalleryId) -> None:
    first = _add(database, gallery, "a", unit_vectors(1))
    with pytest.raises(AlreadyExists, match="same content"):
        _add(database, gallery, "a", unit_vectors(1, seed=2))
    assert _count(database, Recording, Utterance, Embedding) == [1, 1, 1]
    with database.session_scope() as session:
        second = Galleries(session).get_or_create("second", Encoders(session).get(ENCODER))
    _add(database, GalleryId(second.id), "a", unit_vectors(1))
    with database.read_scope() as session:
        known = Recordings(session).known_contents(gallery, ["a", "b"])
        assert known == {"a": (first.recording_id, RecordingState.READY)}
        found = Recordings(session).by_content(gallery, "a")
        assert found is not None
        assert found.id == first.recording_id
        assert Recordings(session).by_content(gallery, "b") is None


def test_of_two_writers_with_one_content_the_first_keeps_it(database: Database, gallery: GalleryId) -> None:
    barrier = threading.Barrier(4)

    def write(seed: int) -> bool:
        barrier.wait(120)
        try:
            _add(database, gallery, "same", unit_vectors(2, seed=seed))
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, range(4))) == [False, False, False, True]
    assert _count(database, Recording, Utterance, Embedding) == [1, 2, 2]


def test_a_failed_recording_is_replaced_under_its_id(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        failed = NewRecording(
            "a", "/archive/a.wav", RecordingState.FAILED, error_code="corrupt-audio", error_message="torn"
        )
        number = Recordings(session).add(gallery, ENCODER, failed).recording_id
    vectors = unit_vectors(2)
    again = NewRecording("a", "/archive/b.wav", utterances=[NewUtterance(0, 0.0, 1.0, row) for row in vectors])
    with database.session_scope() as session:
        written, erased = Recordings(session).replace(number, ENCODER, again)
    assert (written.recording_id, len(written.embedding_ids), erased.embedding_ids) == (number, 2, ())
    with database.read_scope() as session:
        summary = Recordings(session).summary(number)
    assert (summary.state, summary.uri, summary.error_code, summary.utterances) == ("ready", "/archive/b.wav", None, 2)
    with database.session_scope() as session:
        _, erased = Recordings(session).replace(number, ENCODER, again)
    assert erased.embedding_ids == written.embedding_ids


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        (np.full(192, np.nan, dtype=np.float32), NonFiniteEmbedding),
        (np.zeros(192, dtype=np.float32), InvalidRequest),
        (unit_vectors(1, dim=256)[0], EncoderMismatch),
    ],
)
def test_a_vector_that_no_index_could_hold_never_enters_the_record(
    database: Database, gallery: GalleryId, vector: np.ndarray, error: type[Exception]
) -> None:
    with pytest.raises(error):
        _add(database, gallery, "a", vector[None, :])
    assert _count(database, Recording, Utterance, Embedding) == [0, 0, 0]


def test_the_column_itself_refuses_what_is_not_a_unit_vector(database: Database, gallery: GalleryId) -> None:
    utterance = _add(database, gallery, "a", unit_vectors(1)).utterance_ids[0]
    row = {"gallery_id": gallery, "utterance_id": utterance, "encoder_id": ENCODER, "checksum": 0}
    with pytest.raises(Exception, match="has norm 2 where"), database.session_scope() as session:
        session.execute(insert(Embedding), {**row, "vector": 2 * unit_vectors(1)[0]})


def test_an_empty_recording_and_an_utterance_without_vector_are_kept(database: Database, gallery: GalleryId) -> None:
    assert _add(database, gallery, "silent", unit_vectors(0)).utterance_ids == ()
    with database.session_scope() as session:
        part = NewUtterance(1, 0.0, 3.0)
        ids = Recordings(session).add(gallery, ENCODER, NewRecording("b", "/b.wav", utterances=[part]))
    assert (len(ids.utterance_ids), ids.embedding_ids) == (1, ())


def test_a_stretch_that_ends_before_it_starts_is_refused(database: Database, gallery: GalleryId) -> None:
    backwards = NewRecording("b", "/b.wav", utterances=[NewUtterance(0, 3.0, 3.0)])
    with pytest.raises(Conflict, match="stretch"), database.session_scope() as session:
        Recordings(session).add(gallery, ENCODER, backwards)


def test_recordings_are_listed_page_by_page(database: Database, gallery: GalleryId) -> None:
    for number in range(5):
        state = RecordingState.FAILED if number == 3 else RecordingState.READY
        _add(database, gallery, str(number), unit_vectors(number), state=state)
    with database.read_scope() as session:
        recordings = Recordings(session)
        first = recordings.page(gallery, limit=3)
        rest = recordings.page(gallery, after=first[-1].id, limit=3)
        assert [row.content_sha256 for row in first + rest] == ["0", "1", "2", "3", "4"]
        assert [row.utterances for row in first + rest] == [0, 1, 2, 3, 4]
        assert [row.content_sha256 for row in recordings.page(gallery, state=RecordingState.FAILED)] == ["3"]
        assert first[0].created_at.tzinfo is not None
        assert abs(first[0].created_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


# --- speakers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(database: Database, gallery: GalleryId) -> dict[str, SpeakerId]:
    with database.session_scope() as session:
        return Speakers(session).get_or_create(gallery, ["ann", "bob", "cyd"])


def test_speakers_are_made_once_also_by_writers_at_the_same_time(database: Database, gallery: GalleryId) -> None:
    barrier = threading.Barrier(4)

    def make(_: int) -> dict[str, SpeakerId]:
        barrier.wait(120)
        with database.session_scope() as session:
            return Speakers(session).get_or_create(gallery, ["ann", "bob", "Ann"])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(make, range(4)))
    assert all(result == results[0] for result in results)
    assert _count(database, Speaker) == [3]


def test_a_name_is_one_name_however_its_letters_are_written(database: Database, gallery: GalleryId) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
    with database.session_scope() as session:
        speakers = Speakers(session)
        made = speakers.get_or_create(gallery, [decomposed, composed])
        assert set(made) == {decomposed, composed}
        assert len(set(made.values())) == 1
        SpeakerRecords(session, gallery).rename(made[composed], unicodedata.normalize("NFD", "José"))
    with database.read_scope() as session:
        speakers = Speakers(session)
        assert speakers.by_name(gallery, unicodedata.normalize("NFC", "José")).id == made[composed]
        assert [row.name for row in speakers.page(gallery, part=unicodedata.normalize("NFD", "sé"))] == ["José"]


def test_a_gallery_is_found_however_the_letters_of_its_name_are_written(database: Database) -> None:
    with database.session_scope() as session:
        encoder = Encoders(session).register(_SPEC)
        made = Galleries(session).get_or_create(unicodedata.normalize("NFD", "Hörfunk"), encoder)
        assert made.name == unicodedata.normalize("NFC", "Hörfunk")
    with database.read_scope() as session:
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, "Hörfunk")
            assert Galleries(session).by_name(name).id == Galleries(session).head(name).id == made.id


@pytest.mark.parametrize("name", ["b\udce9", "a\0b"])
def test_a_name_that_is_no_text_is_refused_where_it_is_looked_up_too(
    database: Database, gallery: GalleryId, name: str
) -> None:
    with database.read_scope() as session:
        for look in (Galleries(session).by_name, Galleries(session).head):
            with pytest.raises(InvalidRequest, match="bytes that are not text"):
                look(name)
        with pytest.raises(InvalidRequest, match="bytes that are not text"):
            Speakers(session).by_name(gallery, name)


def test_a_part_of_a_name_is_found_in_upper_and_lower_case(database: Database, gallery: GalleryId) -> None:
    parts = {"zO": "Zoë", "0 %": "100 %"}
    if database.engine.dialect.name == "sqlite":  # A server folds what its locale says; the one of the tests has none.
        parts |= {"ЁЛ": "Ёлка", "oË": "Zoë"}
    with database.session_scope() as session:
        Speakers(session).get_or_create(gallery, ["Ёлка", "Zoë", "100 %"])
    with database.read_scope() as session:
        for part, found in parts.items():
            assert [row.name for row in Speakers(session).page(gallery, part=part)] == [found]
        assert Speakers(session).page(gallery, part="%z") == []


def test_speakers_are_listed_with_what_is_enrolled(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    ann, bob = people["ann"], people["bob"]
    ids = _add(database, gallery, "a", unit_vectors(3), speakers=[ann, ann, None])
    _add(database, gallery, "b", unit_vectors(1, seed=4), speakers=[ann])
    with database.session_scope() as session:
        for _ in range(2):  # saying it twice changes nothing
            Speakers(session).enroll(bob, ids.utterance_ids[1:2])
    with database.read_scope() as session:
        speakers = Speakers(session)
        rows = speakers.page(gallery)
        found = [(row.name, row.enrollments, row.enrolled_s, row.recordings) for row in rows]
        assert found == [("ann", 3, 24.0, 2), ("bob", 1, 8.0, 1), ("cyd", 0, 0.0, 0)]
        assert speakers.summary(bob) == rows[1]
        assert [row.name for row in speakers.page(gallery, after=ann, limit=1)] == ["bob"]
        assert speakers.names([ann, bob, 999]) == {ann: "ann", bob: "bob"}
        stretches = speakers.enrolled_stretches(ann)
        assert [(row.uri, row.start_s, row.end_s) for row in stretches] == [
            ("/archive/a.wav", 0.0, 8.0),
            ("/archive/a.wav", 10.0, 18.0),
            ("/archive/b.wav", 0.0, 8.0),
        ]
        assert Recordings(session).summary(ids.recording_id).speakers == ("ann", "bob")
        utterances = Recordings(session).utterances(ids.recording_id)
        assert [row.speakers for row in utterances] == [("ann",), ("ann", "bob"), ()]
        summary = Galleries(session).summary(gallery)
        assert (summary.speakers, summary.recordings, summary.embeddings, summary.duration_s) == (3, 2, 4, 120.0)
        assert (summary.encoder_name, Galleries(session).page()) == ("ecapa", [summary])


def test_enrolled_vectors_are_found_by_speaker_and_by_embedding(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    ann, bob = people["ann"], people["bob"]
    vectors = unit_vectors(4)
    ids = _add(database, gallery, "a", vectors, speakers=[bob, ann, None, ann])
    with database.session_scope() as session:
        Speakers(session).enroll(bob, [ids.utterance_ids[1]])
    with database.read_scope() as session:
        enrolled = Embeddings(session).enrolled(gallery, ENCODER)
        of_bob = Embeddings(session).enrolled(gallery, ENCODER, [bob])
        stretches = Embeddings(session).stretches([*ids.embedding_ids, 999])
        assert len(Embeddings(session).enrolled(gallery, EncoderId("other")).speaker_ids) == 0
    zero, one, _, three = ids.embedding_ids
    assert sorted([(ann, one), (ann, three), (bob, zero), (bob, one)]) == list(
        zip(enrolled.speaker_ids.tolist(), enrolled.embedding_ids.tolist(), strict=True)
    )
    assert of_bob.embedding_ids.tolist() == [zero, one]
    assert of_bob.durations_s.tolist() == [8.0, 8.0]
    assert [stretches[number].speakers for number in ids.embedding_ids] == [("bob",), ("ann", "bob"), (), ("ann",)]
    assert (stretches[three].start_s, stretches[three].recording_id) == (30.0, ids.recording_id)
    assert 999 not in stretches


def test_erasing_a_speaker_takes_what_is_theirs_alone(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    ann, bob = people["ann"], people["bob"]
    shared = _add(database, gallery, "a", unit_vectors(3), speakers=[ann, ann, None])
    alone = _add(database, gallery, "b", unit_vectors(2, seed=1), speakers=[ann, ann])
    with database.session_scope() as session:
        Speakers(session).enroll(bob, [shared.utterance_ids[1]])
    with database.session_scope() as session:
        erased = Speakers(session).delete(ann)
    assert erased.embedding_ids == (shared.embedding_ids[0], *alone.embedding_ids)
    assert erased.recording_ids == (alone.recording_id,)
    assert _count(database, Recording, Utterance, Embedding, Enrollment, Speaker) == [1, 2, 2, 1, 2]
    with pytest.raises(NotFound), database.session_scope() as session:
        Speakers(session).delete(ann)


def test_forgetting_only_the_name_leaves_the_archive_as_it_is(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    _add(database, gallery, "a", unit_vectors(2), speakers=[people["ann"]] * 2)
    with database.session_scope() as session:
        assert Speakers(session).delete(people["ann"], erase_voice=False).embedding_ids == ()
    assert _count(database, Recording, Utterance, Embedding, Enrollment, Speaker) == [1, 2, 2, 0, 2]


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_deleting_a_recording_takes_all_that_is_in_it(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    ids = _add(database, gallery, "a", unit_vectors(2), speakers=[people["ann"], None])
    with database.session_scope() as session:
        job = session.scalars(
            insert(Job).values(gallery_id=gallery, kind="ingest", source="/a").returning(Job.id)
        ).one()
        item = {"job_id": job, "uri": "/a", "state": JobItemState.DONE, "recording_id": ids.recording_id}
        session.execute(insert(JobItem), item)
    with database.session_scope() as session:
        erased = Recordings(session).delete(ids.recording_id)
    assert erased.embedding_ids == ids.embedding_ids
    # The note of the job goes too: a path can name a person.
    assert _count(database, Recording, Utterance, Embedding, Enrollment, JobItem) == [0, 0, 0, 0, 0]


def test_deleting_a_gallery_takes_everything_but_the_encoder_and_the_others(
    database: Database, gallery: GalleryId, people: dict[str, SpeakerId]
) -> None:
    _add(database, gallery, "a", unit_vectors(2), speakers=[people["ann"], None])
    with database.session_scope() as session:
        second = GalleryId(Galleries(session).get_or_create("second", Encoders(session).get(ENCODER)).id)
    _add(database, second, "a", unit_vectors(1))
    with database.session_scope() as session:
        Galleries(session).delete(gallery)
    assert _count(database, Gallery, Speaker, Recording, Utterance, Embedding, Encoder) == [1, 0, 1, 1, 1, 1]


def test_the_id_of_a_deleted_embedding_is_never_given_again(database: Database, gallery: GalleryId) -> None:
    first = _add(database, gallery, "a", unit_vectors(3))
    with database.session_scope() as session:
        Recordings(session).delete(first.recording_id)
    second = _add(database, gallery, "b", unit_vectors(3))
    assert min(second.embedding_ids) > max(first.embedding_ids)
    assert second.recording_id > first.recording_id


def test_the_encoder_of_a_gallery_cannot_be_deleted_under_it(database: Database, gallery: GalleryId) -> None:
    with pytest.raises(Conflict), database.session_scope() as session:
        session.execute(text("DELETE FROM encoders"))


# --- what an index is made of -----------------------------------------------------------------------------------------


def test_the_stream_gives_every_row_once_in_id_order_whatever_the_block(database: Database, gallery: GalleryId) -> None:
    vectors = unit_vectors(10)
    ids = [
        number
        for part in range(5)
        for number in _add(database, gallery, str(part), vectors[2 * part :][:2]).embedding_ids
    ]
    for rows in (1, 3, 5, 10, 100):
        with database.read_scope() as session:
            blocks = list(Embeddings(session).stream(gallery, ENCODER, rows=rows))
        assert max(len(block[0]) for block in blocks) <= rows
        assert np.concatenate([block[0] for block in blocks]).tolist() == ids
        np.testing.assert_array_equal(np.concatenate([block[1] for block in blocks]), vectors)
    with database.read_scope() as session:
        (tail,) = Embeddings(session).stream(gallery, ENCODER, after=ids[6])
        assert tail[0].tolist() == ids[7:]
        assert list(Embeddings(session).stream(gallery, EncoderId("other"))) == []


def test_sql_and_numpy_agree_on_the_fingerprint(database: Database, gallery: GalleryId) -> None:
    vectors = unit_vectors(20)
    with database.read_scope() as session:
        assert Embeddings(session).fingerprint(gallery, ENCODER) == EMPTY
        assert Embeddings(session).checksums(gallery, ENCODER)[0].shape == (0,)
    ids = np.array(_add(database, gallery, "a", vectors).embedding_ids)
    checksums = checksums_of(vectors)
    with database.read_scope() as session:
        embeddings = Embeddings(session)
        assert embeddings.fingerprint(gallery, ENCODER) == Fingerprint.of(ids, checksums)
        below = embeddings.fingerprint(gallery, ENCODER, up_to=int(ids[6]))
        assert below == Fingerprint.of(ids[:7], checksums[:7])
        found_ids, found_checksums = embeddings.checksums(gallery, ENCODER)
    np.testing.assert_array_equal(found_ids, ids)
    np.testing.assert_array_equal(found_checksums, checksums)


@pytest.mark.parametrize("length", [768, 767, 0])
def test_a_vector_that_was_changed_behind_the_record_is_refused_with_its_recording(
    database: Database, gallery: GalleryId, length: int
) -> None:
    ids = _add(database, gallery, "a", unit_vectors(3))
    victim = ids.embedding_ids[1]
    with database.session_scope() as session:
        change = text("UPDATE embeddings SET vector = :bytes WHERE id = :id")
        session.execute(change, {"bytes": b"\x01" * length, "id": victim})
    message = f"embedding {victim} does not match its checksum: delete recording {ids.recording_id} "
    with database.read_scope() as session:
        (block,) = Embeddings(session).stream(gallery, ENCODER)
        assert [part.tolist() for part in block[::2]] == [[ids.embedding_ids[0], ids.embedding_ids[2]], [victim]]
        np.testing.assert_array_equal(block[1], unit_vectors(3)[[0, 2]])
        with pytest.raises(CorruptArtifact, match=message):
            Embeddings(session).vectors([victim])
        assert len(Embeddings(session).vectors([ids.embedding_ids[0]])) == 1


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_an_error_in_a_scope_undoes_all_of_it(database: Database, gallery: GalleryId) -> None:
    def fail_after_writing() -> None:
        with database.session_scope() as session:
            Speakers(session).get_or_create(gallery, ["ann"])
            raise RuntimeError("after the write")

    with pytest.raises(RuntimeError, match="after the write"):
        fail_after_writing()
    assert _count(database, Speaker) == [0]


def test_writing_in_a_read_scope_is_an_error_and_not_lost_silently(database: Database, gallery: GalleryId) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?\s?only"), database.read_scope() as session:
        Speakers(session).get_or_create(gallery, ["ann"])
    with database.session_scope() as session:  # the same connection writes again afterwards
        Speakers(session).get_or_create(gallery, ["ann"])
    assert _count(database, Speaker) == [1]


def test_a_read_scope_sees_one_moment_and_blocks_no_writer(database: Database, gallery: GalleryId) -> None:
    with database.read_scope() as session:
        assert Embeddings(session).fingerprint(gallery, ENCODER).count == 0
        _add(database, gallery, "a", unit_vectors(2))
        assert Embeddings(session).fingerprint(gallery, ENCODER).count == 0
        assert list(Embeddings(session).stream(gallery, ENCODER)) == []
    assert _count(database, Embedding) == [2]


def test_writers_that_read_first_wait_for_each_other(database: Database, gallery: GalleryId) -> None:
    def add_one(number: int) -> None:
        with database.session_scope() as session:
            Recordings(session).known_contents(gallery, ["x"])
            Recordings(session).add(gallery, ENCODER, NewRecording(f"r{number}", f"/{number}.wav"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add_one, range(60)))
    assert _count(database, Recording) == [60]


def test_a_relationship_is_never_loaded_unasked(database: Database, gallery: GalleryId) -> None:
    ids = _add(database, gallery, "a", unit_vectors(1))
    with database.read_scope() as session:
        recording = Recordings(session).get(ids.recording_id)
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            _ = recording.utterances


def test_what_was_committed_is_there_for_the_next_process(
    record_settings: Settings, database: Database, gallery: GalleryId
) -> None:
    _add(database, gallery, "a", unit_vectors(2))
    other = open_database(record_settings)
    assert _count(other, Embedding) == [2]
    other.close()
