"""One utterance on several threads: each has a share of its frames, and runs the whole network on it.

Threads that share every single operation wait for each other after it, hundreds of times a pass. With frames of their
own they meet only where a frame depends on others: at the edges of shares, and at sums over the whole utterance.
"""

import threading

import torch
from torch import Tensor

from indexer.embedding.parts import Ends


class _Meeting:
    """What the threads of one pass tell each other, step by step."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.told: dict[int, list[Tensor | None]] = {}

    def tell(self, step: int, number: int, own: Tensor) -> list[Tensor]:
        """Leave a tensor, which nobody changes from now on, and return those that all have left."""
        slots = self.told.setdefault(step, [None] * self.barrier.parties)
        slots[number] = own
        self.barrier.wait()
        return [one for one in slots if one is not None]


class Share:
    """A `Part`: frames `first` to `last` of an utterance of `frames`; one of several shares, or the only one.

    Every thread makes the same calls in the same order. Of `counts` frames, the first ones, speech is told.
    """

    def __init__(
        self, first: int, last: int, frames: int, counts: int, number: int = 0, meeting: _Meeting | None = None
    ) -> None:
        self.first, self.last, self.frames, self.counts = first, last, frames, counts
        self._number = number
        self._meeting = meeting
        self._step = 0

    def cut(self, x: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Cut this share out of the (B, T, C) frames of the utterance, with so many more on each side if there are."""
        start, end = max(0, self.first - margin), min(self.frames, self.last + margin)
        return x[:, start:end], Ends(start == 0, end == self.frames)

    def widened(self, own: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Return the (B, T, C) frames of this share with so many more of its neighbors on each side."""
        if self._meeting is None:
            return own, Ends(True, True)
        told = self._tell(own)
        parts = [own]
        if self._number:
            parts.insert(0, told[self._number - 1][:, -margin:])
        if self._number + 1 < len(told):
            parts.append(told[self._number + 1][:, :margin])
        return torch.cat(parts, dim=1), Ends(self._number == 0, self._number + 1 == len(told))

    def sum(self, own: Tensor) -> Tensor:
        """Add up frames of this share: (B, T, C) -> (B, C)."""
        return own.sum(dim=1)

    def highest(self, own: Tensor) -> Tensor:
        """Return the largest of each channel among the frames of this share: (B, T, C) -> (B, C)."""
        return own.amax(dim=1)

    def spread(self, own: Tensor) -> Tensor:
        """Return (B, C) as (B, 1, C)."""
        return own.unsqueeze(1)

    def speech(self, x: Tensor) -> "tuple[Tensor, Share]":
        """Return the (B, T, C) frames of this share that are speech."""
        return x[:, : max(0, self.counts - self.first)], self

    def total(self, own: Tensor) -> Tensor:
        """Add up what all shares have."""
        if self._meeting is None:
            return own
        first, *rest = self._tell(own)
        for other in rest:
            first = first + other
        return first

    def _tell(self, own: Tensor) -> list[Tensor]:
        assert self._meeting is not None
        self._step += 1
        return self._meeting.tell(self._step, self._number, own)

    def leave(self) -> None:
        """Let nobody wait for this thread any more: it failed."""
        if self._meeting is not None:
            self._meeting.barrier.abort()


def shares_of(frames: int, count: int, valid: int) -> list[Share]:
    """Divide the frames of an utterance, the first `valid` of which are speech, into so many shares."""
    edges = [frames * number // count for number in range(count + 1)]
    meeting = _Meeting(count)
    return [Share(edges[number], edges[number + 1], frames, valid, number, meeting) for number in range(count)]
