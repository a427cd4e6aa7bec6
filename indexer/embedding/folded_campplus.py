"""CAM++ as a chain of packed products: what the trained network computes, in the order that a processor is good at.

Frames are rows, with their channels side by side. A normalization behind a convolution is part of its weights. Of one
before a product, with ReLU between, a bound is left: ReLU(s x + o) is s max(x, -o / s) + o for s > 0, and s and o are
part of the product. The result is that of `CamPlus` but for rounding.

oneDNN compiles a kernel for every shape it meets, in half a millisecond each and 0.3 MB, and CAM++ has thirty widths.
So shapes are few, whatever the length of an utterance: rows go through in pieces of a few sizes, the images of the
head in tiles of a few, and channels are filled up to a few widths. Rows and channels that only fill count nowhere.
"""

from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.campplus import (
    TIME_STRIDE,
    CamPlus,
    CamPlusConfig,
    DenseBlock,
    DenseLayer,
    Head,
    ImageConv,
    ResidualBlock,
)
from indexer.embedding.products import Product, affine
from indexer.embedding.windows import Statistics
from indexer.torch_threads import one_thread

_GRID = 16
"""Rows of which pieces and tiles have a multiple."""

_LARGEST_PIECE = 256
"""Rows of a product: what it reads, 1 MB at most, stays in the cache."""

_FEW_THREADS = 2
"""Up to so many leave the dense blocks of a pass of one piece (5 s) to one of them: two that share its small operations
need a third more processor time; they end a tenth sooner where nothing else runs, far later where something does."""

_LARGEST_TILE = 160
"""Frames of the dense blocks that the head makes at once. Around them it computes some 24 of its own in vain, so that
smaller tiles are slower; larger ones gain nothing."""

_WIDTHS = 128
"""Channels of which what a product reads has a multiple: eight kinds and not thirty, for 1 % of the time of a pass."""

_MOST_TABLED = 5
"""Segments whose contexts are made by one product with all frames; of more, each frame is added to its own only."""

_LEAST_SCALE = 1e-20
"""Of a normalization: below it a channel says nothing but its offset, and its bound would be out of range."""

_PLANE, _PLANE_ADDED = torch.ops.mkldnn._convolution_pointwise.default, torch.ops.mkldnn._convolution_pointwise_.binary


def can_fold(config: CamPlusConfig) -> bool:
    """Whether `FoldedCamPlus` computes this network: all whose convolutions over time have a middle."""
    return config.kernel % 2 == 1 and all(shape.kernel % 2 == 1 for shape in config.blocks)


