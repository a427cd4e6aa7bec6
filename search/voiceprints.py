"""The voiceprints of a gallery in memory: one vector a speaker, searched like the embeddings themselves."""

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.errors import Unavailable
from indexer.index.base import Ids, IdSet, IndexInfo, VectorIndex
from indexer.index.locks import ReadWriteLock
from indexer.types import SpeakerId, Vectors
from search.identification import ScoredSpeaker
from search.normalization import Cohort, drawn, require_cohort
from search.scoring import cosine_scores, speaker_score

LABEL_FILTERS_KEPT = 64
"""Combinations of labels whose speakers are kept ready."""


@dataclass(frozen=True, slots=True)
class Voiceprint:
    """A speaker's vector, aggregated from enrolled embeddings."""

    speaker_id: SpeakerId
    speaker: str
    vector: NDArray[np.float32]
    enrollments: int
    speech_s: float
    snr_db: float | None
    telephone: float | None = None

    def scored(self, probe: NDArray[np.float32]) -> ScoredSpeaker:
        """Score a probe against it."""
        known = _Known(self.speaker, self.enrollments, self.speech_s, self.snr_db, self.telephone)
        return _scored(self.speaker_id, speaker_score(probe, self.vector), known)


class _Known(NamedTuple):
    """What is known of a speaker beside their vector."""

    speaker: str
    enrollments: int
    speech_s: float
    snr_db: float | None
    telephone: float | None


@dataclass(frozen=True, eq=False)
class VoiceprintTable:
    """Voiceprints as the record had them at one moment, of a whole gallery or of some speakers."""

    speaker_ids: Ids
    """(n,) rising: the speakers that have a voiceprint."""
    vectors: Vectors
    """(n, D) unit rows."""
    enrollments: NDArray[np.int64]
    """(n,) how many enrolled embeddings each is made of."""
    speech_s: NDArray[np.float64]
    """(n,) net speech in those."""
    snr_db: NDArray[np.float64]
    """(n,) signal-to-noise ratio of those, NaN where nobody measured it."""
    names: Mapping[SpeakerId, str]
    """At least of those."""
    labels: Mapping[SpeakerId, Collection[str]]
    """Of those who have any."""
    telephone: NDArray[np.float64] | None = None
    """(n,) share of the speech that came over a telephone, NaN where nobody measured it; None: of nobody."""

    def __len__(self) -> int:
        return len(self.speaker_ids)

    def row(self, speaker_id: SpeakerId) -> Voiceprint | None:
        """Return a speaker's voiceprint, where there is one."""
        place = int(np.searchsorted(self.speaker_ids, speaker_id))
        if place == len(self) or self.speaker_ids[place] != speaker_id:
            return None
        return Voiceprint(speaker_id, vector=self.vectors[place], **self.known(place)._asdict())

    def known(self, place: int) -> _Known:
        """Return what is known of the speaker in a row."""
        snr_db = float(self.snr_db[place])
        telephone = math.nan if self.telephone is None else float(self.telephone[place])
        return _Known(
            self.names[SpeakerId(int(self.speaker_ids[place]))],
            int(self.enrollments[place]),
            float(self.speech_s[place]),
            None if math.isnan(snr_db) else snr_db,
            None if math.isnan(telephone) else telephone,
        )

    def scored(self, probe: NDArray[np.float32], labels: Collection[str]) -> list[ScoredSpeaker]:
        """Score the probe against everybody here who has every one of these labels."""
        wanted = set(labels)
        scores = cosine_scores(probe, self.vectors).tolist()
        rows = enumerate(zip(map(SpeakerId, self.speaker_ids.tolist()), scores, strict=True))
        return [
            _scored(number, score, self.known(place))
            for place, (number, score) in rows
            if wanted <= set(self.labels.get(number, ()))
        ]


