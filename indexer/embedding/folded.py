"""ECAPA as a chain of matrix products: what the trained network computes, in the order that a processor is good at.

Batch normalization after ReLU is a scale and an offset of each channel. A positive scale moves through ReLU into the
convolution before it; its sign and the offset move into whatever reads the channel next. So no normalization is left,
and all that is left of a convolution is one product of (frames, inputs) by packed weights, with ReLU in the same pass.
The result is that of `Ecapa` but for rounding; in bfloat16 the first layer, gates and pooling stay in float32.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

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
    Padding,
    Res2Cascade,
    TimeConv,
)
from indexer.embedding.windows import Statistics

_PACKED_FOR_ROWS = 1024
"""Frames that the packing of weights is chosen for; other numbers work as well."""

_PACKED_PRODUCT = torch.ops.mkldnn._linear_pointwise.default

_KEPT_INDICES = 256
"""Tables of neighboring frames that are kept, five for each length of utterance."""


_POOLED_AT_ONCE = 256
"""Frames whose weights are made before they are added up: 3 MB in float32, which stays in the cache."""

_LARGEST_EXPONENT = 100.0
"""Of 2: a thousand frames' sum of such numbers, squared channels and all, is far from the limits of float32."""


def can_fold(config: EcapaConfig) -> bool:
    """Whether `FoldedEcapa` computes this network: all that was published with attention, none of the plain ones."""
    odd = all(shape.dilation * (shape.kernel - 1) % 2 == 0 for shape in (config.stem, *config.blocks))
    return config.pooling == "attention" and odd and config.aggregation.kernel == 1


class _Stored(NamedTuple):
    """How channels are kept: the network's value is `sign` x kept + `offset`, each (C,)."""

    sign: Tensor
    offset: Tensor


class _Product:
    """Linear map of rows, with ReLU where asked, in one pass: (N, K) -> (N, C)."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, relu: bool = False) -> None:
        self._weight = weight.to(dtype).contiguous()  # (C, K)
        self._bias = bias.to(dtype)
        self._then = "relu" if relu else "none"
        self._packed: Tensor | None = None
        if weight.device.type == "cpu" and _packs():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, _PACKED_FOR_ROWS)
            self._weight = self._weight[:0]  # the packed copy is the only one that is read

    def __call__(self, rows: Tensor) -> Tensor:
        if self._packed is not None:
            return cast(Tensor, _PACKED_PRODUCT(rows, self._packed, self._bias, self._then, [], ""))
        result = functional.linear(rows, self._weight, self._bias)
        return result.relu_() if self._then == "relu" else result


class _Neighbors:
    """Rows of each frame and those around it, as the convolution over time reads them: (B, T, C) -> (B T, kernel C)."""

    def __init__(self, shape: ConvShape, padding: Padding, edge: Tensor) -> None:
        self._shape = shape
        self._reflects = padding == "reflect"
        self._edge = edge  # (C,): what is kept for a frame outside of the utterance
        self._indices: dict[int, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        batch, frames, channels = x.shape
        wide = self._shape.padding
        if not self._reflects and wide:
            rim = self._edge.to(x.dtype).expand(batch, wide, channels)
            x = torch.cat((rim, x, rim), dim=1)
        rows = x.index_select(1, self._index(frames, x.device))
        return rows.view(batch * frames, self._shape.kernel * channels)

    def _index(self, frames: int, device: torch.device) -> Tensor:
        index = self._indices.get(frames)
        if index is None:
            if len(self._indices) >= _KEPT_INDICES // 5:
                self._indices = {}  # another thread may be reading the former
            taps = torch.arange(self._shape.kernel) * self._shape.dilation
            index = torch.arange(frames).unsqueeze(1) + taps
            if self._reflects:
                index = (index - self._shape.padding).abs()
                index = torch.minimum(index, 2 * (frames - 1) - index)
            index = self._indices[frames] = index.flatten().to(device)
        return index


class _Convolution:
    """Convolution over time of kept channels, ReLU and normalization; `stored` says how its output is kept."""

    def __init__(
        self, layer: TimeConv, shape: ConvShape, padding: Padding, stored: _Stored, dtype: torch.dtype, group: int = 0
    ) -> None:
        scale, offset = _affine(layer.norm)
        width = layer.conv.out_channels // layer.conv.groups
        part = slice(group * width, (group + 1) * width)
        scale, offset = scale[part], offset[part]
        weight = layer.conv.weight[part] * scale.abs()[:, None, None]  # (C, C_in, kernel)
        assert layer.conv.bias is not None
        bias = layer.conv.bias[part] * scale.abs() + weight.sum(2) @ stored.offset
        # (C, C_in, kernel) -> (C, kernel x C_in)
        flat = (weight * stored.sign[:, None]).transpose(1, 2).flatten(1)
        self._product = _Product(flat, bias, dtype, relu=True)
        self._neighbors = _Neighbors(shape, padding, -stored.sign * stored.offset) if shape.kernel > 1 else None
        self.stored = _Stored(_signs(scale), offset)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, T, C_in) to (B, T, C)."""
        batch, frames, _ = x.shape
        rows = x.flatten(0, 1) if self._neighbors is None else self._neighbors(x)
        return self._product(rows).view(batch, frames, -1)


