"""Figures as tables for people, the same on the terminal and on a report's page."""

from collections.abc import Sequence

from api.evaluation.diarization import DiarizationFigures
from api.evaluation.html_report import Table
from api.evaluation.identification import FPIRS, IdentificationFigures
from api.evaluation.verification import SliceFigures, SystemFigures, relative_change
from search.bootstrap import Estimate

_COSTS = {
    "min_dcf_0.01": "minDCF .01",
    "act_dcf_0.01": "actDCF .01",
    "min_dcf_0.001": "minDCF .001",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
}


def verification_tables(systems: Sequence[SystemFigures]) -> list[Table]:
    """Return the figures of each slice, one system under the other, the first system's slices leading."""
    baseline = systems[0] if systems[0].system.startswith("baseline") else None
    changes = {
        system.system: dict(relative_change(system, baseline))
        for system in systems
        if baseline is not None and system is not baseline
    }
    rows: list[list[object]] = []
    for first in systems[-1].slices:
        named = _slice_name(first)
        for system in systems:
            one = next((one for one in system.slices if (one.by, one.name) == (first.by, first.name)), None)
            if one is None:
                continue
            change = changes.get(system.system, {}).get((one.by, one.name))
            rows.append(
                [
                    named,
                    system.system,
                    f"{one.targets}/{one.nontargets}",
                    one.refused_targets + one.refused_nontargets,
                    percent(one.figures["eer"]),
                    "" if change is None else f"{100 * change:+.0f}",
                    percent(one.figures.get("eer_with_refusals")),
                    *(decimal(one.figures.get(name)) for name in _COSTS),
                ]
            )
            named = ""
    columns = ["trials", "system", "tar/non", "refused", "EER %", "by %", "EER % (refused as misses)", *_COSTS.values()]
    return [Table("verification (intervals: 95 %, by speaker)", columns, rows)]


def identification_tables(systems: Sequence[IdentificationFigures]) -> list[Table]:
    """Return misses by false-positive rate, what became of probes, and misses by net speech."""
    rates = [f"{100 * fpir:g} %" for fpir in FPIRS]
    names = ["top_1", "top_5", *(f"fnir_at_fpir_{fpir:g}" for fpir in FPIRS), *(f"asked_fpir_{f:g}" for f in FPIRS)]
    condition = any(one.condition for one in systems)

    def head(one: IdentificationFigures) -> list[object]:
        return [one.gallery_size, *([one.condition or "as they are"] if condition else []), one.system]

    first = ["enrolled", *(["condition"] if condition else []), "system"]
    return [
        Table(
            "identification (intervals: 95 %, by speaker; FPIR as measured on these strangers, and as it comes of "
            "asking for it)",
            [
                *first,
                "probes",
                "strangers",
                "top 1 %",
                "top 5 %",
                *(f"FNIR % at FPIR {rate}" for rate in rates),
                *(f"FPIR % asked {rate}" for rate in rates),
            ],
            [
                [*head(one), one.mated, one.unknown, *(percent(one.figures.get(name)) for name in names)]
                for one in systems
            ],
        ),
        Table(
            "decisions at FPIR 1 %, asked for where calibrated",
            [
                *first,
                "right",
                "wrong name",
                "unknown",
                "not enough speech",
                "strangers: named",
                "unknown",
                "not enough speech",
            ],
            [[*head(one), *one.decisions.values()] for one in systems],
        ),
        Table(
            "misses by the probe's net speech, at the FPIR of 1 % of all",
            ["enrolled", "system", "net speech", "probes", "FNIR %"],
            [
                [one.gallery_size, one.system, band, count, f"{100 * fnir:.1f}"]
                for one in systems
                if not one.condition
                for band, (fnir, count) in one.by_speech.items()
            ],
        ),
    ]


def diarization_tables(systems: Sequence[DiarizationFigures]) -> list[Table]:
    """Return the error rate with its parts, and how many voices were found of how many speakers."""
    shown = ("der", "miss", "false_alarm", "confusion", "count_right")
    return [
        Table(
            "diarization (intervals: 95 %, by recording)",
            ["encoder", "DER %", "miss %", "false alarm %", "confusion %", "number of voices right %"],
            [[one.encoder, *(percent(one.figures[name]) for name in shown)] for one in systems],
        ),
        Table(
            "voices found",
            ["encoder", "speakers", "voices", "recordings"],
            [[one.encoder, *pair.split(">"), count] for one in systems for pair, count in one.counts.items()],
        ),
    ]


def percent(estimate: Estimate | None) -> str:
    """Write a share in percent, with its interval."""
    if estimate is None:
        return ""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.2f}"
    return f"{100 * estimate.value:.2f} ({100 * estimate.low:.2f}-{100 * estimate.high:.2f})"


def decimal(estimate: Estimate | None) -> str:
    """Write a cost."""
    return "" if estimate is None else f"{estimate.value:.3f}"


def _slice_name(one: SliceFigures) -> str:
    return f"net speech {one.name}" if one.by == "net speech" else one.name
