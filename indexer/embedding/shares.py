"""One utterance on several threads: each has a share of its frames, and runs the whole network on it.

Threads that share every single operation wait for each other after it, hundreds of times a pass. With frames of their
own they meet only where a frame depends on others: at the edges of shares, and at sums over the whole utterance.
"""

from itertools import pairwise
from queue import SimpleQueue

import torch
from torch import Tensor

from indexer.embedding.parts import Ends

GRID = 8
"""Rows of which a single utterance's products have a multiple: oneDNN compiles every product anew for every number of
rows, which took a fifth of the pass of an utterance of a new length. Rows that are computed for nothing cost up to 2 %
of a pass of 3 s; a product's row does not depend on how many there are."""


class LeftAlone(RuntimeError):
    """Another share of the utterance failed, so that what this one waits for will not come."""


class _Meeting:
    """What the threads of one pass tell each other, step by step: from each to each, in the order it was told."""

    def __init__(self, count: int) -> None:
        # A queue wakes who waits for it and nobody else: a barrier has its own lock to wait for too.
        every = range(count)
        self._told: list[list[SimpleQueue[Tensor | None]]] = [[SimpleQueue() for _ in every] for _ in every]

    def tell(self, number: int, own: Tensor) -> list[Tensor]:
        """Leave a tensor, which nobody changes from now on, and return those that all have left."""
        self._leave(number, own)
        return [own if other == number else self._heard(box[number]) for other, box in enumerate(self._told)]

    def abort(self, number: int) -> None:
        """Tell the others that nothing more comes."""
        self._leave(number, None)

    def _leave(self, number: int, own: Tensor | None) -> None:
        for other, box in enumerate(self._told[number]):
            if other != number:
                box.put(own)

    @staticmethod
    def _heard(box: "SimpleQueue[Tensor | None]") -> Tensor:
        told = box.get()
        if told is None:
            raise LeftAlone("another share of the utterance failed")
        return told


class Share:
    """A `Part`: frames `first` to `last` of an utterance of `frames`; one of several shares, or the only one.

    Every thread makes the same calls in the same order. Of `counts` frames, the first ones, speech is told. What is
    computed has a multiple of `grid` rows, of which the first are the frames.
    """

    def __init__(
        self,
        first: int,
        last: int,
        frames: int,
        counts: int,
        number: int = 0,
        meeting: _Meeting | None = None,
        grid: int = 1,
    ) -> None:
        self.first, self.last, self.frames, self.counts = first, last, frames, counts
        self._grid = grid
        self._number = number
        self._meeting = meeting

    def cut(self, x: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Cut this share out of the (B, T, C) frames of the utterance, with so many more on each side if there are."""
        start, end = max(0, self.first - margin), min(self.frames, self.last + margin)
        return x[:, start:end], Ends(start == 0, end == self.frames, filled=self._filled(self.last - self.first))

    def widened(self, own: Tensor, margin: int) -> tuple[Tensor, Ends]:
        """Return the (B, T, C) frames of this share with so many more of its neighbors on each side."""
        count, rows = self.last - self.first, own.shape[1]
        if self._meeting is None:
            return own, Ends(True, True, frames=count, filled=rows)
        told = self._tell(own[:, :count])
        parts = [told[self._number]]
        if self._number:
            parts.insert(0, told[self._number - 1][:, -margin:])
        if self._number + 1 < len(told):
            parts.append(told[self._number + 1][:, :margin])
        frames = sum(part.shape[1] for part in parts)
        before = parts[0].shape[1] if self._number else 0
        fill = self._filled(max(frames, before + rows)) - frames
        ends = Ends(self._number == 0, self._number + 1 == len(told), frames=frames, filled=rows)
        return torch.cat((*parts, own[:, :1].expand(-1, fill, -1)), dim=1), ends

    def sum(self, own: Tensor) -> Tensor:
        """Add up frames of this share: (B, T, C) -> (B, C)."""
        return own.sum(dim=1)

    def highest(self, own: Tensor) -> Tensor:
        """Return the largest of each channel among the frames of this share: (B, T, C) -> (B, C)."""
        return own.amax(dim=1)

    def spread(self, own: Tensor) -> Tensor:
        """Return (B, C) as (B, 1, C)."""
        return own.unsqueeze(1)

    def speech(self, x: Tensor) -> "tuple[Tensor, int, Share]":
        """Return the rows of (B, T, C) that begin with the frames of this share that are speech, and how many."""
        count = min(self.last - self.first, max(0, self.counts - self.first))
        return x[:, : self._filled(count)], count, self

    def own(self, x: Tensor) -> Tensor:
        """Return the (B, T, C) frames of this share."""
        return x[:, : self.last - self.first]

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
        return self._meeting.tell(self._number, own)

    def _filled(self, rows: int) -> int:
        return -(-rows // self._grid) * self._grid

    def leave(self) -> None:
        """Let nobody wait for this thread any more: it failed."""
        if self._meeting is not None:
            self._meeting.abort(self._number)


def shares_of(frames: int, count: int, valid: int) -> list[Share]:
    """Divide the frames of an utterance, the first `valid` of which are speech, into so many shares."""
    edges = [frames * number // count for number in range(count + 1)]
    meeting = _Meeting(count)
    return [
        Share(first, last, frames, valid, number, meeting, GRID) for number, (first, last) in enumerate(pairwise(edges))
    ]