def best(scored: Sequence[ScoredSpeaker], k: int) -> list[ScoredSpeaker]:
    """Order speakers by falling score; ties go to the older one, so that an answer does not depend on row order."""
    return sorted(scored, key=lambda speaker: (-speaker.score, speaker.speaker_id))[:k]


class VoiceprintIndex:
    """The voiceprints of one gallery; a change is seen whole or not at all, and one that fails closes all of it.

    Parameters
    ----------
    index : VectorIndex
        An empty one, which this owns from now on; its ids are those of speakers.
    seq : int
        How far into the changes of speakers `table` is.
    table : VoiceprintTable
        Everybody.
    """

    def __init__(self, index: VectorIndex, seq: int, table: VoiceprintTable) -> None:
        self._lock = ReadWriteLock()
        self._guard = threading.Lock()
        self._labeled: OrderedDict[tuple[str, ...], IdSet] = OrderedDict()
        self._counts: dict[tuple[str, ...], int] = {}
        self._cohort: tuple[int, Cohort] | None = None
        self._closed = False
        self._index = index
        self._fill(index, seq, table)

    @property
    def seq(self) -> int:
        """How far into the changes of speakers this is."""
        return self._seq

    def replace(self, index: VectorIndex, seq: int, table: VoiceprintTable) -> None:
        """Put everybody in place of who is here; `index` is a new, empty one, which this owns from now on."""
        before = self._fill(index, seq, table)
        before.close()

    def change(self, seq: int, changed: Ids, table: VoiceprintTable) -> None:
        """Take these speakers out and put in those of them who are in `table`.

        Raises
        ------
        Unavailable
            If this was closed.
        VoxdexError, MemoryError
            If the index fails: who is inside is not known then, so this is closed, and everybody is to be read anew.
        """
        numbers = [SpeakerId(number) for number in changed.tolist()]
        labels = {number: frozenset(has) for number, has in table.labels.items()}
        known = _known(table)
        with self._lock.writing():
            self._require_open()
            try:
                self._index.remove(changed)
                self._index.add(table.speaker_ids, table.vectors)
            except BaseException:
                self._closed = True
                self._index.close()
                raise
            relabeled = any(self._labels.get(number) != labels.get(number) for number in numbers)
            for number in numbers:
                self._known.pop(number, None)
                self._labels.pop(number, None)
            self._known.update(known)
            self._labels.update(labels)
            self._counts.clear()
            self._cohort = None
            if relabeled:
                self._labeled.clear()
            self._seq = seq

    def nearest(
        self, probe: NDArray[np.float32], k: int, *, labels: tuple[str, ...] = (), without: Ids | None = None
    ) -> list[ScoredSpeaker]:
        """Find the k speakers nearest to the probe, or all there are, best first and ties by rising id.

        Parameters
        ----------
        labels
            Only speakers with every one of these are found.
        without : (m,) int64 array, optional
            Speakers who are not found.
        """
        out = set() if without is None else set(without.tolist())
        with self._lock.reading():
            self._require_open()
            if self._index.count == 0:
                return []
            hits = self._index.search(probe[None, :], k + len(out), allowed=self._having(labels))[0]
            found = [hit for hit in hits if hit.embedding_id not in out][:k]
            return [_scored(number := SpeakerId(hit.embedding_id), hit.score, self._known[number]) for hit in found]

    def scored(self, probe: NDArray[np.float32], speaker_ids: Collection[SpeakerId]) -> list[ScoredSpeaker]:
        """Score the probe against those of these speakers who have a voiceprint, by rising id."""
        with self._lock.reading():
            self._require_open()
            numbers = sorted(number for number in set(speaker_ids) if number in self._known)
            if not numbers:
                return []
            vectors = self._index.reconstruct(np.array(numbers, dtype=np.int64))
            scores = cosine_scores(probe, vectors).tolist()
            return [_scored(number, score, self._known[number]) for number, score in zip(numbers, scores, strict=True)]

    def count(self, labels: tuple[str, ...] = ()) -> int:
        """Count the speakers who have a voiceprint and every one of these labels."""
        with self._lock.reading():
            self._require_open()
            having = self._having(labels)
            if having is None:
                return self._index.count
            if labels not in self._counts:
                if len(self._counts) >= LABEL_FILTERS_KEPT:
                    self._counts.clear()
                self._counts[labels] = sum(number in self._known for number in map(SpeakerId, having.ids.tolist()))
            return self._counts[labels]

    def row(self, speaker_id: SpeakerId) -> Voiceprint | None:
        """Return a speaker's voiceprint, where there is one."""
        with self._lock.reading():
            self._require_open()
            known = self._known.get(speaker_id)
            if known is None:
                return None
            vector = self._index.reconstruct(np.array([speaker_id], dtype=np.int64))[0]
        return Voiceprint(speaker_id, vector=vector, **known._asdict())

    def vectors(self, speaker_ids: Sequence[SpeakerId]) -> Vectors | None:
        """Return the (n, D) voiceprints of these speakers in this order; None where one of them has none."""
        with self._lock.reading():
            self._require_open()
            if not all(number in self._known for number in speaker_ids):
                return None
            rising, back = np.unique(np.array(speaker_ids, dtype=np.int64), return_inverse=True)
            found: Vectors = self._index.reconstruct(rising)[back]
            return found

    def cohort(self, count: int) -> Cohort:
        """Return voiceprints to normalize scores by; the same ones again while nobody changes.

        Raises
        ------
        InvalidRequest
            If fewer than `count` speakers, or fewer than any cohort needs, have a voiceprint.
        """
        with self._lock.reading():
            self._require_open()
            known = self._cohort
            if known is not None and known[0] == count:
                return known[1]
            require_cohort(len(self._known), count)
            chosen = drawn(np.fromiter(self._known, dtype=np.int64, count=len(self._known)), count)
            made = Cohort(chosen, self._index.reconstruct(chosen))
            self._cohort = count, made
            return made

    def info(self) -> IndexInfo:
        """Say what the index of voiceprints is and what it costs."""
        with self._lock.reading():
            self._require_open()
            return self._index.info()

    def close(self) -> None:
        """Give back what the index holds; searches under way finish first, later ones are refused."""
        with self._lock.writing():
            if not self._closed:
                self._closed = True
                self._index.close()

    def _fill(self, index: VectorIndex, seq: int, table: VoiceprintTable) -> VectorIndex:
        """Put everybody in, and return the index that held them before."""
        try:
            index.add(table.speaker_ids, table.vectors)  # before anybody has to wait
            known = _known(table)
            labels = {number: frozenset(has) for number, has in table.labels.items()}
            with self._lock.writing():
                self._require_open()
                before, self._index = self._index, index
                self._known, self._labels, self._seq = known, labels, seq
                self._counts.clear()
                self._cohort = None
                self._labeled.clear()
        except BaseException:
            index.close()
            raise
        return before

    def _having(self, labels: tuple[str, ...]) -> IdSet | None:
        """Return the speakers with every one of these labels; the same set again while nobody's labels change."""
        if not labels:
            return None
        with self._guard:
            known = self._labeled.get(labels)
            if known is None:
                wanted = set(labels)
                known = IdSet(sorted(number for number, has in self._labels.items() if wanted <= has))
                self._labeled[labels] = known
                while len(self._labeled) > LABEL_FILTERS_KEPT:
                    self._labeled.popitem(last=False)
            else:
                self._labeled.move_to_end(labels)
            return known

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the gallery was closed meanwhile: try again")


def _known(table: VoiceprintTable) -> dict[SpeakerId, _Known]:
    return {SpeakerId(number): table.known(place) for place, number in enumerate(table.speaker_ids.tolist())}


def _scored(number: SpeakerId, score: float, known: _Known) -> ScoredSpeaker:
    return ScoredSpeaker(
        number, known.speaker, score, known.enrollments, known.speech_s, known.snr_db, telephone=known.telephone
    )
