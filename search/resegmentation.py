"""Scores of windows -> one voice for each tenth of a second: the fine grid, and the best path through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors

if TYPE_CHECKING:
    from indexer.audio.regions import Region
    from indexer.listening import VoiceTurn

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
"""Numbers of voices, of windows or of frames."""

_REACH_S, _STEP_S, _FINE_S, _TOUCHING_S = 0.6, 0.1, 0.05, 1e-3
"""A change is moved so far at most, in steps of the third, and no nearer to another than the second."""

_AROUND = 6
"""Turns on either side of a change that a window over it may hear too."""

_DOMINANCE = 1.5
"""Exponent of a voice's share of a window: whoever speaks longer weighs more than in proportion."""

_CHUNK = 16_384
"""Frames whose scores are held at once."""

_PAUSE_S = 0.5
"""A pause of this length makes a change of voice about a third as surprising as it is within speech."""


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """Speech cut into frames of nearly equal length, none of which crosses the edge of a region.

    Attributes
    ----------
    start_s, end_s : (T,) float64 arrays
        Rising.
    pause_s : (T,) float64 array
        Silence before each frame; 0 within a region.
    """

    start_s: Floats
    end_s: Floats
    pause_s: Floats

    @classmethod
    def over(cls, regions: "Sequence[Region]", step_s: float) -> "FrameGrid":
        """Lay frames of about `step_s` over regions that rise and are disjoint."""
        starts, ends = edges_of(regions)
        counts = np.maximum(np.rint((ends - starts) / step_s), 1).astype(np.int64)
        before = np.cumsum(counts) - counts
        within = np.arange(counts.sum()) - np.repeat(before, counts)
        size_s = np.repeat((ends - starts) / counts, counts)
        first_s = np.repeat(starts, counts)
        pause_s = np.zeros(len(within))
        pause_s[before[1:]] = starts[1:] - ends[:-1]
        return cls(first_s + within * size_s, first_s + (within + 1) * size_s, pause_s)

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def middle_s(self) -> Floats:
        """(T,) middles of the frames."""
        return (self.start_s + self.end_s) / 2

    @property
    def duration_s(self) -> Floats:
        """(T,) lengths of the frames."""
        return self.end_s - self.start_s