class _Groups:
    """One convolution in groups, or the Res2Net cascade: (B, T, C) -> (B, T, C)."""

    def __init__(
        self, block: GatedBlock, config: EcapaConfig, shape: ConvShape, stored: _Stored, dtype: torch.dtype
    ) -> None:
        self._width = config.channels // config.scale
        signs, offsets = torch.split(stored.sign, self._width), torch.split(stored.offset, self._width)
        self._branches: list[_Convolution] = []
        self._joins: list[Tensor | None] = []
        parts: list[_Stored] = []
        if isinstance(block.middle, Res2Cascade):
            parts.append(_Stored(signs[0], offsets[0]))
            for number, layer in enumerate(block.middle.branches, start=1):
                chunk, join = _Stored(signs[number], offsets[number]), None
                if number > 1:
                    # Chunk and previous result are added as they are kept, where both are kept with one sign.
                    before = parts[-1]
                    differs = before.sign * chunk.sign
                    join = None if bool((differs > 0).all()) else differs.to(dtype)
                    chunk = _Stored(before.sign, before.offset + chunk.offset)
                self._joins.append(join)
                self._branches.append(_Convolution(cast(TimeConv, layer), shape, config.padding, chunk, dtype))
                parts.append(self._branches[-1].stored)
        else:
            layer = cast(TimeConv, block.middle)
            for number, (sign, offset) in enumerate(zip(signs, offsets, strict=True)):
                read = _Stored(sign, offset)
                self._branches.append(_Convolution(layer, shape, config.padding, read, dtype, number))
                parts.append(self._branches[-1].stored)
        self._cascade = isinstance(block.middle, Res2Cascade)
        self.stored = _Stored(torch.cat([part.sign for part in parts]), torch.cat([part.offset for part in parts]))

    def __call__(self, x: Tensor) -> Tensor:
        chunks = torch.split(x, self._width, dim=2)
        if not self._cascade:
            return torch.cat([branch(chunk) for branch, chunk in zip(self._branches, chunks, strict=True)], dim=2)
        outputs = [chunks[0]]
        for number, (branch, join, chunk) in enumerate(zip(self._branches, self._joins, chunks[1:], strict=True)):
            if number == 0:
                summed = chunk
            elif join is None:
                summed = outputs[-1] + chunk
            else:
                summed = torch.addcmul(outputs[-1], chunk, join)
            outputs.append(branch(summed))
        return torch.cat(outputs, dim=2)


