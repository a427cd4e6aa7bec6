"""ECAPA as a chain of matrix products: what the trained network computes, in the order that a processor is good at.

Batch normalization after ReLU is a scale and an offset of each channel. A positive scale moves through ReLU into the
convolution before it; its sign and the offset move into whatever reads the channel next. So no normalization is left,
and all that is left of a convolution is one product of (frames, inputs) by packed weights, with ReLU in the same pass.
The result is that of `Ecapa` but for rounding. In bfloat16 gates and pooling stay in float32, and for short utterances
the first layer too; of long ones the largest product may be of bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.ecapa import (
    AffineEmbedding,
    AttentivePooling,
    ConvShape,
    Ecapa,
    EcapaConfig,
    GatedBlock,
    Res2Cascade,
    TimeConv,
)
from indexer.embedding.parts import Ends, Part
from indexer.embedding.passes import run_shares
from indexer.embedding.products import ByteProduct, Convolution, Product, Stored, affine
from indexer.embedding.ragged import Ragged
from indexer.embedding.shares import GRID, Share, shares_of
from indexer.embedding.windows import Statistics

_Made = TypeVar("_Made")

_SMALLEST_SHARE = 64
"""Frames of an utterance that are worth a thread of their own: at the edges of its share up to 28 are computed twice,
by the smallest of all layers."""

COARSER_FROM_S = 2.0
"""Seconds of an utterance from which more may be rounded off, for over many frames that cancels out: one-second words
would lose more EER than `fast` may, and some of them more of their cosine."""

_COARSER_FROM = round(100 * COARSER_FROM_S)
"""Frames of speech of such an utterance."""

_POOLED_AT_ONCE = 256
"""Frames whose weights are made before they are added up: 3 MB in float32, which stays in the cache."""

_LARGEST_EXPONENT = 100.0
"""Of 2: a thousand frames' sum of such numbers, squared channels and all, is far from the limits of float32."""


def can_fold(config: EcapaConfig) -> bool:
    """Whether `FoldedEcapa` computes this network: all that was published with attention, none of the plain ones."""
    odd = all(shape.dilation * (shape.kernel - 1) % 2 == 0 for shape in (config.stem, *config.blocks))
    return config.pooling == "attention" and odd and config.aggregation.kernel == 1


def products_in_bytes(network: object, frames: int) -> int:
    """Multiplications of an utterance of two seconds or more that are of bytes where the processor is quick at such."""
    if not (isinstance(network, EcapaConfig) and can_fold(network)):
        return 0
    return frames * (len(network.blocks) * network.channels) ** 2


class _Groups:
    """One convolution in groups, or the Res2Net cascade: (B, T, C) -> (B, T, C)."""

    def __init__(
        self, block: GatedBlock, config: EcapaConfig, shape: ConvShape, stored: Stored, dtype: torch.dtype
    ) -> None:
        self._width = config.channels // config.scale
        self._wide = shape.padding
        signs, offsets = torch.split(stored.sign, self._width), torch.split(stored.offset, self._width)
        self._branches: list[Convolution] = []
        self._joins: list[Tensor | None] = []
        parts: list[Stored] = []
        if isinstance(block.middle, Res2Cascade):
            parts.append(Stored(signs[0], offsets[0]))
            for number, layer in enumerate(block.middle.branches, start=1):
                chunk, join = Stored(signs[number], offsets[number]), None
                if number > 1:
                    # Chunk and previous result are added as they are kept, where both are kept with one sign.
                    before = parts[-1]
                    differs = before.sign * chunk.sign
                    join = None if bool((differs > 0).all()) else differs.to(dtype)
                    chunk = Stored(before.sign, before.offset + chunk.offset)
                self._joins.append(join)
                self._branches.append(Convolution(cast(TimeConv, layer), shape, config.padding, chunk, dtype))
                parts.append(self._branches[-1].stored)
        else:
            layer = cast(TimeConv, block.middle)
            for number, (sign, offset) in enumerate(zip(signs, offsets, strict=True)):
                read = Stored(sign, offset)
                self._branches.append(Convolution(layer, shape, config.padding, read, dtype, number))
                parts.append(self._branches[-1].stored)
        self._cascade = isinstance(block.middle, Res2Cascade)
        self.stored = Stored(torch.cat([part.sign for part in parts]), torch.cat([part.offset for part in parts]))

    def __call__(self, x: Tensor, part: Part) -> Tensor:
        wide = self._wide * (len(self._branches) if self._cascade else 1)
        around, ends = part.widened(x, wide)  # and as many rows behind it as the output's need
        chunks = torch.split(around, self._width, dim=2)
        if not self._cascade:
            return torch.cat([branch(chunk, ends) for branch, chunk in zip(self._branches, chunks, strict=True)], dim=2)
        # Frames of neighbors are convolved as if the utterance ended with them, which is wrong for some of those, and
        # for none of our own: each convolution spoils as many as it reads on one side.
        filled = None if ends.filled is None else around.shape[1]
        whole = Ends(True, True, ends.ragged, ends.frames, filled)
        before = chunks[0]
        outputs = [before]
        for number, (branch, join, chunk) in enumerate(zip(self._branches, self._joins, chunks[1:], strict=True)):
            if number == 0:
                summed = chunk
            elif join is None:
                summed = before + chunk
            else:
                summed = torch.addcmul(before, chunk, join)
            before = branch(summed, whole)
            outputs.append(before)
        start = 0 if ends.start else wide
        return torch.cat(outputs, dim=2)[:, start : start + x.shape[1]]


