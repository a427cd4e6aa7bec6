"""Is one voice all there is? Told from few windows, so that only conversations cost what telling voices apart costs."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region, bridged
from indexer.listening import Suspicion
from indexer.types import EncoderId, Vectors, without_precision
from search.voice_groups import halved

WINDOW_S = 1.5
_HOP_S = 0.5
_LEAST_S = 1.0
_BRIDGED_S = 0.5
_ROUNDING_S = 1e-3

_BLOCK = 16
"""Windows that are judged together: 24 s of speech, overlapping by half, so that a change of voice is within one."""

_LEAST_SECOND = 0.7
"""What few windows of one voice reach by chance: two whose cosine is 0.3."""

_SHORT = range(4, 6)
"""So many windows of all there is, six to eight seconds, are soon looked at again. Fewer are too unlike for that."""

_GROUP_S = 4.0
"""Most of each of two groups that is embedded by itself: with more, cosines of one voice hardly rise."""

_LEAST_GROUP_S = 1.0
_LEAST_RUN_S = 0.5

_MOST_PAIRS = 8
"""Where more is suspected, no closer look would clear all of it."""


class ScreenTuning(NamedTuple):
    """What depends on the encoder.

    Attributes
    ----------
    doubtful
        Second eigenvalue of n windows' cosines, by the square root of n, from which on there may be a second voice.
    short
        The same, of a recording of four or five windows, where there is a closer look: over a telephone two voices
        differ by less.
    certain
        The same, from which on no closer look would be believed.
    alike
        Cosine from which on two groups of windows, embedded by themselves, are of one voice; None where nobody measured
        it: then there is no closer look.
    unlike
        The same, below which they are of two, whatever a diarizer makes of all windows: of 122 pairs of one voice none
        was below 0.36.
    """

    doubtful: float
    short: float
    certain: float
    alike: float | None
    unlike: float | None = None


TUNINGS: Mapping[EncoderId, ScreenTuning] = {
    EncoderId("0575cb64845e6b9a-speechbrain"): ScreenTuning(0.38, 0.32, 0.46, 0.4, 0.33),
    EncoderId("92f29b94e6948786-kaldi"): ScreenTuning(0.32, 0.32, 0.32, None),  # campplus-zh-en: one voice lies closer.
}
"""`docs/conversations.md` says what they let pass."""

_UNKNOWN = ScreenTuning(0.38, 0.38, 0.38, None)


class OneVoiceScreen:
    """A `Screen` that asks whether windows vary in one more direction than one voice's would.

    The Gram matrix of n unit vectors of one voice has one large eigenvalue; the second is what differs from window to
    window, and grows with the square root of n, where a second voice makes it grow with n. Windows out of a longer pass
    hear a little of all of it. So where they leave a doubt, the two groups into which they fall best are embedded by
    themselves: two voices are far apart then.
    """

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        """Lay windows of 1.5 s every 0.5 s over the speech; the last of a stretch ends with it."""
        planned: list[Region] = []
        for start_s, end_s in bridged(regions, _BRIDGED_S):
            length_s = end_s - start_s
            if length_s < WINDOW_S:
                half_seconds = np.floor(length_s * 2) / 2
                if half_seconds >= _LEAST_S:
                    planned.append(Region(start_s, start_s + float(half_seconds)))
                continue
            count = int((length_s - WINDOW_S + _ROUNDING_S) // _HOP_S) + 1
            planned += [Region(start_s + place * _HOP_S, start_s + place * _HOP_S + WINDOW_S) for place in range(count)]
            if planned[-1].end_s < end_s - _ROUNDING_S:
                planned.append(Region(end_s - WINDOW_S, end_s))
        return planned

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        """Look for stretches that vary like two voices; None where all is one voice, as of one window or none.

        It errs towards several: the diarizer, which hears more, decides then.
        """
        tuning = TUNINGS.get(without_precision(encoder_id), _UNKNOWN)
        pairs: list[tuple[tuple[Region, ...], tuple[Region, ...]]] = []
        for block in overlapping_blocks(_side_by_side(windows), _BLOCK):
            second = second_eigenvalue(vectors[block].astype(np.float64))
            if second < _least_second(len(block), tuning):
                continue
            inside = np.arange(block[0], block[-1] + 1)
            pair = _two_groups([windows[place] for place in inside], vectors[inside].astype(np.float64))
            sure = second >= tuning.certain * np.sqrt(len(block))
            if sure or pair is None or tuning.alike is None or len(pairs) == _MOST_PAIRS:
                return Suspicion()
            pairs.append(pair)
        return Suspicion(tuple(pairs)) if pairs else None

    def least_voices(self, vectors: Vectors, encoder_id: EncoderId) -> int | None:
        """Tell from (P, 2, D) unit vectors of the suspected pairs how many voices there are at least.

        1 where each is of one voice, 2 where one is of two for certain; None: only a diarizer can tell.
        """
        tuning = TUNINGS.get(without_precision(encoder_id), _UNKNOWN)
        cosines = np.sum(vectors[:, 0] * vectors[:, 1], axis=1)
        if tuning.alike is not None and bool((cosines >= tuning.alike).all()):
            return 1
        return 2 if tuning.unlike is not None and bool((cosines < tuning.unlike).any()) else None


def _side_by_side(windows: Sequence[Region]) -> list[int]:
    """Choose windows that do not overlap, by rising start; the last of a stretch may overlap the one before by half."""
    chosen: list[int] = []
    free_s = 0.0
    for place, (window, after) in enumerate(itertools.zip_longest(windows, windows[1:])):
        is_last = after is None or after.start_s >= window.end_s - _ROUNDING_S
        if window.start_s >= free_s - (WINDOW_S / 2 if is_last else 0.0) - _ROUNDING_S:
            chosen.append(place)
            free_s = window.end_s
    return chosen


def overlapping_blocks(places: Sequence[int], size: int) -> Iterator[NDArray[np.int64]]:
    """Divide places of windows into blocks of so many, which overlap by half; the last one ends with the last place."""
    rows = np.asarray(places, dtype=np.int64)
    for first in range(0, max(len(rows) - size, 0), size // 2):
        yield rows[first : first + size]
    if len(rows):
        yield rows[-size:]


def _least_second(windows: int, tuning: ScreenTuning) -> float:
    """Return the second eigenvalue from which on so many windows may hear a second voice."""
    if windows in _SHORT and tuning.alike is not None:
        return tuning.short * math.sqrt(windows)
    return max(tuning.doubtful * math.sqrt(windows), _LEAST_SECOND)


def second_eigenvalue(rows: NDArray[np.float64]) -> float:
    """Return the second eigenvalue of the cosines of (n, D) unit rows; 0 of a single one."""
    return float(np.linalg.eigvalsh(rows @ rows.T)[-2]) if len(rows) > 1 else 0.0


def _two_groups(
    windows: Sequence[Region], rows: NDArray[np.float64]
) -> tuple[tuple[Region, ...], tuple[Region, ...]] | None:
    """Part windows into the two groups that they fall into best; return what only one of them hears.

    None where too little is left of one.
    """
    second = halved(rows, range(1, len(rows), 2))
    sides = [
        bridged((window for window, other in zip(windows, second, strict=True) if other == side), 0.0)
        for side in (False, True)
    ]
    own = [_longest(_without(sides[side], sides[1 - side])) for side in (0, 1)]
    if min(sum(end_s - start_s for start_s, end_s in side) for side in own) < _LEAST_GROUP_S:
        return None
    return own[0], own[1]


def _without(stretches: Iterable[Region], others: Sequence[Region]) -> Iterator[Region]:
    for start_s, end_s in stretches:
        for first_s, last_s in others:
            if start_s < first_s < end_s:
                yield Region(start_s, first_s)
            if first_s < end_s and last_s > start_s:
                start_s = max(start_s, last_s)
        if start_s < end_s:
            yield Region(start_s, end_s)


def _longest(runs: Iterable[Region]) -> tuple[Region, ...]:
    """Choose the longest stretches, `_GROUP_S` of them in all."""
    chosen: list[Region] = []
    left_s = _GROUP_S
    for start_s, end_s in sorted(runs, key=lambda run: run.start_s - run.end_s):
        if left_s < _LEAST_RUN_S or end_s - start_s < _LEAST_RUN_S:
            break
        chosen.append(Region(start_s, min(end_s, start_s + left_s)))
        left_s -= chosen[-1].end_s - chosen[-1].start_s
    return tuple(sorted(chosen))
