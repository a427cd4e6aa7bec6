"""1:N: who a voice is, among the enrolled; the answer may be nobody."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.types import SpeakerId
from search.calibration import Calibration
from search.evidence import EVEN, posteriors_of_speakers
from search.open_set import RIVALS
from search.operating_point import Band, Layers, OperatingPoint, identification_point

MAX_TOP_K = 1000


@dataclass(frozen=True, slots=True)
class ScoredSpeaker:
    """A speaker and the cosine of the probe and their voiceprint.

    Attributes
    ----------
    score
        Under the gallery's encoder.
    speech_s, snr_db
        Net speech that is enrolled, and its signal-to-noise ratio; None where nobody measured it.
    second_score
        Under the gallery's second encoder; None where it has none.
    telephone
        Share of the enrolled speech that came over a telephone, 0 to 1; None where nobody measured it.
    normalized
        Its scores under each encoder in spreads above a cohort's; None where they are not normalized.
    """

    speaker_id: SpeakerId
    speaker: str
    score: float
    enrollments: int
    speech_s: float
    snr_db: float | None = None
    second_score: float | None = None
    telephone: float | None = None
    normalized: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProbeQuality:
    """What limits how well a probe tells its voice: net speech; noise, and a telephone, where they were measured."""

    speech_s: float
    snr_db: float | None = None
    telephone: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a decision of scores.

    Attributes
    ----------
    calibration
        Of the encoder or encoders that scored; None: decisions are by the cosine.
    layers
        Who asks for what, most specific first.
    encoder
        Its name, for messages.
    prior
        How likely it is beforehand that the voice is one of the enrolled (identification), or that the claim is true
        (verification); posteriors assume it, decisions do not.
    """

    calibration: Calibration | None
    layers: Layers
    encoder: str
    prior: float = EVEN


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ranked speaker.

    Attributes
    ----------
    score
        Cosine of the probe and the speaker's voiceprint.
    llr, posterior
        None where uncalibrated.
    margin, llr_margin
        How far score and llr are above those of the next speaker, shown or not; None for the last of a gallery.
    """

    rank: int
    speaker_id: SpeakerId
    speaker: str
    score: float
    enrollments: int
    llr: float | None = None
    posterior: float | None = None
    margin: float | None = None
    llr_margin: float | None = None
    second_score: float | None = None


@dataclass(frozen=True, slots=True)
class Identification:
    """A decision and the candidates it was made on, best first.

    Attributes
    ----------
    outcome
        Which band the best candidate is in.
    speaker
        Who it is; None unless identified.
    gallery_size
        Speakers that were compared.
    score_at_threshold
        The cosine that has the operating point's llr for this probe and the best candidate; None where the cosine
        decides, where two encoders or normalized scores do, or where no cosine has it.
    """

    outcome: Band
    speaker: str | None
    operating_point: OperatingPoint
    candidates: tuple[Candidate, ...]
    gallery_size: int
    prior: float = EVEN
    score_at_threshold: float | None = None


def proposals(top_k: int) -> int:
    """Return how many speakers to look at for `top_k` candidates: those, and the rivals that a threshold depends on.

    Raises
    ------
    InvalidRequest
        If `top_k` is out of range.
    """
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidRequest(f"top_k {top_k} is out of range: ask for 1 to {MAX_TOP_K} candidates")
    return 1 + max(top_k, RIVALS)


def identify(
    found: Sequence[ScoredSpeaker], *, top_k: int, gallery_size: int, quality: ProbeQuality, rules: Rules
) -> Identification:
    """Rank speakers by what decides, the llr or the cosine, and tell which band the best one is in.

    Parameters
    ----------
    found
        The speakers that score highest, `proposals(top_k)` of them or all there are.
    gallery_size
        Speakers that were compared, after filters.

    Raises
    ------
    InvalidRequest
        If `top_k`, a threshold or a rate is out of range, or is asked for and cannot be had.
    """
    proposals(top_k)
    size = max(gallery_size, len(found))
    llrs = speaker_llrs(found, quality, rules.calibration)
    rivals = np.sort(llrs)[::-1][1 : RIVALS + 1] if llrs is not None else np.empty(0)
    point = identification_point(
        rules.calibration,
        rules.layers,
        gallery_size=size,
        rivals=rivals,
        slope=probe_slope(quality, rules.calibration),
        encoder=rules.encoder,
    )
    ranked = _ranked(found, llrs, by_llr=point.llr_threshold is not None)
    posteriors = posteriors_of_speakers(llrs, gallery_size=size, prior=rules.prior) if llrs is not None else None
    candidates = tuple(_candidate(place, ranked, found, llrs, posteriors) for place in range(min(top_k, len(ranked))))
    best = candidates[0] if candidates else None
    outcome: Band = point.band(best.score, best.llr) if best else "unknown"
    return Identification(
        outcome=outcome,
        speaker=best.speaker if best and outcome == "identified" else None,
        operating_point=point,
        candidates=candidates,
        gallery_size=gallery_size,
        prior=rules.prior,
        score_at_threshold=score_at_threshold(point, rules.calibration, found[ranked[0]], quality) if ranked else None,
    )


def speaker_llrs(
    found: Sequence[ScoredSpeaker], quality: ProbeQuality, calibration: Calibration | None
) -> NDArray[np.float64] | None:
    """Return the llr of each speaker; None where uncalibrated."""
    if calibration is None:
        return None
    width = len(calibration.encoder_ids)
    rows = [_scores(speaker, normalized=calibration.normalized is not None)[:width] for speaker in found]
    return calibration.llr(
        np.array(rows, dtype=np.float64).reshape(len(found), width),
        enrolled_speech_s=np.array([speaker.speech_s for speaker in found]),
        probe_speech_s=quality.speech_s,
        snr_db=noisier_db([speaker.snr_db for speaker in found], quality.snr_db),
        enrolled_telephone=np.array([_known(speaker.telephone) for speaker in found]),
        probe_telephone=_known(quality.telephone),
    )


def probe_slope(quality: ProbeQuality, calibration: Calibration | None) -> float | None:
    """Return how much a probe's llr rises with its score; None where uncalibrated."""
    if calibration is None:
        return None
    slopes = calibration.slope(probe_speech_s=quality.speech_s, probe_telephone=quality.telephone)
    return float(slopes[0])


