"""Which utterances of a gallery a search is kept to: what a caller may ask for, and the one query that finds them."""

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, Text, cast, exists, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from indexer.db.models import Embedding, Enrollment, Recording, Speaker, Utterance
from indexer.db.names import canonical, require_text
from indexer.db.statements import batches
from indexer.errors import InvalidRequest, NotFound
from indexer.types import EncoderId, GalleryId, SpeakerId

Ids = NDArray[np.int64]

MOST_LABELS = 50
"""Labels in one filter; each of them is a condition of its own."""

MOST_NAMES = 1000
"""Speakers, and sessions, in one filter."""

MOST = 10**9
"""Highest number in a filter: hertz, or seconds (32 years)."""

_RECORDINGS_AT_ONCE = 100_000
"""Recordings of which one query asks; both databases refuse texts from 1 GB on."""


@dataclass(frozen=True)
class RowFilter:
    """What an utterance of the archive must be for a search to find it; what is left out does not matter.

    An utterance whose recording does not say what is asked for (no time, no sample rate) is not found. Two filters that
    ask for the same are equal, in whatever order they name it.

    Raises
    ------
    InvalidRequest
        If a value has no meaning: a time without a zone, a range that holds nothing, a length below 0.
    """

    labels: tuple[str, ...] = ()
    """The recording has every one of these."""
    speakers: tuple[str, ...] = ()
    """The utterance is enrolled as one of these speakers."""
    sessions: tuple[str, ...] = ()
    """The recording was made on one of these occasions."""
    recorded_from: dt.datetime | None = None
    """The recording was made then or later."""
    recorded_until: dt.datetime | None = None
    """The recording was made before then."""
    min_duration_s: float | None = None
    """The utterance is as long as this or longer."""
    min_speech_s: float | None = None
    """As many seconds of the recording, or more, were embedded."""
    min_sample_rate_hz: int | None = None
    """The recording was sampled so often or more often: 16000 leaves telephone calls out."""
    max_sample_rate_hz: int | None = None
    """The recording was sampled so often or less: 8000 leaves telephone calls only."""

    def __post_init__(self) -> None:
        for name, most in (("labels", MOST_LABELS), ("speakers", MOST_NAMES), ("sessions", MOST_NAMES)):
            object.__setattr__(self, name, _names(name, getattr(self, name), most))
        for name in ("recorded_from", "recorded_until"):
            object.__setattr__(self, name, _in_utc(name, getattr(self, name)))
        if self.recorded_from and self.recorded_until and self.recorded_from >= self.recorded_until:
            raise InvalidRequest(
                f"no time is from {_shown(self.recorded_from)} on and before {_shown(self.recorded_until)}: give a "
                "recorded_until that is later than recorded_from"
            )
        for name in ("min_duration_s", "min_speech_s", "min_sample_rate_hz", "max_sample_rate_hz"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST:
                raise InvalidRequest(f"{name} = {value} where a number from 0 to {MOST} is needed")
        low, high = self.min_sample_rate_hz, self.max_sample_rate_hz
        if low is not None and high is not None and low > high:
            raise InvalidRequest(f"no sample rate is at least {low} and at most {high} Hz: give a wider range")

    def __bool__(self) -> bool:
        """Tell whether anything is asked for."""
        return any(getattr(self, field.name) not in (None, ()) for field in fields(self))


class FilteredRows:
    """The rows of one gallery under one encoder that filters leave.

    Parameters
    ----------
    session : Session
        Whose owner ends it; nothing is written.
    """

    def __init__(self, session: Session, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._session = session
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id

    def speakers(self, names: Sequence[str]) -> dict[str, SpeakerId]:
        """Return the id of each of these speakers.

        Raises
        ------
        NotFound
            If the gallery knows one of them not; a search that passed over that name would answer another question.
        """
        if not names:
            return {}
        query = select(Speaker.name, Speaker.id).where(Speaker.gallery_id == self._gallery_id, Speaker.name.in_(names))
        found = {name: SpeakerId(number) for name, number in self._session.execute(query)}
        unknown = next((name for name in names if name not in found), None)
        if unknown is not None:
            raise NotFound(f"no speaker {unknown!r} in this gallery: see `voxdex speakers list`")
        return found

    def matching(self, wanted: RowFilter, speakers: Collection[SpeakerId], among: Ids | None = None) -> Ids:
        """Return the ids of the embeddings that a filter leaves, rising.

        Parameters
        ----------
        wanted : RowFilter
            What they must be.
        speakers : collection of SpeakerId
            Who `wanted.speakers` are.
        among : (n,) int64 array, optional
            Only these ids are looked at; None: the whole gallery.
        """
        query = self._query(wanted, speakers)
        if among is not None:
            some = query.where(Embedding.gallery_id == self._gallery_id)
            queries = [some.where(Embedding.id.in_(part)) for part in batches(among.tolist())]
        elif speakers:
            # The sum hides the index by gallery, which SQLite would read from end to end for a single speaker.
            queries = [query.where(Recording.gallery_id + 0 == self._gallery_id)]
        else:
            queries = list(self._blocks(query))
        found = [np.fromstring(self._session.scalar(one) or "", dtype=np.int64, sep=",") for one in queries]
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found]))

    def _blocks(self, query: Select[str]) -> Iterator[Select[str]]:
        """Cut a query of the whole gallery into queries of so many recordings, each of which has a bounded answer.

        They go from recordings to utterances to vectors by indexes alone: no page that holds a vector is read.
        """
        after = 0
        while True:
            inside = (Recording.gallery_id == self._gallery_id, Recording.id > after)
            last = self._session.scalar(
                select(Recording.id).where(*inside).order_by(Recording.id).offset(_RECORDINGS_AT_ONCE - 1).limit(1)
            )
            if last is None:
                yield query.where(*inside)
                return
            yield query.where(*inside, Recording.id <= last)
            after = last

    def _query(self, wanted: RowFilter, speakers: Collection[SpeakerId]) -> Select[str]:
        """Build the query of what a filter leaves, as one text of all ids: five times as quick as a row for each."""
        query = (
            select(func.aggregate_strings(cast(Embedding.id, Text), ","))
            .join(Utterance, Utterance.id == Embedding.utterance_id)
            .join(Recording, Recording.id == Utterance.recording_id)
            .where(Embedding.encoder_id == self._encoder_id)
        )
        conditions: list[ColumnElement[bool]] = self._labeled(wanted.labels)
        if wanted.speakers:
            theirs = select(Enrollment.utterance_id).where(Enrollment.speaker_id.in_(sorted(speakers)))
            conditions.append(Utterance.id.in_(theirs))
        if wanted.sessions:
            conditions.append(Recording.session.in_(wanted.sessions))
        if wanted.recorded_from is not None:
            conditions.append(Recording.recorded_at >= wanted.recorded_from)
        if wanted.recorded_until is not None:
            conditions.append(Recording.recorded_at < wanted.recorded_until)
        if wanted.min_duration_s is not None:
            conditions.append(Utterance.end_s - Utterance.start_s >= wanted.min_duration_s)
        if wanted.min_speech_s is not None:
            conditions.append(Recording.speech_s >= wanted.min_speech_s)
        if wanted.min_sample_rate_hz is not None:
            conditions.append(Recording.sample_rate_hz >= wanted.min_sample_rate_hz)
        if wanted.max_sample_rate_hz is not None:
            conditions.append(Recording.sample_rate_hz <= wanted.max_sample_rate_hz)
        return query.where(*conditions)

    def _labeled(self, labels: Sequence[str]) -> list[ColumnElement[bool]]:
        """Build the condition that a recording has every one of these labels, which are a list in one column."""
        if not labels:
            return []
        if self._session.get_bind().dialect.name == "postgresql":
            return [cast(Recording.labels, JSONB).contains(list(labels))]
        conditions: list[ColumnElement[bool]] = []
        for label in labels:
            one = func.json_each(Recording.labels).table_valued("value")
            conditions.append(exists(select(1).select_from(one).where(one.c.value == label)))
        return conditions


def _names(what: str, given: Sequence[str], most: int) -> tuple[str, ...]:
    kind = what.removesuffix("s")
    if not all(name.strip() for name in given):
        raise InvalidRequest(f"an empty {kind} in a filter leaves nothing: name a {kind}, or leave it out")
    names = sorted({canonical(require_text(kind, name)) for name in given})
    if len(names) > most:
        raise InvalidRequest(
            f"{len(names)} {what} in one filter where at most {most} are allowed: search several times"
        )
    return tuple(names)


def _in_utc(name: str, moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"{name} = {moment.isoformat()} names no time zone: write {moment.isoformat()}Z for UTC, or an offset as "
            "in +01:00"
        )
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError as error:  # The first or the last day of the calendar, in another time zone.
        raise InvalidRequest(f"{name} = {moment.isoformat()} is outside the years 1 to 9999 in UTC") from error


def _shown(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
