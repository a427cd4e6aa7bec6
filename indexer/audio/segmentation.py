"""Blocks of a decoded recording -> utterances of bounded length, without holding the recording in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.types import SAMPLE_RATE_HZ, Waveform


@dataclass(frozen=True, slots=True)
class UtteranceAudio:
    """A stretch of one track of a recording, with its samples.

    Attributes
    ----------
    track
        Which track of the decoded recording, from 0 (the channel, where channels are kept apart).
    start_s, end_s
        Place in the recording, in seconds.
    waveform
        (N,) samples at 16 kHz.
    """

    track: int
    start_s: float
    end_s: float
    waveform: Waveform


def cut_utterances(blocks: Iterable[NDArray[np.float32]], utterance_s: float) -> Iterator[UtteranceAudio]:
    """Cut decoded blocks into consecutive utterances that together cover every sample once.

    Each lasts `utterance_s`, save the last of a track, which lasts between half and one and a half times that: a
    shorter remainder is no good probe of a voice. A recording of up to one and a half `utterance_s` stays whole.
    Equal lengths are also what lets an encoder batch without padding.

    Parameters
    ----------
    blocks : iterable of (tracks, n) float32 arrays
        Consecutive blocks of any length, as `AudioReader.blocks` yields them.
    utterance_s
        Length of an utterance in seconds.
    """
    size = round(utterance_s * SAMPLE_RATE_HZ)
    hold = size + size // 2
    held: NDArray[np.float32] | None = None
    position = 0  # samples that were handed out
    for block in blocks:
        held = block if held is None else np.concatenate((held, block), axis=1)
        while held.shape[1] > hold:
            yield from _tracks(held[:, :size], position)
            held = held[:, size:]
            position += size
    if held is not None and held.shape[1] > 0:
        yield from _tracks(held, position)


def _tracks(samples: NDArray[np.float32], position: int) -> Iterator[UtteranceAudio]:
    start_s, end_s = position / SAMPLE_RATE_HZ, (position + samples.shape[1]) / SAMPLE_RATE_HZ
    for track, waveform in enumerate(samples):
        # A copy, so that a queued utterance does not keep the whole block alive.
        yield UtteranceAudio(track, start_s, end_s, np.array(waveform, dtype=np.float32))
