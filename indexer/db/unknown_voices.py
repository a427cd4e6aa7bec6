"""Named queries about unknown voices: who is heard again and again without a name, and what people said of them.

Whoever changes them locks the gallery's row of `clusterings` first, so that a run and a person never work on the same
voice at once, and no number is given twice. An utterance that was enrolled meanwhile counts no more: every question
leaves it out, and the next run forgets it.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, cast, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from indexer.db.models import (
    Clustering,
    Enrollment,
    Gallery,
    Recording,
    UnknownVoice,
    UnknownVoiceApart,
    UnknownVoiceMember,
    Utterance,
    utc_now,
)
from indexer.db.rows import PAGE_LIMIT
from indexer.db.statements import batches, insert_if_absent
from indexer.errors import Conflict, ConsentRequired, InvalidRequest, NotFound
from indexer.types import EncoderId, GalleryId, RecordingId, UnknownVoiceId, UtteranceId

NAME = "Unknown-"
"""How the names of unknown voices begin; their number follows."""


@dataclass(frozen=True, slots=True)
class UnknownVoiceSummary:
    """An unknown voice and how much of it is heard."""

    id: UnknownVoiceId
    name: str
    created_at: dt.datetime
    utterances: int
    recordings: int
    speech_s: float
    pinned: bool
    """Whether a person merged or split it, or took utterances out."""


@dataclass(frozen=True, slots=True)
class UnknownStretch:
    """Where an unknown voice is heard."""

    id: UtteranceId
    recording_id: RecordingId
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    score: float | None
    """Cosine to the mean of the voice; None where a person put it there."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the last run over a gallery was."""

    finished_at: dt.datetime
    encoder_id: EncoderId
    utterances: int
    rule: Mapping[str, Any]


def name_of(number: int) -> str:
    """Return what the voice of this number is called."""
    return f"{NAME}{number}"


