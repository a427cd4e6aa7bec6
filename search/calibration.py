"""What a score is worth as evidence: cosine and quality -> natural-log likelihood ratio, fitted on labeled recordings.

A calibration belongs to one encoder, or to two whose scores it fuses, and to the kind of recordings it was fitted on.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import CorruptArtifact, InvalidRequest
from indexer.types import EncoderId, without_precision
from search.normalization import Normalization
from search.open_set import OpenSetModel

Floats = NDArray[np.float64]

QUALITIES = ("brevity", "log_shorter_s", "log_longer_s", "snr_db", "telephone_one", "telephone_both")
"""Quality measures a calibration may use, of which none depends on the order of two recordings: how little was said on
both sides, as `1 / (s + 2)` of either side's net seconds, added; the signal-to-noise ratio of the noisier side; how far
one side came over a telephone and the other did not, and how far both did, each from 0 to 1. The logarithms of the
shorter and the longer side's net seconds are of calibrations that were fitted before there was brevity."""

_HALF_SAID_S = 2.0
"""Seconds of speech from which on more tells less and less; of 1, 2 and 3 the best on speakers held out."""

_USUALLY_ENROLLED_S = 5.0
"""Net speech that a probe is told by, where it is not said of whom."""

SHARES = ("telephone_one", "telephone_both")
"""Those of them that are 0 for most recordings, and where they are unknown."""

