"""Verification on labeled trials: error rates and costs of each system, overall, by set and by how much is said."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from api.evaluation.systems import Floats, System
from indexer.errors import InvalidRequest
from search.bootstrap import Estimate, Resampling
from search.metrics import RankedTrials, detection_cost, equal_error_rate_of
from search.trials import TrialList

BANDS_S = (0.0, 1.0, 2.0, 4.0, 8.0, np.inf)
"""Edges of the bands of net speech."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the trials, as `set an4` or `speech 1 to 2 s`."""

    by: str
    name: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """What a system achieves on some trials.

    Attributes
    ----------
    targets, nontargets
        Trials that were scored.
    refused_targets, refused_nontargets
        Trials of which one side could not be used; figures are without them, but for `eer_with_refusals`, in which
        they are rejected.
    figures
        By name; None where the trials do not allow the figure.
    """

    by: str
    name: str
    speakers: int
    targets: int
    nontargets: int
    refused_targets: int
    refused_nontargets: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """A system and what it achieves on each slice; the first is overall."""

    system: str
    scoring: str
    calibration_id: str | None
    slices: tuple[SliceFigures, ...]


@dataclass(frozen=True, slots=True)
class ConditionedTrials:
    """Trials, and the same trials again with copies of the probes under each condition.

    Attributes
    ----------
    trials
        Of the recordings, and behind them their copies under each condition in turn.
    condition : (n,) array
        "" where the probe is as it was.
    """

    trials: TrialList
    condition: NDArray[np.str_]


def under_conditions(trials: TrialList, conditions: Sequence[str]) -> ConditionedTrials:
    """Repeat trials with copies of the probes; what is enrolled stays as it was."""
    count = len(trials.recordings)
    copies = [
        replace(recording, path=f"{recording.path} ({condition})")
        for condition in conditions
        for recording in trials.recordings
    ]
    times = 1 + len(conditions)
    shift = np.repeat(np.arange(times), len(trials)) * count
    return ConditionedTrials(
        TrialList(
            (*trials.recordings, *copies),
            np.tile(trials.enroll, times),
            np.tile(trials.probe, times) + shift,
            np.tile(trials.is_target, times),
        ),
        np.repeat(np.array(["", *conditions], dtype=np.str_), len(trials)),
    )


def slices_of(conditioned: ConditionedTrials, speech_s: Floats) -> list[Slice]:
    """Return overall, each set where there are several, each band of the shorter side's net speech, each condition.

    All but the last are of recordings as they are.
    """
    trials = conditioned.trials
    clean = conditioned.condition == ""
    slices = [Slice("overall", "all", clean)]
    sets = trials.sets
    names = list(dict.fromkeys(sets.tolist()))
    if len(names) > 1:
        slices += [Slice("set", name or "(none)", clean & (sets == name)) for name in names]
    shorter = np.minimum(speech_s[trials.enroll], speech_s[trials.probe])
    for low, high in itertools.pairwise(BANDS_S):
        name = f"{low:g} to {high:g} s" if np.isfinite(high) else f"{low:g} s and more"
        slices.append(Slice("net speech", name, clean & (shorter >= low) & (shorter < high)))
    conditions = [name for name in dict.fromkeys(conditioned.condition.tolist()) if name]
    slices += [Slice("condition", name, conditioned.condition == name) for name in conditions]
    if len(conditions) > 1:
        slices.append(Slice("condition", "all conditions", ~clean))
    return slices


def evaluate_verification(
    system: System,
    trials: TrialList,
    scores: Floats,
    slices: Sequence[Slice],
    resampling: Resampling,
) -> SystemFigures:
    """Measure a system on every slice that has target and nontarget trials.

    Raises
    ------
    InvalidRequest
        If all trials together are of one kind only.
    """
    first, second = (np.array(side) for side in trials.speakers)
    measured = []
    for one in slices:
        target = trials.is_target[one.rows]
        answered = np.isfinite(scores[one.rows])
        kinds = [int((target & answered).sum()), int((~target & answered).sum())]
        if not all(kinds):
            if one.by == "overall":
                raise InvalidRequest(
                    f"{system.name}: {kinds[0]} target and {kinds[1]} nontarget trials can be scored: error rates need "
                    "both kinds"
                )
            continue
        a, b = first[one.rows], second[one.rows]
        measured.append(
            SliceFigures(
                by=one.by,
                name=one.name,
                speakers=len({*a.tolist(), *b.tolist()}),
                targets=kinds[0],
                nontargets=kinds[1],
                refused_targets=int((target & ~answered).sum()),
                refused_nontargets=int((~target & ~answered).sum()),
                figures=_figures(system, scores[one.rows], target, answered, a, b, resampling),
            )
        )
    return SystemFigures(
        system.name, system.scoring, system.calibration.id if system.calibration else None, tuple(measured)
    )


def _figures(
    system: System,
    scores: Floats,
    target: NDArray[np.bool_],
    answered: NDArray[np.bool_],
    first: NDArray[np.str_],
    second: NDArray[np.str_],
    resampling: Resampling,
) -> dict[str, Estimate]:
    ranked = RankedTrials(scores[answered], target[answered])
    calibrated = system.calibration is not None

    def measure(weights: Floats | None) -> dict[str, float]:
        curve = ranked.det(weights)
        figures = {"eer": equal_error_rate_of(curve)}
        for name, p_target in (("0.01", 0.01), ("0.001", 0.001)):
            figures[f"min_dcf_{name}"] = float(detection_cost(curve.p_miss, curve.p_fa, p_target).min())
            if calibrated:
                figures[f"act_dcf_{name}"] = ranked.act_dcf(p_target, weights=weights)
        if calibrated:
            figures["cllr"] = ranked.cllr(weights)
        figures["min_cllr"] = ranked.min_cllr(weights)
        return figures

    sides = first[answered].tolist(), second[answered].tolist()
    figures = resampling.estimate(measure, resampling.trial_weights(*sides))
    if not answered.all():
        whole = RankedTrials(scores, target)
        drawn = resampling.trial_weights(first.tolist(), second.tolist())
        figures |= resampling.estimate(lambda weights: {"eer_with_refusals": whole.eer(weights)}, drawn)
    return figures


def relative_change(
    system: SystemFigures, baseline: SystemFigures, figure: str = "eer"
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield each slice and how much a figure is above the baseline's; -0.2 is a fifth less."""
    known = {(one.by, one.name): one.figures[figure].value for one in baseline.slices}
    for one in system.slices:
        before = known.get((one.by, one.name))
        if before:
            yield (one.by, one.name), one.figures[figure].value / before - 1.0
