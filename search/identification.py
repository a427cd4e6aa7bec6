"""1:N: who a voice is, among the enrolled; the answer may be nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.types import SpeakerId
from search.operating_point import OperatingPoint

MAX_TOP_K = 1000


@dataclass(frozen=True, slots=True)
class ScoredSpeaker:
    """A speaker and the cosine of the probe and their voiceprint."""

    speaker_id: SpeakerId
    speaker: str
    score: float
    enrollments: int


class EnrolledSpeakers(Protocol):
    """The enrolled speakers of a gallery that may be named in an answer."""

    def nearest(self, probe: NDArray[np.float32], k: int) -> Sequence[ScoredSpeaker]:
        """Return the k speakers whose voiceprints score highest, or all there are, best first; ties by rising id."""
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
    probe: NDArray[np.float32], *, enrolled: EnrolledSpeakers, top_k: int, operating_point: OperatingPoint
) -> Identification:
    """Rank the enrolled speakers by voiceprint score and accept the best one at the threshold.

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
    ranked = tuple(
        Candidate(rank, found.speaker_id, found.speaker, found.score, found.enrollments)
        for rank, found in enumerate(enrolled.nearest(probe, top_k), start=1)
    )
    accepted = bool(ranked) and ranked[0].score >= operating_point.score_threshold
    return Identification(
        outcome="identified" if accepted else "unknown",
        speaker=ranked[0].speaker if accepted else None,
        operating_point=operating_point,
        candidates=ranked,
    )
