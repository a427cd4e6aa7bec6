"""The ECAPA-TDNN networks: features in, one vector per utterance out. No files, no device choice.

One module serves both published families; `EcapaConfig` says where they differ. Desplanques et al., "ECAPA-TDNN",
Interspeech 2020, arXiv:2005.07143 (SpeechBrain's weights follow it); Dawalatabad et al., "ECAPA-TDNN Embeddings for
Speaker Diarization", arXiv:2104.01466 (NeMo's variant: grouped convolutions instead of Res2Net).

Every convolution is followed by ReLU and then batch normalization, in that order, in both families.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.windows import Statistics

Padding = Literal["zeros", "reflect"]


class ConvShape(NamedTuple):
    """Extent of one convolution over time, in frames."""

    kernel: int
    dilation: int

    @property
    def padding(self) -> int:
        """Frames added on each side; keeps T, or leaves T - 1 where dilation x (kernel - 1) is odd."""
        return self.dilation * (self.kernel - 1) // 2


@dataclass(frozen=True)
class EcapaConfig:
    """Every size and every difference between the families.

    Parameters
    ----------
    bins : int
        F, mel bins of the features.
    channels : int
        C of the first layer and of every block.
    stem, aggregation : ConvShape
        The first convolution, and the one over the concatenated blocks.
    blocks : tuple of ConvShape
        The middle convolution of each squeeze-excitation block.
    middle : "group" or "res2"
        One grouped convolution (NeMo), or the Res2Net cascade of the paper (SpeechBrain).
    scale : int
        Groups of the grouped convolution, or chunks of the cascade.
    gate_channels : int
        Bottleneck of squeeze and excitation.
    gate_norm : bool
        Whether the bottleneck is batch-normalized (NeMo).
    pooling : "attention", "xvector" or "tap"
        Attentive statistics; mean and deviation; or the mean alone.
    variance_floor : float
        Smallest variance whose root the pooling takes.
    embedding_sizes : tuple of int
        Widths of the embedding layers; the last is D.
    """

    bins: int
    channels: int
    stem: ConvShape
    blocks: tuple[ConvShape, ...]
    aggregation: ConvShape
    middle: Literal["group", "res2"]
    scale: int
    gate_channels: int
    gate_norm: bool
    padding: Padding
    pooling: Literal["attention", "xvector", "tap"]
    attention_channels: int
    variance_floor: float
    embedding_sizes: tuple[int, ...]

    @property
    def pooled_channels(self) -> int:
        """Channels of the aggregated frames: the outputs of all blocks side by side."""
        return self.channels * len(self.blocks)

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.embedding_sizes[-1]

    @property
    def min_frames(self) -> int:
        """Fewest frames that the network accepts: a deviation needs two, mirroring more than it mirrors."""
        widest = max(shape.padding for shape in (self.stem, *self.blocks, self.aggregation))
        return max(2, widest + 1) if self.padding == "reflect" else 2


_POINTWISE = ConvShape(1, 1)


class TimeConv(nn.Module):
    """Convolution over time, ReLU, batch normalization: (B, C_in, T) -> (B, C_out, T)."""

    def __init__(
        self, c_in: int, c_out: int, shape: ConvShape = _POINTWISE, padding: Padding = "zeros", groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            c_in,
            c_out,
            shape.kernel,
            dilation=shape.dilation,
            padding=shape.padding,
            padding_mode=padding,
            groups=groups,
        )
        self.norm = nn.BatchNorm1d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in order."""
        return cast(Tensor, self.norm(functional.relu(self.conv(x), inplace=True)))


