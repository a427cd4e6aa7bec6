"""Searches that are kept to a part of the archive: what the filter leaves, whatever has changed, and the best of it."""

import datetime as dt
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, event
from sqlalchemy.orm import Session

from api import filtered
from api.calibration_store import CalibrationStore
from api.encoder_side import EncoderSide
from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from indexer.db.encoders import Encoders
from indexer.db.filters import FilteredRows, RowFilter
from indexer.db.galleries import Galleries
from indexer.db.models import IndexChange
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speaker_records import SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.embedding.registry import EncoderRegistry
from indexer.errors import InvalidRequest, NotFound
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, SpeakerId
from tests.calibration_kit import fitted, gaussian_trials
from tests.fakes import SpectrumEncoder
from tests.vectors import ReferenceIndex, unit_vectors
from tests.voices_kit import at, heard_voice, voices_of

ENCODER = EncoderId("0123456789abcdef-spectrum")
JANUARY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LABELS = ["meeting", "it's", 'quo"ted', "caf\u00e9", "100%", "a_b", "[\"meeting\"]"]  # fmt: skip


def new_gallery(database: Database, name: str) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "test", "0" * 64, "spectrum", 192))
        return GalleryId(Galleries(session).get_or_create(name, encoder).id)


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    return new_gallery(database, "archive")


