"""Statistics of many overlapping stretches of one utterance's frames, each frame being read once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from indexer.embedding.ragged import reduced
from indexer.embedding.transfer import to_device
from indexer.types import Span

GRID_SAMPLES = 640
"""Edges of stretches are moved to multiples of 40 ms at most: frames are added up by so much audio first."""

_ADDED_AT_ONCE = 64
"""Frames that are added up together on a processor: less than 1 MB in float32, which stays in the cache."""


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
    grid = _grid_of(count, spans, samples)
    sums, powers = _block_sums(frames.T, grid.size, grid.blocks)
    place = torch.arange(grid.blocks)
    inside = to_device(((place >= grid.first) & (place < grid.last)).float(), frames.device)  # (W, blocks)
    per_block = torch.full((grid.blocks, 1), float(grid.size), device=frames.device)
    per_block[-1] = count - (grid.blocks - 1) * grid.size
    return _statistics(inside, per_block, sums, powers)


def statistics_of_ragged(
    frames: Tensor, counts: Sequence[int], spans: Sequence[Sequence[Span]], samples: Sequence[int]
) -> Statistics:
    """Describe stretches of several utterances at once, as `statistics_of` does those of one.

    Parameters
    ----------
    frames : (N, C) tensor
        Of all utterances behind one another, `counts` of each.
    spans
        Stretches of each utterance; those of the first come first in what is returned.
    samples
        Length of each utterance.
    """
    grids = [_grid_of(*one) for one in zip(counts, spans, samples, strict=True)]
    sizes = torch.tensor(
        [
            min(grid.size, count - place * grid.size)
            for count, grid in zip(counts, grids, strict=True)
            for place in range(grid.blocks)
        ]
    )
    starts = torch.tensor([0] + [grid.blocks for grid in grids[:-1]]).cumsum(0)
    first = torch.cat([grid.first + start for grid, start in zip(grids, starts, strict=True)])
    last = torch.cat([grid.last + start for grid, start in zip(grids, starts, strict=True)])
    edges = to_device(torch.cat((first, last), dim=1), frames.device)
    lengths = to_device(sizes, frames.device)
    values = frames.float()
    sums = reduced(values, "sum", lengths)
    powers = reduced(values.square(), "sum", lengths)
    place = torch.arange(len(sizes), device=frames.device)
    inside = ((place >= edges[:, :1]) & (place < edges[:, 1:])).float()
    return _statistics(inside, lengths.unsqueeze(1).float(), sums, powers)


class _Grid(NamedTuple):
    """Blocks of `size` frames of one utterance, and from which to before which each stretch has them, (W, 1) each."""

    size: int
    blocks: int
    first: Tensor
    last: Tensor


def _grid_of(count: int, spans: Sequence[Span], samples: int) -> _Grid:
    size = max(1, count * GRID_SAMPLES // samples)
    while size > 1 and count // size < 2:
        size -= 1
    blocks = -(-count // size)
    edges = torch.tensor(spans, dtype=torch.float64).view(-1, 2) * (count / size / samples)
    least = 1 if size > 1 else 2
    first = edges[:, :1].round().clamp(0, blocks - least)
    return _Grid(size, blocks, first, torch.maximum(edges[:, 1:].round().clamp(max=blocks), first + least))


def _statistics(inside: Tensor, per_block: Tensor, sums: Tensor, powers: Tensor) -> Statistics:
    """Put blocks together: (W, blocks) which, (blocks, 1) frames of each, (blocks, C) sums of values and squares."""
    held = inside @ per_block
    mean = inside @ sums / held
    return Statistics(mean, (inside @ powers / held - mean.square()).clamp(min=0.0), held)


def _block_sums(rows: Tensor, size: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Add up (T, C) rows and their squares, so many rows at a time: (blocks, C) each, in float32."""
    sums = rows.new_empty((blocks, rows.shape[1]), dtype=torch.float32)
    powers = torch.empty_like(sums)
    at_once = max(1, _ADDED_AT_ONCE // size) if rows.device.type == "cpu" else blocks
    for first in range(0, blocks, at_once):
        last = min(first + at_once, blocks)
        values = rows[first * size : last * size].to(torch.float32, copy=True)
        if lacking := (last - first) * size - len(values):
            values = functional.pad(values, (0, 0, 0, lacking))
        torch.sum(values.view(last - first, size, -1), dim=1, out=sums[first:last])
        # In place: values and squares side by side would not stay in the cache.
        torch.sum(values.square_().view(last - first, size, -1), dim=1, out=powers[first:last])
    return sums, powers
