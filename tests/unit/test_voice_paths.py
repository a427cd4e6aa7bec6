"""The best path through hours of frames is found in pieces, and is that of all of them at once."""

import numpy as np
import pytest

from indexer.audio.regions import Region
from search.resegmentation import Coverage, FrameGrid, best_path
from search.voice_groups import mean_directions

FRAMES = 40_000
"""More than are held at once, twice over."""


def plain_path(scores: np.ndarray, costs: np.ndarray) -> list[int]:
    """Viterbi as it is written down, every frame's best predecessor kept."""
    total = np.zeros(scores.shape[1])
    came_from = []
    for own, cost in zip(scores, costs, strict=True):
        best = int(total.argmax())
        stays = total >= total[best] - cost
        came_from.append(np.where(stays, np.arange(len(total)), best))
        total = np.where(stays, total, total[best] - cost) + own
    path = [int(total.argmax())]
    for before in reversed(came_from[1:]):
        path.append(int(before[path[-1]]))
    return path[::-1]


@pytest.mark.parametrize("voices", [2, 9])
def test_a_path_over_many_frames_is_that_of_one_piece(voices: int) -> None:
    rng = np.random.default_rng(voices)
    seconds = FRAMES / 10
    windows = [Region(start, start + 1.5) for start in np.arange(0.0, seconds - 1.5, 0.5).tolist()]
    grid = FrameGrid.over([Region(0.0, seconds / 2), Region(seconds / 2, seconds)], 0.1)
    means = np.eye(voices, 16)
    speaking = np.repeat(rng.integers(voices, size=len(windows) // 5 + 1), 5)[: len(windows)]
    vectors = (means[speaking] + rng.normal(0, 0.4, (len(windows), 16))).astype(np.float32)
    coverage = Coverage(windows, grid)
    assert len(grid) == FRAMES
    found = best_path(vectors, means, coverage, grid, 0.25)
    costs = 0.25 * (1.0 + 2.0 * np.exp(-grid.pause_s / 0.5)) / 3.0
    assert found.tolist() == plain_path(coverage.spread(vectors, means, 0, FRAMES), costs)
    assert set(found.tolist()) == set(range(voices))


def test_directions_of_many_vectors_are_added_up_in_pieces_and_leave_out_what_has_no_label() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(9_000, 8)).astype(np.float32)
    weights, labels = rng.uniform(0.5, 1.5, 9_000), rng.integers(-1, 4, 9_000)
    expected = np.array([(vectors * weights[:, None])[labels == label].sum(axis=0) for label in range(4)])
    found = mean_directions(vectors, weights, labels, 5)
    np.testing.assert_allclose(found[:4], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-9)
    assert not found[4].any()