class _Block:
    """Expand, convolve over time, reduce, gate, and add the input, which is kept with the signs `stored` has."""

    def __init__(self, block: GatedBlock, config: EcapaConfig, shape: ConvShape, stored: _Stored, dtype: torch.dtype):
        point = ConvShape(1, 1)
        self._expand = _Convolution(block.expand, point, "zeros", stored, dtype)
        self._middle = _Groups(block, config, shape, self._expand.stored, dtype)
        self._reduce = _Convolution(block.reduce, point, "zeros", self._middle.stored, dtype)
        out = self._reduce.stored
        gate = block.gate
        assert gate.squeeze.bias is not None
        assert gate.excite.bias is not None
        squeeze, excite = gate.squeeze.weight[:, :, 0], gate.excite.weight[:, :, 0]
        self._squeeze = (squeeze * out.sign, gate.squeeze.bias + squeeze @ out.offset)
        scale, offset = _affine(gate.norm) if isinstance(gate.norm, nn.BatchNorm1d) else (squeeze.new_ones(1), None)
        shift = gate.excite.bias if offset is None else gate.excite.bias + excite @ offset
        self._excite = (excite * scale, shift)
        self._sign, self._offset = stored.sign * out.sign, stored.sign * out.offset

    def __call__(self, x: Tensor, valid: int) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        result = self._reduce(self._middle(self._expand(x)))
        mean = result[:, :valid].sum(dim=1).float() / valid  # added up in float32
        hidden = functional.linear(mean, *self._squeeze).relu_()
        gate = functional.linear(hidden, *self._excite).sigmoid_().unsqueeze(1)  # (B, 1, C)
        # The offset of what is gated is added here: it differs between utterances, so no product can take it along.
        return torch.addcmul(x + (gate * self._offset).to(x.dtype), result, (gate * self._sign).to(x.dtype))


