"""Labeled recordings -> a calibration: heard as the product hears them, compared, fitted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from api.evaluation.cache import HeardCache
from api.evaluation.hearing import HeardRecording, ProductHearing
from api.evaluation.recordings import hear_files, require_files
from api.evaluation.remembering import RememberingEncoder
from api.evaluation.workbench import Progress
from indexer.errors import InvalidRequest
from indexer.settings import Settings
from indexer.types import without_precision
from search.calibration import Calibration
from search.calibration_fit import HeldOut, fit_calibration, likely_one_voice
from search.calibration_trials import LabeledVoices, ScoredTrials, all_trials, score_pairs, strangers
from search.normalization import Normalization, cohort_of
from search.trials import LabeledRecording, TrialList

if TYPE_CHECKING:  # Loads torch.
    from indexer.embedding.encoder import Encoder


@dataclass(frozen=True, slots=True)
class CalibrationWanted:
    """What a calibration is called, what its document says of the recordings, and of what scores it is.

    Attributes
    ----------
    cohort
        Most speakers of the recordings that scores are normalized by; None: scores are cosines.
    """

    name: str
    description: str
    today: str
    cohort: int | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A fitted calibration and what became of the recordings.

    Attributes
    ----------
    held_out
        How it does on speakers that a fit had not seen.
    refused
        Recordings that could not be used, counted by the code of the error.
    likely_one_voice
        Pairs of speakers that sound like one; thresholds of identification do without their trials.
    """

    calibration: Calibration
    held_out: HeldOut
    recordings: int
    refused: Mapping[str, int]
    likely_one_voice: Sequence[tuple[str, str]]


def calibrate(
    labeled: Sequence[LabeledRecording] | TrialList,
    root: Path,
    encoders: "Sequence[Encoder]",
    settings: Settings,
    wanted: CalibrationWanted,
    *,
    cache: HeardCache | None,
    progress: Progress,
) -> Calibrated:
    """Hear recordings and fit a calibration for one encoder, or for two that are fused.

    Parameters
    ----------
    labeled
        Recordings, each compared with every other; or the trials to fit to.
    root
        Folder that their paths are below.

    Raises
    ------
    NotFound
        If a recording is missing.
    InvalidRequest
        If two encoders are the same, or what can be used is too little; the message says how much there is.
    """
    if not 1 <= len(encoders) <= 2 or len({encoder.id for encoder in encoders}) != len(encoders):
        names = ", ".join(encoder.name for encoder in encoders)
        raise InvalidRequest(
            f"a calibration is of one encoder, or of two different ones that are fused; given: {names}"
        )
    recordings = labeled.recordings if isinstance(labeled, TrialList) else labeled
    files = require_files(root, [recording.path for recording in recordings])
    embedding = encoders if cache is None else [RememberingEncoder(encoder, cache) for encoder in encoders]
    with progress("recordings", len(files)) as advance:
        heard = hear_files(ProductHearing(embedding, settings), files, cache, advance)
    usable = np.array([all(encoder.id in one.vectors for encoder in encoders) for one in heard])
    with progress("fit", 1) as advance:
        voices = labeled_voices(
            [one for one, fine in zip(heard, usable, strict=True) if fine],
            [recording for recording, fine in zip(recordings, usable, strict=True) if fine],
            encoders,
            wanted.cohort,
        )
        trials, unknown = _trials(labeled, voices, usable)
        calibration, held_out = fit_calibration(
            trials,
            strangers=unknown,
            name=wanted.name,
            encoder_ids=[without_precision(encoder.id) for encoder in encoders],
            description=wanted.description,
            recordings=len(voices),
            today=wanted.today,
            normalized=Normalization(len(voices.cohorts[0])) if voices.cohorts else None,
        )
        doubles = likely_one_voice(calibration, trials, unknown or trials)
        advance()
    refused = Counter(one.refusal or "not-heard" for one, fine in zip(heard, usable, strict=True) if not fine)
    return Calibrated(calibration, held_out, len(voices), dict(refused), doubles)


def labeled_voices(
    heard: Sequence[HeardRecording],
    recordings: Sequence[LabeledRecording],
    encoders: "Sequence[Encoder]",
    cohort: int | None,
) -> LabeledVoices:
    """Join what was heard of recordings with who speaks in them.

    Parameters
    ----------
    cohort
        Most speakers that scores are normalized by; None: they stay cosines.

    Raises
    ------
    InvalidRequest
        If there are no recordings, or a cohort is wanted and not everybody's name is known.
    """
    if not heard:
        raise InvalidRequest("none of the recordings can be used: give recordings with speech in them")
    originals: dict[str, int] = {}
    if cohort is not None and not all(recording.speaker for recording in recordings):
        raise InvalidRequest(
            "the list does not say who speaks, and normalized scores need a cohort of known speakers: give a manifest "
            "with a column speaker, or leave --as-norm out"
        )
    vectors = tuple(np.stack([one.vectors[encoder.id] for one in heard]) for encoder in encoders)
    speakers = np.array([recording.speaker or recording.path for recording in recordings])
    speech_s = np.array([one.net_speech_s for one in heard])
    return LabeledVoices(
        vectors=vectors,
        speakers=speakers,
        sessions=np.array([recording.session for recording in recordings]),
        sets=np.array([recording.set for recording in recordings]),
        net_speech_s=speech_s,
        snr_db=np.array([np.nan if one.snr_db is None else one.snr_db for one in heard]),
        telephone=np.array([np.nan if one.telephone is None else one.telephone for one in heard]),
        originals=np.array([originals.setdefault(one.original or one.path, len(originals)) for one in recordings]),
        cohorts=tuple(cohort_of(own, speakers, speech_s, cohort) for own in vectors) if cohort is not None else None,
    )


def _trials(
    labeled: Sequence[LabeledRecording] | TrialList, voices: LabeledVoices, usable: NDArray[np.bool_]
) -> tuple[ScoredTrials, ScoredTrials | None]:
    """Return what to fit to, and probes with strangers where any two recordings may be compared."""
    if not isinstance(labeled, TrialList):
        return all_trials(voices), strangers(voices)
    kept = labeled.take(usable[labeled.enroll] & usable[labeled.probe])
    place = np.cumsum(usable) - 1
    return score_pairs(voices, place[kept.enroll], place[kept.probe]), None
