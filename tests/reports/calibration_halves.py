"""How good llrs of unseen speakers are: `python -m tests.reports.calibration_halves FOLDER --copies COPIES`.

The folders are those of tests.reports.calibrations. For each seed, calibrations are fitted to one half of the speakers
with their copies and measured on the other half, and the other way round: every pair of recordings of a set, as they
are and with a copy on one side. Beside Cllr over min Cllr (PAV on the very same trials) stands what llrs that are
calibrated exactly would have: as many trials with the same llrs, of which it is drawn by these llrs which are targets.
PAV takes chance for knowledge where targets are few, so that this is above 1, and nobody can be expected to be below.
Pooled are the llrs of both halves, each by the calibration that was fitted to the other: every speaker is unseen, and
there are twice as many targets.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.calibrating import labeled_voices
from api.cli.progress import work_progress
from api.evaluation.cache import HeardCache
from api.evaluation.hearing import ProductHearing
from api.evaluation.recordings import hear_files
from api.evaluation.remembering import RememberingEncoder
from indexer.embedding.registry import make_registry
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import load_settings
from indexer.types import EncoderId
from search.calibration import Calibration
from search.calibration_fit import fit_calibration
from search.calibration_trials import LabeledVoices, ScoredTrials, all_trials, score_pairs
from search.metrics import act_dcf, cllr, min_cllr, min_dcf
from tests.reports.calibrations import COPIED, ENCODERS, labeled

EXACT_DRAWS = 10
P_TARGET = 0.01

Flags = NDArray[np.bool_]


def measured(calibration: Calibration, trials: ScoredTrials) -> NDArray[np.float64]:
    """Return the llrs of trials."""
    return calibration.llr(
        trials.scores,
        enrolled_speech_s=trials.enrolled_speech_s,
        probe_speech_s=trials.probe_speech_s,
        snr_db=trials.snr_db,
        enrolled_telephone=trials.enrolled_telephone,
        probe_telephone=trials.probe_telephone,
    )


def exact_ratio(llrs: NDArray[np.float64], is_target: Flags, rng: np.random.Generator) -> float:
    """Return Cllr over min Cllr of as many trials, drawn so that these llrs are calibrated exactly."""
    counts = is_target.sum(), (~is_target).sum()
    both = np.where(is_target, 0.5 / counts[0], 0.5 / counts[1])
    posterior = 1.0 / (1.0 + np.exp(-llrs))
    ratios = []
    for _ in range(EXACT_DRAWS):
        drawn = [
            rng.choice(llrs, count, p=share / share.sum())
            for count, share in zip(counts, (both * posterior, both * (1.0 - posterior)), strict=True)
        ]
        labels = np.repeat([True, False], counts)
        ratios.append(cllr(np.concatenate(drawn), labels) / min_cllr(np.concatenate(drawn), labels))
    return float(np.mean(ratios))


def chosen(voices: LabeledVoices, rows: Flags, columns: Sequence[int]) -> LabeledVoices:
    """Return some of the voices under some of the encoders."""
    rest = {one.name: getattr(voices, one.name) for one in fields(voices) if one.name not in ("vectors", "cohorts")}
    return LabeledVoices(
        vectors=tuple(voices.vectors[column][rows] for column in columns),
        **{name: values[rows] for name, values in rest.items()},
    )


def conditions(
    voices: LabeledVoices, kinds: NDArray[np.str_], columns: Sequence[int]
) -> Iterator[tuple[str, ScoredTrials]]:
    """Yield the trials of recordings as they are, and of these with each kind of copy."""
    plain = np.flatnonzero(kinds == "")
    for kind in np.unique(kinds):
        others = np.flatnonzero(kinds == kind)
        first, second = (one.ravel() for one in np.meshgrid(plain, others, indexing="ij"))
        alike = (voices.sets[first] == voices.sets[second]) & (voices.originals[first] != voices.originals[second])
        alike &= (first < second) | (kind != "")
        pairs = chosen(voices, np.ones(len(voices), dtype=bool), columns)
        yield str(kind) or "as they are", score_pairs(pairs, first[alike], second[alike])


def main() -> None:
    """Print a line for each system and condition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without", default="LS4267", help="speakers whose labels are wrong")
    given = parser.parse_args()
    settings = load_settings()
    in_use = EncodersInUse(make_registry(settings), settings.embedding)
    recordings = labeled(given.folder.absolute(), given.copies.absolute(), COPIED, settings)
    recordings = [one for one in recordings if one.speaker not in given.without.split(",")]
    with closing(HeardCache(settings.cache / "evaluation")) as cache:
        encoders = [RememberingEncoder(in_use.load(name)[0], cache) for name in ENCODERS]
        with work_progress("recordings", len(recordings)) as advance:
            files = [Path(one.path) for one in recordings]
            heard = hear_files(ProductHearing(encoders, settings), files, cache, advance)
    usable = [place for place, one in enumerate(heard) if len(one.vectors) == len(encoders)]
    voices = labeled_voices([heard[place] for place in usable], [recordings[place] for place in usable], encoders, None)
    copies = given.copies.absolute()
    paths = [Path(recordings[place].path) for place in usable]
    kinds = np.array([path.relative_to(copies).parts[0] if path.is_relative_to(copies) else "" for path in paths])
    rng = np.random.default_rng(20260101)
    for name, columns in ((ENCODERS[0], (0,)), (ENCODERS[1], (1,)), ("fused", (0, 1))):
        halves: dict[str, list[list[float]]] = {}
        pooled: dict[str, list[list[float]]] = {}
        for seed in range(given.seeds):
            people = np.random.default_rng(seed).permutation(np.unique(voices.speakers))
            half = np.isin(voices.speakers, people[: len(people) // 2])
            parts: dict[str, list[tuple[NDArray[np.float64], Flags]]] = {}
            for fitted_to in (half, ~half):
                calibration, _ = fit_calibration(
                    all_trials(chosen(voices, fitted_to, columns)),
                    name="half",
                    encoder_ids=[EncoderId(ENCODERS[column]) for column in columns],
                    description="half of the speakers",
                    recordings=int(fitted_to.sum()),
                    today="2026-01-01",
                )
                rest = chosen(voices, ~fitted_to, (0, 1))
                for condition, trials in conditions(rest, kinds[~fitted_to], columns):
                    parts.setdefault(condition, []).append((measured(calibration, trials), trials.is_target))
            for condition, both in parts.items():
                halves.setdefault(condition, []).extend(_figures(llrs, targets, rng) for llrs, targets in both)
                llrs, targets = (np.concatenate(one) for one in zip(*both, strict=True))
                pooled.setdefault(condition, []).append(_figures(llrs, targets, rng))
        for condition in halves:
            for how, found in (("halves", halves), ("pooled", pooled)):
                sys.stdout.write(f"{name}, {condition}, {how}: {_line(np.array(found[condition]))}\n")
            sys.stdout.flush()


def _figures(llrs: NDArray[np.float64], is_target: Flags, rng: np.random.Generator) -> list[float]:
    return [
        cllr(llrs, is_target),
        min_cllr(llrs, is_target),
        exact_ratio(llrs, is_target, rng),
        act_dcf(llrs, is_target, P_TARGET),
        min_dcf(llrs, is_target, P_TARGET),
        float(is_target.sum()),
    ]


def _line(rows: NDArray[np.float64]) -> str:
    ratios = rows[:, 0] / rows[:, 1]
    mean = rows.mean(axis=0)
    return (
        f"Cllr / min Cllr {mean[0]:.3f} / {mean[1]:.3f}, ratio {ratios.mean():.3f} ({ratios.min():.3f} to "
        f"{ratios.max():.3f}), exact llrs {mean[2]:.3f}; actDCF {mean[3]:.3f}, minDCF {mean[4]:.3f}; "
        f"{mean[5]:.0f} targets"
    )


if __name__ == "__main__":
    main()
