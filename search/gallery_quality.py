"""How well a gallery tells its own people apart: each enrolled recording compared with all others, as if it were new.

Pairs of recordings show how scores are spread, of one speaker and of two. Identification is asked with each recording:
once among everybody, its speaker known by the others of their recordings, and once without its speaker, as a stranger.
What comes out holds for recordings like the enrolled ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexer.types import SpeakerId, Vectors
from search.calibration import Calibration
from search.identification import ProbeQuality, Rules, ScoredSpeaker, identify, proposals
from search.metrics import DetCurve, RankedTrials

Floats = NDArray[np.float64]

BINS = 60
"""Columns of a histogram."""

CURVE_POINTS = 121
"""Thresholds at which both errors of identification are told."""

FEW_PAIRS = 30
"""Pairs of one speaker below which an error rate is a guess."""


@dataclass(frozen=True, eq=False)
class EnrolledVoices:
    """Recordings that speakers are enrolled with, one row each; those of one speaker side by side.

    Attributes
    ----------
    vectors : (E, n, D) float32 array
        Unit vectors under each encoder that is compared by.
    speaker_ids : (n,) int64 array
        Whose they are, rising.
    speech_s : (n,) float64 array
        Net speech, above 0.
    snr_db, telephone : (n,) float64 arrays
        NaN where nobody measured it.
    """

    vectors: Vectors
    speaker_ids: NDArray[np.int64]
    speech_s: Floats
    snr_db: Floats
    telephone: Floats

    def __len__(self) -> int:
        return len(self.speaker_ids)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Shares of the pairs of one speaker and of two, by columns of equal width between (n + 1,) edges."""

    edges: Floats
    same: Floats
    different: Floats


@dataclass(frozen=True, slots=True)
class ErrorsAt:
    """What is to be expected of identification at a threshold.

    Attributes
    ----------
    fpir
        Share of strangers who would be named.
    fnir
        Share of recordings of enrolled people that would not be given their name.
    """

    threshold: float
    fpir: float
    fnir: float
    asked: str = ""


@dataclass(frozen=True, eq=False)
class GalleryQuality:
    """How well a gallery tells its people apart.

    Attributes
    ----------
    llrs
        None without a calibration.
    eer, det
        Of the pairs, by what decides; None where there are not both kinds of them.
    by_llr
        Whether the llr decides, and so is what thresholds are of.
    curve
        By rising threshold; empty where nobody has two recordings, or nobody else is enrolled.
    point
        As the gallery decides now.
    """

    same_pairs: int
    different_pairs: int
    scores: Histogram
    llrs: Histogram | None
    eer: float | None
    det: DetCurve | None
    by_llr: bool
    curve: tuple[ErrorsAt, ...]
    point: ErrorsAt | None


def gallery_quality(voices: EnrolledVoices, rules: Rules) -> GalleryQuality:
    """Compare each recording with all others, and ask for each who it is.

    Parameters
    ----------
    rules
        By which the gallery decides; a calibration of plain scores, or none.
    """
    count = len(voices)
    first, second = np.triu_indices(count, 1)
    same = voices.speaker_ids[first] == voices.speaker_ids[second]
    columns = np.stack([(vectors @ vectors.T)[first, second] for vectors in voices.vectors], axis=1).astype(np.float64)
    columns = np.clip(columns, -1.0, 1.0)
    llrs = None if rules.calibration is None else _pair_llrs(voices, first, second, columns, rules.calibration)
    asked = _ask_each(voices, rules)
    by_llr = asked.by_llr if asked is not None else llrs is not None
    decides = llrs if by_llr and llrs is not None else columns[:, 0]
    trials = RankedTrials(decides, same) if same.any() and not same.all() else None
    return GalleryQuality(
        same_pairs=int(same.sum()),
        different_pairs=int((~same).sum()),
        scores=_histogram(columns[:, 0], same),
        llrs=_histogram(llrs, same) if llrs is not None else None,
        eer=trials.eer() if trials is not None else None,
        det=trials.det() if trials is not None else None,
        by_llr=by_llr,
        curve=asked.curve() if asked is not None else (),
        point=asked.now if asked is not None else None,
    )


