"""Made-up voices whose scores are known, and calibrations of them."""

import numpy as np
from numpy.typing import NDArray

from indexer.types import EncoderId
from search.calibration import Calibration
from search.calibration_fit import fit_calibration
from search.calibration_trials import LabeledVoices, ScoredTrials, all_trials, strangers

ECAPA, CAMPLUS = EncoderId("aaaa-speechbrain"), EncoderId("bbbb-campplus")
TODAY = "2026-01-31"


def gaussian_trials(
    count: int = 4_000, *, columns: int = 1, speakers: int = 60, seed: int = 7, apart: float = 0.5
) -> ScoredTrials:
    """Trials of which half are targets; target scores are normal around `apart`, nontargets around 0, both of 0.15.

    The llr of a column alone is then apart / 0.15**2 * (score - apart / 2), whatever the quality.
    """
    rng = np.random.default_rng(seed)
    target = np.arange(count) % 2 == 0
    scores = np.clip(rng.normal(np.where(target, apart, 0.0)[:, None], 0.15, (count, columns)), -1, 1)
    probe = rng.integers(0, speakers, count)
    other = (probe + rng.integers(1, speakers, count)) % speakers
    names = np.array([f"s{number}" for number in range(speakers)])
    return ScoredTrials(
        scores=scores,
        is_target=target,
        enrolled_speakers=names[np.where(target, probe, other)],
        probe_speakers=names[probe],
        enrolled_sets=np.full(count, ""),
        probe_sets=np.full(count, ""),
        probes=np.arange(count) // 50,
        enrolled_speech_s=rng.uniform(2, 12, count),
        probe_speech_s=rng.uniform(1, 10, count),
        snr_db=rng.uniform(5, 40, count),
        enrolled_telephone=np.zeros(count),
        probe_telephone=np.zeros(count),
        weights=np.ones(count),
    )


def voices(speakers: int = 120, each: int = 3, *, encoders: int = 1, seed: int = 3) -> LabeledVoices:
    """Speakers in random directions of 32 dimensions; short recordings are noisier, as in life."""
    rng = np.random.default_rng(seed)
    net_speech_s = rng.uniform(1.0, 12.0, speakers * each)
    vectors = []
    for _ in range(encoders):
        centers = np.repeat(unit(rng.standard_normal((speakers, 32))), each, axis=0)
        noise = unit(rng.standard_normal((speakers * each, 32))) * (1.1 / net_speech_s[:, None] ** 0.25)
        vectors.append(unit(centers + noise).astype(np.float32))
    return LabeledVoices(
        vectors=tuple(vectors),
        speakers=np.repeat([f"s{number:03}" for number in range(speakers)], each),
        sessions=np.full(speakers * each, ""),
        sets=np.full(speakers * each, ""),
        net_speech_s=net_speech_s,
        snr_db=rng.uniform(5, 40, speakers * each),
        telephone=np.zeros(speakers * each),
        originals=np.arange(speakers * each),
    )


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1."""
    scaled: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def fitted(trials: ScoredTrials, *, name: str = "default", encoders: tuple[EncoderId, ...] = (ECAPA,)) -> Calibration:
    """Fit a calibration to trials."""
    return fit_calibration(
        trials, name=name, encoder_ids=encoders, description="made-up scores", recordings=10, today=TODAY
    )[0]


def fitted_to_voices(labeled: LabeledVoices, encoders: tuple[EncoderId, ...] = (ECAPA,)) -> Calibration:
    """Fit a calibration to voices, with what the best of many strangers scores."""
    return fit_calibration(
        all_trials(labeled),
        strangers=strangers(labeled),
        name="default",
        encoder_ids=encoders,
        description="made-up voices",
        recordings=len(labeled),
        today=TODAY,
    )[0]
