"""Identification among enrolled speakers: who is found, who is missed, and how often a stranger is named."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from api.evaluation.made_up import MadeUp
from api.evaluation.protocols import Lookups, Numbers, Protocol
from api.evaluation.systems import Floats, System
from api.evaluation.verification import BANDS_S
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.errors import InvalidRequest
from search.bootstrap import Estimate, Resampling
from search.metrics import fnir_at, threshold_at_fpir, top_k_rate
from search.normalization import Cohort, as_norm, drawn, require_cohort
from search.open_set import RIVALS
from search.operating_point import LEAST_LLR

FPIRS = (0.1, 0.01, 0.001)

_ASKED = np.geomspace(1e-6, 0.9, 40)
"""Rates that a threshold is computed for, to find the one at which a probe would just be named."""

_CHUNK = 200_000
"""Scores that are held at once."""

_MADE_UP_AT_ONCE = 2_000
"""Made-up voices that a handful of probes is compared with at once."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of probes.

    Attributes
    ----------
    probes, speakers
        Recording of each, and a label of who it is.
    decides
        What a decision is made by, higher is surer: the best cosine, or, calibrated, minus the logarithm of the false
        positive rate that would have to be asked for to name the best speaker. Minus infinity: not enough speech.
    ranks
        Of the own speaker, from 1; 0 for strangers.
    named
        Whether the best speaker is named at each asked rate; None where uncalibrated.
    """

    probes: Numbers
    speakers: NDArray[np.str_]
    speech_s: Floats
    decides: Floats
    ranks: Numbers
    named: Mapping[float, NDArray[np.bool_]] | None

    @property
    def refused(self) -> int:
        """Probes that were answered with "not enough speech"."""
        return int(np.isneginf(self.decides).sum())


@dataclass(frozen=True, slots=True)
class IdentificationFigures:
    """What a system achieves in galleries of one size.

    Attributes
    ----------
    figures
        top_1, top_5; fnir_at_fpir_X: misses at the threshold that lets X of the strangers of this very data pass;
        asked_fpir_X and asked_fnir_X: what comes of asking for X beforehand.
    by_speech
        FNIR at FPIR 1 % by the probe's net speech, at the threshold of all, and how many probes that is of.
    decisions
        At 1 %, asked for where calibrated: how many probes of enrolled people were named right, named wrong, not
        named, and not heard enough of; and of strangers named, not named, not heard enough of.
    curve
        (FPIR, FNIR) by rising FPIR.
    """

    system: str
    scoring: str
    calibration_id: str | None
    condition: str
    gallery_size: int
    mated: int
    unknown: int
    figures: Mapping[str, Estimate]
    by_speech: Mapping[str, tuple[float, int]]
    decisions: Mapping[str, int]
    curve: tuple[tuple[float, float], ...]


class Gallery:
    """Voiceprints of every speaker that can be enrolled, as one system makes them.

    Parameters
    ----------
    made_up
        Voices that are in every gallery beside those; None: nobody.

    Raises
    ------
    InvalidRequest
        If a speaker has no recording that can be used.
    """

    def __init__(self, system: System, protocol: Protocol, made_up: MadeUp | None = None) -> None:
        self._system = system
        answers = system.answers
        speech, snr = system.net_speech_s, system.snr_db
        usable = [[number for number in numbers if answers[number]] for numbers in protocol.enrolled]
        for speaker, numbers in zip(protocol.speakers, usable, strict=True):
            if not numbers:
                raise InvalidRequest(f"{system.name}: none of the recordings that {speaker} is enrolled by can be used")
        self.speech_s = np.array([speech[numbers].sum() for numbers in usable])

        def mean(measured: Floats) -> Floats:
            known = [[number for number in numbers if not np.isnan(measured[number])] for numbers in usable]
            return np.array(
                [np.average(measured[numbers], weights=speech[numbers]) if numbers else np.nan for numbers in known]
            )

        self.snr_db, self.telephone = mean(snr), mean(system.telephone)
        self.voiceprints = [
            np.stack([aggregate_embeddings(vectors[numbers], speech[numbers].tolist()) for numbers in usable])
            for vectors in map(system.vectors, system.encoder_ids)
        ]
        self.made_up = 0 if made_up is None else made_up.count
        if made_up is not None:
            self._add(made_up, speech, snr)

    def _add(self, made_up: MadeUp, speech: Floats, snr: Floats) -> None:
        """Append made-up voices, as long and as good as what they are made of."""
        originals = made_up.originals(self._system.answers)
        self.speech_s = np.concatenate([self.speech_s, speech[originals]])
        self.snr_db = np.concatenate([self.snr_db, snr[originals]])
        self.telephone = np.concatenate([self.telephone, self._system.telephone[originals]])
        self.voiceprints = [
            np.concatenate([real, made_up.voiceprints(self._system.vectors(encoder), originals)])
            for encoder, real in zip(self._system.encoder_ids, self.voiceprints, strict=True)
        ]

    def best_made_up(self, probes: Numbers) -> Floats:
        """Return (p, k) scores of probes with the made-up voices, the best `RIVALS` and one, best first."""
        if not self.made_up:
            return np.empty((len(probes), 0))
        first = len(self.speech_s) - self.made_up
        kept = np.full((len(probes), 0), -np.inf)
        for start in range(first, len(self.speech_s), _MADE_UP_AT_ONCE):
            some = np.arange(start, min(start + _MADE_UP_AT_ONCE, len(self.speech_s)))
            scores = self._against(probes, some, None)
            kept = -np.sort(-np.concatenate([kept, scores], axis=1), axis=1)[:, : RIVALS + 1]
        return kept

    def scores(self, probes: Numbers, galleries: Numbers) -> Floats:
        """Return (p, n) scores of probes against the speakers of their galleries."""
        chosen, places = np.unique(galleries, return_inverse=True)
        return self._against(probes, chosen, places.reshape(galleries.shape))

    def _against(self, probes: Numbers, speakers: Numbers, places: Numbers | None) -> Floats:
        """Return scores of probes with these speakers, or with those among them that are at the (p, n) places."""
        system = self._system
        cosines = []
        for encoder, voiceprints in zip(system.encoder_ids, self.voiceprints, strict=True):
            heard = system.vectors(encoder)[probes]
            every = heard.astype(np.float64) @ voiceprints[speakers].T.astype(np.float64)
            scores = every if places is None else np.take_along_axis(every, places, axis=1)
            if system.as_norm:
                assert places is not None
                scores = self._normalized(scores, heard, voiceprints, speakers[places])
            cosines.append(scores)
        stacked = np.stack(cosines, axis=-1)
        if system.calibration is None:
            means: Floats = stacked.mean(axis=-1)
            return means
        galleries = np.broadcast_to(speakers, (len(probes), len(speakers))) if places is None else speakers[places]
        speech, snr = system.net_speech_s[probes][:, None], system.snr_db[probes][:, None]
        return system.calibration.llr(
            stacked.reshape(-1, stacked.shape[-1]),
            enrolled_speech_s=self.speech_s[galleries].ravel(),
            probe_speech_s=np.broadcast_to(speech, galleries.shape).ravel(),
            snr_db=np.fmin(self.snr_db[galleries], snr).ravel(),
            enrolled_telephone=self.telephone[galleries].ravel(),
            probe_telephone=np.broadcast_to(system.telephone[probes][:, None], galleries.shape).ravel(),
        ).reshape(galleries.shape)

    def _normalized(
        self, scores: Floats, heard: NDArray[np.float32], voiceprints: NDArray[np.float32], galleries: Numbers
    ) -> Floats:
        """Normalize each probe's scores by the speakers of its gallery, as an open gallery does."""
        normalized = np.empty_like(scores)
        before: Numbers | None = None
        for row, gallery in enumerate(galleries):
            if before is None or not np.array_equal(gallery, before):
                chosen = drawn(gallery, self._system.cohort)
                require_cohort(len(chosen), self._system.cohort if self._system.calibration is not None else 0)
                cohort = Cohort(chosen, voiceprints[chosen])
                enrolled, before = cohort.resemblance(voiceprints[gallery]), gallery
            normalized[row] = as_norm(scores[row], enrolled, cohort.resemblance(heard[row][None]), gallery[:, None])
        return normalized