def edges_of(spans: "Sequence[Region]") -> tuple[Floats, Floats]:
    """Return the beginnings and the ends of regions or windows, in seconds."""
    edges = np.array([(span.start_s, span.end_s) for span in spans], dtype=np.float64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


class Coverage:
    """Which windows hear which frames, and how much each counts there: most in its middle, little at its edges.

    Parameters
    ----------
    windows
        In any order; they may overlap.
    grid : FrameGrid
        A frame that no window hears takes the nearest window's word.
    """

    def __init__(self, windows: "Sequence[Region]", grid: FrameGrid) -> None:
        from scipy.sparse import csr_array

        starts, ends = edges_of(windows)
        middle_s = grid.middle_s
        self.first: Labels = np.searchsorted(middle_s, starts)
        self.last: Labels = np.searchsorted(middle_s, ends)  # excluded
        counts = self.last - self.first
        rows = np.repeat(np.arange(len(windows)), counts)
        frames = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(self.first, counts)
        centers, halves = (starts + ends) / 2, (ends - starts) / 2
        values = 1.05 - np.abs(middle_s[frames] - centers[rows]) / halves[rows]
        alone = np.setdiff1d(np.arange(len(grid)), frames)
        if len(alone):
            order = np.argsort(centers)
            sorted_centers = centers[order]
            right = np.clip(np.searchsorted(sorted_centers, middle_s[alone]), 1, max(len(windows) - 1, 1))
            left = right - 1
            right = np.minimum(right, len(windows) - 1)
            nearer = np.abs(sorted_centers[right] - middle_s[alone]) < np.abs(middle_s[alone] - sorted_centers[left])
            rows = np.concatenate((rows, order[np.where(nearer, right, left)]))
            frames = np.concatenate((frames, alone))
            values = np.concatenate((values, np.ones(len(alone))))
        self._weights: Any = csr_array((values, (frames, rows)), shape=(len(grid), len(windows)))
        self._totals: Floats = np.asarray(self._weights.sum(axis=1)).reshape(-1, 1)

    def spread(self, vectors: Vectors, means: Floats, first: int, last: int) -> Floats:
        """Average the cosines of (W, D) windows and (K, D) voices over the frames from `first` to before `last`.

        Those of other windows than these frames hear are never made: of hours there are 100,000 and more.
        """
        weights = self._weights[first:last]
        low, high = int(weights.indices.min()), int(weights.indices.max()) + 1
        scores = vectors[low:high] @ means.T.astype(vectors.dtype)
        spread: Floats = (weights[:, low:high] @ scores.astype(np.float64)) / self._totals[first:last]
        return spread

    def pure_labels(self, labels: Labels) -> Labels:
        """Give each window the voice of its frames, -1 where it hears more than one or none."""
        changes = np.concatenate(([0], np.cumsum(labels[1:] != labels[:-1])))
        last = np.maximum(self.last - 1, 0)
        first = np.minimum(self.first, len(labels) - 1)
        pure = (self.last > self.first) & (changes[first] == changes[last])
        return np.where(pure, labels[first], -1)


def best_path(vectors: Vectors, means: Floats, coverage: Coverage, grid: FrameGrid, switch_cost: float) -> Labels:
    """Choose the voice of each frame so that the sum of cosines is largest, a change costing something.

    Parameters
    ----------
    vectors : (W, D) float32 array
        Unit vectors of the windows.
    means : (K, D) float64 array
        Unit vectors of the voices.
    switch_cost
        What a change within speech costs, in units of the score of one frame; after a pause it costs less.

    Returns
    -------
    (T,) int64 array

    References
    ----------
    Viterbi, "Error bounds for convolutional codes", IEEE Transactions on Information Theory, 1967. All voices but the
    present one are equally far, so that a step takes K operations and not K squared.
    """
    frames, voices = len(grid), len(means)
    if voices == 1:
        return np.zeros(frames, dtype=np.int64)
    costs = switch_cost * (1.0 + 2.0 * np.exp(-grid.pause_s / _PAUSE_S)) / 3.0
    stayed: list[NDArray[np.uint8]] = []  # of each chunk, a bit for each frame and voice
    best = np.empty(frames, dtype=np.int64)
    total = np.zeros(voices)
    for first in range(0, frames, _CHUNK):
        scores = coverage.spread(vectors, means, first, min(first + _CHUNK, frames))
        stays = np.empty(scores.shape, dtype=np.bool_)
        for frame, frame_scores in enumerate(scores):
            best[first + frame] = total.argmax()
            switched = total[best[first + frame]] - costs[first + frame]
            np.greater_equal(total, switched, out=stays[frame])
            np.maximum(total, switched, out=total)
            total += frame_scores
        stayed.append(np.packbits(stays, axis=1))
    path = np.empty(frames, dtype=np.int64)
    voice = int(total.argmax())
    for first in reversed(range(0, frames, _CHUNK)):
        stays = np.unpackbits(stayed.pop(), axis=1, count=voices).astype(np.bool_)
        for frame in range(len(stays) - 1, -1, -1):
            path[first + frame] = voice
            if not stays[frame, voice]:
                voice = int(best[first + frame])
    return path


def sharpen_changes(
    turns: "Sequence[VoiceTurn]", windows: "Sequence[Region]", cosines: Floats, means: Floats
) -> "list[VoiceTurn]":
    """Move each change of voice within speech to where the mixtures that windows hear fit their vectors best.

    A window over a change hears both voices; how much of either its vector shows tells the place more finely than
    which one it is nearer to.

    Parameters
    ----------
    turns
        Rising, disjoint.
    windows, cosines
        The shortest that there are, for they tell the place best; (W, K) cosines of their vectors and the voices.
    means : (K, D) float64 array
        Unit vector of each voice.
    """
    starts, ends = edges_of(windows)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    longest_s = float((ends - starts).max(initial=0.0))
    cosines, between = cosines[order], means @ means.T
    voices = [turn.voice for turn in turns]
    edges = np.array([(turn.start_s, turn.end_s) for turn in turns])
    for place in range(len(turns) - 1):
        change_s, before, after = edges[place, 1], voices[place], voices[place + 1]
        if before == after or edges[place + 1, 0] - change_s > _TOUCHING_S:
            continue
        low_s = max(edges[place, 0] + _STEP_S, change_s - _REACH_S)
        high_s = min(edges[place + 1, 1] - _STEP_S, change_s + _REACH_S)
        first, last = np.searchsorted(starts, (low_s - longest_s, high_s))
        near = np.arange(first, last)[ends[first:last] > low_s]
        if high_s <= low_s or not len(near):
            continue
        near_starts, near_ends = starts[near, None], ends[near, None]
        around = range(max(0, place - _AROUND), min(len(turns), place + 2 + _AROUND))
        heard = np.zeros((len(near), len(means)))
        for other in around:
            if other not in (place, place + 1):
                heard[:, voices[other]] += _shared(near_starts[:, 0], near_ends[:, 0], *edges[other])
        tried = np.append(np.arange(low_s, high_s, _FINE_S), change_s)
        shares = np.repeat(heard[:, None, :], len(tried), axis=1)  # (windows, places, K)
        shares[:, :, before] += _shared(near_starts, near_ends, edges[place, 0], tried)
        shares[:, :, after] += _shared(near_starts, near_ends, tried, edges[place + 1, 1])
        shares = (shares / np.maximum(shares.sum(axis=2, keepdims=True), 1e-9)) ** _DOMINANCE
        lengths = np.sqrt(np.einsum("wpj,jk,wpk->wp", shares, between, shares))
        fits = (np.einsum("wpk,wk->wp", shares, cosines[near]) / np.maximum(lengths, 1e-9)).sum(axis=0)
        edges[place, 1] = edges[place + 1, 0] = tried[int(fits.argmax())]
    return [turn._replace(start_s=float(a), end_s=float(b)) for turn, (a, b) in zip(turns, edges, strict=True)]


def _shared(starts: Floats, ends: Floats, start_s: "Floats | float", end_s: "Floats | float") -> Floats:
    shared: Floats = np.maximum(np.minimum(ends, end_s) - np.maximum(starts, start_s), 0.0)
    return shared
