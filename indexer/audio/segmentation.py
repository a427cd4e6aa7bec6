"""Blocks of a decoded recording -> utterances of bounded length, without holding the recording in memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


class Stretch(NamedTuple):
    """Where an utterance is: a track of the decoded recording, and a place in it."""

    track: int
    start_s: float
    end_s: float


_SHORT_BY_S = 0.1
"""What may lack of a stretch at the end of a recording: another version of a codec may decode that much less of it."""


def cut_stretches(blocks: Iterable[NDArray[np.float32]], stretches: Sequence[Stretch]) -> Iterator[UtteranceAudio]:
    """Cut stretches that are known out of decoded blocks, by rising end; they may overlap, and their order is free.

    Blocks are read no further than the last stretch needs. A stretch that the recording does not reach is left out.

    Parameters
    ----------
    blocks : iterable of (tracks, n) float32 arrays
        Consecutive blocks of any length.
    stretches
        As `cut_utterances` placed them: the samples that come out are the same.
    """
    ordered = sorted(stretches, key=lambda stretch: (stretch.end_s, stretch.start_s, stretch.track))
    first = np.array([round(stretch.start_s * SAMPLE_RATE_HZ) for stretch in ordered], dtype=np.int64)
    last = np.array([round(stretch.end_s * SAMPLE_RATE_HZ) for stretch in ordered], dtype=np.int64)
    needed_from = np.minimum.accumulate(first[::-1])[::-1]  # by what comes next: samples before it are done with
    held: NDArray[np.float32] | None = None
    base = done = 0  # samples before those that are held; stretches that were handed out
    for block in blocks:
        held = block if held is None else np.concatenate((held, block), axis=1)
        ready = int(np.searchsorted(last, base + held.shape[1], side="right"))
        for place in range(done, ready):
            yield _stretch(held, base, ordered[place], first[place], last[place])
        done = max(done, ready)
        if done == len(ordered):
            return
        drop = max(0, min(int(needed_from[done]) - base, held.shape[1]))
        held, base = held[:, drop:], base + drop
    if held is not None:
        end = base + held.shape[1]
        for place in range(done, len(ordered)):
            if first[place] < end and last[place] - end <= _SHORT_BY_S * SAMPLE_RATE_HZ:
                yield _stretch(held, base, ordered[place], first[place], last[place])


def _stretch(held: NDArray[np.float32], base: int, stretch: Stretch, first: int, last: int) -> UtteranceAudio:
    # A copy, so that a queued utterance does not keep the whole block alive.
    waveform = np.array(held[stretch.track, first - base : last - base], dtype=np.float32)
    return UtteranceAudio(stretch.track, stretch.start_s, stretch.end_s, waveform)


def _tracks(samples: NDArray[np.float32], position: int) -> Iterator[UtteranceAudio]:
    start_s, end_s = position / SAMPLE_RATE_HZ, (position + samples.shape[1]) / SAMPLE_RATE_HZ
    for track, waveform in enumerate(samples):
        # A copy, so that a queued utterance does not keep the whole block alive.
        yield UtteranceAudio(track, start_s, end_s, np.array(waveform, dtype=np.float32))
