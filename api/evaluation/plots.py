"""Plots of evaluations as PNG; matplotlib is loaded when the first is drawn, and no window is ever opened."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from api.evaluation.systems import Floats
from search.metrics import RankedTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Told apart by people who see few colors (Okabe and Ito, 2008)."""

_STYLES = ("-", "--", "-.", ":")
_MOST_POINTS = 2000

_TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def det_plot(systems: Mapping[str, RankedTrials]) -> bytes:
    """Draw p_miss over p_fa, both on normal deviates (Martin et al., "The DET curve", 1997)."""
    from scipy.special import ndtri

    figure, axes = _figure()
    ticks = ndtri(np.array(_TICKS))
    for number, (name, ranked) in enumerate(systems.items()):
        curve = ranked.det()
        rates = np.clip(np.stack([curve.p_fa, curve.p_miss]), 1e-5, 1 - 1e-5)
        axes.plot(*ndtri(_thinned(rates)), label=name, **_line(number))
    axes.plot(ticks[[0, -1]], ticks[[0, -1]], color="#999999", linewidth=0.8)
    for set_ticks, set_labels in (
        (axes.set_xticks, axes.set_xticklabels),
        (axes.set_yticks, axes.set_yticklabels),
    ):
        set_ticks(ticks)
        set_labels([f"{100 * tick:g}" for tick in _TICKS])
    axes.set_xlim(ticks[0], ticks[-1])
    axes.set_ylim(ticks[0], ticks[-1])
    return _finished(figure, axes, "false alarms, % of nontarget trials", "misses, % of target trials")


def histogram_plot(ranked: RankedTrials, unit: str) -> bytes:
    """Draw how the scores of target and of nontarget trials are distributed."""
    figure, axes = _figure()
    low, high = np.quantile(ranked.scores, [0.0005, 0.9995])
    bins = np.linspace(low, high, 60)
    for number, (name, kind) in enumerate((("same speaker", True), ("two speakers", False))):
        scores = ranked.scores[ranked.is_target == kind]
        axes.hist(
            scores, bins=bins.tolist(), weights=np.full(len(scores), 100 / len(scores)), alpha=0.6, label=name,
            color=_COLORS[number],
        )  # fmt: skip
    return _finished(figure, axes, unit, "% of trials of each kind")


def calibration_plot(systems: Mapping[str, RankedTrials]) -> bytes:
    """Draw the llr that the data bear out (pool adjacent violators) over the llr that is given."""
    figure, axes = _figure()
    limit = 12.0
    axes.plot([-limit, limit], [-limit, limit], color="#999999", linewidth=0.8, label="perfectly calibrated")
    for number, (name, ranked) in enumerate(systems.items()):
        given, borne_out = ranked.optimal_llrs()
        # Where one kind of trials is alone, the data bear out any llr: drawn at the edge.
        points = np.clip(np.stack([given, borne_out]), -limit, limit)
        axes.plot(*_thinned(points), label=name, **_line(number))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    return _finished(figure, axes, "llr given", "llr that the trials bear out")


def open_set_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Draw FNIR over FPIR, the latter on a logarithm."""
    figure, axes = _figure()
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(*(100 * np.array(curve).T), label=name, **_line(number))
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    return _finished(figure, axes, "FPIR, % of strangers named", "FNIR, % of enrolled people not named")


def bar_plot(labels: Sequence[str], parts: Mapping[str, Sequence[float]]) -> bytes:
    """Draw stacked bars, as of the parts of a diarization error rate, in percent."""
    figure, axes = _figure()
    bottom: NDArray[np.float64] = np.zeros(len(labels))
    for number, (name, shares) in enumerate(parts.items()):
        heights = 100 * np.asarray(shares)
        axes.bar(list(labels), heights, bottom=bottom, label=name, color=_COLORS[number], width=0.5)
        bottom = bottom + heights
    return _finished(figure, axes, "", "% of the true speech")


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _line(number: int) -> dict[str, Any]:
    color, style = _COLORS[number % len(_COLORS)], _STYLES[number % len(_STYLES)]
    return {"color": color, "linestyle": style, "linewidth": 1.6}


def _thinned(points: Floats) -> Floats:
    if points.shape[1] <= _MOST_POINTS:
        return points
    return points[:, np.linspace(0, points.shape[1] - 1, _MOST_POINTS).astype(int)]


def _finished(figure: "Figure", axes: "Axes", x: str, y: str) -> bytes:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