class _Block:
    """Expand, convolve over time, reduce, gate, and add the input, which is kept with the signs `stored` has."""

    def __init__(self, block: GatedBlock, config: EcapaConfig, shape: ConvShape, stored: Stored, dtype: torch.dtype):
        point = ConvShape(1, 1)
        self._expand = Convolution(block.expand, point, "zeros", stored, dtype)
        self._middle = _Groups(block, config, shape, self._expand.stored, dtype)
        self._reduce = Convolution(block.reduce, point, "zeros", self._middle.stored, dtype)
        out = self._reduce.stored
        gate = block.gate
        assert gate.squeeze.bias is not None
        assert gate.excite.bias is not None
        squeeze, excite = gate.squeeze.weight[:, :, 0], gate.excite.weight[:, :, 0]
        self._squeeze = (squeeze * out.sign, gate.squeeze.bias + squeeze @ out.offset)
        scale, offset = affine(gate.norm) if isinstance(gate.norm, nn.BatchNorm1d) else (squeeze.new_ones(1), None)
        shift = gate.excite.bias if offset is None else gate.excite.bias + excite @ offset
        self._excite = (excite * scale, shift)
        self._sign, self._offset = stored.sign * out.sign, stored.sign * out.offset

    def __call__(self, x: Tensor, part: Part) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        result = self._reduce(self._middle(self._expand(x), part))
        rows, frames, spoken = part.speech(result)
        mean = spoken.total(spoken.sum(rows[:, :frames]).float()) / part.counts  # added up in float32
        hidden = functional.linear(mean, *self._squeeze).relu_()
        gate = functional.linear(hidden, *self._excite).sigmoid_()  # (B, C)
        # The offset of what is gated is added here: it differs between utterances, so no product can take it along.
        offset, sign = part.spread((gate * self._offset).to(x.dtype)), part.spread((gate * self._sign).to(x.dtype))
        return torch.addcmul(x + offset, result, sign)


