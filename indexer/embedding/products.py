"""Layers of a folded network: products of rows by packed weights, and the convolutions that are made of them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.ecapa import ConvShape, Padding, TimeConv
from indexer.embedding.parts import Ends
from indexer.embedding.ragged import Neighborhood

_PACKED_FOR_ROWS = 1024
"""Frames that the packing of weights is chosen for; other numbers work as well."""

_WHOLE, _WITHIN = Ends(start=True, end=True), Ends(start=False, end=False)

_LARGEST_BYTE = 127.0
_ROWS_AT_ONCE = 256
"""Rows of one product of bytes: they and what is made of them stay in the cache, and fewer shapes are compiled."""

_LEAST_RANGE = 1e-30
"""Range of numbers that are all nothing: so many bytes a unit are still a number."""

_BYTE_PRODUCT = torch.ops.onednn.qlinear_pointwise.default
_PACKED_PRODUCT = torch.ops.mkldnn._linear_pointwise.default

_KEPT_TABLES = 300
"""Tables of neighboring frames that are kept: one for each dilation and length of utterance, two where two threads
share it. All layers of one dilation read the same: 24 KB for ten seconds, which stays in the cache."""


class Stored(NamedTuple):
    """How channels are kept: the network's value is `sign` x kept + `offset`, each (C,)."""

    sign: Tensor
    offset: Tensor


