"""Evaluations as pages: their tables, their plots, and what was measured in words."""

from collections.abc import Mapping, Sequence

import numpy as np

from api.evaluation import plots
from api.evaluation.diarization import Conditions, DiarizationFigures
from api.evaluation.html_report import Page, Plot
from api.evaluation.identification import IdentificationFigures
from api.evaluation.systems import Floats, System
from api.evaluation.tables import diarization_tables, identification_tables, percent, verification_tables
from api.evaluation.verification import Slice, SystemFigures
from search.metrics import RankedTrials
from search.trials import TrialList


def verification_page(
    figures: Sequence[SystemFigures],
    scored: Sequence[tuple[System, Floats]],
    trials: TrialList,
    overall: Slice,
) -> Page:
    """Return DET curves, histograms and calibration of the recordings as they are."""
    ranked: dict[str, RankedTrials] = {}
    for system, scores in scored:
        answered = overall.rows & np.isfinite(scores)
        ranked[system.name] = RankedTrials(scores[answered], trials.is_target[answered])
    rates = ", ".join(f"{one.system} {percent(one.slices[0].figures['eer'])} %" for one in figures)
    drawn = [
        Plot(
            "det",
            plots.det_plot(ranked),
            "Misses over false alarms (DET), lower left is better.",
            f"DET curves; where misses equal false alarms: {rates}.",
        )
    ]
    for number, (system, _) in enumerate(scored):
        drawn.append(
            Plot(
                f"scores-{number + 1}",
                plots.histogram_plot(ranked[system.name], system.scoring),
                f"Scores of {system.name}.",
                f"Histogram of the scores of {system.name}: trials of one speaker to the right of those of two.",
            )
        )
    calibrated = {system.name: ranked[system.name] for system, _ in scored if system.calibration is not None}
    if calibrated:
        drawn.append(
            Plot(
                "calibration",
                plots.calibration_plot(calibrated),
                "What llrs are worth: on the diagonal they are neither too bold nor too timid.",
                "The llr that the trials bear out, over the llr that is given, of each calibrated system.",
            )
        )
    paragraphs = [f"{one.system}: {one.scoring}." for one in figures]
    return Page("Verification", paragraphs, verification_tables(figures), drawn)


def identification_page(figures: Sequence[IdentificationFigures]) -> Page:
    """Return misses over false positives, a plot for each gallery size, of the recordings as they are."""
    drawn = []
    for size in dict.fromkeys(one.gallery_size for one in figures):
        curves = {one.system: one.curve for one in figures if one.gallery_size == size and not one.condition}
        misses = ", ".join(
            f"{one.system} {percent(one.figures['fnir_at_fpir_0.01'])} %"
            for one in figures
            if one.gallery_size == size and not one.condition
        )
        drawn.append(
            Plot(
                f"open-set-{size}",
                plots.open_set_plot(curves),
                f"Misses over strangers named, {size} enrolled.",
                f"FNIR over FPIR with {size} enrolled; at FPIR 1 %: {misses}.",
            )
        )
    scorings = {one.system: one.scoring for one in figures}
    return Page("Identification", _scorings(scorings), identification_tables(figures), drawn)


def diarization_page(figures: Sequence[DiarizationFigures], recordings: int) -> Page:
    """Return the parts of the error rate."""
    shown = ("miss", "false_alarm", "confusion")
    parts = {name.replace("_", " "): [one.figures[name].value for one in figures] for name in shown}
    rates = ", ".join(f"{one.encoder} {percent(one.figures['der'])} %" for one in figures)
    plot = Plot(
        "der",
        plots.bar_plot([one.encoder for one in figures], parts),
        "Diarization error rate and its parts.",
        f"Stacked bars of miss, false alarm and confusion; together: {rates}.",
    )
    return Page("Diarization", [conditions_text(figures[0], recordings)], diarization_tables(figures), [plot])


def conditions_text(figures: DiarizationFigures, recordings: int) -> str:
    """Say what was given beforehand, and what was scored."""
    given: Conditions = figures.conditions
    return (
        f"{recordings} recordings, {figures.speech_s:.0f} s of speech scored; speech "
        f"{'given' if given.given_speech else 'found'}, number of speakers "
        f"{'given' if given.known_speakers else 'found'}; collar {given.collar_s:g} s on either side, overlap "
        f"{'left out' if given.skip_overlap else 'scored'}."
    )


def _scorings(scorings: Mapping[str, str]) -> list[str]:
    return [f"{system}: {scoring}." for system, scoring in scorings.items()]