class _Pooling:
    """Attentive mean and deviation of frames of which `scale` x kept + `offset` is the network's value."""

    def __init__(self, pooling: AttentivePooling, norm: nn.BatchNorm1d, dtype: torch.dtype) -> None:
        self._scale, self._offset = _affine(norm)
        assert pooling.context.conv.bias is not None
        frames, means, deviations = pooling.context.conv.weight[:, :, 0].chunk(3, dim=1)
        self._context = _Product(frames * self._scale, torch.zeros(len(frames), device=frames.device), dtype)
        bias = pooling.context.conv.bias + (frames + means) @ self._offset
        self._means, self._deviations = (means * self._scale, bias), deviations * self._scale.abs()
        self._hidden_scale, self._hidden_offset = _affine(pooling.context.norm)
        score = pooling.score.weight[:, :, 0]
        # Powers of 2 and not of e, which a processor is quicker at. The bias of a score is the same for all frames of a
        # channel, so it cancels out.
        score = score / math.log(2.0)
        self._score = _Product(score, torch.zeros(len(score), device=score.device), dtype)
        self._limited = float(score.abs().sum(dim=1).max()) <= _LARGEST_EXPONENT  # what is multiplied is a tanh
        self._dtype = dtype
        self._floor = pooling.variance_floor

    def evenly(self, stretches: Statistics) -> Tensor:
        """Pool stretches into (W, 2 C) without attention."""
        deviation = (stretches.variance * self._scale.square()).clamp(min=self._floor).sqrt()
        return torch.cat((self._scale * stretches.mean + self._offset, deviation), dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        """Pool (B, T, C) into (B, 2 C)."""
        batch, frames, _ = x.shape
        # Whatever is near the mean will do as the center; in float32 sums of squares around it lose no digits.
        mean = x.mean(dim=1, keepdim=True).float()
        cached = self._limited and x.device.type == "cpu"
        size = max(1, _POOLED_AT_ONCE // batch) if cached else frames
        centered = [part.float() - mean for part in torch.split(x, size, dim=1)]
        deviation = (_total(part.square() for part in centered) / frames).sqrt()
        mean = mean.squeeze(1)
        constant = functional.linear(mean, *self._means) + functional.linear(deviation, self._deviations)
        hidden = self._context(x.flatten(0, 1)).view(batch, frames, -1) + constant.unsqueeze(1)
        hidden = torch.addcmul(self._hidden_offset, hidden.relu_(), self._hidden_scale).tanh_()
        weight = shift = power = torch.zeros_like(mean)
        for own, near in zip(torch.split(hidden.to(self._dtype), size, dim=1), centered, strict=True):
            score = self._score(own.flatten(0, 1)).view(near.shape).float()
            if not self._limited:
                score -= score.amax(dim=1, keepdim=True)
            weights = score.exp2_()
            weight = weight + weights.sum(dim=1)
            shift = shift + weights.mul_(near).sum(dim=1)
            power = power + weights.mul_(near).sum(dim=1)
        shift = shift / weight
        variance = power / weight - shift.square()
        deviation = (variance * self._scale.square()).clamp(min=self._floor).sqrt()
        return torch.cat((self._scale * (mean + shift) + self._offset, deviation), dim=1)


@dataclass(frozen=True, slots=True)
class _Layers:
    stem: _Convolution
    blocks: tuple[_Block, ...]
    aggregation: _Product
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
    """

    def __init__(self, network: Ecapa, dtype: torch.dtype) -> None:
        config = network.config
        self._dtype = dtype
        with torch.inference_mode():
            features = torch.zeros(config.bins, device=network.stem.conv.weight.device)
            plain = _Stored(features + 1.0, features)
            stem = _Convolution(network.stem, config.stem, config.padding, plain, torch.float32)
            stored = stem.stored  # Blocks add to it, and what they add has its signs and no offset.
            blocks = tuple(
                _Block(cast(GatedBlock, block), config, shape, stored, dtype)
                for block, shape in zip(network.blocks, config.blocks, strict=True)
            )
            conv = network.aggregation.conv
            assert conv.bias is not None
            weight, count = conv.weight[:, :, 0], len(blocks)
            bias = conv.bias + weight @ stored.offset.repeat(count)
            aggregation = _Product(weight * stored.sign.repeat(count), bias, dtype, relu=True)
            pooling = _Pooling(cast(AttentivePooling, network.pooling), network.aggregation.norm, dtype)
            embeddings = tuple(_embedding(cast(AffineEmbedding, layer)) for layer in network.embeddings)
        self._layers = _Layers(stem, blocks, aggregation, pooling, embeddings)

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Map (B, F, T) features, of which `valid` frames are speech, to (B, D) float32 vectors; see `Ecapa`."""
        return self.pooled(self.trunk(frames, valid), valid)

    def trunk(self, frames: Tensor, valid: int) -> Tensor:
        """Map (B, F, T) features to the (B, blocks x C, T) frames that `pooled` reads, kept frame by frame."""
        layers = self._layers
        x = layers.stem(frames.transpose(1, 2)).to(self._dtype)
        outputs = []
        for block in layers.blocks:
            x = block(x, valid)
            outputs.append(x)
        joined = torch.cat(outputs, dim=2)
        return layers.aggregation(joined.flatten(0, 1)).view(*joined.shape[:2], -1).transpose(1, 2)

    def pooled(self, x: Tensor, valid: int) -> Tensor:
        """Map the frames of `trunk`, or a stretch of them, to (B, D) vectors; what is past `valid` does not count."""
        return self._embedded(self._layers.pooling(x[:, :, :valid].transpose(1, 2).contiguous()))

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of the frames of `trunk` to (W, D) vectors, without attention."""
        return self._embedded(self._layers.pooling.evenly(stretches))

    def _embedded(self, pooled: Tensor) -> Tensor:
        for weight, bias in self._layers.embeddings:
            pooled = functional.linear(pooled, weight, bias)
        return pooled


def _packs() -> bool:
    return bool(torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _total(parts: Iterable[Tensor]) -> Tensor:
    """Sum of (B, T, C) parts over all their frames: (B, C)."""
    return cast(Tensor, sum(part.sum(dim=1) for part in parts))


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and offset that a batch normalization is in evaluation, each (C,)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _signs(scale: Tensor) -> Tensor:
    return torch.where(scale < 0, -1.0, 1.0)


def _embedding(layer: AffineEmbedding) -> tuple[Tensor, Tensor]:
    scale, offset = _affine(layer.norm)
    weight = layer.linear.weight[:, :, 0]
    assert layer.linear.bias is not None
    return weight * scale, layer.linear.bias + weight @ offset
