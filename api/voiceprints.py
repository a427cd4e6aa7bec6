"""Voiceprints made of what the record says is enrolled, and of the vectors that the gallery's index holds."""

import logging
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from indexer.audio.quality import TELEPHONE_BANDWIDTH_HZ
from indexer.db.embeddings import Embeddings
from indexer.db.rows import EnrolledRows
from indexer.db.speakers import Speakers
from indexer.embedding.aggregation import aggregate_voices
from indexer.errors import NotFound, Unavailable
from indexer.index.base import Ids, VectorIndex
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId, SpeakerId, Vectors
from search.voiceprints import VoiceprintTable

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 8192
"""Embeddings aggregated at a time, and as many more as the last speaker has: 6 MiB, and 13 MiB in float64."""


class VoiceprintMaker:
    """Makes the voiceprints of one gallery under one encoder.

    Parameters
    ----------
    index : VectorIndex
        The gallery's. What it lacks, or cannot give, is read from the record.
    """

    def __init__(self, gallery_id: GalleryId, encoder_id: EncoderId, index: VectorIndex) -> None:
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._index = index

    def everybody(self, session: Session) -> VoiceprintTable:
        """Make the voiceprint of every speaker."""
        names, labels = Speakers(session).directory(self._gallery_id)
        rows = Embeddings(session).enrolled(self._gallery_id, self._encoder_id)
        return self._table(session, rows, names, labels)

    def of(self, session: Session, speaker_ids: Collection[SpeakerId]) -> VoiceprintTable:
        """Make the voiceprints of those of these speakers who are enrolled."""
        speakers = Speakers(session)
        names = speakers.names(speaker_ids)
        rows = Embeddings(session).enrolled(self._gallery_id, self._encoder_id, sorted(names))
        return self._table(session, rows, names, speakers.labels(names))

    def _table(
        self,
        session: Session,
        rows: EnrolledRows,
        names: dict[SpeakerId, str],
        labels: dict[SpeakerId, tuple[str, ...]],
    ) -> VoiceprintTable:
        speaker_ids, counts = np.unique(rows.speaker_ids, return_counts=True)
        voices: list[Vectors] = [np.empty((0, EMBEDDING_DIM), dtype=np.float32)]
        enrollments = np.zeros(len(speaker_ids), dtype=np.int64)
        speech_s = np.zeros(len(speaker_ids))
        snr_db = np.full(len(speaker_ids), np.nan)
        telephone = np.full(len(speaker_ids), np.nan)
        narrow = np.where(np.isnan(rows.bandwidth_hz), np.nan, rows.bandwidth_hz <= TELEPHONE_BANDWIDTH_HZ)
        have = np.zeros(len(speaker_ids), dtype=bool)
        for some in _blocks(counts):
            ends = np.cumsum(counts[: some.stop])
            part = slice(int(ends[some.start] - counts[some.start]), int(ends[-1]))
            found, vectors = self.held(session, rows.embedding_ids[part])
            sizes = np.add.reduceat(found.astype(np.int64), ends[some] - counts[some] - part.start)
            heard = sizes > 0
            made, sound = aggregate_voices(vectors, rows.durations_s[part][found], sizes[heard])
            places = np.arange(some.start, some.stop)[heard][sound]
            have[places] = True
            enrollments[places] = sizes[heard][sound]
            voice = np.repeat(np.arange(len(sizes)), sizes)
            spoken = rows.durations_s[part][found]
            speech_s[places] = np.bincount(voice, spoken, len(sizes))[heard][sound]
            snr_db[places] = _mean(voice, spoken, rows.snr_db[part][found], len(sizes))[heard][sound]
            telephone[places] = _mean(voice, spoken, narrow[part][found], len(sizes))[heard][sound]
            voices.append(made[sound])
        if not have.all():
            logger.error(
                "gallery %d: %d enrolled speakers have no voiceprint, because their vectors are damaged or cancel out; "
                "speaker ids: %s",
                self._gallery_id,
                int((~have).sum()),
                speaker_ids[~have][:20].tolist(),
            )
        return VoiceprintTable(
            speaker_ids[have],
            np.concatenate(voices),
            enrollments[have],
            speech_s[have],
            snr_db[have],
            names,
            labels,
            telephone[have],
        )

    def at_hand(self, embedding_ids: Ids) -> Vectors | None:
        """Return the vectors of these embeddings, where the index holds each of them."""
        rising, back = np.unique(embedding_ids, return_inverse=True)
        held, vectors = self._indexed(rising)
        return vectors[back] if held.all() else None

    def held(self, session: Session, embedding_ids: Ids) -> tuple[NDArray[np.bool_], Vectors]:
        """Return which of these embeddings there are, and the vectors of those."""
        rising, back = np.unique(embedding_ids, return_inverse=True)
        held, vectors = self._indexed(rising)
        if not held.all():
            ids, read, damaged = Embeddings(session).present(self._gallery_id, self._encoder_id, rising[~held])
            places = np.searchsorted(rising, ids)
            vectors[places], held[places] = read, True
            if len(damaged):
                logger.error(
                    "gallery %d: %d enrolled vectors do not match their checksums and count for nobody; ids: %s",
                    self._gallery_id,
                    len(damaged),
                    damaged[:20].tolist(),
                )
        found = held[back]
        return found, vectors[back[found]]

    def _indexed(self, rising: Ids) -> tuple[NDArray[np.bool_], Vectors]:
        vectors = np.empty((len(rising), EMBEDDING_DIM), dtype=np.float32)
        held = self._index.holds(rising)
        try:
            vectors[held] = self._index.reconstruct(rising[held])
        except (NotFound, Unavailable):  # gone between, or damaged in the index: the record knows
            held[:] = False
        return held, vectors


def _mean(
    voice: NDArray[np.int64], speech_s: NDArray[np.float64], measured: NDArray[np.float64], voices: int
) -> NDArray[np.float64]:
    """Return the mean of a measure over each voice's speech, NaN where none of it was measured."""
    known = ~np.isnan(measured)
    weights = np.bincount(voice[known], speech_s[known], voices)
    sums = np.bincount(voice[known], (speech_s * measured)[known], voices)
    means: NDArray[np.float64] = np.divide(sums, weights, out=np.full(voices, np.nan), where=weights > 0)
    return means


def _blocks(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Cut speakers into runs of about `_ROWS_AT_ONCE` embeddings."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = int(ends[start] - counts[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + _ROWS_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop
