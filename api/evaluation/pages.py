"""Evaluations as pages: their tables, their plots, and what was measured in words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from api.evaluation import plots
from api.evaluation.diarization import Conditions, DiarizationFigures
from api.evaluation.html_report import Page, Plot, Table
from api.evaluation.identification import IdentificationFigures
from api.evaluation.systems import Floats, System
from api.evaluation.tables import diarization_tables, identification_tables, percent, verification_tables
from api.evaluation.verification import Slice, SystemFigures
from search.metrics import RankedTrials
from search.trials import TrialList

if TYPE_CHECKING:
    from api.calibrating import Calibrated


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
    first = [(f"{100 * one.slices[0].figures['eer'].value:.2f} %", f"EER, {one.system}") for one in figures]
    return Page("Verification", paragraphs, verification_tables(figures), drawn, first)


def calibration_page(made: "Calibrated") -> Page:
    """Return what a calibration makes of speakers that it was not fitted to."""
    calibration, held_out = made.calibration, made.held_out
    before = RankedTrials(held_out.scores, held_out.is_target)
    after = RankedTrials(held_out.llrs, held_out.is_target)
    data = calibration.data
    drawn = [
        Plot(
            "llrs",
            plots.histogram_plot(after, "llr"),
            "Llrs of speakers held out: above 0 the evidence speaks for one person, below for two.",
            "Histogram of llrs: trials of one speaker to the right of 0, those of two speakers to the left.",
        ),
        Plot(
            "calibration",
            plots.calibration_plot({calibration.name: after}),
            "What llrs are worth: on the diagonal they are neither too bold nor too timid.",
            "The llr that the trials bear out, over the llr that is given.",
        ),
        Plot(
            "det",
            plots.det_plot({"scores": before, "llrs": after}),
            "Misses over false alarms (DET), lower left is better. Speech and noise count in llrs and not in scores.",
            "DET curves of the bare scores and of the llrs.",
        ),
    ]
    tables = [
        Table(
            "fitted to",
            ["speakers", "recordings", "not used", "target trials", "nontarget trials", "date"],
            [
                [
                    data.speakers,
                    made.recordings,
                    sum(made.refused.values()),
                    f"{data.target_trials:,}",
                    f"{data.nontarget_trials:,}",
                    data.fitted_at,
                ]
            ],
        ),
        Table("weights", ["of", "weight"], [[name, f"{weight:.4f}"] for name, weight in calibration.weights.items()]),
    ]
    if made.likely_one_voice:
        tables.append(Table("sound like one voice: check their labels", ["speaker", "and"], made.likely_one_voice))
    paragraphs = [
        f"{calibration.name}: {data.description}; encoders {' + '.join(calibration.encoder_ids)}.",
        "All figures are of speakers held out: of either half of the speakers, under a fit to the other half.",
    ]
    figures = [
        (f"{calibration.cllr_after:.3f}", f"Cllr; at best {calibration.min_cllr:.3f}"),
        (f"{calibration.cllr_before:.3f}", "Cllr of the scores taken for llrs"),
        (f"{100 * after.eer():.2f} %", f"EER; of the scores {100 * before.eer():.2f} %"),
    ]
    return Page(f"Calibration {calibration.name}", paragraphs, tables, drawn, figures)


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
