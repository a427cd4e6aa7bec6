"""1:N: who a voice is, among the enrolled; the answer may be nobody."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.index.base import Hit
from indexer.types import EmbeddingId, SpeakerId
from search.operating_point import OperatingPoint
from search.scoring import cosine_scores

MAX_TOP_K = 1000


class ProbeSearch(Protocol):
    """The part of a vector index that identification uses."""

    def search(
        self, probes: NDArray[np.float32], k: int, *, allowed: NDArray[np.int64] | None = None
    ) -> Sequence[Sequence[Hit]]:
        """Return the k best rows for each probe, among `allowed` where given."""
        ...


@dataclass(frozen=True, slots=True)
class Voiceprint:
    """A speaker's vector, aggregated from enrolled embeddings."""

    speaker_id: SpeakerId
    speaker: str
    vector: NDArray[np.float32]
    enrollments: int


class EnrolledSpeakers(Protocol):
    """What the record knows of a gallery's enrolled speakers."""

    def embedding_ids(self) -> NDArray[np.int64]:
        """Ids of every enrolled embedding of the gallery."""
        ...

    def speakers_of(self, embedding_ids: Collection[EmbeddingId]) -> Mapping[EmbeddingId, Collection[SpeakerId]]:
        """Map enrolled embeddings to their speakers; ids that are gone or not enrolled are left out."""
        ...

    def voiceprints(self, speaker_ids: Collection[SpeakerId]) -> Sequence[Voiceprint]:
        """Aggregate the voiceprints of these speakers."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ranked speaker: `score` is the cosine of the probe and the speaker's voiceprint."""

    rank: int
    speaker_id: SpeakerId
    speaker: str
    score: float
    enrollments: int


@dataclass(frozen=True, slots=True)
class Identification:
    """A decision and the candidates it was made on, best first."""

    outcome: Literal["identified", "unknown"]
    speaker: str | None
    operating_point: OperatingPoint
    candidates: tuple[Candidate, ...]


def identify(
    probe: NDArray[np.float32],
    *,
    index: ProbeSearch,
    enrolled: EnrolledSpeakers,
    top_k: int,
    operating_point: OperatingPoint,
) -> Identification:
    """Rank the enrolled speakers by voiceprint score and accept the best one at the threshold.

    The index proposes speakers through their single embeddings; the scores are exact cosines with the voiceprints of
    the proposed. More speakers are drawn than are asked for, because the best single embedding and the best
    voiceprint need not be of the same speaker.

    Parameters
    ----------
    probe : (D,) float32 array
        Unit vector.
    top_k
        Most candidates returned, 1 to 1000.

    Raises
    ------
    InvalidRequest
        If `top_k` is out of range.
    """
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidRequest(f"top_k {top_k} is out of range: ask for 1 to {MAX_TOP_K} candidates")
    proposed = _propose(probe, index, enrolled, speakers=max(4 * top_k, 128))
    voiceprints = enrolled.voiceprints(proposed) if proposed else ()
    ranked: list[Candidate] = []
    if voiceprints:
        scores = cosine_scores(probe, np.stack([voiceprint.vector for voiceprint in voiceprints]))
        # Ties go to the older speaker, so that an answer does not depend on the order of rows.
        order = sorted(range(len(voiceprints)), key=lambda i: (-scores[i], voiceprints[i].speaker_id))
        for rank, i in enumerate(order[:top_k], start=1):
            found = voiceprints[i]
            ranked.append(Candidate(rank, found.speaker_id, found.speaker, float(scores[i]), found.enrollments))
    accepted = bool(ranked) and ranked[0].score >= operating_point.score_threshold
    return Identification(
        outcome="identified" if accepted else "unknown",
        speaker=ranked[0].speaker if accepted else None,
        operating_point=operating_point,
        candidates=tuple(ranked),
    )


def _propose(
    probe: NDArray[np.float32], index: ProbeSearch, enrolled: EnrolledSpeakers, *, speakers: int
) -> list[SpeakerId]:
    """Draw at least `speakers` distinct speakers, best single embedding first, or all there are."""
    allowed = enrolled.embedding_ids()
    k = min(len(allowed), 2 * speakers)
    found: dict[SpeakerId, None] = {}
    while k > 0:
        hits = index.search(probe[None, :], k, allowed=allowed)[0]
        owners = enrolled.speakers_of([hit.embedding_id for hit in hits])
        found = {owner: None for hit in hits for owner in owners.get(hit.embedding_id, ())}
        if len(found) >= speakers or k >= len(allowed):
            break
        k = min(len(allowed), 4 * k)
    return list(found)