class _Plane:
    """Convolution of (B, C, T, F) whose channels lie side by side, with ReLU unless said otherwise."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
    ) -> None:
        weight = weight.contiguous(memory_format=torch.channels_last)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, dilation, 1, None)
        self._bias = bias
        self._steps = padding, stride, dilation, 1

    def __call__(self, x: Tensor, then: str = "relu") -> Tensor:
        """Map (B, C_in, T, F) to (B, C, T', F')."""
        return cast(Tensor, _PLANE(x, self._weight, self._bias, *self._steps, then, [], ""))

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """Add to `other`, in place, and return ReLU of the sum."""
        return cast(Tensor, _PLANE_ADDED(other, x, self._weight, self._bias, *self._steps, "add", 1.0, "relu", [], ""))


class _Head:
    """From features to what the dense blocks read, tile by tile: the head and the first convolution over time.

    No convolution here adds anything around a tile: each one leaves two frames less (the last one more), and frames
    around the utterance are set to zero before each, which is what the network pads with.
    """

    def __init__(self, head: Head, network: CamPlus) -> None:
        self._stem, self._last = _image(head.stem), _image(head.last)
        self._blocks = [_residual(cast(ResidualBlock, block)) for block in head.blocks]
        scale, offset = affine(network.stem_norm)
        weight = network.stem.weight * scale[:, None, None]  # (C, C_head x F, kernel): frequencies are side by side
        weight = weight.view(len(weight), network.config.head_channels, -1, network.config.kernel)
        weight = weight.transpose(1, 2).flatten(1, 2)
        self._over_time = _Plane(weight.unsqueeze(2), offset, stride=(1, TIME_STRIDE))
        self._kernel = network.config.kernel
        self._margin = 2 + 2 * len(self._blocks)  # frames on each side that the images lose
        self.width = network.config.channels

    def __call__(self, rows: Tensor, out: Tensor) -> None:
        """Write the (T', C) frames that the (T, F) features of an utterance give."""
        size = _piece(len(out), _LARGEST_TILE)
        for first in range(0, len(out), size):
            last = min(len(out), first + size)
            out[first:last] = self._tile(rows, first, size)[: last - first]

    def _tile(self, rows: Tensor, first: int, size: int) -> Tensor:
        frames = len(rows)
        start = TIME_STRIDE * first - self._kernel // 2 - self._margin
        count = TIME_STRIDE * (size - 1) + self._kernel + 2 * self._margin
        x = functional.pad(rows[max(0, start) : start + count], (0, 0, max(0, -start), max(0, start + count - frames)))

        def padded(x: Tensor) -> Tensor:
            before = (count - x.shape[2]) // 2 + start
            if before < 0:
                x[:, :, :-before] = 0.0
            if before + x.shape[2] > frames:
                x[:, :, max(0, frames - before) :] = 0.0
            return x

        x = padded(self._stem(x.view(1, -1, 1, x.shape[1]).permute(0, 2, 1, 3)))
        for one, two, shortcut in self._blocks:
            y = padded(one(x))
            x = x[:, :, 2:-2]
            x = padded(two.added_to(x if shortcut is None else shortcut(x, "none"), y))
        x = padded(self._last(x)).permute(0, 2, 3, 1).flatten(2).unsqueeze(1)  # (1, 1, T, F x C)
        return self._over_time(x.permute(0, 3, 1, 2))[0, :, 0].T


def _residual(block: ResidualBlock) -> tuple[_Plane, _Plane, _Plane | None]:
    shortcut = None if block.shortcut is None else _image(block.shortcut)
    return _image(block.first), _image(block.second), shortcut


def _image(layer: ImageConv) -> _Plane:
    scale, offset = affine(layer.norm)
    # The network's images are of (F, T): here the frequencies come last.
    weight = (layer.conv.weight * scale[:, None, None, None]).transpose(2, 3)
    return _Plane(weight, offset, stride=(1, layer.conv.stride[0]), padding=(0, cast(int, layer.conv.padding[0])))


class _Bounded:
    """Normalization, ReLU and product of rows, and what follows: another normalization and ReLU, or nothing."""

    def __init__(self, norm: nn.BatchNorm1d, conv: nn.Conv1d, then: nn.BatchNorm1d | None = None) -> None:
        scale, offset = (value.double() for value in affine(norm))
        mute = scale.abs() < _LEAST_SCALE
        scale, offset = scale.masked_fill(mute, 0.0), torch.where(mute, offset.clamp(min=0.0), offset)
        bound = torch.where(mute, 0.0, -offset / scale)
        weight = conv.weight[:, :, 0].double()
        weight, bias = weight * scale, weight @ offset
        if then is not None:
            scale_then, offset_then = affine(then)
            weight, bias = weight * scale_then[:, None], bias * scale_then + offset_then
        lacking = -len(bound) % _WIDTHS
        self.width = len(bound) + lacking
        weight, bound, falling = (functional.pad(one, (0, lacking)) for one in (weight, bound, scale < 0.0))
        self._low, self._high = bound.float(), None
        if bool(falling.any()):  # A negative scale turns the bound around; few channels of a network have one.
            limit = torch.tensor(torch.inf)
            self._low, self._high = torch.where(falling, -limit, self._low), torch.where(falling, self._low, limit)
        self._product = Product(weight.float(), bias.float(), torch.float32, relu=then is not None)

    def __call__(self, rows: Tensor) -> Tensor:
        """Map the first channels of (N, K) rows to (N, C)."""
        x = rows[:, : self.width]
        return self._product(
            torch.maximum(x, self._low) if self._high is None else torch.clamp(x, self._low, self._high)
        )


class _Division:
    """How frames of a pass are divided: rows into pieces for products, each utterance into segments for masks."""

    def __init__(self, batch: int, frames: int, segment: int) -> None:
        self.batch, self.frames = batch, frames
        self._size = _piece(batch * frames, _LARGEST_PIECE)
        self.rows = -(-batch * frames // self._size) * self._size
        self._segment = segment
        lengths = [len(range(frames)[first : first + segment]) for first in range(0, frames, segment)]
        self._shares = torch.tensor(lengths).reciprocal().unsqueeze(1)  # (segments, 1)
        self._table: Tensor | None = None
        if len(lengths) <= _MOST_TABLED:
            # What each frame counts in the context of each segment, (B, segments, T).
            table = torch.full((len(lengths), frames), 1.0 / frames)
            for number, share in enumerate(self._shares[:, 0].tolist()):
                table[number, number * segment : (number + 1) * segment] += share
            self._table = table.expand(batch, -1, -1)

    def in_pieces(self, product: _Bounded, rows: Tensor) -> Tensor:
        """Map all (N, K) rows, those that only fill too, to the (B, T, C) frames of the pass."""
        made = [product(rows[first : first + self._size]) for first in range(0, self.rows, self._size)]
        return self.of_rows(made[0] if len(made) == 1 else torch.cat(made))

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the (B, T, C) frames that (N, C) rows begin with."""
        return rows[: self.batch * self.frames].view(self.batch, self.frames, -1)

    def segments(self, x: Tensor) -> list[Tensor]:
        """Divide (B, T, C) into segments: all whole ones, (B, segments, size, C), then a shorter one if there is."""
        whole = self.frames // self._segment
        end = whole * self._segment
        parts = [torch.unflatten(x[:, :end], 1, (whole, self._segment))] if whole else []
        return [*parts, x[:, end:].unsqueeze(1)] if end < self.frames else parts

    def context(self, x: Tensor) -> Tensor:
        """Add the mean of each segment to that of the utterance: (B, T, C) -> (B, segments, C)."""
        if self._table is not None:
            return torch.bmm(self._table, x)
        sums = [part.sum(dim=2) for part in self.segments(x)]
        each = sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)
        return torch.addcmul(each.sum(dim=1, keepdim=True) / self.frames, each, self._shares)


class _Linear:
    """Linear map of so few rows that packing is not worth it: (N, K) -> (N, C)."""

    def __init__(self, conv: nn.Conv1d) -> None:
        assert conv.bias is not None
        self._bias, self._weight = conv.bias, conv.weight[:, :, 0].T.contiguous()

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.addmm(self._bias, rows, self._weight)


class _Layer:
    """A dense layer, which reads the first channels of the joined frames."""

    def __init__(self, layer: DenseLayer) -> None:
        self._narrow = _Bounded(layer.norm, layer.narrow, layer.narrow_norm)
        local = layer.masked.local
        padding, dilation = cast(int, local.padding[0]), local.dilation[0]
        self._local = _Plane(local.weight.unsqueeze(2), None, padding=(0, padding), dilation=(1, dilation))
        self._squeeze, self._excite = _Linear(layer.masked.squeeze), _Linear(layer.masked.excite)

    def __call__(self, joined: Tensor, out: Tensor, division: _Division) -> None:
        """Read (N, K) rows and write (B, T, C) frames."""
        x = division.in_pieces(self._narrow, joined)
        hidden = self._squeeze(division.context(x).flatten(0, 1)).relu_()
        mask = self._excite(hidden).sigmoid_().view(division.batch, -1, 1, out.shape[2])
        local = self._local(x.transpose(1, 2).unsqueeze(2), "none")[:, :, 0].transpose(1, 2)
        first = 0
        for part, target in zip(division.segments(local), division.segments(out), strict=True):
            # All frames of a segment share one mask.
            torch.mul(part, mask[:, first : first + part.shape[1]], out=target)
            first += part.shape[1]


class _Block:
    """A dense block: a table of joined frames that its layers fill from the left, then a narrowing."""

    def __init__(self, block: DenseBlock) -> None:
        self._layers = [_Layer(cast(DenseLayer, layer)) for layer in block.layers]
        self._growth = block.growth
        self._width = block.transit.in_channels - len(self._layers) * block.growth
        self._transit = _Bounded(block.norm, block.transit)

    def joined(self, division: _Division) -> tuple[Tensor, Tensor]:
        """Return the table, (N, K) rows of zeros, and its part that holds the (B, T, C) input."""
        rows = torch.zeros(division.rows, self._transit.width)
        return rows, division.of_rows(rows)[:, :, : self._width]

    def __call__(self, rows: Tensor, division: _Division) -> Tensor:
        """Fill the table; return (B, T, C') frames."""
        frames, width = division.of_rows(rows), self._width
        for layer in self._layers:
            layer(rows, frames[:, :, width : width + self._growth], division)
            width += self._growth
        return division.in_pieces(self._transit, rows)


class FoldedCamPlus:
    """The network of a `CamPlus` on a processor, called as it is, in float32.

    Parameters
    ----------
    network : CamPlus
        In evaluation mode; `can_fold` says which. Its weights are copied.
    """

    def __init__(self, network: CamPlus) -> None:
        self._segment = network.config.segment_frames
        with torch.inference_mode():
            self._head = _Head(network.head, network)
            self._blocks = [_Block(cast(DenseBlock, block)) for block in network.blocks]
            self._scale, self._offset = affine(network.norm)
            mean, variance = network.embedding_norm.running_mean, network.embedding_norm.running_var
            assert mean is not None
            assert variance is not None
            scale = torch.rsqrt(variance + network.embedding_norm.eps)
            self._embedding = (network.embedding.weight[:, :, 0] * scale[:, None], -mean * scale)

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Map (B, F, T) features, of which `valid` frames are speech, to (B, D) vectors; see `CamPlus`."""
        return self.with_frames(frames, valid)[0]

    def with_frames(self, frames: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Return also the (B, C, T / 2) frames that the vectors were pooled from, all of them valid."""
        rows = frames[:, :, :valid].transpose(1, 2).contiguous()
        division = _Division(len(rows), (valid - 1) // TIME_STRIDE + 1, self._segment)
        table, first = self._blocks[0].joined(division)
        for one, out in zip(rows, first, strict=True):
            self._head(one, out)
        alone = division.rows <= _LARGEST_PIECE and torch.get_num_threads() <= _FEW_THREADS
        with one_thread() if alone else nullcontext():
            mean, deviation, x = self._pooled(table, division)
            return self._embedded(mean, deviation), x.transpose(1, 2)

    def _pooled(self, table: Tensor, division: _Division) -> tuple[Tensor, Tensor, Tensor]:
        """Run the dense blocks; return the (B, C) mean and deviation of their (B, T, C) frames, and these."""
        x = self._blocks[0](table, division)
        for block in self._blocks[1:]:
            table, first = block.joined(division)
            first.copy_(x)
            x = block(table, division)
        x = torch.addcmul(self._offset, x, self._scale).relu_()
        mean = x.mean(dim=1)
        squares = (x - mean.unsqueeze(1)).square_().sum(dim=1)
        return mean, (squares / (division.frames - 1)).sqrt_(), x

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of frames to (W, D) vectors; this network pools evenly always."""
        unbiased = stretches.variance * (stretches.frames / (stretches.frames - 1))
        return self._embedded(stretches.mean, unbiased.sqrt())

    def _embedded(self, mean: Tensor, deviation: Tensor) -> Tensor:
        return functional.linear(torch.cat((mean, deviation), dim=1), *self._embedding)


def _piece(count: int, largest: int) -> int:
    """Return the size of equal pieces of so many rows: `largest` at most, and a multiple of the grid."""
    number = -(-count // largest)
    return -(-count // (number * _GRID)) * _GRID
