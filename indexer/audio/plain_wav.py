"""Reads the plainest of all files, 16-bit WAV with nothing but sound in it, without a library's file over ours.

To open one of three seconds and to read it through libsndfile, which calls back for every piece, takes longer than its
arithmetic. Samples, blocks and everything that is told of the file are those of `SoundfileReader`, which reads whatever
is less plain.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from indexer.audio.sources import OpenedSource

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FULL_SCALE = 32_768.0


class PlainWavReader:
    """Frames of one such file; whoever makes it has its `plain_layout`."""

    decoder = "soundfile"  # What it is instead of, and the same as.
    container = "wav"
    codec = "pcm_16"
    exact_duration = True
    mostly_damaged = False
    track = 1
    audio_tracks = 1

    def __init__(self, source: OpenedSource, frames: int, channels: int, sample_rate_hz: int, at_once: int) -> None:
        self._file = source.file
        self._frames = frames
        self._at_once = at_once
        self.channels = channels
        self.sample_rate_hz = sample_rate_hz
        self.declared_s: float | None = frames / sample_rate_hz
        self.issues: list[str] = []

    def close(self) -> None:
        """Leave the file to whoever opened it."""

    def frames(self) -> Iterator[NDArray[np.float64]]:
        """Yield (n, channels) blocks in file order; samples are divided by 2^15."""
        self._file.seek(_HEADER.size)
        frame_bytes = 2 * self.channels
        done = 0
        while done < self._frames:
            wanted = min(self._at_once, self._frames - done)
            held = bytearray()
            while len(held) < wanted * frame_bytes and (piece := self._file.read(wanted * frame_bytes - len(held))):
                held += piece
            count = len(held) // frame_bytes
            if count == 0:
                return  # It has become shorter since it was opened.
            done += count
            steps = np.frombuffer(held, dtype="<i2", count=count * self.channels)
            yield steps.reshape(count, self.channels) / _FULL_SCALE


def plain_layout(head: bytes, size: int) -> tuple[int, int, int] | None:
    """Return frames, channels and rate of a file of so many bytes if it is plain: a header of 44 bytes, and samples.

    Every number of the header must agree with every other and with the size; else a decoder that knows what writers do
    has to tell.
    """
    if len(head) < _HEADER.size:
        return None
    riff, riff_bytes, wave, fmt, fmt_bytes, tag, channels, rate, byte_rate, block, bits, data, data_bytes = (
        _HEADER.unpack_from(head)
    )
    if (riff, wave, fmt, data) != (b"RIFF", b"WAVE", b"fmt ", b"data") or (fmt_bytes, tag, bits) != (16, 1, 16):
        return None
    if not channels or not rate or block != 2 * channels or byte_rate != rate * block:
        return None
    if riff_bytes != size - 8 or data_bytes != size - _HEADER.size or data_bytes == 0 or data_bytes % block:
        return None
    return data_bytes // block, channels, rate