def head(database: Database, gallery: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        return Galleries(session).heads([gallery])[gallery]


def speaker(session: Session, gallery: GalleryId, name: str) -> SpeakerId:
    return Speakers(session).get_or_create(gallery, [name])[name]


def add(
    session: Session,
    gallery: GalleryId,
    content: str,
    /,
    durations_s: tuple[float, ...] = (10.0,),
    owner: str | None = None,
    **said: Any,
) -> RecordedIds:
    number = speaker(session, gallery, owner) if owner is not None else None
    rows = unit_vectors(len(durations_s), seed=sum(map(ord, content)))
    parts = [
        NewUtterance(None, 100.0 * place, 100.0 * place + length_s, row, number)
        for place, (length_s, row) in enumerate(zip(durations_s, rows, strict=True))
    ]
    return Recordings(session).add(gallery, ENCODER, NewRecording(content, f"/{content}.wav", utterances=parts, **said))


def matching(database: Database, gallery: GalleryId, wanted: RowFilter) -> list[int]:
    """What a filter leaves, by a query of the whole gallery."""
    with database.read_scope() as session:
        rows = FilteredRows(session, gallery, ENCODER)
        speakers = list(rows.speakers(wanted.speakers).values())
        found: list[int] = rows.matching(wanted, speakers).tolist()
    return found


def random_filter(dice: random.Random) -> RowFilter:
    """Ask for something, of several kinds at once now and then."""

    def perhaps(value: Any) -> Any:
        return value if dice.random() < 0.3 else None

    begin = JANUARY + dice.randrange(10) * DAY
    return RowFilter(
        labels=tuple(dice.sample(LABELS, perhaps(dice.randrange(1, 3)) or 0)),
        speakers=tuple(dice.sample(["ann", "bob", "cleo"], perhaps(dice.randrange(1, 3)) or 0)),
        sessions=tuple(dice.sample(["s0", "s1", "s2", "s3"], perhaps(dice.randrange(1, 3)) or 0)),
        recorded_from=perhaps(begin),
        recorded_until=perhaps(begin + dice.randrange(1, 10) * DAY),
        min_duration_s=perhaps(dice.choice([0.0, 2.5, 5.0])),
        min_speech_s=perhaps(dice.choice([0.0, 10.0, 30.0])),
        min_sample_rate_hz=perhaps(16_000),
        max_sample_rate_hz=perhaps(dice.choice([16_000, 48_000])),
    )


def leaves(wanted: RowFilter, said: dict[str, Any], owner: str | None, duration_s: float) -> bool:
    """Say by the plainest means whether a filter leaves an utterance."""
    at, speech_s, rate = (said.get(name) for name in ("recorded_at", "speech_s", "sample_rate_hz"))
    return (
        set(wanted.labels) <= set(said.get("labels", ()))
        and (not wanted.speakers or owner in wanted.speakers)
        and (not wanted.sessions or said.get("session") in wanted.sessions)
        and (wanted.recorded_from is None or (at is not None and at >= wanted.recorded_from))
        and (wanted.recorded_until is None or (at is not None and at < wanted.recorded_until))
        and (wanted.min_duration_s is None or duration_s >= wanted.min_duration_s)
        and (wanted.min_speech_s is None or (speech_s is not None and speech_s >= wanted.min_speech_s))
        and (wanted.min_sample_rate_hz is None or (rate is not None and rate >= wanted.min_sample_rate_hz))
        and (wanted.max_sample_rate_hz is None or (rate is not None and rate <= wanted.max_sample_rate_hz))
    )


def test_a_filter_leaves_what_it_asks_for_and_nothing_else(database: Database, gallery: GalleryId) -> None:
    dice = random.Random(7)
    other = new_gallery(database, "other")
    rows: list[tuple[int, dict[str, Any], str | None, float]] = []
    with database.session_scope() as session:
        for name in ("ann", "bob", "cleo"):
            speaker(session, gallery, name)
        for number in range(120):
            said: dict[str, Any] = {
                "labels": dice.sample(LABELS, dice.randrange(4)),
                "session": dice.choice([None, "s0", "s1", "s2"]),
                "recorded_at": dice.choice([None, JANUARY + dice.randrange(20) * DAY]),
                "speech_s": dice.choice([None, 5.0, 30.0]),
                "sample_rate_hz": dice.choice([None, 8000, 16_000, 48_000]),
            }
            owner = dice.choice([None, "ann", "bob"])
            durations_s = tuple(dice.choice([1.0, 2.5, 5.0, 10.0]) for _ in range(dice.randrange(1, 4)))
            kept = add(session, gallery, f"r{number}", durations_s, owner, **said)
            rows += [(i, said, owner, length) for i, length in zip(kept.embedding_ids, durations_s, strict=True)]
            add(session, other, f"o{number}", durations_s, **said)
    left = []
    for _ in range(150):
        wanted = random_filter(dice)
        expected = [number for number, *row in rows if leaves(wanted, *row)]
        assert matching(database, gallery, wanted) == expected, wanted
        left.append(len(expected))
    assert sum(0 < count < len(rows) for count in left) > 50


STANDING = [
    RowFilter(labels=("night",)),
    RowFilter(sessions=("monday",)),
    RowFilter(recorded_from=JANUARY + DAY),
    RowFilter(min_duration_s=3.0),
    RowFilter(speakers=("ann",)),
    RowFilter(speakers=("ann", "bob"), labels=("night",)),
    RowFilter(min_speech_s=1.0),
]


def test_after_every_kind_of_change_memory_is_what_the_record_says(database: Database, gallery: GalleryId) -> None:
    memory = FilteredGallery(database, gallery, ENCODER)
    kept: dict[str, RecordedIds] = {}

    def put(content: str, owner: str | None, **said: Any) -> Callable[[Session], object]:
        return lambda session: kept.update({content: add(session, gallery, content, (2.0, 4.0), owner, **said)})

    def relabel(content: str, **said: Any) -> Callable[[Session], object]:
        values = {"session": None, "recorded_at": None, "labels": ()} | said
        return lambda session: Recordings(session).relabel(kept[content].recording_id, **values)

    def records(session: Session) -> SpeakerRecords:
        return SpeakerRecords(session, gallery)

    def replace(session: Session) -> None:
        parts = [NewUtterance(None, 0.0, 9.0, unit_vectors(1, seed=5)[0], speaker(session, gallery, "bob"))]
        recording = NewRecording("two", "/two.wav", labels=["night"], speech_s=9.0, utterances=parts)
        Recordings(session).replace(kept["two"].recording_id, ENCODER, recording)

    def enroll(content: str, name: str) -> Callable[[Session], object]:
        def work(session: Session) -> None:
            inside = Recordings(session).utterance_ids(kept[content].recording_id)
            Speakers(session).enroll(speaker(session, gallery, name), inside[:1])

        return work

    with database.session_scope() as session:
        for name in ("ann", "bob"):
            speaker(session, gallery, name)
    steps: list[Callable[[Session], object]] = [
        put("one", "ann", labels=["night"], session="monday", speech_s=6.0),
        put("two", None, recorded_at=JANUARY + 2 * DAY),
        put("three", "bob", labels=["night", "long"], recorded_at=JANUARY),
        relabel("three", labels=["day"]),
        relabel("two", labels=["night"], session="monday"),
        relabel("three", recorded_at=JANUARY + 3 * DAY),
        enroll("two", "ann"),
        enroll("three", "ann"),
        replace,
        lambda session: records(session).withdraw(speaker(session, gallery, "ann"), kept["one"].recording_id),
        lambda session: Recordings(session).delete(kept["three"].recording_id),
        put("four", "ann", labels=["night"]),
        put("five", "cleo"),
        lambda session: records(session).merge(speaker(session, gallery, "cleo"), speaker(session, gallery, "ann")),
        lambda session: records(session).rename(speaker(session, gallery, "bob"), "rob"),
        lambda session: records(session).rename(speaker(session, gallery, "rob"), "bob"),
        lambda session: Speakers(session).delete(speaker(session, gallery, "ann")),
        put("six", "ann", labels=["night"]),
    ]
    for place, step in enumerate(steps):
        with database.session_scope() as session:
            step(session)
        now = head(database, gallery)
        for wanted in STANDING:
            try:
                expected: object = matching(database, gallery, wanted)
            except NotFound:
                expected = NotFound
            try:
                found: object = memory.rows(wanted, now).ids.tolist()
            except NotFound:
                found = NotFound
            assert found == expected, (place, wanted)


def test_what_changes_nothing_of_a_filter_leaves_the_same_set(database: Database, gallery: GalleryId) -> None:
    memory = FilteredGallery(database, gallery, ENCODER)
    night = RowFilter(labels=("night",))
    with database.session_scope() as session:
        add(session, gallery, "one", labels=["night"])
    first = memory.rows(night, head(database, gallery))
    assert len(first) == 1
    with database.session_scope() as session:
        add(session, gallery, "two", owner="ann", labels=["day"])
    assert memory.rows(night, head(database, gallery)) is first
    with database.session_scope() as session:
        add(session, gallery, "three", labels=["night"])
    assert len(memory.rows(night, head(database, gallery))) == 2


def test_ingest_costs_a_filter_the_rows_that_came_and_not_the_gallery(database: Database, gallery: GalleryId) -> None:
    memory = FilteredGallery(database, gallery, ENCODER)
    wanted = RowFilter(labels=("night",), min_duration_s=1.0)
    with database.session_scope() as session:
        add(session, gallery, "one", labels=["night"])
    memory.rows(wanted, head(database, gallery))
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    with database.session_scope() as session:
        added = add(session, gallery, "two", labels=["night"])
    now = head(database, gallery)
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        assert added.embedding_ids[0] in memory.rows(wanted, now).ids
        assert [one for one in statements if "utterances" in one and "embeddings.id IN" not in one] == []
        statements.clear()
        memory.rows(wanted, now)
        assert statements == []
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_a_filter_is_read_anew_where_the_feed_does_not_tell_what_changed(
    database: Database, gallery: GalleryId
) -> None:
    memory = FilteredGallery(database, gallery, ENCODER)
    night = RowFilter(labels=("night",))
    with database.session_scope() as session:
        add(session, gallery, "one", labels=["night"])
    memory.rows(night, head(database, gallery))
    with database.session_scope() as session:
        two = add(session, gallery, "two", labels=["night"])
    with database.session_scope() as session:
        Recordings(session).delete(two.recording_id)
        add(session, gallery, "three", labels=["night"])
    with database.session_scope() as session:
        session.execute(delete(IndexChange).where(IndexChange.seq <= 3))
    assert memory.rows(night, head(database, gallery)).ids.tolist() == matching(database, gallery, night)


@pytest.mark.parametrize("ahead", [False, True], ids=["behind", "ahead"])
def test_a_record_that_was_put_back_in_time_is_read_anew_also_where_it_went_on_since(
    database: Database, gallery: GalleryId, ahead: bool
) -> None:
    memory = FilteredGallery(database, gallery, ENCODER)
    night = RowFilter(labels=("night",))
    for content in ("one", "two", "three"):
        with database.session_scope() as session:
            add(session, gallery, content, labels=["night"])
    assert len(memory.rows(night, head(database, gallery))) == 3
    with database.session_scope() as session:  # The backup of a day on which nothing had labels.
        session.execute(delete(IndexChange).where(IndexChange.seq > 1))
        session.connection().exec_driver_sql("UPDATE gallery_feeds SET vectors_seq = 1")
        session.connection().exec_driver_sql("UPDATE recordings SET labels = '[]'")
    for content in ("four", "five", "six")[: 3 if ahead else 1]:
        with database.session_scope() as session:
            add(session, gallery, content, labels=["night"])
    found = memory.rows(night, head(database, gallery)).ids.tolist()
    assert found == matching(database, gallery, night)
    assert len(found) == (3 if ahead else 1)


def test_filters_that_nobody_asks_for_any_more_are_forgotten(
    database: Database, gallery: GalleryId, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", tuple([1.0] * 100))
    now = head(database, gallery)
    memory = FilteredGallery(database, gallery, ENCODER)
    sets = [memory.rows(RowFilter(min_duration_s=number / 1000), now) for number in range(filtered.FILTERS_KEPT + 5)]
    assert memory.rows(RowFilter(min_duration_s=0.068), now) is sets[68]
    assert memory.rows(RowFilter(min_duration_s=0.0), now) is not sets[0]
    monkeypatch.setattr(filtered, "BYTES_KEPT", 1000)  # one set of 100 rows, and not a second one
    last = memory.rows(RowFilter(min_duration_s=0.5), now)
    assert memory.rows(RowFilter(min_duration_s=0.5), now) is last
    assert memory.rows(RowFilter(min_duration_s=0.068), now) is not sets[68]
    assert memory.rows(RowFilter(min_duration_s=0.5), now) is not last


def test_threads_that_ask_at_the_same_time_share_one_reading(database: Database, gallery: GalleryId) -> None:
    with database.session_scope() as session:
        add(session, gallery, "one", labels=["night"])
    memory, now = FilteredGallery(database, gallery, ENCODER), head(database, gallery)
    with ThreadPoolExecutor(8) as pool:
        sets = list(pool.map(lambda _: memory.rows(RowFilter(labels=("night",)), now), range(32)))
    assert len({id(one) for one in sets}) == 1


class Archive:
    """A gallery whose utterances score 1.0, 0.99, 0.98 and so on against the probe, in the order they came in."""

    def __init__(self, database: Database, settings: Settings, gallery: GalleryId) -> None:
        self.database, self.gallery = database, gallery
        self.index = ReferenceIndex(ENCODER)
        encoder = SpectrumEncoder()
        spec = EncoderRegistry(settings.home, settings.cache, offline=True).get("speechbrain-ecapa-voxceleb")
        filtered = FilteredGallery(database, gallery, ENCODER)
        enrolled = EnrolledGallery(database, gallery, ENCODER, self.index)
        side = EncoderSide(encoder, spec, self.index, enrolled, filtered)
        self.voices = voices_of([side], settings, database, gallery, "archive")
        axis = np.zeros(192, np.float32)
        axis[0] = 1
        self.probe = heard_voice(axis, ENCODER)
        self._scores = iter(np.arange(1.0, 0.0, -0.01))

    def put(self, content: str, owner: str | None = None, **said: Any) -> RecordedIds:
        """Keep a recording of one utterance, in the record and in the index."""
        score = next(self._scores)
        vector = np.zeros(192, np.float32)
        vector[:2] = score, np.sqrt(1 - score**2)
        with self.database.session_scope() as session:
            number = speaker(session, self.gallery, owner) if owner is not None else None
            part = NewUtterance(None, 0.0, 10.0, vector, number)
            recording = NewRecording(content, content, utterances=[part], **said)
            kept = Recordings(session).add(self.gallery, ENCODER, recording)
        self.index.add(np.array(kept.embedding_ids), vector[None, :])
        return kept

    def skip_to(self, score: float) -> None:
        """Have the next utterance score this."""
        self._scores = iter(np.arange(score, 0.0, -0.01))

    def search(self, threshold: float | None = None, **how: Any) -> list[str]:
        """Search, and return what was found in order."""
        return [one.uri for one in self.voices.search(self.probe, asked=at(threshold), **how).recordings]


@pytest.fixture
def archive(database: Database, record_settings: Settings, gallery: GalleryId) -> Archive:
    return Archive(database, record_settings, gallery)


def test_k_are_found_whenever_the_filter_leaves_k_however_low_they_score(archive: Archive) -> None:
    for number in range(40):
        archive.put(f"r{number:02d}", labels=["night"] if number % 13 == 12 else [])
    night = RowFilter(labels=("night",))
    assert archive.search(filter=night, top_k=2) == ["r12", "r25"]
    assert archive.search(filter=night, top_k=3) == archive.search(filter=night, top_k=9) == ["r12", "r25", "r38"]
    assert archive.search(filter=night, threshold=0.7) == ["r12", "r25"]
    assert archive.search(filter=night, threshold=0.7, top_k=1) == ["r12"]
    assert archive.search(filter=night, threshold=0.7, top_k=3) == ["r12", "r25"]
    assert archive.search(top_k=2) == archive.search(filter=RowFilter(), top_k=2) == ["r00", "r01"]
    assert archive.search(filter=RowFilter(labels=("nobody's",)), top_k=5) == []


def test_an_answer_tells_what_reaches_the_threshold_from_what_is_merely_best(archive: Archive) -> None:
    for number in range(60):
        archive.put(f"r{number:02d}", labels=["night"] if number >= 45 else [])
    found = archive.voices.search(archive.probe, filter=RowFilter(labels=("night",)), top_k=10)
    point = found.threshold
    assert (len(found.recordings), found.eligible, found.truncated) == (10, 15, False)
    assert found.found == sum(one.score >= point for one in found.recordings)
    assert 0 < found.found < 10
    more = archive.voices.search(archive.probe, top_k=10)
    assert (more.found, more.eligible, more.truncated) == (10, None, True)
    assert archive.voices.search_point(at(), RowFilter(labels=("night",)))[1] == 15
    assert archive.voices.search_point(at(), RowFilter())[1] is None


def test_a_vector_whose_row_is_gone_is_not_found_and_takes_nobodys_place(archive: Archive) -> None:
    kept = [archive.put(f"r{number}", labels=["night"]) for number in range(9)]
    night = RowFilter(labels=("night",))
    assert archive.search(filter=night, top_k=3) == ["r0", "r1", "r2"]
    with archive.database.session_scope() as session:
        for recording in (0, 1, 2, 3, 5):
            Recordings(session).delete(kept[recording].recording_id)
    # The index has not heard of it.
    assert archive.index.count == 9
    assert archive.search(top_k=3) == archive.search(filter=night, top_k=3) == ["r4", "r6", "r7"]
    assert archive.search(threshold=0.5) == ["r4", "r6", "r7", "r8"]
    assert archive.search(threshold=0.935, top_k=3) == ["r4", "r6"]


@pytest.mark.parametrize(("llr", "found"), [(-1000.0, 3), (0.0, 2), (1000.0, 0)])
def test_an_llr_that_no_cosine_has_finds_all_or_nothing(archive: Archive, llr: float, found: int) -> None:
    archive.skip_to(0.99)
    for number in range(2):
        archive.put(f"near {number}")
    archive.skip_to(0.1)
    archive.put("far")
    calibration = fitted(gaussian_trials(), encoders=(ENCODER,))
    CalibrationStore(archive.database).use("archive", calibration)
    answer = archive.voices.search(archive.probe, asked=at(llr=llr))
    assert (len(answer.recordings), answer.found) == (found, found)


def test_a_search_is_kept_to_speakers_by_name_and_an_unknown_name_is_refused(archive: Archive) -> None:
    for number, owner in enumerate(["ann", None, "bob", "ann", "cleo"]):
        archive.put(f"r{number}", owner)
    assert archive.search(filter=RowFilter(speakers=("ann", "bob")), top_k=9) == ["r0", "r2", "r3"]
    nobody = RowFilter(speakers=("ann", "dora"))
    for ask in (lambda: archive.voices.search_point(at(), nobody), lambda: archive.search(filter=nobody, top_k=1)):
        with pytest.raises(NotFound, match="no speaker 'dora'"):
            ask()
    with archive.database.session_scope() as session:
        Speakers(session).delete(speaker(session, archive.gallery, "bob"))
    with pytest.raises(NotFound, match="no speaker 'bob'"):
        archive.search(filter=RowFilter(speakers=("ann", "bob")), top_k=9)


@pytest.mark.parametrize("top_k", [0, -1, 1001])
def test_no_number_of_utterances_but_1_to_1000_is_asked_for(archive: Archive, top_k: int) -> None:
    with pytest.raises(InvalidRequest, match=f"top_k {top_k} is out of range: ask for 1 to 1000"):
        archive.search(top_k=top_k)