class Product:
    """Linear map of rows, with ReLU where asked, in one pass: (N, K) -> (N, C)."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, relu: bool = False) -> None:
        self.width = len(weight)
        self._weight = weight.to(dtype).contiguous()  # (C, K)
        self._bias = bias.to(dtype)
        self._then = "relu" if relu else "none"
        self._packed: Tensor | None = None
        if weight.device.type == "cpu" and packs():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, _PACKED_FOR_ROWS)
            self._weight = self._weight[:0]  # the packed copy is the only one that is read

    def __call__(self, rows: Tensor) -> Tensor:
        """Map (N, K) to (N, C)."""
        if self._packed is not None:
            return cast(Tensor, _PACKED_PRODUCT(rows, self._packed, self._bias, self._then, [], ""))
        result = functional.linear(rows, self._weight, self._bias)
        return result.relu_() if self._then == "relu" else result


class ByteProduct:
    """Linear map of rows with ReLU, in whole numbers of a byte: (N, K) -> (N, C), in the type of the rows.

    Weights are in steps of 1/127 of the largest of their output, rows in steps of 1/127 of their own largest value: one
    range for all rows of an utterance loses four times as much. So a row does not depend on those beside it.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.width, self._inputs = weight.shape
        steps = weight.abs().amax(dim=1).clamp_(min=_LEAST_RANGE) / _LARGEST_BYTE  # (C,)
        whole = (weight / steps[:, None]).round_().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)
        self._steps, self._bias = steps, bias.float()
        self._zeros = torch.zeros(self.width, dtype=torch.int32)

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Map (N, K) rows, given as columns side by side, to (N, C)."""
        tiles = zip(*(torch.split(part, _ROWS_AT_ONCE) for part in parts), strict=True)
        made = [self._of_tile(tile) for tile in tiles]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _of_tile(self, parts: Sequence[Tensor]) -> Tensor:
        columns = [part.float() for part in parts]
        highest = columns[0].abs().amax(dim=1, keepdim=True)
        for column in columns[1:]:
            highest = torch.maximum(highest, column.abs().amax(dim=1, keepdim=True))
        highest.clamp_(min=_LEAST_RANGE)  # NaN stays, and makes NaN of all that its row gives
        bytes_a_unit = _LARGEST_BYTE / highest
        whole = torch.empty((len(highest), self._inputs), dtype=torch.int8)
        for place, column in zip(torch.split(whole, [one.shape[1] for one in columns], dim=1), columns, strict=True):
            place.copy_((column * bytes_a_unit).round_())  # what is copied to whole numbers is truncated
        # The library is quick at bytes without a sign: they are 128 more, which is what the topmost bit stands for.
        made = self.of_bytes(whole.view(torch.uint8).bitwise_xor_(128))
        return torch.addcmul(self._bias, made, highest.div_(_LARGEST_BYTE)).relu_().to(parts[0].dtype)

    def of_bytes(self, rows: Tensor) -> Tensor:
        """Map (N, K) rows of uint8, of which 128 stands for nothing, to (N, C) float32, without bias and ReLU."""
        zeros, steps, packed = self._zeros, self._steps, self._packed
        made = _BYTE_PRODUCT(rows, 1.0, 128, packed, steps, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        return cast(Tensor, made)


class _Neighbors:
    """Rows of each frame and those around it, as the convolution over time reads them: (B, T, C) -> (B T', kernel C).

    Frames at which the utterance neither starts nor ends are read and get no row of their own, so T' is less than T.
    """

    def __init__(self, shape: ConvShape, padding: Padding, edge: Tensor) -> None:
        self._shape = shape
        self._reflects = padding == "reflect"
        self._edge = edge  # (C,): what is kept for a frame outside of the utterance

    def __call__(self, x: Tensor, ends: Ends) -> Tensor:
        batch, _, channels = x.shape
        wide = self._shape.padding
        if ends.ragged is not None:
            around = Neighborhood(self._shape.kernel, self._shape.dilation, self._reflects)
            if not self._reflects:
                x = torch.cat((x, self._edge.to(x.dtype).view(1, 1, channels)), dim=1)
            return x[0].index_select(0, ends.ragged.read_by(around)).view(-1, self._shape.kernel * channels)
        frames = x.shape[1] if ends.frames is None else ends.frames
        ends = ends._replace(frames=None)
        if not self._reflects and wide:
            rim = self._edge.to(x.dtype).expand(batch, wide, channels)
            x = torch.cat((*[rim] * ends.start, x[:, :frames], *[rim] * ends.end), dim=1)
            frames, ends = x.shape[1], _WITHIN._replace(filled=ends.filled)
        rows = x.index_select(1, _rows_read(self._shape, frames, ends, x.device))
        return rows.view(-1, self._shape.kernel * channels)


@lru_cache(_KEPT_TABLES)
def _rows_read(shape: ConvShape, frames: int, ends: Ends, device: torch.device) -> Tensor:
    """Return which of so many frames each tap reads, frame by frame, mirrored where the utterance starts and ends.

    Rows that only fill what is computed read what the last frame does.
    """
    wide = shape.padding
    # Made where it is used: a copy to a GPU would wait for all that it has to do.
    taps = torch.arange(shape.kernel, device=device) * shape.dilation - wide
    first, last = (0 if ends.start else wide), frames - (0 if ends.end else wide)
    index = (torch.arange(first, last, device=device).unsqueeze(1) + taps).abs()
    index = torch.minimum(index, 2 * (frames - 1) - index)
    if ends.filled is not None:
        index = torch.cat((index, index[-1:].expand(ends.filled - len(index), -1)))
    return index.flatten()


class Convolution:
    """Convolution over time of kept channels, ReLU and normalization; `stored` says how its output is kept."""

    def __init__(
        self, layer: TimeConv, shape: ConvShape, padding: Padding, stored: Stored, dtype: torch.dtype, group: int = 0
    ) -> None:
        scale, offset = affine(layer.norm)
        width = layer.conv.out_channels // layer.conv.groups
        part = slice(group * width, (group + 1) * width)
        scale, offset = scale[part], offset[part]
        weight = layer.conv.weight[part] * scale.abs()[:, None, None]  # (C, C_in, kernel)
        assert layer.conv.bias is not None
        bias = layer.conv.bias[part] * scale.abs() + weight.sum(2) @ stored.offset
        # (C, C_in, kernel) -> (C, kernel x C_in)
        flat = (weight * stored.sign[:, None]).transpose(1, 2).flatten(1)
        self._product = Product(flat, bias, dtype, relu=True)
        self._neighbors = _Neighbors(shape, padding, -stored.sign * stored.offset) if shape.kernel > 1 else None
        self.stored = Stored(_signs(scale), offset)

    def __call__(self, x: Tensor, ends: Ends = _WHOLE) -> Tensor:
        """Map (B, T, C_in) to (B, T', C), T' = T less the padding where the utterance goes on, or as filled."""
        rows = x.flatten(0, 1) if self._neighbors is None else self._neighbors(x, ends)
        return self._product(rows).view(x.shape[0], -1, self._product.width)


def packs() -> bool:
    """Whether torch has the library that packs weights, and uses it."""
    return bool(torch.backends.mkldnn.enabled and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and offset that a batch normalization is in evaluation, each (C,)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _signs(scale: Tensor) -> Tensor:
    return torch.where(scale < 0, -1.0, 1.0)