def thinned(curve: DetCurve, most: int) -> DetCurve:
    """Return at most so many points of a curve, spread evenly over both axes as a DET plot has them."""
    finite = np.isfinite(curve.thresholds)
    miss, alarm = curve.p_miss[finite], curve.p_fa[finite]
    if len(miss) <= most:
        return DetCurve(curve.thresholds[finite], miss, alarm)
    # By the length of the way along the curve, in the logarithms of both rates.
    steps = np.hypot(np.diff(np.log(np.maximum(miss, 1e-6))), np.diff(np.log(np.maximum(alarm, 1e-6))))
    way = np.r_[0.0, np.cumsum(steps)]
    places = np.unique(np.searchsorted(way, np.linspace(0.0, way[-1], most)).clip(0, len(way) - 1))
    return DetCurve(curve.thresholds[finite][places], miss[places], alarm[places])


def _pair_llrs(
    voices: EnrolledVoices,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    columns: Floats,
    calibration: Calibration,
) -> Floats:
    return calibration.llr(
        columns[:, : len(calibration.encoder_ids)],
        enrolled_speech_s=voices.speech_s[first],
        probe_speech_s=voices.speech_s[second],
        snr_db=np.fmin(voices.snr_db[first], voices.snr_db[second]),
        enrolled_telephone=voices.telephone[first],
        probe_telephone=voices.telephone[second],
    )


