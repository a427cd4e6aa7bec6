"""Scores drawn as bars."""

import pytest

from api.cli.score_bars import CELLS, score_bar


@pytest.mark.parametrize(
    ("score", "threshold", "drawn"),
    [
        (1.0, None, "█" * CELLS),
        (0.5, None, "█" * 10 + "·" * 10),
        (0.525, None, "█" * 10 + "▌" + "·" * 9),
        (0.0, None, "·" * CELLS),
        (-0.3, 0.5, "·" * 10 + "┃" + "·" * 9),
        (0.25, 0.5, "█" * 5 + "·" * 5 + "┃" + "·" * 9),
        (0.75, 0.5, "█" * 10 + "┃" + "█" * 4 + "·" * 5),
        (1.0, 1.0, "█" * (CELLS - 1) + "┃"),
        (0.5, 1.5, "█" * 10 + "·" * 10),
    ],
)
def test_a_bar_reaches_as_far_as_the_score(score: float, threshold: float | None, drawn: str) -> None:
    assert score_bar(score, threshold).plain == drawn


def test_the_color_tells_the_band() -> None:
    bands = [score_bar(score, 0.6, 0.4).spans[0].style for score in (0.7, 0.5, 0.3)]
    assert bands == ["green", "yellow", "bright_black"]
