"""Watches the samples of a recording pass: refuses what is no number, and knows in the end how loud it was."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.audio.levels import SILENCE_PEAK
from indexer.errors import CorruptAudio

MAX_MAGNITUDE = 2.0**31
"""Largest sample taken for audio: some writers leave 32-bit integers unscaled in float files. Beyond it is damage."""


CLIPPED_MAGNITUDE = 32_766 / 32_768
"""From here on a sample is taken for cut off: the two outermost steps of 16-bit audio."""


@dataclass(frozen=True, slots=True)
class Levels:
    """How loud a recording is, all of its channels together.

    Attributes
    ----------
    level_dbfs
        Root mean square, in dB below full scale; -inf for digital silence. Speech is usually between -35 and -15.
    clipped_share
        Share of the samples that reach full scale, from 0 to 1; above about 0.001 the recording was too loud.
    """

    level_dbfs: float
    clipped_share: float


class LevelMeter:
    """Range, mean and power of each column of a signal that passes in blocks.

    Parameters
    ----------
    columns : int
        Channels or tracks.
    """

    def __init__(self, columns: int) -> None:
        self._low = np.full(columns, np.inf)
        self._high = np.full(columns, -np.inf)
        self._sum = np.zeros(columns)
        self._power = 0.0
        self._clipped = 0
        self._count = 0

    def add(self, block: NDArray[np.float64]) -> None:
        """Take the next (n, columns) samples."""
        if len(block):
            low, high = block.min(axis=0), block.max(axis=0)
            self._low = np.minimum(self._low, low)
            self._high = np.maximum(self._high, high)
            self._sum += block.sum(axis=0)
            self._power += float(np.einsum("nc,nc->", block, block))
            if max(float(high.max()), -float(low.min())) >= CLIPPED_MAGNITUDE:
                self._clipped += int(np.count_nonzero(np.abs(block) >= CLIPPED_MAGNITUDE))
            self._count += len(block)

    def levels(self) -> Levels:
        """How loud it was so far."""
        samples = max(1, self._count * len(self._sum))
        power = self._power / samples
        return Levels(10 * math.log10(power) if power > 0 else -math.inf, self._clipped / samples)

    def sounding(self) -> list[int]:
        """Columns that hold sound: somewhere at least `SILENCE_PEAK` away from their own mean."""
        if self._count == 0:
            return []
        mean = self._sum / self._count
        deviation = np.maximum(self._high - mean, mean - self._low)
        return [int(column) for column in np.flatnonzero(deviation >= SILENCE_PEAK)]


def require_numbers(block: NDArray[np.float64], first_frame: int, sample_rate_hz: int, name: str) -> None:
    """Refuse a (n, C) block that holds a NaN, an infinity, or a value no audio has.

    Raises
    ------
    CorruptAudio
        The message says which sample of which channel, counted from 0, and when it would sound.
    """
    # One pass in the good case: NaN and infinity fail this comparison too.
    if float(np.abs(block).max(initial=0.0)) <= MAX_MAGNITUDE:
        return
    frame, channel = (int(index) for index in np.argwhere(~(np.abs(block) <= MAX_MAGNITUDE))[0])
    position = first_frame + frame
    raise CorruptAudio(
        f"{name}: sample {position} of channel {channel} (at {position / sample_rate_hz:.3f} s) is "
        f"{float(block[frame, channel])}, which is no sample value; export the recording again"
    )