class _Pooling:
    """Attentive mean and deviation of frames of which `scale` x kept + `offset` is the network's value."""

    def __init__(self, pooling: AttentivePooling, norm: nn.BatchNorm1d, dtype: torch.dtype) -> None:
        self._scale, self._offset = affine(norm)
        assert pooling.context.conv.bias is not None
        frames, means, deviations = pooling.context.conv.weight[:, :, 0].chunk(3, dim=1)
        self._context = Product(frames * self._scale, torch.zeros(len(frames), device=frames.device), dtype)
        bias = pooling.context.conv.bias + (frames + means) @ self._offset
        self._means, self._deviations = (means * self._scale, bias), deviations * self._scale.abs()
        self._hidden_scale, self._hidden_offset = affine(pooling.context.norm)
        score = pooling.score.weight[:, :, 0]
        # Powers of 2 and not of e, which a processor is quicker at. The bias of a score is the same for all frames of a
        # channel, so it cancels out.
        score = score / math.log(2.0)
        self._score = Product(score, torch.zeros(len(score), device=score.device), dtype)
        self.limited = float(score.abs().sum(dim=1).max()) <= _LARGEST_EXPONENT  # what is multiplied is a tanh
        self._dtype = dtype
        self._floor = pooling.variance_floor

    def evenly(self, stretches: Statistics) -> Tensor:
        """Pool stretches into (W, 2 C) without attention."""
        deviation = (stretches.variance * self._scale.square()).clamp(min=self._floor).sqrt()
        return torch.cat((self._scale * stretches.mean + self._offset, deviation), dim=1)

    def __call__(self, x: Tensor, part: Part) -> Tensor:
        """Pool the frames of speech of (B, T, C) into (B, 2 C)."""
        filled, frames, part = part.speech(x)
        filled = filled.contiguous()
        x, batch = filled[:, :frames], len(filled)
        # Whatever is near the mean will do as the center; in float32 sums of squares around it lose no digits.
        mean = part.total(part.sum(x).float()) / part.counts
        cached = self.limited and isinstance(part, Share) and x.device.type == "cpu"
        size = max(1, _POOLED_AT_ONCE // batch) if cached else frames
        centered = [some.float() - part.spread(mean) for some in torch.split(x, size, dim=1)]
        squares = cast(Tensor, sum(part.sum(some.square()) for some in centered))
        deviation = (part.total(squares) / part.counts).sqrt()
        constant = functional.linear(mean, *self._means) + functional.linear(deviation, self._deviations)
        hidden = self._context(filled.flatten(0, 1)).view(batch, filled.shape[1], -1) + part.spread(constant)
        hidden = torch.addcmul(self._hidden_offset, hidden.relu_(), self._hidden_scale).tanh_()
        weight = shift = power = torch.zeros_like(mean)
        hidden = hidden.to(self._dtype)
        for number, near in enumerate(centered):
            own = hidden[:, number * size : (number + 1) * size]
            score = self._score(own.flatten(0, 1)).view(batch, own.shape[1], -1)[:, : near.shape[1]].float()
            if not self.limited:
                score -= part.spread(part.highest(score))
            weights = score.exp2_()
            weight = weight + part.sum(weights)
            shift = shift + part.sum(weights.mul_(near))
            power = power + part.sum(weights.mul_(near))
        weight, shift, power = part.total(torch.stack((weight, shift, power)))
        shift = shift / weight
        variance = power / weight - shift.square()
        deviation = (variance * self._scale.square()).clamp(min=self._floor).sqrt()
        return torch.cat((self._scale * (mean + shift) + self._offset, deviation), dim=1)


class _Coarse(NamedTuple):
    stem: Convolution
    aggregation: ByteProduct


@dataclass(frozen=True, slots=True)
class _Layers:
    stem: Convolution
    margin: int
    blocks: tuple[_Block, ...]
    aggregation: Product
    coarse: _Coarse | None
    pooling: _Pooling
    embeddings: tuple[tuple[Tensor, Tensor], ...]


class FoldedEcapa:
    """The network of an `Ecapa`, called as it is.

    Parameters
    ----------
    network : Ecapa
        In evaluation mode, on the device to compute on; `can_fold` says which. Its weights are copied.
    dtype : torch.dtype
        Of the large products: float32, or bfloat16 with sums in float32.
    coarser : bool
        Whether the largest of them, half of all arithmetic, is of whole numbers of a byte, and the first layer of
        bfloat16, for utterances of two seconds or more that share no pass with others of any length.
    """

    def __init__(self, network: Ecapa, dtype: torch.dtype, *, coarser: bool = False) -> None:
        config = network.config
        self.dtype = dtype
        with torch.inference_mode():
            features = torch.zeros(config.bins, device=network.stem.conv.weight.device)
            plain = Stored(features + 1.0, features)
            stem = Convolution(network.stem, config.stem, config.padding, plain, torch.float32)
            stored = stem.stored  # Blocks add to it, and what they add has its signs and no offset.
            blocks = tuple(
                _Block(cast(GatedBlock, block), config, shape, stored, dtype)
                for block, shape in zip(network.blocks, config.blocks, strict=True)
            )
            conv = network.aggregation.conv
            assert conv.bias is not None
            weight, count = conv.weight[:, :, 0], len(blocks)
            bias = conv.bias + weight @ stored.offset.repeat(count)
            weight = weight * stored.sign.repeat(count)
            aggregation = Product(weight, bias, dtype, relu=True)
            coarse = None
            if coarser:
                coarse_stem = Convolution(network.stem, config.stem, config.padding, plain, dtype)
                coarse = _Coarse(coarse_stem, ByteProduct(weight, bias))
            pooling = _Pooling(cast(AttentivePooling, network.pooling), network.aggregation.norm, dtype)
            embeddings = tuple(_embedding(cast(AffineEmbedding, layer)) for layer in network.embeddings)
        self._layers = _Layers(stem, config.stem.padding, blocks, aggregation, coarse, pooling, embeddings)

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Map (B, F, T) features, of which `valid` frames are speech, to (B, D) float32 vectors; see `Ecapa`."""
        rows = frames.transpose(1, 2)

        def run(share: Share) -> Tensor:
            return self._layers.pooling(self._trunk(rows, share), share)

        return self._embedded(self._shared(run, rows, valid)[0])  # which is the same in all shares

    def with_frames(self, frames: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Return also the (B, blocks x C, T) frames that the vectors were pooled from, kept frame by frame."""
        rows = frames.transpose(1, 2)

        def run(share: Share) -> tuple[Tensor, Tensor]:
            x = self._trunk(rows, share)
            return self._layers.pooling(x, share), share.own(x)

        parts = self._shared(run, rows, valid)
        kept = parts[0][1] if len(parts) == 1 else torch.cat([x for _, x in parts], dim=1)
        return self._embedded(parts[0][0]), kept.transpose(1, 2)

    def of_ragged(self, rows: Tensor, ragged: Ragged) -> Tensor:
        """Map (1, N, F) features of utterances of any lengths to (B, D) float32 vectors."""
        return self.of_ragged_with_frames(rows, ragged)[0]

    def of_ragged_with_frames(self, rows: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Return also the (1, N, blocks x C) frames that the vectors were pooled from."""
        x = self._trunk(rows, ragged)
        return self._embedded(self._layers.pooling(x, ragged)), x

    def _shared(self, run: Callable[[Share], _Made], rows: Tensor, valid: int) -> list[_Made]:
        """Run over (B, T, F) frames, one utterance in as many shares as there are threads; return what each makes."""
        batch, count, _ = rows.shape
        threads = torch.get_num_threads() if rows.device.type == "cpu" else 1
        # Sharp attention is weighed beside the largest score of the utterance, which no share knows.
        if batch > 1 or threads < 2 or count < threads * _SMALLEST_SHARE or not self._layers.pooling.limited:
            return [run(Share(0, count, count, valid, grid=GRID if batch == 1 and rows.device.type == "cpu" else 1))]
        return run_shares(run, shares_of(count, threads, valid))

    def _trunk(self, rows: Tensor, part: Part) -> Tensor:
        layers = self._layers
        coarse = layers.coarse if isinstance(part, Share) and part.counts >= _COARSER_FROM else None
        read, ends = part.cut(rows, layers.margin)
        x = layers.stem(read, ends).to(self.dtype) if coarse is None else coarse.stem(read.to(self.dtype), ends)
        outputs = []
        for block in layers.blocks:
            x = block(x, part)
            outputs.append(x)
        if coarse is not None:
            return coarse.aggregation([one.flatten(0, 1) for one in outputs]).view(*x.shape[:2], -1)
        joined = torch.cat(outputs, dim=2)
        return layers.aggregation(joined.flatten(0, 1)).view(*joined.shape[:2], -1)

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of frames to (W, D) vectors, without attention."""
        return self._embedded(self._layers.pooling.evenly(stretches))

    def _embedded(self, pooled: Tensor) -> Tensor:
        for weight, bias in self._layers.embeddings:
            pooled = functional.linear(pooled, weight, bias)
        return pooled


def _embedding(layer: AffineEmbedding) -> tuple[Tensor, Tensor]:
    scale, offset = affine(layer.norm)
    weight = layer.linear.weight[:, :, 0]
    assert layer.linear.bias is not None
    return weight * scale, layer.linear.bias + weight @ offset
