"""What is put side by side: the baseline, each encoder by cosine and calibrated, and two encoders fused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.evaluation.hearing import HeardRecording
from indexer.audio.gates import needed_of_probe_s
from indexer.errors import InvalidRequest
from indexer.types import EncoderId
from search.calibration import Calibration
from search.calibration_trials import normalized_pairs
from search.normalization import MOST_COHORT, cohort_of, require_cohort
from search.trials import TrialList

_CHUNK = 65_536
"""Pairs of vectors that are multiplied at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class System:
    """A way to score trials.

    Attributes
    ----------
    name
        How tables call it.
    heard
        Each recording as this system hears it, in the order of the evaluation's recordings.
    encoder_ids
        One, or two that are fused.
    calibration
        What makes llrs of its scores; None: the score itself, of two encoders their mean.
    as_norm
        Whether scores are normalized by other speakers; they are cosines else.
    """

    name: str
    heard: Sequence[HeardRecording]
    encoder_ids: tuple[EncoderId, ...]
    calibration: Calibration | None = None
    as_norm: bool = False

    @property
    def scoring(self) -> str:
        """What its scores are."""
        if self.calibration is not None:
            made = f"llr by calibration {self.calibration.name} ({self.calibration.id[:12]})"
            return f"{made} of normalized scores" if self.as_norm else made
        kind = "normalized score" if self.as_norm else "cosine"
        return kind if len(self.encoder_ids) == 1 else f"mean of {kind}s"

    @property
    def cohort(self) -> int:
        """Most speakers that scores are normalized by: as many as its calibration was fitted with."""
        normalized = self.calibration.normalized if self.calibration is not None else None
        return normalized.cohort if normalized is not None else MOST_COHORT

    @property
    def answers(self) -> NDArray[np.bool_]:
        """(R,) which recordings it has vectors of."""
        return np.array([all(encoder in one.vectors for encoder in self.encoder_ids) for one in self.heard], dtype=bool)

    @property
    def net_speech_s(self) -> Floats:
        """(R,) seconds."""
        return np.array([one.net_speech_s for one in self.heard])

    def needed_s(self, least_s: float) -> Floats:
        """Return the (R,) net speech that the product needs to decide about each."""
        return np.array(
            [
                needed_of_probe_s(least_s, net_speech_s=one.net_speech_s, duration_s=one.duration_s, snr_db=one.snr_db)
                if least_s > 0.0
                else 0.0
                for one in self.heard
            ]
        )

    @property
    def snr_db(self) -> Floats:
        """(R,) NaN where unknown."""
        return np.array([np.nan if one.snr_db is None else one.snr_db for one in self.heard])

    @property
    def telephone(self) -> Floats:
        """(R,) share that came over a telephone, NaN where unknown."""
        return np.array([np.nan if one.telephone is None else one.telephone for one in self.heard])

    def slopes(self, probes: NDArray[np.int64]) -> Floats | None:
        """Return how much the llr of each of these recordings rises with its score; None where uncalibrated."""
        if self.calibration is None:
            return None
        return self.calibration.slope(probe_speech_s=self.net_speech_s[probes], probe_telephone=self.telephone[probes])

    def vectors(self, encoder: EncoderId) -> NDArray[np.float32]:
        """(R, D) unit vectors; zeros where there is none."""
        dim = next((len(one.vectors[encoder]) for one in self.heard if encoder in one.vectors), 1)
        none = np.zeros(dim, dtype=np.float32)
        return np.stack([one.vectors.get(encoder, none) for one in self.heard])

    def score(self, trials: TrialList) -> Floats:
        """Return the (n,) scores of trials; minus infinity where one side cannot be used.

        Raises
        ------
        InvalidRequest
            If scores are to be normalized, and too few speakers are enrolled, or nobody says who they are.
        """
        scored = self._normalized if self.as_norm else self._cosines
        cosines = np.stack([scored(encoder, trials) for encoder in self.encoder_ids], axis=1)
        if self.calibration is None:
            scores: Floats = cosines.mean(axis=1)
        else:
            speech_s, snr_db, telephone = self.net_speech_s, self.snr_db, self.telephone
            scores = self.calibration.llr(
                cosines,
                enrolled_speech_s=speech_s[trials.enroll],
                probe_speech_s=speech_s[trials.probe],
                snr_db=np.fmin(snr_db[trials.enroll], snr_db[trials.probe]),
                enrolled_telephone=telephone[trials.enroll],
                probe_telephone=telephone[trials.probe],
            )
        answered = self.answers
        return np.where(answered[trials.enroll] & answered[trials.probe], scores, -np.inf)

    def _normalized(self, encoder: EncoderId, trials: TrialList) -> Floats:
        """Normalize by whoever is enrolled in any trial, without the speakers of the trial itself."""
        if not all(recording.speaker for recording in trials.recordings):
            raise InvalidRequest("--as-norm needs to know who speaks: give a manifest with a column speaker")
        speakers = np.array([recording.speaker for recording in trials.recordings])
        vectors = self.vectors(encoder)
        enrolled = np.unique(trials.enroll)
        enrolled = enrolled[self.answers[enrolled]]
        cohort = cohort_of(vectors[enrolled], speakers[enrolled], self.net_speech_s[enrolled], self.cohort)
        require_cohort(len(cohort), self.cohort if self.calibration is not None else 0)
        return normalized_pairs(self._cosines(encoder, trials), cohort, vectors, speakers, trials.enroll, trials.probe)

    def _cosines(self, encoder: EncoderId, trials: TrialList) -> Floats:
        vectors = self.vectors(encoder).astype(np.float64)
        scores = np.empty(len(trials))
        for start in range(0, len(trials), _CHUNK):
            rows = slice(start, start + _CHUNK)
            scores[rows] = np.einsum("nd,nd->n", vectors[trials.enroll[rows]], vectors[trials.probe[rows]])
        return scores
