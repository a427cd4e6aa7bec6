"""The CAM++ network: features in, one vector per utterance out. No files, no device choice.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking", Interspeech
2023, arXiv:2303.00332; sizes and order of the layers as in the published weights of 3D-Speaker.

Convolutions are without bias unless said, and nothing in it knows of padding: means over segments and over the whole
utterance see every frame. So only utterances of one length may share a pass.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.windows import Statistics

TIME_STRIDE = 2
"""Of the first convolution over time: the rest of the network sees half the frames."""

HEAD_STRIDES = (2, 2, 2)
"""In frequency: of the first block of each of the two stages, and of the last convolution of the head."""


class DenseShape(NamedTuple):
    """Extent of one dense block: how many layers, and the convolution over time in each of them."""

    layers: int
    kernel: int
    dilation: int


@dataclass(frozen=True)
class CamPlusConfig:
    """Every size of the network.

    Parameters
    ----------
    bins : int
        F, mel bins of the features.
    head_channels : int
        C of the two-dimensional convolutions.
    head_blocks : tuple of int
        Residual blocks of each of the two stages of the head.
    channels, kernel : int
        Of the first convolution over time.
    blocks : tuple of DenseShape
        The dense blocks; after each one the channels are halved.
    growth : int
        Channels that a dense layer adds.
    bottleneck : int
        Channels between the two convolutions of a dense layer.
    context_channels : int
        Channels of the mask's hidden layer.
    dim : int
        D.
    segment_frames : int
        Frames (after the halving of time) that share the local part of a mask's context.
    """

    bins: int
    head_channels: int
    head_blocks: tuple[int, int]
    channels: int
    kernel: int
    blocks: tuple[DenseShape, ...]
    growth: int
    bottleneck: int
    context_channels: int
    dim: int
    segment_frames: int = 100

    @property
    def min_frames(self) -> int:
        """Fewest frames that the network accepts: a deviation needs two after the halving of time."""
        return TIME_STRIDE + 1

    @property
    def flat_channels(self) -> int:
        """Channels over time that the head leaves: its channels by what its strides leave of the frequencies."""
        bins = self.bins
        for stride in HEAD_STRIDES:
            bins = (bins - 1) // stride + 1
        return self.head_channels * bins


class ImageConv(nn.Module):
    """Two-dimensional convolution and batch normalization: (B, C_in, F, T) -> (B, C_out, F', T)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride=(stride, 1), padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the two in order."""
        return cast(Tensor, self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut (He et al., arXiv:1512.03385); the first may halve the frequencies."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.first = ImageConv(channels, channels, 3, stride)
        self.second = ImageConv(channels, channels, 3)
        self.shortcut = ImageConv(channels, channels, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, F, T) to (B, C, F', T)."""
        y = self.second(functional.relu(self.first(x), inplace=True))
        y += x if self.shortcut is None else self.shortcut(x)
        return functional.relu(y, inplace=True)


class Head(nn.Module):
    """The features as an image with one channel, convolved until few frequencies are left."""

    def __init__(self, config: CamPlusConfig) -> None:
        super().__init__()
        channels = config.head_channels
        self.stem = ImageConv(1, channels, 3)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, stride if index == 0 else 1)
            for stride, count in zip(HEAD_STRIDES, config.head_blocks, strict=False)
            for index in range(count)
        )
        self.last = ImageConv(channels, channels, 3, HEAD_STRIDES[-1])

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, F, T) to (B, C x F', T), the frequencies of a channel side by side."""
        x = functional.relu(self.stem(frames.unsqueeze(1)), inplace=True)
        for block in self.blocks:
            x = block(x)
        return functional.relu(self.last(x), inplace=True).flatten(1, 2)


class MaskedConv(nn.Module):
    """Convolution over time, each channel weighted by what surrounds it (context-aware masking)."""

    def __init__(self, config: CamPlusConfig, shape: DenseShape) -> None:
        super().__init__()
        self.segment_frames = config.segment_frames
        padding = shape.dilation * (shape.kernel - 1) // 2
        self.local = nn.Conv1d(
            config.bottleneck, config.growth, shape.kernel, padding=padding, dilation=shape.dilation, bias=False
        )
        self.squeeze = nn.Conv1d(config.bottleneck, config.context_channels, 1)
        self.excite = nn.Conv1d(config.context_channels, config.growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, growth, T)."""
        # The last segment, which may be shorter, is averaged over the frames that it has.
        segments = functional.avg_pool1d(x, self.segment_frames, self.segment_frames, ceil_mode=True)
        context = x.mean(dim=2, keepdim=True) + segments  # (B, C, segments)
        mask = torch.sigmoid(self.excite(functional.relu(self.squeeze(context), inplace=True)))
        # All frames of a segment share one mask, so it is repeated at the end and not computed for each of them.
        return cast(Tensor, self.local(x)) * mask.repeat_interleave(self.segment_frames, dim=2)[:, :, : x.shape[2]]


class DenseLayer(nn.Module):
    """All channels so far, normalized and narrowed, then convolved under a mask."""

    def __init__(self, config: CamPlusConfig, shape: DenseShape, c_in: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(c_in)
        self.narrow = nn.Conv1d(c_in, config.bottleneck, 1, bias=False)
        self.narrow_norm = nn.BatchNorm1d(config.bottleneck)
        self.masked = MaskedConv(config, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the (B, growth, T) that this layer adds."""
        x = self.narrow(functional.relu(self.norm(x), inplace=True))
        return cast(Tensor, self.masked(functional.relu(self.narrow_norm(x), inplace=True)))


class DenseBlock(nn.Module):
    """Layers of which each reads the outputs of all before it (Huang et al., arXiv:1608.06993), then a narrowing."""

    def __init__(self, config: CamPlusConfig, shape: DenseShape, c_in: int) -> None:
        super().__init__()
        self.growth = config.growth
        self.layers = nn.ModuleList(
            DenseLayer(config, shape, c_in + index * config.growth) for index in range(shape.layers)
        )
        width = c_in + shape.layers * config.growth
        self.norm = nn.BatchNorm1d(width)
        self.transit = nn.Conv1d(width, width // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, (C + layers x growth) / 2, T)."""
        batch, width, frames = x.shape
        # One tensor that the layers fill from the top: joining anew at each layer would copy it once for each.
        joined = x.new_empty(batch, width + len(self.layers) * self.growth, frames)
        joined[:, :width] = x
        for layer in self.layers:
            joined[:, width : width + self.growth] = layer(joined[:, :width])
            width += self.growth
        return cast(Tensor, self.transit(functional.relu(self.norm(joined), inplace=True)))


class CamPlus(nn.Module):
    """The whole network: (B, F, T) features to (B, D) vectors, not normalized. Only for inference."""

    def __init__(self, config: CamPlusConfig) -> None:
        super().__init__()
        self.config = config
        self.head = Head(config)
        self.stem = nn.Conv1d(
            config.flat_channels,
            config.channels,
            config.kernel,
            stride=TIME_STRIDE,
            padding=config.kernel // 2,
            bias=False,
        )
        self.stem_norm = nn.BatchNorm1d(config.channels)
        blocks = []
        width = config.channels
        for shape in config.blocks:
            blocks.append(DenseBlock(config, shape, width))
            width = (width + shape.layers * config.growth) // 2
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm1d(width)
        self.embedding = nn.Conv1d(2 * width, config.dim, 1, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.dim, affine=False)

    def forward(self, frames: Tensor, valid: int) -> Tensor:
        """Embed utterances of one length.

        Parameters
        ----------
        frames : (B, F, T) float tensor
            Features.
        valid : int
            Frames of speech, the same for the whole batch; what is past them is not looked at.

        Returns
        -------
        (B, D) float tensor
            The output of the last layer.
        """
        return self.with_frames(frames, valid)[0]

    def with_frames(self, frames: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Return also the (B, C, T / 2) frames that the vectors were pooled from, all of them valid."""
        x = self.stem(self.head(frames[:, :, :valid]))
        x = functional.relu(self.stem_norm(x), inplace=True)
        for block in self.blocks:
            x = block(x)
        x = functional.relu(self.norm(x), inplace=True)
        deviation, mean = torch.std_mean(x, dim=2, correction=1, keepdim=True)
        return self._embedded(torch.cat((mean, deviation), dim=1)), x

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of frames to (W, D) vectors; this network pools evenly always."""
        unbiased = stretches.variance * (stretches.frames / (stretches.frames - 1))
        return self._embedded(torch.cat((stretches.mean, unbiased.sqrt()), dim=1).unsqueeze(2))

    def _embedded(self, pooled: Tensor) -> Tensor:
        return cast(Tensor, self.embedding_norm(self.embedding(pooled))).flatten(1)