def look_up(
    system: System,
    gallery: Gallery,
    probes: Numbers,
    own: Numbers | None,
    galleries: Numbers,
    speakers: Sequence[str],
    least_speech_s: float,
) -> Outcomes:
    """Look probes up and say what becomes of each.

    Parameters
    ----------
    own
        Speaker of each probe; None: they are strangers.
    speakers
        Label of each probe, for intervals.
    least_speech_s
        Net speech below which the product answers that it is not enough.
    """
    rows = max(1, _CHUNK // max(1, galleries.shape[1]))
    decides, ranks = np.empty(len(probes)), np.zeros(len(probes), dtype=np.int64)
    model = system.calibration.open_set if system.calibration else None
    named = {fpir: np.zeros(len(probes), dtype=bool) for fpir in FPIRS} if model else None
    for start in range(0, len(probes), rows):
        part = slice(start, start + rows)
        scores = gallery.scores(probes[part], galleries[part])
        if own is not None:
            mate = np.take_along_axis(scores, (galleries[part] == own[part][:, None]).argmax(axis=1)[:, None], axis=1)
        size = scores.shape[1] + gallery.made_up
        scores = np.concatenate([scores, gallery.best_made_up(probes[part])], axis=1)
        best = scores.max(axis=1)
        if own is not None:
            ranks[part] = 1 + (scores > mate).sum(axis=1)
        if model is None or named is None:
            decides[part] = best
            continue
        rivals = -np.sort(-scores, axis=1)[:, 1 : RIVALS + 1]
        threshold = partial(model.thresholds, gallery_size=size, rivals=rivals, slopes=system.slopes(probes[part]))
        for fpir in FPIRS:
            named[fpir][part] = best >= np.maximum(LEAST_LLR, threshold(fpir))
        edges = np.stack([threshold(fpir) for fpir in _ASKED], axis=1)
        decides[part] = [_just_named(llr, row) for llr, row in zip(best, edges, strict=True)]
    enough = (system.answers & (system.net_speech_s >= system.needed_s(least_speech_s)))[probes]
    if named is not None:
        named = {fpir: flags & enough for fpir, flags in named.items()}
    return Outcomes(
        probes,
        np.array(speakers, dtype=np.str_),
        system.net_speech_s[probes],
        np.where(enough, decides, -np.inf),
        ranks,
        named,
    )


def _just_named(llr: float, thresholds: Floats) -> float:
    """Return minus the natural logarithm of the rate at which this llr is the threshold."""
    rising = -np.log(_ASKED)[::-1]
    edges = np.maximum.accumulate(thresholds[::-1])
    if llr > edges[-1]:  # A tenth of the false alarms for each ln 10, as an llr has it.
        return float(rising[-1] + llr - edges[-1])
    if llr < edges[0]:
        return float(rising[0] + llr - edges[0])
    return float(np.interp(llr, edges, rising))


def evaluate_identification(
    system: System,
    protocol: Protocol,
    drawn: Sequence[Lookups],
    labels: Sequence[str],
    resampling: Resampling,
    least_speech_s: float,
    condition: tuple[str, int] = ("", 0),
    made_up: MadeUp | None = None,
) -> IdentificationFigures:
    """Measure a system in galleries of one size.

    Parameters
    ----------
    drawn
        Galleries of that size that have both kinds of probes; what comes of them is pooled.
    labels
        Who speaks in each recording.
    least_speech_s
        Net speech below which the product answers that it is not enough, cut out or noisy speech apart; 0: it always
        answers.
    condition
        Its name, and how far behind a recording its copy under that condition is; copies are looked up, not enrolled.
    made_up
        Voices that fill up each gallery; None: nobody.
    """
    gallery = Gallery(system, protocol, made_up)

    def outcomes(probes: Numbers, own: Numbers | None, galleries: Numbers) -> Outcomes:
        who = [labels[number] for number in probes]
        return look_up(system, gallery, probes + condition[1], own, galleries, who, least_speech_s)

    mated = _pooled([outcomes(one.mated, one.mated_own, one.mated_galleries) for one in drawn])
    unknown = _pooled([outcomes(one.unknown, None, one.unknown_galleries) for one in drawn])
    size = drawn[0].size + gallery.made_up
    count = len(mated.probes)

    def measure(weights: Floats | None) -> dict[str, float]:
        known = None if weights is None else weights[:count]
        strange = None if weights is None else weights[count:]
        if known is not None and strange is not None and not (known.sum() > 0 and strange.sum() > 0):
            raise InvalidRequest("no probe of one kind was drawn")
        figures = {"top_1": top_k_rate(mated.ranks, 1, known), "top_5": top_k_rate(mated.ranks, 5, known)}
        for fpir in FPIRS:
            threshold = threshold_at_fpir(unknown.decides, fpir, strange)
            figures[f"fnir_at_fpir_{fpir:g}"] = fnir_at(mated.decides, mated.ranks, threshold, weights=known)
            if mated.named is not None and unknown.named is not None:
                right = mated.named[fpir] & (mated.ranks == 1)
                figures[f"asked_fpir_{fpir:g}"] = float(np.average(unknown.named[fpir], weights=strange))
                figures[f"asked_fnir_{fpir:g}"] = 1.0 - float(np.average(right, weights=known))
        return figures

    everybody = np.concatenate([mated.speakers, unknown.speakers]).tolist()
    return IdentificationFigures(
        system.name,
        system.scoring,
        system.calibration.id if system.calibration else None,
        condition[0],
        size,
        count,
        len(unknown.probes),
        resampling.estimate(measure, resampling.speaker_weights(everybody)),
        _by_speech(mated, threshold_at_fpir(unknown.decides, 0.01)),
        _decisions(mated, unknown),
        _curve(mated, unknown),
    )


def _pooled(parts: Sequence[Outcomes]) -> Outcomes:
    flags = [part.named for part in parts if part.named is not None]
    return Outcomes(
        np.concatenate([part.probes for part in parts]),
        np.concatenate([part.speakers for part in parts]),
        np.concatenate([part.speech_s for part in parts]),
        np.concatenate([part.decides for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        {fpir: np.concatenate([one[fpir] for one in flags]) for fpir in FPIRS} if flags else None,
    )


def _curve(mated: Outcomes, unknown: Outcomes, points: int = 60) -> tuple[tuple[float, float], ...]:
    rates = np.geomspace(1 / len(unknown.probes), 1.0, points).tolist()
    return tuple(
        (fpir, fnir_at(mated.decides, mated.ranks, threshold_at_fpir(unknown.decides, fpir))) for fpir in rates
    )


def _by_speech(mated: Outcomes, threshold: float) -> dict[str, tuple[float, int]]:
    bands = {}
    for low, high in itertools.pairwise(BANDS_S):
        rows = (mated.speech_s >= low) & (mated.speech_s < high)
        if rows.any():
            name = f"{low:g} to {high:g} s" if np.isfinite(high) else f"{low:g} s and more"
            bands[name] = (fnir_at(mated.decides[rows], mated.ranks[rows], threshold), int(rows.sum()))
    return bands


def _decisions(mated: Outcomes, unknown: Outcomes, fpir: float = 0.01) -> dict[str, int]:
    threshold = threshold_at_fpir(unknown.decides, fpir)
    known = mated.named[fpir] if mated.named is not None else mated.decides >= threshold
    strange = unknown.named[fpir] if unknown.named is not None else unknown.decides >= threshold
    return {
        "mated_right": int((known & (mated.ranks == 1)).sum()),
        "mated_wrong": int((known & (mated.ranks != 1)).sum()),
        "mated_unknown": int((~known).sum()) - mated.refused,
        "mated_not_enough_speech": mated.refused,
        "unknown_named": int(strange.sum()),
        "unknown_unknown": int((~strange).sum()) - unknown.refused,
        "unknown_not_enough_speech": unknown.refused,
    }
