"""Plots of evaluations as PNG; matplotlib is loaded when the first is drawn, and no window is ever opened."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Literal, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import NDArray

from api.evaluation.systems import Floats
from search.metrics import RankedTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing = ParamSpec("Drawing")


@dataclass(frozen=True, slots=True)
class _Theme:
    """Colors of a plot: paper, ink, lines, and of what is drawn, told apart by people who see few colors."""

    paper: str
    ink: str
    soft: str
    grid: str
    drawn: tuple[str, ...]


_LIGHT = _Theme(
    "#ffffff", "#1c1f1d", "#989a93", "#e6e6e0", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
)
"""Okabe and Ito, 2008."""

_DARK = _Theme(
    "#191d1c", "#e8ebe7", "#7d8682", "#2c3230", ("#56b4e9", "#e69f00", "#2fc89a", "#e59ac4", "#7aa6ff", "#f0e442")
)


class Drawn(NamedTuple):
    """A plot as PNG, for pages of either theme."""

    light: bytes
    dark: bytes


def _in_both_themes(draw: Callable[Concatenate[_Theme, Drawing], bytes]) -> Callable[Drawing, Drawn]:
    @wraps(draw)
    def twice(*arguments: Drawing.args, **named: Drawing.kwargs) -> Drawn:
        return Drawn(draw(_LIGHT, *arguments, **named), draw(_DARK, *arguments, **named))

    return twice


_STYLES = ("-", "--", "-.", ":")
_MOST_POINTS = 2000

_TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


@_in_both_themes
def det_plot(theme: _Theme, systems: Mapping[str, RankedTrials]) -> bytes:
    """Draw p_miss over p_fa, both on normal deviates (Martin et al., "The DET curve", 1997)."""
    from scipy.special import ndtri

    figure, axes = _figure(theme)
    ticks = ndtri(np.array(_TICKS))
    for number, (name, ranked) in enumerate(systems.items()):
        curve = ranked.det()
        rates = np.clip(np.stack([curve.p_fa, curve.p_miss]), 1e-5, 1 - 1e-5)
        axes.plot(*ndtri(_thinned(rates)), label=name, **_line(theme, number))
    axes.plot(ticks[[0, -1]], ticks[[0, -1]], color=theme.soft, linewidth=1.0)
    for set_ticks, set_labels in (
        (axes.set_xticks, axes.set_xticklabels),
        (axes.set_yticks, axes.set_yticklabels),
    ):
        set_ticks(ticks)
        set_labels([f"{100 * tick:g}" for tick in _TICKS])
    axes.set_xlim(ticks[0], ticks[-1])
    axes.set_ylim(ticks[0], ticks[-1])
    return _finished(theme, figure, axes, "false alarms, % of nontarget trials", "misses, % of target trials")


@_in_both_themes
def histogram_plot(theme: _Theme, ranked: RankedTrials, unit: str) -> bytes:
    """Draw how the scores of target and of nontarget trials are distributed."""
    figure, axes = _figure(theme)
    low, high = np.quantile(ranked.scores, [0.0005, 0.9995])
    bins = np.linspace(low, high, 60)
    for number, (name, kind) in enumerate((("same speaker", True), ("two speakers", False))):
        scores = ranked.scores[ranked.is_target == kind]
        axes.hist(
            scores, bins=bins.tolist(), weights=np.full(len(scores), 100 / len(scores)), alpha=0.6, label=name,
            color=theme.drawn[number],
        )  # fmt: skip
    return _finished(theme, figure, axes, unit, "% of trials of each kind", legend="upper center")


@_in_both_themes
def calibration_plot(theme: _Theme, systems: Mapping[str, RankedTrials]) -> bytes:
    """Draw the llr that the data bear out (pool adjacent violators) over the llr that is given."""
    figure, axes = _figure(theme)
    limit = 12.0
    axes.plot([-limit, limit], [-limit, limit], color=theme.soft, linewidth=1.0, label="perfectly calibrated")
    for number, (name, ranked) in enumerate(systems.items()):
        given, borne_out = ranked.optimal_llrs()
        # Where one kind of trials is alone, the data bear out any llr: drawn at the edge.
        points = np.clip(np.stack([given, borne_out]), -limit, limit)
        axes.plot(*_thinned(points), label=name, **_line(theme, number))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    return _finished(theme, figure, axes, "llr given", "llr that the trials bear out", legend="upper left")


@_in_both_themes
def open_set_plot(theme: _Theme, curves: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Draw FNIR over FPIR, the latter on a logarithm."""
    figure, axes = _figure(theme)
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(*(100 * np.array(curve).T), label=name, **_line(theme, number))
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    return _finished(theme, figure, axes, "FPIR, % of strangers named", "FNIR, % of enrolled people not named")


@_in_both_themes
def bar_plot(theme: _Theme, labels: Sequence[str], parts: Mapping[str, Sequence[float]]) -> bytes:
    """Draw stacked bars, as of the parts of a diarization error rate, in percent."""
    figure, axes = _figure(theme)
    bottom: NDArray[np.float64] = np.zeros(len(labels))
    for number, (name, shares) in enumerate(parts.items()):
        heights = 100 * np.asarray(shares)
        axes.bar(list(labels), heights, bottom=bottom, label=name, color=theme.drawn[number], width=0.5)
        bottom = bottom + heights
    return _finished(theme, figure, axes, "", "% of the true speech")


def _figure(theme: _Theme) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.2), dpi=160, layout="constrained", facecolor=theme.paper)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.paper)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.grid)
    axes.tick_params(colors=theme.ink, color=theme.grid)
    return figure, axes


def _line(theme: _Theme, number: int) -> dict[str, Any]:
    color, style = theme.drawn[number % len(theme.drawn)], _STYLES[number % len(_STYLES)]
    return {"color": color, "linestyle": style, "linewidth": 2.0}


def _thinned(points: Floats) -> Floats:
    if points.shape[1] <= _MOST_POINTS:
        return points
    return points[:, np.linspace(0, points.shape[1] - 1, _MOST_POINTS).astype(int)]


def _finished(
    theme: _Theme,
    figure: "Figure",
    axes: "Axes",
    x: str,
    y: str,
    *,
    legend: Literal["upper right", "upper left", "upper center"] = "upper right",
) -> bytes:
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)
    axes.grid(visible=True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    # A place of its own choosing is searched for among all points, which takes seconds where there are many.
    axes.legend(fontsize="small", frameon=False, labelcolor=theme.ink, loc=legend)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
