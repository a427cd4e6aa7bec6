"""Adaptive score normalization: how much more a pair resembles each other than others resemble either of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import InvalidRequest
from indexer.types import Vectors

MIN_COHORT = 200
"""Speakers a cohort needs; see docs/decisions/0020: smaller ones gave little and cost some kinds of recordings."""

MOST_COHORT = 2000
"""Speakers that are drawn for one: a query compares each candidate with all of them, which takes milliseconds."""

TOP_N = 100
"""Cohort members most like a voice whose scores describe it."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """What a calibration's scores were normalized by, and what is normalized by it must be.

    Attributes
    ----------
    cohort
        Speakers of the cohort: how high the best of it score depends on how many they are.
    top_n
        How many of them describe a voice.
    """

    cohort: int
    top_n: int = TOP_N


@dataclass(frozen=True, eq=False, slots=True)
class Resemblance:
    """How much each of m voices resembles those of a cohort that are most like it.

    Attributes
    ----------
    scores, speakers : (m, k) arrays
        Cosines by falling value, and whose voices they are with; two more than `top_n`, for two may be left out.
    top_n
        How many of them describe a voice.
    """

    scores: NDArray[np.float64]
    speakers: NDArray[Any]
    top_n: int

    def take(self, rows: NDArray[np.int64]) -> "Resemblance":
        """Return those of some of the voices."""
        return Resemblance(self.scores[rows], self.speakers[rows], self.top_n)

    def statistics(self, without: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of each row's `top_n` highest scores, (m,) each.

        Parameters
        ----------
        without : (m, 1) or (m, 2) array
            Speakers who do not count as one of the cohort of a row.
        """
        kept = (self.speakers[:, :, None] != without[:, None, :]).all(axis=2)
        kept &= np.cumsum(kept, axis=1) <= self.top_n
        count = kept.sum(axis=1)
        mean = np.where(kept, self.scores, 0.0).sum(axis=1) / count
        variance = np.where(kept, (self.scores - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
        return mean, np.maximum(np.sqrt(variance), 1e-6)


@dataclass(frozen=True, eq=False, slots=True)
class Cohort:
    """Voices of other people, which scores are compared with.

    Attributes
    ----------
    speakers : (c,) array
        Number or name of each, so that nobody is compared with themselves.
    vectors : (c, D) float32 array
        Unit voiceprints.

    Raises
    ------
    InvalidRequest
        If there are fewer than `MIN_COHORT` speakers.
    """

    speakers: NDArray[Any]
    vectors: Vectors

    def __post_init__(self) -> None:
        require_cohort(len(self.speakers))

    def __len__(self) -> int:
        return len(self.speakers)

    def resemblance(self, voices: Vectors, top_n: int = TOP_N) -> Resemblance:
        """Compare (m, D) unit vectors with the cohort."""
        scores = voices @ self.vectors.T
        kept = min(top_n + 2, len(self))
        nearest = np.argpartition(scores, len(self) - kept, axis=1)[:, len(self) - kept :]
        found = np.take_along_axis(scores, nearest, axis=1)
        order = np.argsort(-found, axis=1)
        return Resemblance(
            np.take_along_axis(found, order, axis=1).astype(np.float64),
            self.speakers[np.take_along_axis(nearest, order, axis=1)],
            top_n,
        )


def as_norm(
    scores: ArrayLike, enrolled: Resemblance, probes: Resemblance, without: NDArray[Any]
) -> NDArray[np.float64]:
    """Return scores in standard deviations above what both sides reach with the cohort members most like them.

    Parameters
    ----------
    scores : (n,) array
        Cosines of n enrolled voices and n probes.
    enrolled, probes
        Of those voices; of one probe that all n are compared with, one row.
    without : (n, 1) or (n, 2) array
        Who must not count as one of the cohort: the enrolled speaker and, where it is known, the probe's own.

    References
    ----------
    Matejka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017 (adaptive
    symmetric normalization, AS-norm1).
    """
    given = np.asarray(scores, dtype=np.float64)
    mean, spread = enrolled.statistics(without)
    probe_mean, probe_spread = probes.statistics(without)
    normalized: NDArray[np.float64] = 0.5 * ((given - probe_mean) / probe_spread + (given - mean) / spread)
    return normalized


def drawn(speakers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Draw this many speakers, rising, or all there are: the same ones as long as they are there, whoever else comes.

    Each speaker's number gives its place in a fixed shuffle, so a cohort changes by the people who come and go alone.
    """
    mixed = speakers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    if count >= len(speakers):
        return np.sort(speakers)
    return np.sort(speakers[np.argpartition(mixed, count - 1)[:count]])


def cohort_of(vectors: Vectors, speakers: NDArray[Any], speech_s: NDArray[np.float64], most: int) -> Cohort:
    """Make a cohort of labeled recordings: the voiceprint of each speaker, or of this many drawn among them.

    Parameters
    ----------
    vectors, speakers, speech_s : (n, D), (n,), (n,) arrays
        Unit vectors, labels, and net speech in seconds.

    Raises
    ------
    InvalidRequest
        If they are of fewer than `MIN_COHORT` speakers.
    """
    names, numbers = np.unique(speakers, return_inverse=True)
    require_cohort(len(names))
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, numbers, vectors.astype(np.float64) * np.maximum(speech_s, 1e-3)[:, None])
    chosen = drawn(np.arange(len(names)), min(most, MOST_COHORT))
    voiceprints = sums[chosen] / np.maximum(np.linalg.norm(sums[chosen], axis=1, keepdims=True), 1e-12)
    return Cohort(names[chosen], voiceprints.astype(np.float32))


def require_cohort(speakers: int, needed: int = MIN_COHORT) -> None:
    """Refuse a cohort that would do harm.

    Parameters
    ----------
    needed
        As many as a calibration was fitted with; by default what any needs.

    Raises
    ------
    InvalidRequest
        If it has fewer speakers than that.
    """
    if speakers < MIN_COHORT:
        raise InvalidRequest(
            f"score normalization with a cohort of {speakers} speakers: fewer than {MIN_COHORT} may raise error rates; "
            "enroll or give more, or leave it off"
        )
    if speakers < needed:
        raise InvalidRequest(
            f"score normalization with a cohort of {speakers} speakers by a calibration that was fitted with {needed}: "
            "enroll more, fit one to fewer with `voxdex calibrate --as-norm`, or leave it off"
        )