class Res2Cascade(nn.Module):
    """Hierarchical convolutions on `scale` chunks of the channels (Gao et al., Res2Net, arXiv:1904.01169).

    The first chunk passes through; each later one is convolved after the previous result was added to it.
    """

    def __init__(self, channels: int, scale: int, shape: ConvShape, padding: Padding) -> None:
        super().__init__()
        width = channels // scale
        self.branches = nn.ModuleList(TimeConv(width, width, shape, padding) for _ in range(scale - 1))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, T)."""
        first, *rest = x.chunk(self.scale, dim=1)
        outputs = [first]
        for index, (branch, chunk) in enumerate(zip(self.branches, rest, strict=True)):
            outputs.append(branch(chunk if index == 0 else chunk + outputs[-1]))
        return torch.cat(outputs, dim=1)


class ChannelGate(nn.Module):
    """Squeeze and excitation over the valid frames (Hu et al., arXiv:1709.01507)."""

    def __init__(self, channels: int, bottleneck: int, norm: bool) -> None:
        super().__init__()
        self.squeeze = nn.Conv1d(channels, bottleneck, 1)
        self.norm = nn.BatchNorm1d(bottleneck) if norm else nn.Identity()
        self.excite = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor, valid: int) -> Tensor:
        """Scale each channel of (B, C, T) by a factor in (0, 1) computed from its mean over the valid frames."""
        mean = x[:, :, :valid].mean(dim=2, keepdim=True)
        hidden = self.norm(functional.relu(self.squeeze(mean)))
        return x * torch.sigmoid(self.excite(hidden))


class GatedBlock(nn.Module):
    """Expand, convolve over time, reduce, gate, and add the input."""

    def __init__(self, config: EcapaConfig, shape: ConvShape) -> None:
        super().__init__()
        channels = config.channels
        self.expand = TimeConv(channels, channels)
        self.middle: nn.Module
        if config.middle == "group":
            self.middle = TimeConv(channels, channels, shape, config.padding, groups=config.scale)
        else:
            self.middle = Res2Cascade(channels, config.scale, shape, config.padding)
        self.reduce = TimeConv(channels, channels)
        self.gate = ChannelGate(channels, config.gate_channels, config.gate_norm)

    def forward(self, x: Tensor, valid: int) -> Tensor:
        """Map (B, C, T) to (B, C, T)."""
        return cast(Tensor, self.gate(self.reduce(self.middle(self.expand(x))), valid) + x)


class AttentivePooling(nn.Module):
    """Mean and deviation over time, weighted per channel by attention that sees the utterance's own statistics.

    Okabe et al., arXiv:1803.10963, with the channel- and context-dependent attention of ECAPA-TDNN.
    """

    def __init__(self, channels: int, attention_channels: int, variance_floor: float) -> None:
        super().__init__()
        self.context = TimeConv(3 * channels, attention_channels)
        self.score = nn.Conv1d(attention_channels, channels, 1)
        self.variance_floor = variance_floor

    def forward(self, x: Tensor, valid: int) -> Tensor:
        """Pool the valid frames of (B, C, T) into (B, 2 C, 1): means, then deviations."""
        x = x[:, :, :valid]
        uniform = x.new_full((1, 1, 1), 1.0 / x.shape[2])
        hidden = self.context.norm(functional.relu(self._context(x, *self._statistics(x, uniform)), inplace=True))
        weights = torch.softmax(self.score(torch.tanh(hidden)), dim=2)
        return torch.cat(self._statistics(x, weights), dim=1)

    def evenly(self, stretches: Statistics) -> Tensor:
        """Pool stretches into (W, 2 C, 1) without attention."""
        deviation = stretches.variance.clamp(min=self.variance_floor).sqrt()
        return torch.cat((stretches.mean, deviation), dim=1).unsqueeze(2)

    def _statistics(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        # Two passes: E[x^2] - mean^2 loses the digits that a short utterance needs.
        mean = (x * weights).sum(dim=2, keepdim=True)
        variance = ((x - mean).square_() * weights).sum(dim=2, keepdim=True)
        return mean, variance.clamp(min=self.variance_floor).sqrt()

    def _context(self, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        # The convolution of [x, mean, deviation] is a sum of three, two of which are constant over time; computing
        # them once saves the (B, 3 C, T) copy, which is the largest tensor of the whole network.
        conv = self.context.conv
        frames, means, deviations = conv.weight.chunk(3, dim=1)
        constant = functional.conv1d(mean, means, conv.bias) + functional.conv1d(deviation, deviations)
        return functional.conv1d(x, frames).add_(constant)


class StatisticsPooling(nn.Module):
    """Mean, and with `deviation` the unbiased deviation, over the valid frames (Snyder et al., x-vectors, 2018)."""

    def __init__(self, deviation: bool, variance_floor: float) -> None:
        super().__init__()
        self.deviation = deviation
        self.variance_floor = variance_floor

    def forward(self, x: Tensor, valid: int) -> Tensor:
        """Pool (B, C, T) into (B, C) or (B, 2 C)."""
        x = x[:, :, :valid]
        # `valid` and not the frame count: they differ only after an even kernel, where NeMo divides by the former.
        mean = x.sum(dim=2) / valid
        if not self.deviation:
            return mean
        variance = (x - mean.unsqueeze(2)).square_().sum(dim=2) / (valid - 1)
        return torch.cat((mean, variance.clamp(min=self.variance_floor).sqrt()), dim=1)

    def evenly(self, stretches: Statistics) -> Tensor:
        """Pool stretches into (W, C) or (W, 2 C)."""
        if not self.deviation:
            return stretches.mean
        variance = stretches.variance * (stretches.frames / (stretches.frames - 1))
        return torch.cat((stretches.mean, variance.clamp(min=self.variance_floor).sqrt()), dim=1)


class AffineEmbedding(nn.Module):
    """Embedding layer after attention: batch normalization, then a linear map."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(c_in)
        self.linear = nn.Conv1d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, 1) to (B, D, 1)."""
        return cast(Tensor, self.linear(self.norm(x)))


class NormalizedEmbedding(nn.Module):
    """Embedding layer after plain statistics: a linear map, then batch normalization without gain or offset."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)
        self.norm = nn.BatchNorm1d(c_out, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C) to (B, D)."""
        return cast(Tensor, self.norm(self.linear(x)))


class Ecapa(nn.Module):
    """The whole network: (B, F, T) features to (B, D) vectors, not normalized."""

    def __init__(self, config: EcapaConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = TimeConv(config.bins, config.channels, config.stem, config.padding)
        self.blocks = nn.ModuleList(GatedBlock(config, shape) for shape in config.blocks)
        width = config.pooled_channels
        self.aggregation = TimeConv(width, width, config.aggregation, config.padding)
        self.pooling: nn.Module
        if config.pooling == "attention":
            self.pooling = AttentivePooling(width, config.attention_channels, config.variance_floor)
        else:
            self.pooling = StatisticsPooling(config.pooling == "xvector", config.variance_floor)
        layer = AffineEmbedding if config.pooling == "attention" else NormalizedEmbedding
        inputs = (width if config.pooling == "tap" else 2 * width, *config.embedding_sizes)
        self.embeddings = nn.ModuleList(
            layer(c_in, c_out) for c_in, c_out in zip(inputs, config.embedding_sizes, strict=False)
        )

    def forward(self, frames: Tensor, valid: int) -> Tensor:
        """Embed utterances of one length.

        Parameters
        ----------
        frames : (B, F, T) float tensor
            Features. Only gate and pooling ignore what is past `valid`; the convolutions see it, as in training.
        valid : int
            Frames of speech, the same for the whole batch.

        Returns
        -------
        (B, D) float tensor
            The output of the last embedding layer.
        """
        return self.with_frames(frames, valid)[0]

    def with_frames(self, frames: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Return also the (B, blocks x C, T) frames that the vectors were pooled from."""
        x = self.stem(frames)
        outputs = []
        for block in self.blocks:
            x = block(x, valid)
            outputs.append(x)
        kept = cast(Tensor, self.aggregation(torch.cat(outputs, dim=1)))
        return self._embedded(self.pooling(kept, valid)), kept

    def of_statistics(self, stretches: Statistics) -> Tensor:
        """Map statistics of stretches of frames to (W, D) vectors, without attention."""
        pooling = cast("AttentivePooling | StatisticsPooling", self.pooling)
        return self._embedded(pooling.evenly(stretches))

    def _embedded(self, x: Tensor) -> Tensor:
        for index, embedding in enumerate(self.embeddings):
            if index > 0 and self.config.pooling != "attention":
                x = functional.relu(x)
            x = embedding(x)
        return x.flatten(1)
