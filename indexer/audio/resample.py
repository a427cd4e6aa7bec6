"""Resampling to 16 kHz in blocks, equal to resampling the whole signal at once."""

import math

import numpy as np
import soxr
from numpy.typing import NDArray

from indexer.types import SAMPLE_RATE_HZ


class BlockResampler:
    """Resample a signal that arrives in blocks, bit for bit as if it had arrived whole.

    The supported encoders were trained and published on audio resampled by SoX's "HQ" setting in float64 (what
    librosa calls `soxr_hq`); another resampler moves 8 kHz embeddings visibly. The total length is
    ceil(N * 16000 / rate), librosa's rule: soxr's own rounding can be one short, and the sample is then zero.

    Parameters
    ----------
    sample_rate_hz : int
        Rate of the input.
    tracks : int
        Columns of every block.
    """

    def __init__(self, sample_rate_hz: int, tracks: int) -> None:
        self._ratio = float(SAMPLE_RATE_HZ) / sample_rate_hz
        self._tracks = tracks
        self._frames_in = 0
        self._frames_out = 0
        self._stream = (
            None
            if sample_rate_hz == SAMPLE_RATE_HZ
            else soxr.ResampleStream(sample_rate_hz, SAMPLE_RATE_HZ, tracks, dtype="float64", quality="HQ")
        )

    def push(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the next (n, tracks) samples and give the (m, tracks) samples at 16 kHz that are ready, maybe none."""
        self._frames_in += len(block)
        if self._stream is None or len(block) == 0:
            return block
        return self._counted(self._stream.resample_chunk(block))

    def finish(self) -> NDArray[np.float64]:
        """Give the samples still held back, so that the total is ceil(N * 16000 / rate)."""
        if self._stream is None:
            return np.zeros((0, self._tracks))
        rest = self._counted(self._stream.resample_chunk(np.zeros((0, self._tracks)), last=True))
        missing = math.ceil(self._frames_in * self._ratio) - self._frames_out
        if missing < 0:
            return rest[:missing]
        return np.concatenate([rest, np.zeros((missing, self._tracks))]) if missing else rest

    def _counted(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        self._frames_out += len(block)
        return block
