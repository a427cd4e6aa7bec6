"""How much audio a GPU takes in one pass: what its free memory holds, and half of what it had too little for."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from indexer.errors import Unavailable
from indexer.types import SAMPLE_RATE_HZ

_Made = TypeVar("_Made")

DEFAULT_PASS_S = 40.0
"""Audio in the passes that are under way where nothing else is known: on a CPU, and on a GPU before it was asked."""

_SHARE_OF_FREE = 0.6
"""Of free memory: what is left is for the parts of memory that are too small to be of use, and for other processes."""

_LARGEST_PASS_S = 600.0
"""Audio in one pass of a GPU: work for hundredths of a second, beside which starting its operations is nothing."""

_log = logging.getLogger(__name__)


def samples_that_fit(free_bytes: int, pass_bytes: int, pass_samples: int) -> int:
    """Return how many samples may go into one pass, when one of `pass_samples` took `pass_bytes` at its highest."""
    fitting = int(_SHARE_OF_FREE * free_bytes / max(1, pass_bytes) * pass_samples)
    return max(pass_samples, min(fitting, int(_LARGEST_PASS_S * SAMPLE_RATE_HZ)))


def measured_room(device: torch.device, run: Callable[[int], object], samples: int) -> int:
    """Return how many samples a GPU takes in one pass: `run` makes one of so many, whose memory is measured."""
    run(samples)  # what is made once, and kept, is no part of a pass
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run(samples)
    torch.cuda.synchronize(device)
    taken = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return samples_that_fit(torch.cuda.mem_get_info(device)[0], taken, samples)


class Room:
    """What may go into one pass, in samples; less once memory has run out.

    Parameters
    ----------
    device : torch.device
        Whose memory it is.
    samples : int
        To begin with.
    """

    def __init__(self, device: torch.device, samples: int) -> None:
        self._device = device
        self.samples = samples

    def run(
        self, run: Callable[[list[int]], _Made], rows: list[int], lengths: Sequence[int]
    ) -> list[tuple[list[int], _Made]]:
        """Run a pass over rows of so many samples, in halves where memory runs out; return what of which was made.

        Raises
        ------
        Unavailable
            If a single row is too much.
        """
        try:
            return [(rows, run(rows))]
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                audio_s = lengths[0] / SAMPLE_RATE_HZ
                raise Unavailable(
                    f"{self._device} has too little memory for {audio_s:.0f} s of audio in one pass; "
                    "free some of it, or give shorter recordings"
                ) from error
        # Out here nothing refers to the pass that failed any more: its memory is free.
        half = len(rows) // 2
        held = sum(lengths[:half])
        self.samples = min(self.samples, held)
        _log.warning("%s ran out of memory: passes are of %d s from now on", self._device, held // SAMPLE_RATE_HZ)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return [*self.run(run, rows[:half], lengths[:half]), *self.run(run, rows[half:], lengths[half:])]
