"""Utterances of any lengths in one pass: the frames of all of them behind one another, without padding.

A GPU needs minutes of audio in a pass, and no two recordings of an archive are of one length. A folded network is
products of rows and sums over them. So frames of several utterances are the rows of one matrix, and all that has to
know where an utterance starts and ends is which rows a convolution reads, and which are added up.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from indexer.embedding.parts import Ends
from indexer.embedding.transfer import to_device


class Neighborhood(NamedTuple):
    """Which frames a convolution over time reads around each one, and what it takes for those outside.

    Attributes
    ----------
    kernel, dilation
        Of the convolution; it reads as many frames on either side.
    reflects
        Whether an utterance is mirrored at its ends; else the row behind the last one stands for all outside.
    """

    kernel: int
    dilation: int
    reflects: bool


def reduced(rows: Tensor, how: str, lengths: Tensor) -> Tensor:
    """Return the sum, or "max", of so many rows each, behind one another: (N, C) -> (B, C).

    Each is made in the order of its rows and by itself, so that what comes before and after changes no bit of it.
    """
    # Checks of the lengths would wait for a GPU.
    return torch.segment_reduce(rows, how, lengths=lengths, axis=0, unsafe=True)


class Ragged:
    """Where each utterance lies among the rows of a pass; the `Part` that all their frames are.

    Parameters
    ----------
    frames
        Rows of each utterance, at least 1.
    valid
        How many of these, from its first one, are speech.
    device : torch.device
        Where the rows are.
    """

    def __init__(self, frames: Sequence[int], valid: Sequence[int], device: torch.device) -> None:
        self.frames, self.valid_frames = tuple(frames), tuple(valid)
        self._device = device
        counts = np.asarray(frames, dtype=np.int64)
        owner = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum(counts) - counts
        place = np.arange(counts.sum()) - starts[owner]
        self._speech_rows = np.flatnonzero(place < np.asarray(valid)[owner])
        rows = self.sent(np.stack((owner, place, counts[owner], starts[owner])))
        self.owner, self.place, self.count, self.start = rows
        """Of each row (N,): its utterance, its frame in there, how many frames that has, and the row of the first."""
        self._lengths = self.sent(counts)
        self._read: dict[Neighborhood, Tensor] = {}

    def sent(self, values: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Copy whole numbers to where the rows are."""
        return to_device(torch.from_numpy(np.asarray(values, dtype=np.int64)), self._device)

    def starts_of(self, sizes: Sequence[int]) -> Tensor:
        """Return (B,) where each utterance starts if so much of each lies behind one another."""
        return self.sent(np.cumsum(sizes) - np.asarray(sizes))

    @cached_property
    def counts(self) -> Tensor:
        """Frames of speech of each utterance: (B, 1) float32."""
        return self.sent(self.valid_frames).unsqueeze(1).float()

    @cached_property
    def is_speech(self) -> Tensor:
        """Which rows are speech: (1, N, 1) booleans."""
        row = self.place.unsqueeze(1)
        return torch.lt(row, self.spread(self.counts)[0]).unsqueeze(0)

    @cached_property
    def _speech(self) -> "tuple[Tensor | None, Ragged]":
        """Rows of speech, None where all are, and where each utterance lies among these."""
        if self.valid_frames == self.frames:
            return None, self
        return self.sent(self._speech_rows), Ragged(self.valid_frames, self.valid_frames, self._device)

    def cut(self, x: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Return all frames: there is but one part."""
        return x, Ends(True, True, self)

    def widened(self, own: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Return all frames: there are no neighbors."""
        return own, Ends(True, True, self)

    def speech(self, x: Tensor) -> "tuple[Tensor, int, Ragged]":
        """Return the rows of (1, N, C) that are speech, how many, and where each utterance lies among these."""
        rows, ragged = self._speech
        spoken = x if rows is None else x.index_select(1, rows)
        return spoken, spoken.shape[1], ragged

    def sum(self, x: Tensor) -> Tensor:
        """Add up the rows of each utterance: (1, N, C) -> (B, C) in float32."""
        return reduced(x[0].float(), "sum", self._lengths)

    def highest(self, x: Tensor) -> Tensor:
        """Return the largest of each channel of each utterance: (1, N, C) -> (B, C)."""
        return reduced(x[0], "max", self._lengths)

    def total(self, own: Tensor) -> Tensor:
        """Return what there is: nobody else has a part."""
        return own

    def spread(self, own: Tensor) -> Tensor:
        """Return for each row what its utterance has: (B, C) -> (1, N, C)."""
        return own.index_select(0, self.owner).unsqueeze(0)

    def split(self, x: Tensor) -> list[Tensor]:
        """Return the rows of each utterance: (1, N, C) -> (T_i, C)."""
        return list(torch.split(x[0], list(self.frames)))

    def read_by(self, around: Neighborhood) -> Tensor:
        """Return which row each tap of a convolution reads, row by row: (N kernel,)."""
        found = self._read.get(around)
        if found is None:
            wide = around.dilation * (around.kernel - 1) // 2
            taps = torch.arange(around.kernel, device=self._device) * around.dilation - wide
            frame, last = self.place.unsqueeze(1) + taps, self.count.unsqueeze(1) - 1
            if around.reflects:
                mirrored = frame.abs()
                found = self.start.unsqueeze(1) + torch.minimum(mirrored, 2 * last - mirrored)
            else:
                outside = (frame < 0) | (frame > last)
                found = torch.where(outside, len(self.owner), self.start.unsqueeze(1) + frame)
            found = self._read[around] = found.flatten()
        return found