DEFAULTS = Path(__file__).parent / "calibrations"
"""Calibrations that come with the product, one file each."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values of a quality measure among the training trials; beyond them nothing is known, so they are clamped."""

    low: float
    high: float
    typical: float
    """Taken where the measure is unknown."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a calibration was fitted on."""

    description: str
    speakers: int
    recordings: int
    target_trials: int
    nontarget_trials: int
    fitted_at: str
    """Date, as 2026-01-31."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map from scores to llrs, with everything that decisions need.

    Attributes
    ----------
    name
        The condition it is for, as "default" or "telephone".
    encoder_ids
        One, or two whose scores are fused, in the order of the score columns.
    weights
        Of each feature: "intercept", "score_1", "score_2", a quality measure, or a product as "score_1*log_shorter_s".
    ranges
        Of each quality measure that the weights name.
    data
        What it was fitted on.
    cllr_before, cllr_after, min_cllr
        In bits, on speakers that the fit had not seen: of the raw cosine taken for an llr (of two: of their mean), of
        the llr, and of the best calibration that keeps the llr's order.
    nontarget_llrs
        llr that a share of nontarget trials reaches: (p_fa, llr) by falling p_fa.
    open_set
        How the llrs of one probe against many strangers are distributed; None where too few speakers showed it.
    normalized
        How its scores were normalized, which are no cosines then; None: they were not.
    """

    name: str
    encoder_ids: tuple[EncoderId, ...]
    weights: Mapping[str, float]
    ranges: Mapping[str, Range]
    data: TrainingData
    cllr_before: float
    cllr_after: float
    min_cllr: float
    nontarget_llrs: tuple[tuple[float, float], ...]
    open_set: OpenSetModel | None = None
    normalized: Normalization | None = None
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        from search.calibration_document import check, content_hash

        check(self)
        object.__setattr__(self, "id", content_hash(self))

    def llr(
        self,
        scores: ArrayLike,
        *,
        enrolled_speech_s: ArrayLike,
        probe_speech_s: ArrayLike,
        snr_db: ArrayLike | None = None,
        enrolled_telephone: ArrayLike | None = None,
        probe_telephone: ArrayLike | None = None,
    ) -> Floats:
        """Return natural-log likelihood ratios: above 0 speaks for the same voice, below for two.

        Parameters
        ----------
        scores : (n,) or (n, E) array
            Cosines under each encoder of `encoder_ids`, in that order; normalized ones where it is of such.
        enrolled_speech_s, probe_speech_s : float or (n,) array
            Net speech of both sides in seconds.
        snr_db : float or (n,) array, optional
            Signal-to-noise ratio of the noisier side; None or NaN: unknown.
        enrolled_telephone, probe_telephone : float or (n,) array, optional
            Share of either side's speech that came over a telephone; None or NaN: unknown.

        Returns
        -------
        (n,) float64 array
            Rising with each score at equal quality.

        Raises
        ------
        InvalidRequest
            If there are not as many score columns as encoders, or a score is NaN.
        """
        columns = self._columns(scores)
        quality = self._quality(
            quality_measures(
                len(columns), enrolled_speech_s, probe_speech_s, snr_db, enrolled_telephone, probe_telephone
            )
        )
        return design(columns, quality, list(self.weights)) @ np.fromiter(self.weights.values(), dtype=np.float64)

    def slope(self, *, probe_speech_s: ArrayLike, probe_telephone: ArrayLike | None = None) -> Floats:
        """Return how much the llr of each probe rises as its scores with a usual enrollment rise by one.

        Parameters
        ----------
        probe_speech_s, probe_telephone : float or (n,) array
            As for `llr`.
        """
        speech = np.atleast_1d(np.asarray(probe_speech_s, dtype=np.float64))
        telephone = np.full(len(speech), math.nan if probe_telephone is None else probe_telephone)
        none, all_of_it = self.llr(
            np.repeat(np.array([0.0, 1.0]), len(speech))[:, None].repeat(len(self.encoder_ids), axis=1),
            enrolled_speech_s=_USUALLY_ENROLLED_S,
            probe_speech_s=np.tile(speech, 2),
            enrolled_telephone=0.0,
            probe_telephone=np.tile(telephone, 2),
        ).reshape(2, len(speech))
        return all_of_it - none

    def score_at(
        self,
        llr: float,
        *,
        enrolled_speech_s: float,
        probe_speech_s: float,
        snr_db: float | None = None,
        enrolled_telephone: float | None = None,
        probe_telephone: float | None = None,
    ) -> float:
        """Return the cosine that has this llr at this quality, which may be beyond [-1, 1]; for one encoder only.

        Raises
        ------
        InvalidRequest
            If the calibration fuses two encoders, many pairs of whose cosines have one llr, or is of normalized scores.
        """
        if self.normalized is not None:
            raise InvalidRequest(f"calibration {self.name} is of normalized scores: a cosine alone makes no llr")
        if len(self.encoder_ids) != 1:
            raise InvalidRequest(f"calibration {self.name} fuses two encoders: one cosine does not make an llr")
        low, high = self.llr(
            np.array([0.0, 1.0]),
            enrolled_speech_s=enrolled_speech_s,
            probe_speech_s=probe_speech_s,
            snr_db=snr_db,
            enrolled_telephone=enrolled_telephone,
            probe_telephone=probe_telephone,
        )
        return float((llr - low) / (high - low))

    def llr_at_p_fa(self, p_fa: float) -> float:
        """Return the llr from which on at most this share of nontarget trials was accepted.

        Beyond the trials there were, the llr rises as if it were the logarithm it stands for: a tenth of the false
        alarms for each ln 10.

        Raises
        ------
        InvalidRequest
            If the share is not between 0 and 1.
        """
        if not 0.0 < p_fa < 1.0:
            raise InvalidRequest(f"p_fa {p_fa} is out of range: give a share between 0 and 1, as in 0.001")
        shares, llrs = np.array(self.nontarget_llrs).T
        if p_fa < shares[-1]:
            return float(llrs[-1] + math.log(shares[-1] / p_fa))
        return float(np.interp(-math.log(p_fa), -np.log(shares), llrs))

    def swapped(self) -> "Calibration":
        """Return the same calibration for scores of two encoders in the other order."""
        other = {"score_1": "score_2", "score_2": "score_1"}
        weights = {
            "*".join(other.get(part, part) for part in name.split("*")): weight for name, weight in self.weights.items()
        }
        return replace(self, encoder_ids=self.encoder_ids[::-1], weights=weights)

    def to_document(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        from search.calibration_document import to_document

        return to_document(self)

    @classmethod
    def from_document(cls, document: object) -> "Calibration":
        """Read what `to_document` gave; raises CorruptArtifact naming what is wrong with it."""
        from search.calibration_document import from_document

        return from_document(document)

    def _columns(self, scores: ArrayLike) -> Floats:
        columns = np.asarray(scores, dtype=np.float64)
        if columns.ndim == 1 and len(self.encoder_ids) == 1:
            columns = columns[:, None]
        if columns.ndim != 2 or columns.shape[1] != len(self.encoder_ids):
            raise InvalidRequest(
                f"scores of shape {columns.shape} for calibration {self.name} of {len(self.encoder_ids)} encoders: "
                "give one column for each"
            )
        if np.isnan(columns).any():
            raise InvalidRequest("a score is NaN: leave that trial out")
        return columns

    def _quality(self, measured: Mapping[str, Floats]) -> dict[str, Floats]:
        clamped: dict[str, Floats] = {}
        for name, known in self.ranges.items():
            values = np.where(np.isnan(measured[name]), known.typical, measured[name])
            clamped[name] = np.clip(values, known.low, known.high)
        return clamped


def quality_measures(
    count: int,
    enrolled_s: ArrayLike,
    probe_s: ArrayLike,
    snr_db: ArrayLike | None,
    enrolled_telephone: ArrayLike | None,
    probe_telephone: ArrayLike | None,
) -> dict[str, Floats]:
    """Return each of `QUALITIES` as a (count,) array, NaN where it is unknown."""

    def each(measured: ArrayLike | None) -> Floats:
        return np.full(count, math.nan if measured is None else measured, dtype=np.float64)

    said = np.stack([each(enrolled_s), each(probe_s)])
    logs = np.log(np.maximum(said, 1e-3))
    enrolled, probe = each(enrolled_telephone), each(probe_telephone)
    both = enrolled * probe
    brevity = (1.0 / (said + _HALF_SAID_S)).sum(axis=0)
    measures = (brevity, logs.min(axis=0), logs.max(axis=0), each(snr_db), enrolled + probe - 2 * both, both)
    return dict(zip(QUALITIES, measures, strict=True))


def design(scores: Floats, quality: Mapping[str, Floats], features: Sequence[str]) -> Floats:
    """Return the (n, F) matrix of the named features.

    Raises
    ------
    KeyError
        If a feature is made of something that is neither a score column nor in `quality`.
    """
    known = {f"score_{number}": column for number, column in enumerate(scores.T, start=1)}
    known |= quality
    known["intercept"] = np.ones(len(scores))
    return np.stack([reduce(mul, [known[part] for part in name.split("*")]) for name in features], axis=1)


def default_calibration(encoder_ids: Sequence[EncoderId], name: str = "default") -> Calibration | None:
    """Return the calibration that comes with the product for this encoder, or these two; None where there is none.

    It is of weights and front end in every precision. The order of two encoders is the caller's: the score columns
    follow it.
    """
    wanted = tuple(map(without_precision, encoder_ids))
    for found in _shipped():
        if found.name == name and found.encoder_ids in (wanted, wanted[::-1]):
            return found if found.encoder_ids == wanted else found.swapped()
    return None


def default_calibrations() -> tuple[Calibration, ...]:
    """Return every calibration that comes with the product."""
    return _shipped()


@lru_cache(maxsize=1)
def _shipped() -> tuple[Calibration, ...]:
    return tuple(read_calibration(path) for path in sorted(DEFAULTS.glob("*.json")))


def read_calibration(path: Path) -> Calibration:
    """Read a calibration from a file.

    Raises
    ------
    CorruptArtifact
        If it is no calibration; the message names the file and what is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptArtifact(f"{path} is no JSON ({error}): export the calibration again") from error
    try:
        return Calibration.from_document(document)
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{path}: {error}") from error
