"""Who is enrolled in a gallery, kept in memory between queries and never older than the record says.

A query first reads the gallery's head, where the record counts the changes of speakers and enrollments. While that
count is the one that was loaded, memory answers. When it has moved, those who changed are read anew for the query, so
that nobody who was deleted is named and no voiceprint is made of an erased voice; memory follows beside.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from api.voiceprints import VoiceprintMaker
from indexer.db.changes import Changes, FeedPosition
from indexer.db.embeddings import enrolled_of
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.index.base import Ids, VectorIndex
from indexer.index.faiss_index import FaissIndex
from indexer.settings import IndexSettings
from indexer.types import EmbeddingId, EncoderId, GalleryId, SpeakerId
from search.identification import ScoredSpeaker
from search.normalization import Cohort
from search.scoring import cosine_scores
from search.voiceprints import Voiceprint, VoiceprintIndex, VoiceprintTable, best

CHANGES_AT_ONCE = 1000
"""Changes after which everybody is loaded anew: as quick as reading each."""

SPEAKERS_AT_ONCE = 5000
"""Changed speakers after which everybody is loaded anew."""

SPEAKERS_OF_A_QUERY = 256
"""Changed speakers whom one query reads from the record, while memory has not followed yet."""

SPARE_CANDIDATES = 32
"""Candidates drawn beyond those asked for where a query cannot know who changed, for some may be gone."""

_RELOADING_SHARE = 0.2
"""Most of the time that loading who is enrolled takes while that changes all the time, as in bulk ingest."""


class EnrolledGallery:
    """The enrolled speakers of one gallery, for queries of many threads.

    Parameters
    ----------
    index : VectorIndex
        The gallery's, whose vectors the voiceprints are made of.
    settings : IndexSettings, optional
        From how many voiceprints on they are scanned by codes, and where.
    """

    def __init__(
        self,
        database: Database,
        gallery_id: GalleryId,
        encoder_id: EncoderId,
        index: VectorIndex,
        settings: IndexSettings | None = None,
    ) -> None:
        self._database = database
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        # In full precision whatever the gallery's rows are: they are few beside those.
        self._settings = (settings or IndexSettings()).model_copy(update={"rows": "float32"})
        self._maker = VoiceprintMaker(gallery_id, encoder_id, index)
        self._loaded: VoiceprintIndex | None = None
        # When the last change was written: in a record that was put back in time its number comes again.
        self._written_at: dt.datetime | None = None
        self._loading = threading.Lock()
        self._loaded_at = 0.0
        self._load_s = 0.0

    def as_of(self, head: GalleryHead, labels: Sequence[str] | None = None) -> "EnrolledView":
        """Return who is enrolled, as the record had it when `head` was read, with every one of these labels.

        The first query of a process that ranks speakers loads them; a later one never waits for it.
        """
        return EnrolledView(self, tuple(sorted(set(labels or ()))), head.position)

    @property
    def loaded(self) -> VoiceprintIndex | None:
        """The voiceprints in memory; None before anybody asked for them."""
        return self._loaded

    def outdated(self, head: GalleryHead) -> bool:
        """Tell whether to load again: the record has moved, and so much else was done since that there is time."""
        loaded = self._loaded
        now = head.position
        if loaded is None or (loaded.seq == now.speakers and self._written_at == now.speakers_at):
            return False
        return time.monotonic() - self._loaded_at >= self._load_s / _RELOADING_SHARE

    def refresh(self) -> None:
        """Come into step with the record."""
        self._load(lambda loaded: False)

    def require(self, head: GalleryHead) -> None:
        """Come into step with the record, unless memory is as new as `head`."""
        self._load(lambda loaded: self.is_as_new(loaded, head.position))

    def is_as_new(self, loaded: VoiceprintIndex, position: FeedPosition) -> bool:
        """Tell whether what is in memory is of this position of the record or a later one."""
        same = loaded.seq == position.speakers and self._written_at == position.speakers_at
        return same or loaded.seq > position.speakers

    def load(self) -> VoiceprintIndex:
        """Read everybody from the record, where nobody has; threads that ask at the same time share one reading."""
        return self._load(lambda loaded: True)

    def close(self) -> None:
        """Give back memory and files; queries under way finish first."""
        with self._loading:
            if self._loaded is not None:
                self._loaded.close()

    def _load(self, enough: Callable[[VoiceprintIndex], bool]) -> VoiceprintIndex:
        with self._loading:
            loaded = self._loaded
            if loaded is not None and enough(loaded):
                return loaded
            started = time.monotonic()
            with self._database.read_scope() as session:
                position = Changes(session).position(self._gallery_id)
                seq = position.speakers
                changed = None if loaded is None else self._changed(session, loaded.seq, seq, SPEAKERS_AT_ONCE)
                if loaded is None or changed is None:
                    table = self._maker.everybody(session)
                else:
                    table = self._maker.of(session, _speakers(changed))
            if loaded is None:
                loaded = VoiceprintIndex(self._empty(), seq, table)
            elif changed is None:
                loaded.replace(self._empty(), seq, table)
            else:
                try:
                    loaded.change(seq, changed, table)
                except BaseException:
                    self._loaded = None  # the next question has everybody read anew
                    raise
            self._loaded, self._written_at = loaded, position.speakers_at
            self._loaded_at = time.monotonic()
            self._load_s = self._loaded_at - started
            return loaded

    def changed_since(self, seq: int, upto: int) -> Ids | None:
        """Return who changed since, or None where that is not known or they are too many to be read by a query."""
        with self._database.read_scope() as session:
            return self._changed(session, seq, upto, SPEAKERS_OF_A_QUERY)

    def now(self, speaker_ids: Ids) -> VoiceprintTable:
        """Read from the record what is enrolled of these speakers."""
        with self._database.read_scope() as session:
            return self._maker.of(session, _speakers(speaker_ids))

    def best_enrollments(
        self, probe: NDArray[np.float32], speaker_ids: Collection[SpeakerId], most: int
    ) -> dict[SpeakerId, list[tuple[EmbeddingId, float]]]:
        """Return the enrolled vectors of each of these speakers that the probe resembles most, best first."""
        rows = enrolled_of(self._database, self._gallery_id, self._encoder_id, sorted(speaker_ids))
        owners, numbers = rows.speaker_ids, rows.embedding_ids
        vectors = self._maker.at_hand(numbers)
        if vectors is None:
            with self._database.read_scope() as session:
                found, vectors = self._maker.held(session, numbers)
            owners, numbers = owners[found], numbers[found]
        scores = cosine_scores(probe, vectors)
        best: dict[SpeakerId, list[tuple[EmbeddingId, float]]] = {}
        for place in np.lexsort((numbers, -scores)).tolist():
            own = best.setdefault(SpeakerId(int(owners[place])), [])
            if len(own) < most:
                own.append((EmbeddingId(int(numbers[place])), float(scores[place])))
        return best

    def _empty(self) -> FaissIndex:
        return FaissIndex(self._encoder_id, settings=self._settings)

    def _changed(self, session: Session, seq: int, upto: int, most: int) -> Ids | None:
        changes = Changes(session)
        if changes.speakers_at(self._gallery_id, seq) != self._written_at:
            return None
        changed = changes.speakers_since(self._gallery_id, seq, upto, limit=CHANGES_AT_ONCE)
        return changed if changed is not None and len(changed) <= most else None


class EnrolledView:
    """Who may be named in the answer to one query."""

    def __init__(self, gallery: EnrolledGallery, labels: tuple[str, ...], position: FeedPosition) -> None:
        self._gallery = gallery
        self._labels = labels
        self._position = position

    def nearest(self, probe: NDArray[np.float32], k: int) -> list[ScoredSpeaker]:
        """Return the k speakers whose voiceprints score highest, or all there are; see `EnrolledSpeakers.nearest`.

        Where memory is behind and more than `SPEAKERS_OF_A_QUERY` changed since, or nobody knows who, those that
        memory proposes are read anew, and somebody who was enrolled only since is not found yet.
        """
        voiceprints = self._gallery.loaded or self._gallery.load()
        seq = voiceprints.seq
        if self._gallery.is_as_new(voiceprints, self._position):
            return voiceprints.nearest(probe, k, labels=self._labels)
        changed = self._gallery.changed_since(seq, self._position.speakers)
        if changed is None:
            drawn = voiceprints.nearest(probe, k + SPARE_CANDIDATES, labels=self._labels)
            unchanged = []
            changed = np.array(sorted(speaker.speaker_id for speaker in drawn), dtype=np.int64)
        else:
            unchanged = voiceprints.nearest(probe, k, labels=self._labels, without=changed)
        return best([*unchanged, *self._gallery.now(changed).scored(probe, self._labels)], k)

    def count(self) -> int:
        """Count the speakers who may be named; where memory is behind, as it knows them."""
        return (self._gallery.loaded or self._gallery.load()).count(self._labels)

    def scored(self, probe: NDArray[np.float32], speaker_ids: Collection[SpeakerId]) -> list[ScoredSpeaker]:
        """Score the probe against those of these speakers who are enrolled, whatever their labels."""
        loaded = self._gallery.loaded
        if loaded is not None and self._gallery.is_as_new(loaded, self._position):
            return loaded.scored(probe, speaker_ids)
        return self._gallery.now(np.array(sorted(speaker_ids), dtype=np.int64)).scored(probe, ())

    def vectors(self, speaker_ids: Sequence[SpeakerId]) -> dict[SpeakerId, NDArray[np.float32]]:
        """Return the voiceprints of those of these speakers who are enrolled."""
        loaded = self._gallery.loaded
        if loaded is not None and self._gallery.is_as_new(loaded, self._position):
            rows = loaded.vectors(speaker_ids)
            if rows is not None:
                return dict(zip(speaker_ids, rows, strict=True))
        table = self._gallery.now(np.array(sorted(speaker_ids), dtype=np.int64))
        return dict(zip(_speakers(table.speaker_ids), table.vectors, strict=True))

    def cohort(self, count: int) -> Cohort:
        """Return voiceprints to normalize scores by, whatever their labels; where memory is behind, as it knows them.

        Raises
        ------
        InvalidRequest
            If too few speakers are enrolled.
        """
        return (self._gallery.loaded or self._gallery.load()).cohort(count)

    def voiceprint(self, speaker_id: SpeakerId) -> Voiceprint | None:
        """Return a speaker's voiceprint as the record has it, whatever their labels; None where there is none."""
        loaded = self._gallery.loaded
        if loaded is not None and self._gallery.is_as_new(loaded, self._position):
            return loaded.row(speaker_id)
        return self._gallery.now(np.array([speaker_id], dtype=np.int64)).row(speaker_id)


def _speakers(numbers: Ids) -> list[SpeakerId]:
    return [SpeakerId(number) for number in numbers.tolist()]
