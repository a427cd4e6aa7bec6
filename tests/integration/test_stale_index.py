"""What an index that has heard of nothing since it was opened can make a process say: nothing that is not so."""

from collections.abc import Iterator

import numpy as np
import pytest

from api.encoder_side import EncoderSide
from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from api.voices import Voices
from indexer.db.encoders import Encoders
from indexer.db.filters import RowFilter
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.index.base import VectorIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings
from indexer.types import GalleryId
from tests.fakes import SpectrumEncoder
from tests.integration.test_live_galleries import SpectrumEncoders
from tests.vectors import unit_vectors, voices
from tests.voices_kit import at, heard_voice, identified, voices_of

ENCODER = SpectrumEncoder().id
SPEAKERS = ["ann", "bob", "eve"]
VECTORS = voices(3, 20, seed=2).reshape(3, 20, 192)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "speechbrain", "0" * 64, "x", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


@pytest.fixture
def recordings(database: Database, gallery: GalleryId) -> dict[str, list[RecordedIds]]:
    """Twenty recordings of each speaker, ten of them enrolled."""
    return {
        name: [add(database, gallery, row, name if n < 10 else None) for n, row in enumerate(VECTORS[number])]
        for number, name in enumerate(SPEAKERS)
    }


@pytest.fixture
def deaf(
    database: Database, record_settings: Settings, gallery: GalleryId, recordings: dict[str, list[RecordedIds]]
) -> Iterator[tuple[Voices, VectorIndex]]:
    """A process that has opened the gallery, and whose index hears of nothing from then on."""
    index = GalleryIndex(database, record_settings, gallery).open(ENCODER)
    enrolled = EnrolledGallery(database, gallery, ENCODER, index)
    enrolled.load()
    encoders = SpectrumEncoders()
    yield (
        voices_of(
            [
                EncoderSide(
                    encoders.encoder, encoders.spec, index, enrolled, FilteredGallery(database, gallery, ENCODER)
                )
            ],
            record_settings,
            database,
            gallery,
            "archive",
        ),
        index,
    )
    index.close()


def add(database: Database, gallery: GalleryId, vector: np.ndarray, speaker: str | None = None) -> RecordedIds:
    content = vector.tobytes().hex()[:32]
    with database.session_scope() as session:
        owner = Speakers(session).get_or_create(gallery, [speaker])[speaker] if speaker else None
        parts = [NewUtterance(None, 0.0, 3.0, vector, owner)]
        return Recordings(session).add(gallery, ENCODER, NewRecording(content, f"/{content}.wav", utterances=parts))


ANN = heard_voice(VECTORS[0, 0], ENCODER)


def found(voices: Voices, threshold: float | None = None, **how: object) -> set[int]:
    occurrences = voices.search(ANN, asked=at(threshold), **how)  # type: ignore[arg-type]
    return {one.recording_id for one in occurrences.recordings}


def test_a_recording_that_was_deleted_is_found_by_no_search_and_takes_no_place(
    deaf: tuple[Voices, VectorIndex], database: Database, recordings: dict[str, list[RecordedIds]]
) -> None:
    voices, index = deaf
    gone = {one.recording_id for one in recordings["ann"][:15]}
    kept = {one.recording_id for one in recordings["ann"][15:]}
    assert found(voices, threshold=0.5) == gone | kept
    for number in gone:
        with database.session_scope() as session:
            Recordings(session).delete(number)
    assert index.count == 60  # it still holds them
    assert found(voices, threshold=0.5) == kept
    assert found(voices, top_k=5) == kept
    assert len(found(voices, top_k=20)) == 20  # so many are left, and so many are found
    assert not found(voices, top_k=20) & gone
    assert found(voices, threshold=0.5, filter=RowFilter(min_duration_s=1)) == kept


def test_a_speaker_who_was_erased_is_named_by_nobody_and_found_nowhere(
    deaf: tuple[Voices, VectorIndex], database: Database, gallery: GalleryId, recordings: dict[str, list[RecordedIds]]
) -> None:
    voices, index = deaf
    assert identified(voices, ANN, score=0.5).answer.speaker == "ann"
    with database.session_scope() as session:
        erased = Speakers(session).delete(Speakers(session).by_name(gallery, "ann").id)
    assert index.holds(np.array(erased.embedding_ids)).all()
    answer = identified(voices, ANN, score=0.5).answer
    assert answer.speaker is None
    assert {candidate.speaker for candidate in answer.candidates} <= {"bob", "eve"}
    everything = found(voices, threshold=-1)
    assert len(everything) == 50
    assert not everything & {one.recording_id for one in recordings["ann"][:10]}


def test_a_speaker_whose_voice_was_taken_back_in_part_is_judged_by_what_is_left(
    deaf: tuple[Voices, VectorIndex], database: Database, recordings: dict[str, list[RecordedIds]]
) -> None:
    voices, _ = deaf
    for one in recordings["ann"][:9]:
        with database.session_scope() as session:
            Recordings(session).delete(one.recording_id)
    best = identified(voices, heard_voice(VECTORS[0, 9], ENCODER), score=0.5).answer.candidates[0]
    assert (best.speaker, best.score) == ("ann", pytest.approx(1, abs=1e-6))


def test_what_was_added_since_is_not_made_up_for_by_a_wrong_name(
    deaf: tuple[Voices, VectorIndex], database: Database, gallery: GalleryId
) -> None:
    voices, _ = deaf
    stranger = unit_vectors(1, seed=9)[0]
    assert identified(voices, heard_voice(stranger, ENCODER), score=0.5).answer.speaker is None
    add(database, gallery, stranger, "zoe")
    assert identified(voices, heard_voice(stranger, ENCODER), score=0.5).answer.speaker in {None, "zoe"}
