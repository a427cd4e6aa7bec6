"""Where speech itself begins and ends: what finds it is unsure by a tenth of a second, and loudness tells it closer."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region, bridged
from indexer.types import SAMPLE_RATE_HZ, Waveform

Levels = NDArray[np.float32]

FRAME_S = 0.01
REACH_S = 0.2
"""How far from where it was found an edge may lie, either way."""

BELOW_DB = 35.0
"""Speech is less than so far below its loud parts."""

SHARE = 0.2
"""And it is louder than what sounds around it, by this share of the decibels up to its loud parts."""

_LOUD_S = 2.0
"""How much speech beyond an edge tells how loud it is."""

_AROUND_S = 0.5
"""How much before an edge tells what else sounds."""

_LOUD, _QUIET = 0.9, 0.2
"""Quantiles of the levels that are taken for the loud parts, and for what else sounds."""

_LEAST_AROUND = 3
_ROUNDING_S = 1e-6
_SILENT_DB = -120.0
_FRAME = round(FRAME_S * SAMPLE_RATE_HZ)


class LevelMeter:
    """Keeps how loud a track is every 10 ms: 1.4 MB an hour."""

    def __init__(self) -> None:
        self._powers: list[Levels] = []
        self._rest: Waveform = np.empty(0, dtype=np.float32)

    def push(self, block: Waveform) -> None:
        """Hear the next (n,) samples."""
        waiting = np.concatenate([self._rest, block]) if len(self._rest) else block
        whole = len(waiting) - len(waiting) % _FRAME
        if whole:
            self._powers.append(waiting[:whole].reshape(-1, _FRAME).var(axis=1, dtype=np.float64).astype(np.float32))
        self._rest = waiting[whole:].copy()

    def levels(self) -> Levels:
        """Return (n,) decibels, each about three frames; what is left of a frame at the end is left out."""
        powers = np.concatenate([*self._powers, np.zeros(0, dtype=np.float32)])
        if not len(powers):
            return powers
        smooth = np.convolve(powers, np.full(3, 1 / 3, dtype=np.float32), mode="same")
        decibels: Levels = 10 * np.log10(smooth + np.float32(10 ** (_SILENT_DB / 10)))
        return decibels


def sharpened(found: Sequence[Region], levels: Levels, *, pause_s: float) -> list[Region]:
    """Move both edges of each stretch of speech to where it rises above what sounds around it.

    Parameters
    ----------
    found
        Rising and disjoint, as a network finds them, nothing added to either side.
    levels
        Of the whole track, as `LevelMeter` gives them.
    pause_s
        What is then no farther apart is one stretch.

    Returns
    -------
    list of Region
        Rising and disjoint; each edge at most `REACH_S` from where it was, and no nearer to another stretch than
        halfway.
    """
    return bridged(_moved(found, levels), pause_s + _ROUNDING_S)


def _moved(found: Sequence[Region], levels: Levels) -> Iterator[Region]:
    last = len(levels)
    backwards = levels[::-1]
    frames = [(round(start_s / FRAME_S), min(round(end_s / FRAME_S), last)) for start_s, end_s in found]
    for place, (region, (start, end)) in enumerate(zip(found, frames, strict=True)):
        if end <= start:  # Less than a frame at the very end.
            yield region
            continue
        free_from = (frames[place - 1][1] + start) // 2 if place else 0
        free_to = (end + frames[place + 1][0]) // 2 if place + 1 < len(frames) else last
        first = _edge(levels, start, end, free_from)
        stop = last - _edge(backwards, last - end, last - start, last - free_to)
        yield Region(first * FRAME_S, stop * FRAME_S) if stop > first else region


def _edge(levels: Levels, start: int, end: int, free_from: int) -> int:
    """Return the frame within reach of `start` with which speech begins that goes on to `end`."""
    reach = round(REACH_S / FRAME_S)
    loud = _quantile(levels[start : min(end, start + round(_LOUD_S / FRAME_S))], _LOUD)
    around = levels[max(free_from, start - round(_AROUND_S / FRAME_S)) : start]
    quiet = _quantile(around, _QUIET) if len(around) >= _LEAST_AROUND else _SILENT_DB
    least = max(loud - BELOW_DB, quiet + SHARE * (loud - quiet))
    first = max(free_from, start - reach)
    inside = min(end, start + reach)
    sounding = np.flatnonzero(levels[first:inside] > least)
    return first + int(sounding[0]) if len(sounding) else inside


def _quantile(levels: Levels, share: float) -> float:
    return float(np.sort(levels)[int(share * (len(levels) - 1))])