def _scores(speaker: ScoredSpeaker, *, normalized: bool) -> tuple[float, ...]:
    if normalized:
        if speaker.normalized is None:
            raise InvalidRequest(
                "a calibration of normalized scores where scores are not: turn score normalization on, or choose "
                "another one with `voxdex calibrations use`"
            )
        return speaker.normalized
    return speaker.score, _known(speaker.second_score)


def noisier_db(enrolled: Sequence[float | None], probe: float | None) -> NDArray[np.float64]:
    """Return the signal-to-noise ratio of the noisier side, as far as it is known; NaN where it is of neither."""
    sides = np.array([_known(snr) for snr in enrolled], dtype=np.float64)
    return np.fmin(sides, _known(probe))


def _known(measured: float | None) -> float:
    """Return NaN for what nobody measured, as arrays have it."""
    return math.nan if measured is None else measured


def score_at_threshold(
    point: OperatingPoint, calibration: Calibration | None, speaker: ScoredSpeaker, quality: ProbeQuality
) -> float | None:
    """Return the cosine with this speaker that has the point's llr; None where there is no such cosine."""
    if calibration is None or point.llr_threshold is None or len(calibration.encoder_ids) != 1:
        return None
    if calibration.normalized is not None:
        return None
    snr_db = float(noisier_db([speaker.snr_db], quality.snr_db)[0])
    score = calibration.score_at(
        point.llr_threshold,
        enrolled_speech_s=speaker.speech_s,
        probe_speech_s=quality.speech_s,
        snr_db=None if math.isnan(snr_db) else snr_db,
        enrolled_telephone=_known(speaker.telephone),
        probe_telephone=_known(quality.telephone),
    )
    return score if -1.0 <= score <= 1.0 else None


def _ranked(found: Sequence[ScoredSpeaker], llrs: NDArray[np.float64] | None, *, by_llr: bool) -> list[int]:
    """Order speakers by what decides; ties go to the older one, so that an answer does not depend on row order."""
    decides = llrs.tolist() if by_llr and llrs is not None else [speaker.score for speaker in found]
    return sorted(range(len(found)), key=lambda place: (-decides[place], found[place].speaker_id))


def _candidate(
    rank: int,
    ranked: Sequence[int],
    found: Sequence[ScoredSpeaker],
    llrs: NDArray[np.float64] | None,
    posteriors: NDArray[np.float64] | None,
) -> Candidate:
    place = ranked[rank]
    speaker = found[place]
    after = ranked[rank + 1] if rank + 1 < len(ranked) else None
    return Candidate(
        rank=rank + 1,
        speaker_id=speaker.speaker_id,
        speaker=speaker.speaker,
        score=speaker.score,
        enrollments=speaker.enrollments,
        llr=float(llrs[place]) if llrs is not None else None,
        posterior=float(posteriors[place]) if posteriors is not None else None,
        margin=speaker.score - found[after].score if after is not None else None,
        llr_margin=float(llrs[place] - llrs[after]) if llrs is not None and after is not None else None,
        second_score=speaker.second_score,
    )
