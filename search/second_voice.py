"""What may be a second voice where nothing says so for sure, told from windows that are there anyway."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region
from indexer.listening import Doubt, Listening, UnlikeStretch
from indexer.types import EncoderId, Vectors, without_precision
from search.resegmentation import edges_of
from search.screening import WINDOW_S, overlapping_blocks, second_eigenvalue

_TOUCHING_S = 1e-3

_LONGEST = 16
"""Most windows of a stretch, some nine seconds: of a voice that speaks longer, the screen and the diarizer know."""

_PAUSE_S = 2.0
"""A stretch does not go through more, which is where an utterance ends too."""

_BLOCK = 32
"""Windows whose spread is judged together, some sixteen seconds; blocks overlap by half."""

_CLOSELY, _BESIDE = 40, 3
"""Most windows that are embedded by themselves, and how many on either side of the stretch in doubt are among them."""

_SHORT = 12
_USUAL = 20
"""Windows of a recording of ten seconds. Of more, the least like is less like by chance alone."""


class Bars(NamedTuple):
    """From where on a recording is in doubt, by either sign.

    Attributes
    ----------
    spread, likeness
        Least second eigenvalue of n windows' cosines by the square root of n, and most that the least like stretch and
        the rest are alike.
    drift
        How much further either lies for each factor of e more windows than a recording of ten seconds has.
    """

    spread: float
    likeness: float
    drift: float


class DoubtTuning(NamedTuple):
    """What depends on the encoder; chosen on recordings of other seeds than those that `docs/conversations.md` states.

    Attributes
    ----------
    own_share
        Share of the variance of a window's vector that is the voice's own.
    closer, closer_short
        Of windows out of a longer pass, from where on they are embedded by themselves: of one in four of one voice. And
        the same of `_SHORT` windows or fewer, which tell less.
    asked
        Of windows embedded by themselves, from where on somebody is asked to listen: of one in twenty.
    """

    own_share: float
    closer: Bars
    closer_short: Bars
    asked: Bars


TUNINGS: Mapping[EncoderId, DoubtTuning] = {
    EncoderId("92f29b94e6948786-kaldi"): DoubtTuning(  # campplus-zh-en
        own_share=0.4,
        closer=Bars(0.33, 1.12, 0.06),
        closer_short=Bars(0.3, 1.2, 0.0),
        asked=Bars(0.53, 0.7, 0.1),
    ),
    EncoderId("0575cb64845e6b9a-speechbrain"): DoubtTuning(
        own_share=0.4,
        closer=Bars(0.53, 0.77, 0.06),
        closer_short=Bars(0.45, 0.9, 0.0),
        asked=Bars(0.58, 0.55, 0.1),
    ),
}
"""Those of whose windows by themselves more is to be expected come first."""


class UnlikeStretchFinder:
    """A `SecondVoiceFinder` that asks for two signs, for what the one misses the other often tells.

    How much windows vary in a second direction, whatever their order; and how little alike one stretch and all the
    rest are. Windows out of a longer pass hear a little of all of it, so those of the recordings that they leave in
    doubt are embedded by themselves.
    """

    def doubt(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Doubt | None:
        """Return what is to be looked at more closely; None where there is no doubt."""
        tuning = TUNINGS.get(without_precision(encoder_id))
        if tuning is None:
            return None
        signs = _signs(windows, vectors, tuning.own_share)
        bars = tuning.closer_short if len(windows) <= _SHORT else tuning.closer
        if signs is None or not signs.reach(bars, len(windows)):
            return None
        return Doubt(tuple(windows[place] for place in _chosen(windows, signs.stretch)), len(windows))

    def tells_best(self, encoder_ids: Sequence[EncoderId]) -> EncoderId:
        """Return the encoder whose windows by themselves tell most; the first one, where nobody measured any."""
        asked = {without_precision(encoder_id): encoder_id for encoder_id in encoder_ids}
        return next((asked[measured] for measured in TUNINGS if measured in asked), encoder_ids[0])

    def find(self, doubt: Doubt, vectors: Vectors, encoder_id: EncoderId) -> UnlikeStretch | None:
        """Return the stretch that is least like the rest; None where all is like enough."""
        tuning = TUNINGS.get(without_precision(encoder_id))
        if tuning is None:
            return None
        signs = _signs(doubt.windows, vectors, tuning.own_share)
        return signs.stretch if signs is not None and signs.reach(tuning.asked, doubt.among) else None


class _Signs(NamedTuple):
    """What speaks for a second voice.

    Attributes
    ----------
    spread
        The second eigenvalue of the cosines of n windows by the square root of n, where it is largest.
    likeness
        Of the least like stretch and the rest.
    stretch
        The one that is parted from the rest at the least loss.
    """

    spread: float
    likeness: float
    stretch: UnlikeStretch

    def reach(self, bars: Bars, windows: int) -> bool:
        """Tell whether either sign is over its bar, which lies the further the more windows it was looked for in."""
        drift = bars.drift * math.log(max(windows, _USUAL) / _USUAL)
        return self.spread >= bars.spread + drift or self.likeness <= bars.likeness - drift


def _signs(windows: Sequence[Region], vectors: Vectors, own_share: float) -> _Signs | None:
    """Return what speaks for a second voice; None where there are too few windows to tell."""
    rows = vectors.astype(np.float64)
    found = _least_like(windows, rows, own_share)
    return None if found is None else _Signs(_spread(rows), found[1], found[0])


def _chosen(windows: Sequence[Region], stretch: UnlikeStretch) -> list[int]:
    """Choose all windows of a short recording; of a long one those around the stretch, and others from all over."""
    if len(windows) <= _CLOSELY:
        return list(range(len(windows)))
    inside = [place for place, window in enumerate(windows) if _touch(window, stretch)]
    near = range(max(0, inside[0] - _BESIDE), min(len(windows), inside[-1] + 1 + _BESIDE))
    others = [place for place in range(len(windows)) if place not in near]
    wanted = np.linspace(0, len(others) - 1, min(_CLOSELY - len(near), len(others))).astype(int) if others else ()
    return sorted({*near, *(others[place] for place in wanted)})


def _touch(window: Region, stretch: UnlikeStretch) -> bool:
    return window.start_s < stretch.end_s - _TOUCHING_S and window.end_s > stretch.start_s + _TOUCHING_S


def asking_for_second_voices(listening: Listening) -> Listening:
    """Return what listens the same, and has somebody listen where a recording that is enrolled may hold two voices."""
    return replace(listening, second_voice=UnlikeStretchFinder())


def _spread(rows: NDArray[np.float64]) -> float:
    """Return the second eigenvalue of the cosines of (n, D) windows by the square root of n, where it is largest."""
    blocks = overlapping_blocks(range(len(rows)), _BLOCK)
    return max(second_eigenvalue(rows[block]) / math.sqrt(len(block)) for block in blocks)


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
    apart = np.concatenate([[0], np.cumsum(starts[1:] - ends[:-1] > _PAUSE_S)])
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
        is_one = apart[first] == apart[last - 1]
        kept = np.flatnonzero(is_one & (rest_s > 0) & (end_s - start_s <= rest_s + _TOUCHING_S))
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
