"""Statistics of many overlapping stretches of one utterance's frames, each frame being read once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from indexer.embedding.transfer import to_device
from indexer.types import Span

GRID_SAMPLES = 640
"""Edges of stretches are moved to multiples of 40 ms at most: frames are added up by so much audio first."""


class Statistics(NamedTuple):
    """What pooling makes of stretches of frames that all count alike.

    Attributes
    ----------
    mean, variance : (W, C) float32 tensors
        The variance is of the frames themselves (divided by their number).
    frames : (W, 1) float32 tensor
        How many frames each stretch has.
    """

    mean: Tensor
    variance: Tensor
    frames: Tensor


def statistics_of(frames: Tensor, spans: Sequence[Span], samples: int) -> Statistics:
    """Describe stretches of an utterance.

    Parameters
    ----------
    frames : (C, T) tensor
        What a network made of the utterance.
    spans
        Stretches of it, in samples; each gets two frames at least.
    samples
        Length of the utterance.
    """
    count = frames.shape[1]
    size = max(1, count * GRID_SAMPLES // samples)
    while size > 1 and count // size < 2:
        size -= 1
    blocks = -(-count // size)
    values = frames.T.float()  # (T, C)
    if blocks * size > count:
        values = functional.pad(values, (0, 0, 0, blocks * size - count))
    sums = values.view(blocks, size, -1).sum(dim=1)
    squares = values.square_() if values.data_ptr() != frames.data_ptr() else values.square()
    powers = squares.view(blocks, size, -1).sum(dim=1)
    edges = torch.tensor(spans, dtype=torch.float64) * (count / size / samples)
    least = 1 if size > 1 else 2
    first = edges[:, :1].round().clamp(0, blocks - least)
    last = torch.maximum(edges[:, 1:].round().clamp(max=blocks), first + least)
    place = torch.arange(blocks)
    inside = to_device(((place >= first) & (place < last)).float(), frames.device)  # (W, blocks)
    per_block = torch.full((blocks, 1), float(size), device=frames.device)
    per_block[-1] = count - (blocks - 1) * size
    held = inside @ per_block
    mean = inside @ sums / held
    return Statistics(mean, (inside @ powers / held - mean.square()).clamp(min=0.0), held)
