"""Scores as bars: how far one reaches, and where the threshold is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Takes a tenth of a second, which `--help` need not pay.
    from rich.text import Text

CELLS = 20
"""Width of a bar, from a score of 0 to one of 1."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_REST, _EDGE = "·", "┃"


def score_bar(score: float, threshold: float | None, possible: float | None = None, *, width: int = CELLS) -> "Text":
    """Draw a score from 0 to 1, with a line where it would be accepted.

    Parameters
    ----------
    score
        A cosine; below 0 there is no bar.
    threshold
        The cosine from which on a voice is identified; None where the score alone does not decide.
    possible
        The cosine from which on it is possible.
    width
        Cells of the bar.
    """
    from rich.text import Text

    eighths = round(min(max(score, 0.0), 1.0) * width * 8)
    whole, part = divmod(eighths, 8)
    cells = [*"█" * whole, *([_EIGHTHS[part]] if part else [])]
    style = _style(score, threshold, possible)
    styles = [style] * len(cells) + ["dim"] * (width - len(cells))
    cells += [_REST] * (width - len(cells))
    if threshold is not None and 0 <= threshold <= 1:
        edge = min(int(threshold * width), width - 1)
        cells[edge], styles[edge] = _EDGE, "bold"
    bar = Text()
    for cell, how in zip(cells, styles, strict=True):
        bar.append(cell, how)
    return bar


def _style(score: float, threshold: float | None, possible: float | None) -> str:
    if threshold is None:
        return "cyan"
    if score >= threshold:
        return "green"
    return "yellow" if possible is not None and score >= possible else "bright_black"