def _histogram(values: Floats, same: NDArray[np.bool_]) -> Histogram:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)

    def shares(of: Floats) -> Floats:
        counts = np.histogram(of, edges)[0].astype(np.float64)
        return counts / len(of) if len(of) else counts

    return Histogram(edges, shares(values[same]), shares(values[~same]))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What identification said of each recording: the best stranger's worth, its own speaker's, and what was decided.

    Worth is the llr where that decides, else the cosine; minus infinity where a recording's speaker has no other.
    """

    strangers: Floats
    mates: Floats
    by_llr: bool
    now: ErrorsAt

    def curve(self) -> tuple[ErrorsAt, ...]:
        known = self.mates[np.isfinite(self.mates)]
        ends = np.r_[self.strangers, known]
        named_right = np.where(self.mates > self.strangers, self.mates, -math.inf)[np.isfinite(self.mates)]
        return tuple(
            ErrorsAt(
                threshold=float(threshold),
                fpir=float(np.mean(self.strangers >= threshold)),
                fnir=float(1.0 - np.mean(named_right >= threshold)) if len(named_right) else 0.0,
            )
            for threshold in np.linspace(ends.min(), ends.max(), CURVE_POINTS)
        )


def _ask_each(voices: EnrolledVoices, rules: Rules) -> _Asked | None:
    """Ask with each recording who it is; None where that says nothing, for fewer than two speakers are enrolled."""
    speakers, starts = np.unique(voices.speaker_ids, return_index=True)
    if len(speakers) < 2:
        return None
    prints = _Prints(voices, speakers, starts)
    strangers, mates, thresholds = [], [], []
    named = missed = asked_of_mates = 0
    by_llr, words = False, ""
    for place in range(len(voices)):
        others, mate = prints.scored(place)
        quality = ProbeQuality(
            float(voices.speech_s[place]), _none(voices.snr_db[place]), _none(voices.telephone[place])
        )
        alone = identify(others, top_k=1, gallery_size=len(speakers) - 1, quality=quality, rules=rules)
        point, best = alone.operating_point, alone.candidates[0]
        by_llr, words = point.llr_threshold is not None, point.asked
        worth = best.llr if by_llr and best.llr is not None else best.score
        strangers.append(worth)
        edge = point.llr_threshold if point.llr_threshold is not None else point.score_threshold
        thresholds.append(math.inf if edge is None else edge)
        named += alone.outcome == "identified"
        if mate is None:
            mates.append(-math.inf)
            continue
        asked_of_mates += 1
        there = identify(
            [*others, mate], top_k=1 + len(others), gallery_size=len(speakers), quality=quality, rules=rules
        )
        own = next(one for one in there.candidates if one.speaker_id == mate.speaker_id)
        mates.append(own.llr if by_llr and own.llr is not None else own.score)
        missed += there.outcome != "identified" or there.candidates[0].speaker_id != mate.speaker_id
    now = ErrorsAt(
        threshold=float(np.median(thresholds)),
        fpir=named / len(voices),
        fnir=missed / asked_of_mates if asked_of_mates else 0.0,
        asked=words,
    )
    return _Asked(np.array(strangers), np.array(mates), by_llr, now)


class _Prints:
    """Voiceprints of the speakers, with and without one of their recordings."""

    def __init__(self, voices: EnrolledVoices, speakers: NDArray[np.int64], starts: NDArray[np.intp]) -> None:
        self._voices = voices
        self._speakers = speakers
        weights = voices.speech_s
        self._sums = np.add.reduceat(voices.vectors * weights[None, :, None], starts, axis=1)  # (E, m, D)
        self._prints = _unit(self._sums)
        self._speech_s = np.add.reduceat(weights, starts)
        self._recordings = np.diff(np.r_[starts, len(voices)])
        self._snr_db = _means(voices.snr_db, weights, starts)
        self._telephone = _means(voices.telephone, weights, starts)

    def scored(self, place: int) -> tuple[list[ScoredSpeaker], ScoredSpeaker | None]:
        """Return the best other speakers for a recording, and its own speaker without it; None: they have no other."""
        own = int(np.searchsorted(self._speakers, self._voices.speaker_ids[place]))
        probe = self._voices.vectors[:, place]  # (E, D)
        scores = np.clip(np.einsum("ed,emd->em", probe, self._prints), -1.0, 1.0)
        order = np.argsort(-scores[0], kind="stable")
        best = [number for number in order[: proposals(1) + 1].tolist() if number != own][: proposals(1)]
        others = [self._speaker(number, scores[:, number]) for number in best]
        if self._recordings[own] < 2:
            return others, None
        without = _unit(self._sums[:, own] - probe * self._voices.speech_s[place])
        mate = self._speaker(own, np.clip((probe * without).sum(axis=1), -1.0, 1.0))
        left_s = float(self._speech_s[own] - self._voices.speech_s[place])
        return others, replace(mate, speech_s=max(left_s, 1e-3), enrollments=int(self._recordings[own]) - 1)

    def _speaker(self, number: int, scores: Floats) -> ScoredSpeaker:
        return ScoredSpeaker(
            SpeakerId(int(self._speakers[number])),
            "",
            float(scores[0]),
            enrollments=int(self._recordings[number]),
            speech_s=float(self._speech_s[number]),
            snr_db=_none(self._snr_db[number]),
            second_score=float(scores[1]) if len(scores) > 1 else None,
            telephone=_none(self._telephone[number]),
        )


def _unit(vectors: NDArray[np.floating]) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9), dtype=np.float64)


def _means(values: Floats, weights: Floats, starts: NDArray[np.intp]) -> Floats:
    """Return the weighted mean of each speaker's known values; NaN where none is known."""
    ends = np.r_[starts, len(values)]
    found = []
    for low, high in pairwise(ends.tolist()):
        known = ~np.isnan(values[low:high])
        found.append(
            float(np.average(values[low:high][known], weights=weights[low:high][known])) if known.any() else math.nan
        )
    return np.array(found)


def _none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def doubts(quality: GalleryQuality, *, speakers: int, compared: int) -> Sequence[str]:
    """Say in plain words what makes the figures less sure than they look."""
    said = []
    if compared < speakers:
        said.append(
            f"a sample of {compared} of {speakers} speakers was compared; among all of them strangers are named more "
            "often at the same threshold"
        )
    if not quality.same_pairs:
        said.append("nobody is enrolled with two recordings, so that nothing tells how often own people are missed")
    elif quality.same_pairs < FEW_PAIRS:
        said.append(f"{quality.same_pairs} pairs of one speaker are few: {FEW_PAIRS} or more make a rate")
    return said
