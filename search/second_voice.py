"""What may be a second voice where nothing says so for sure, told from windows that are there anyway."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region
from indexer.listening import Listening, UnlikeStretch
from indexer.types import EncoderId, Vectors, without_precision
from search.resegmentation import edges_of
from search.screening import WINDOW_S

_TOUCHING_S = 1e-3

_LONGEST = 16
"""Most windows of a stretch, some nine seconds: of a voice that speaks longer, the screen and the diarizer know."""

_BLOCK = 32
"""Windows whose spread is judged together, some sixteen seconds; blocks overlap by half."""


class DoubtTuning(NamedTuple):
    """What depends on the encoder; chosen on recordings of other seeds than those that `docs/conversations.md` states.

    Attributes
    ----------
    own_share
        Share of the variance of a window's vector that is the voice's own.
    spread, likeness
        Of one voice, the second eigenvalue of n windows' cosines by the square root of n, and how alike the least like
        stretch and the rest are: middle and scale.
    doubtful
        How many scales from the middle either has to be for somebody to be asked to listen.
    """

    own_share: float = 0.4
    spread: tuple[float, float] = (0.5, 0.1)
    likeness: tuple[float, float] = (0.7, 0.12)
    doubtful: float = 1.0


TUNINGS: Mapping[EncoderId, DoubtTuning] = {
    EncoderId("0575cb64845e6b9a-speechbrain"): DoubtTuning(),
}


class UnlikeStretchFinder:
    """A `SecondVoiceFinder` over the windows of a `Screen`.

    Two signs are asked, for what the one misses the other often tells: how much windows vary in a second direction,
    whatever their order, and how little alike one stretch and all the rest are.
    """

    def find(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> UnlikeStretch | None:
        """Return the stretch that is least like the rest where that is doubtful; None where all is like enough."""
        tuning = TUNINGS.get(without_precision(encoder_id))
        if tuning is None:
            return None
        found = _least_like(windows, vectors.astype(np.float64), tuning.own_share)
        if found is None:
            return None
        stretch, likeness = found
        doubts = (
            (_spread(vectors.astype(np.float64)) - tuning.spread[0]) / tuning.spread[1],
            (tuning.likeness[0] - likeness) / tuning.likeness[1],
        )
        return stretch if max(doubts) >= tuning.doubtful else None


def asking_for_second_voices(listening: Listening) -> Listening:
    """Return what listens the same, and has somebody listen where a recording that is enrolled may hold two voices."""
    return replace(listening, second_voice=UnlikeStretchFinder())


def _spread(rows: NDArray[np.float64]) -> float:
    """Return the second eigenvalue of the cosines of (n, D) windows by the square root of n, where it is largest."""
    firsts = [*range(0, max(len(rows) - _BLOCK, 0), _BLOCK // 2), max(len(rows) - _BLOCK, 0)]
    blocks = [rows[first : first + _BLOCK] for first in firsts]
    return max(float(np.linalg.eigvalsh(block @ block.T)[-2]) / math.sqrt(len(block)) for block in blocks)


def _least_like(
    windows: Sequence[Region], rows: NDArray[np.float64], own_share: float
) -> tuple[UnlikeStretch, float] | None:
    """Return the stretch of neighboring windows that is parted from all that do not overlap it at the least loss.

    And how alike the least like stretch and its rest are: about 1 is one voice, and 0 two, whatever the lengths, for
    the mean of few windows is not much of a voice (see `search.voice_groups.likeness`). None where there is no stretch.
    """
    starts, ends = edges_of(windows)
    count = len(starts)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    least, gained = math.inf, -math.inf
    stretch: UnlikeStretch | None = None
    for size in range(1, min(_LONGEST, count - 1) + 1):
        first = np.arange(count - size + 1)
        last = first + size
        start_s, end_s = starts[first], ends[last - 1]
        before = np.minimum(np.searchsorted(ends, start_s + _TOUCHING_S, side="right"), first)
        after = np.maximum(np.searchsorted(starts, end_s - _TOUCHING_S), last)
        rest_s = np.where(before > 0, ends[before - 1] - starts[0], 0.0)
        rest_s += np.where(after < count, ends[-1] - starts[np.minimum(after, count - 1)], 0.0)
        kept = np.flatnonzero((rest_s > 0) & (end_s - start_s <= rest_s + _TOUCHING_S))
        if not len(kept):
            continue
        own_s, rest_s = (end_s - start_s)[kept], rest_s[kept]
        own = sums[last[kept]] - sums[first[kept]]
        rest = sums[before[kept]] + sums[-1] - sums[after[kept]]
        norms = np.linalg.norm(own, axis=1) * np.linalg.norm(rest, axis=1)
        cosines = np.einsum("nd,nd->n", own, rest) / np.maximum(norms, 1e-9)
        lengths = [np.sqrt(own_share + (1 - own_share) * WINDOW_S / side_s) for side_s in (own_s, rest_s)]
        likenesses = cosines * lengths[0] * lengths[1] / own_share
        least = min(least, float(likenesses.min()))
        gains = own_s * rest_s / (own_s + rest_s) * (1 - likenesses)  # Ward's criterion
        best = int(gains.argmax())
        if gains[best] > gained:
            gained = float(gains[best])
            place = kept[best]
            stretch = UnlikeStretch(float(start_s[place]), float(end_s[place]), float(cosines[best]))
    return None if stretch is None else (stretch, least)