class UnknownVoices:
    """The unknown voices of one gallery."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def require_allowed(self) -> None:
        """Refuse to group voices of people whose consent the gallery requires.

        Raises
        ------
        ConsentRequired
            If it does.
        """
        query = select(Gallery.name, Gallery.consent_required).where(Gallery.id == self._gallery_id)
        name, required = self._session.execute(query).one()
        if required:
            raise ConsentRequired(
                f"gallery {name!r} requires consent (consent_required), and nobody has consented to being recognized "
                "without a name: unknown voices are not grouped in it; take the rule back, or use another gallery"
            )

    def lock(self) -> None:
        """Keep everybody else from changing the unknown voices of the gallery until this transaction ends."""
        self._session.execute(insert_if_absent(self._session, Clustering), {"gallery_id": self._gallery_id})
        self._session.execute(
            select(Clustering.gallery_id).where(Clustering.gallery_id == self._gallery_id).with_for_update()
        )

    def make(self, count: int) -> list[UnknownVoiceId]:
        """Make voices with the next numbers, in their order."""
        if not count:
            return []
        last = self._session.scalars(
            update(Clustering)
            .where(Clustering.gallery_id == self._gallery_id)
            .values(last_number=Clustering.last_number + count)
            .returning(Clustering.last_number)
        ).one()
        now = utc_now()
        rows = [
            {"gallery_id": self._gallery_id, "number": number, "created_at": now}
            for number in range(last - count + 1, last + 1)
        ]
        statement = insert(UnknownVoice).returning(UnknownVoice.id, sort_by_parameter_order=True)
        return [UnknownVoiceId(number) for number in self._session.scalars(statement, rows)]

    # What people ask

    def last_run(self) -> LastRun | None:
        """Say what the last run was; None where none has ended."""
        row = self._session.get(Clustering, self._gallery_id)
        if row is None or row.finished_at is None or row.encoder_id is None:
            return None
        return LastRun(row.finished_at, row.encoder_id, row.utterances or 0, row.rule or {})

    def by_name(self, name: str) -> UnknownVoiceId:
        """Return the voice of this name, or raise NotFound."""
        match = re.fullmatch(rf"{NAME}([1-9]\d{{0,8}})", name)
        found = None
        if match is not None:
            query = select(UnknownVoice.id).where(
                UnknownVoice.gallery_id == self._gallery_id, UnknownVoice.number == int(match[1])
            )
            found = self._session.scalars(query).one_or_none()
        if found is None:
            raise NotFound(f"no unknown voice {name!r} in this gallery: see `voxdex unknown list`")
        return UnknownVoiceId(found)

    def page(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[UnknownVoiceSummary]:
        """List the voices that anything is heard of, in the order they were made, those with an id above `after`."""
        heard = exists().where(
            UnknownVoiceMember.voice_id == UnknownVoice.id, ~is_enrolled(UnknownVoiceMember.utterance_id)
        )
        query = (
            select(UnknownVoice.id)
            .where(UnknownVoice.gallery_id == self._gallery_id, UnknownVoice.id > after, heard)
            .order_by(UnknownVoice.id)
            .limit(limit)
        )
        return self._summaries(list(self._session.scalars(query)))

    def summary(self, voice_id: UnknownVoiceId) -> UnknownVoiceSummary:
        """Return one voice, or raise NotFound where nothing is heard of it any more."""
        found = self._summaries([voice_id])
        if not found:
            raise NotFound("every utterance of this unknown voice was erased or enrolled: see `voxdex unknown list`")
        return found[0]

    def _summaries(self, voice_ids: Sequence[int]) -> list[UnknownVoiceSummary]:
        query = (
            select(
                UnknownVoice.id,
                UnknownVoice.number,
                UnknownVoice.created_at,
                func.count(UnknownVoiceMember.utterance_id),
                func.count(Utterance.recording_id.distinct()),
                func.sum(func.coalesce(Utterance.net_speech_s, Utterance.end_s - Utterance.start_s)),
                func.max(cast(UnknownVoiceMember.pinned, Integer)),
            )
            .join(UnknownVoiceMember, UnknownVoiceMember.voice_id == UnknownVoice.id)
            .join(Utterance, Utterance.id == UnknownVoiceMember.utterance_id)
            .where(UnknownVoice.id.in_(list(voice_ids)), ~is_enrolled(Utterance.id))
            .group_by(UnknownVoice.id, UnknownVoice.number, UnknownVoice.created_at)
            .order_by(UnknownVoice.id)
        )
        return [
            UnknownVoiceSummary(
                UnknownVoiceId(number),
                name_of(shown),
                created_at,
                utterances,
                recordings,
                float(speech_s),
                bool(pinned),
            )
            for number, shown, created_at, utterances, recordings, speech_s, pinned in self._session.execute(query)
        ]

    def stretches(self, voice_id: UnknownVoiceId, after: int = 0, limit: int = PAGE_LIMIT) -> list[UnknownStretch]:
        """List where a voice is heard, in the order of utterances above `after`."""
        query = (
            select(
                Utterance.id,
                Utterance.recording_id,
                Recording.uri,
                Utterance.channel,
                Utterance.start_s,
                Utterance.end_s,
                UnknownVoiceMember.score,
            )
            .join(UnknownVoiceMember, UnknownVoiceMember.utterance_id == Utterance.id)
            .join(Recording, Recording.id == Utterance.recording_id)
            .where(UnknownVoiceMember.voice_id == voice_id, Utterance.id > after, ~is_enrolled(Utterance.id))
            .order_by(Utterance.id)
            .limit(limit)
        )
        return [
            UnknownStretch(UtteranceId(row[0]), RecordingId(row[1]), *row[2:]) for row in self._session.execute(query)
        ]

    def utterances(self, voice_id: UnknownVoiceId) -> list[UtteranceId]:
        """Return every utterance of a voice that is enrolled as nobody, rising."""
        query = select(UnknownVoiceMember.utterance_id).where(
            UnknownVoiceMember.voice_id == voice_id, ~is_enrolled(UnknownVoiceMember.utterance_id)
        )
        return [
            UtteranceId(number) for number in self._session.scalars(query.order_by(UnknownVoiceMember.utterance_id))
        ]

    def names_of(self, utterance_ids: Sequence[int]) -> dict[UtteranceId, str]:
        """Return which unknown voice each of these utterances is of; those of none are left out."""
        found: dict[UtteranceId, str] = {}
        for some in batches(utterance_ids):
            query = (
                select(UnknownVoiceMember.utterance_id, UnknownVoice.number)
                .join(UnknownVoice, UnknownVoice.id == UnknownVoiceMember.voice_id)
                .where(
                    UnknownVoiceMember.utterance_id.in_(some),
                    UnknownVoice.gallery_id == self._gallery_id,
                    ~is_enrolled(UnknownVoiceMember.utterance_id),
                )
            )
            found |= {UtteranceId(row[0]): name_of(row[1]) for row in self._session.execute(query)}
        return found

    # What people say; each locks first

    def merge(self, voice_id: UnknownVoiceId, into: UnknownVoiceId) -> None:
        """Make two voices one, under the name of `into`; runs keep them together from now on.

        Raises
        ------
        InvalidRequest
            If it is one voice.
        """
        if voice_id == into:
            raise InvalidRequest("an unknown voice cannot be merged into itself; name another one")
        moved = select(UnknownVoiceMember.utterance_id).where(UnknownVoiceMember.voice_id.in_([voice_id, into]))
        # What was said of either is said of both, but for what this very merge takes back.
        facts = (
            select(UnknownVoiceApart.utterance_id)
            .where(UnknownVoiceApart.voice_id == voice_id, UnknownVoiceApart.utterance_id.not_in(moved))
            .distinct()
        )
        self._set_apart(into, list(self._session.scalars(facts)))
        self._session.execute(
            delete(UnknownVoiceApart)
            .where(UnknownVoiceApart.voice_id == into, UnknownVoiceApart.utterance_id.in_(moved))
            .execution_options(synchronize_session=False)
        )
        self._session.execute(
            update(UnknownVoiceMember)
            .where(UnknownVoiceMember.voice_id.in_([voice_id, into]))
            .values(voice_id=into, pinned=True)
            .execution_options(synchronize_session=False)
        )
        self.delete(voice_id)

    def split(self, voice_id: UnknownVoiceId, utterance_ids: Sequence[int]) -> UnknownVoiceId:
        """Make a new voice of some of a voice's utterances; runs keep the two apart from now on.

        Raises
        ------
        NotFound
            If an utterance is not of the voice.
        Conflict
            If none is named, or all of them.
        """
        rest = self._without(voice_id, utterance_ids)
        [made] = self.make(1)
        # What was not of the whole is not of either part.
        said = select(UnknownVoiceApart.utterance_id).where(UnknownVoiceApart.voice_id == voice_id)
        self._set_apart(made, list(self._session.scalars(said)))
        for some in batches(list(utterance_ids)):
            self._session.execute(
                update(UnknownVoiceMember)
                .where(UnknownVoiceMember.utterance_id.in_(some))
                .values(voice_id=made, pinned=True)
                .execution_options(synchronize_session=False)
            )
        self._pin(voice_id)
        self._set_apart(voice_id, utterance_ids)
        self._set_apart(made, rest)
        return made

    def take_out(self, voice_id: UnknownVoiceId, utterance_ids: Sequence[int]) -> None:
        """State that utterances are not of a voice, whosever they are; runs do not put them back.

        Raises
        ------
        NotFound
            If one is not of the voice.
        Conflict
            If none is named, or all of them: then the voice is to be deleted.
        """
        self._without(voice_id, utterance_ids)
        for some in batches(list(utterance_ids)):
            self._session.execute(
                delete(UnknownVoiceMember)
                .where(UnknownVoiceMember.utterance_id.in_(some))
                .execution_options(synchronize_session=False)
            )
        self._pin(voice_id)
        self._set_apart(voice_id, utterance_ids)

    def delete(self, voice_id: UnknownVoiceId) -> None:
        """Forget a voice, its members and all that was said of it; the utterances stay, unnamed."""
        self._session.execute(delete(UnknownVoice).where(UnknownVoice.id == voice_id))
        self._session.expire_all()

    def delete_all(self) -> int:
        """Forget every unknown voice of the gallery; return how many there were."""
        gone = delete(UnknownVoice).where(UnknownVoice.gallery_id == self._gallery_id).returning(UnknownVoice.id)
        count = len(self._session.scalars(gone).all())
        self._session.expire_all()
        return count

    def _without(self, voice_id: UnknownVoiceId, utterance_ids: Sequence[int]) -> list[UtteranceId]:
        """Return the other utterances of a voice."""
        members = self.utterances(voice_id)
        named = set(utterance_ids)
        strange = sorted(named.difference(members))
        if strange:
            raise NotFound(
                f"utterance {strange[0]} is not of this unknown voice ({len(strange)} of {len(named)} are not)"
            )
        rest = [number for number in members if number not in named]
        if not named or not rest:
            raise Conflict(
                f"{len(named)} of {len(members)} utterances named: name some and leave some, or delete the voice"
            )
        return rest

    def _pin(self, voice_id: UnknownVoiceId) -> None:
        self._session.execute(
            update(UnknownVoiceMember)
            .where(UnknownVoiceMember.voice_id == voice_id)
            .values(pinned=True)
            .execution_options(synchronize_session=False)
        )

    def _set_apart(self, voice_id: UnknownVoiceId, utterance_ids: Iterable[int]) -> None:
        rows = [{"voice_id": voice_id, "utterance_id": number} for number in utterance_ids]
        for some in batches(rows, 5000):
            self._session.execute(insert_if_absent(self._session, UnknownVoiceApart), list(some))


def is_enrolled(utterance_id: Any) -> ColumnElement[bool]:
    """Build the condition that an utterance is somebody's by name."""
    return exists().where(Enrollment.utterance_id == utterance_id)
