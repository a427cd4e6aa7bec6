"""Waveform to log-mel filterbank: the front ends that the supported checkpoints were trained with.

A front end belongs to its weights. The two NeMo generations differ at the edges of an utterance only, which moves
the vector of a one-second word by several hundredths of cosine, so each is part of the encoder id.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.types import SAMPLE_RATE_HZ

Generation = Literal["legacy", "current"]


class Frames(NamedTuple):
    """What a network reads: `values` (B, F, T), of which the first `valid` frames are speech and the rest padding."""

    values: Tensor
    valid: int


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitudes; adding the two squares as a dimension of size two takes five times as long."""
    return spectrum.real.square() + spectrum.imag.square()


class FrontEnd(nn.Module, ABC):
    """Base of the front ends: fixed tensors, no trained weights."""

    @abstractmethod
    def samples_for(self, frames: int) -> int:
        """Return the fewest samples that give at least `frames` valid frames and that the transform accepts."""

    @abstractmethod
    def forward(self, waveforms: Tensor) -> Frames:
        """Turn (B, N) float32 waveforms of one length into (B, F, T) features."""

    def __call__(self, waveforms: Tensor) -> Frames:
        """Run `forward`; restated because `nn.Module` leaves the result untyped."""
        return cast(Frames, super().__call__(waveforms))


@dataclass(frozen=True)
class NemoFrontEndConfig:
    """The `preprocessor` section of a NeMo model, with NeMo's defaults.

    Parameters
    ----------
    generation : "legacy" or "current"
        "legacy" is NeMo before 2.5: every STFT frame is valid, edges are mirrored. "current" is 2.5 and later: the
        last STFT frame is masked, edges are zeros.
    bins : int
        Mel bins of the filterbank; F = `bins` x `frame_splicing`.
    fft, window, hop : int
        Samples.
    normalize : "per_feature", "all_features" or None
        Whether mean and deviation are taken per mel bin, over all bins, or not at all.
    exact_pad : bool
        Pad so that N samples give N / hop frames, instead of centering the frames.
    """

    generation: Generation
    bins: int = 64
    fft: int = 512
    window: int = 320
    hop: int = 160
    preemphasis: float | None = 0.97
    power: float = 2.0
    log: bool = True
    guard: Literal["add", "clamp"] = "add"
    guard_value: float = 2.0**-24
    normalize: Literal["per_feature", "all_features"] | None = "per_feature"
    frame_splicing: int = 1
    pad_to: int = 16
    pad_value: float = 0.0
    exact_pad: bool = False

    @property
    def edge(self) -> int:
        """Samples of padding on each side of the waveform."""
        return (self.fft - self.hop) // 2 if self.exact_pad else self.fft // 2

    def valid_frames(self, samples: int) -> int:
        """Return how many frames count as speech."""
        stft_frames = (samples + 2 * self.edge - self.fft) // self.hop + 1
        return stft_frames if self.generation == "legacy" else stft_frames - 1


class NemoFrontEnd(FrontEnd):
    """NeMo's `FilterbankFeatures` as it computes outside training (no dither, no augmentation).

    `window` (W,) and `filterbank` (F, fft // 2 + 1) come from the checkpoint: they are part of the model.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: NemoFrontEndConfig, window: Tensor, filterbank: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", window)
        self.register_buffer("filterbank", filterbank)

    def samples_for(self, frames: int) -> int:
        """Return the fewest samples that give `frames` valid frames; mirroring needs more samples than its edge."""
        config = self.config
        stft_frames = frames if config.generation == "legacy" else frames + 1
        needed = (stft_frames - 1) * config.hop + config.fft - 2 * config.edge
        return max(needed, config.edge + 1) if config.generation == "legacy" else needed

    def forward(self, waveforms: Tensor) -> Frames:
        """Compute (B, F, T) features; T is a multiple of `pad_to` and the frames past `valid` hold `pad_value`."""
        config = self.config
        samples = waveforms.shape[1]
        valid = config.valid_frames(samples)
        values = self._log_mel(self._power_spectrum(waveforms, samples))
        if config.frame_splicing > 1:
            # NeMo's splicing joins each frame to itself, not to its neighbors; the weights expect that.
            values = values.repeat(1, config.frame_splicing, 1)
        values = self._normalize(values, valid)
        values[:, :, valid:] = config.pad_value
        # Padding is not masked inside the network, so the multiple matters to the vector and not to speed only.
        if config.pad_to > 0 and values.shape[2] % config.pad_to:
            missing = config.pad_to - values.shape[2] % config.pad_to
            values = functional.pad(values, (0, missing), value=config.pad_value)
        return Frames(values, valid)

    def _power_spectrum(self, waveforms: Tensor, samples: int) -> Tensor:
        config = self.config
        edge_mode = "reflect" if config.generation == "legacy" else "constant"
        if config.exact_pad:
            waveforms = functional.pad(waveforms.unsqueeze(1), (config.edge, config.edge), mode=edge_mode).squeeze(1)
        if config.preemphasis is not None:
            rest = waveforms[:, 1:] - config.preemphasis * waveforms[:, :-1]
            waveforms = torch.cat((waveforms[:, :1], rest), dim=1)
            if config.generation == "current" and config.exact_pad:
                # NeMo masks by the unpadded length after padding, which silences the end. The weights saw that.
                waveforms[:, samples:] = 0.0
        spectrum = torch.stft(
            waveforms,
            n_fft=config.fft,
            hop_length=config.hop,
            win_length=config.window,
            window=self.window,
            center=not config.exact_pad,
            pad_mode=edge_mode,
            return_complex=True,
        )  # (B, fft // 2 + 1, T)
        magnitude = _power(spectrum).sqrt()
        return magnitude if config.power == 1.0 else magnitude.pow(config.power)

    def _log_mel(self, power: Tensor) -> Tensor:
        config = self.config
        mel = torch.matmul(self.filterbank, power)
        if not config.log:
            return mel
        return torch.log(mel + config.guard_value if config.guard == "add" else mel.clamp(min=config.guard_value))

    def _normalize(self, values: Tensor, valid: int) -> Tensor:
        if self.config.normalize is None:
            return values
        if self.config.normalize == "all_features":
            deviation, mean = torch.std_mean(values[:, :, :valid], dim=(1, 2), correction=1, keepdim=True)
        else:
            # A nearly constant bin (band-limited or silent audio) has a deviation near the guard, which magnifies
            # rounding 100,000 times. So the sums run in the order of training: over all frames, zeros past `valid`.
            speech = (torch.arange(values.shape[2], device=values.device) < valid).to(values.dtype)
            mean = (values * speech).sum(dim=2, keepdim=True) / valid
            squares = ((values - mean) * speech).square()
            deviation = (squares.sum(dim=2, keepdim=True) / (valid - 1)).sqrt()
        # The guard is added outside the square root, as in training.
        return (values - mean) / (deviation + 1e-5)


@dataclass(frozen=True)
class SpeechBrainFrontEndConfig:
    """The `Fbank` of SpeechBrain's ECAPA recipe; its checkpoint holds no front end, so these are constants."""

    bins: int = 80
    fft: int = 400
    window: int = 400
    hop: int = 160
    low_hz: float = 0.0
    high_hz: float = SAMPLE_RATE_HZ / 2
    floor: float = 1e-10
    range_db: float = 80.0


class SpeechBrainFrontEnd(FrontEnd):
    """SpeechBrain's `Fbank` followed by its sentence mean normalization.

    Decibels of the mel power, floored 80 dB under the loudest cell of the utterance, minus the mean of each bin.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: SpeechBrainFrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hamming_window(config.window))
        self.register_buffer("filterbank", left_gap_triangles(config))

    def samples_for(self, frames: int) -> int:
        """Return the fewest samples that give `frames` frames."""
        return max(1, (frames - 1) * self.config.hop)

    def forward(self, waveforms: Tensor) -> Frames:
        """Compute (B, F, T) features, T = N // hop + 1, all of them valid."""
        config = self.config
        spectrum = torch.stft(
            waveforms,
            n_fft=config.fft,
            hop_length=config.hop,
            win_length=config.window,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = _power(spectrum)  # (B, fft // 2 + 1, T)
        decibels = 10.0 * torch.log10(torch.matmul(self.filterbank, power).clamp(min=config.floor))
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        decibels = torch.maximum(decibels, loudest - config.range_db)
        return Frames(decibels - decibels.mean(dim=2, keepdim=True), decibels.shape[2])


def left_gap_triangles(config: SpeechBrainFrontEndConfig) -> Tensor:
    """Return SpeechBrain's (F, fft // 2 + 1) mel filters: peak 1, both half-widths equal to the gap on the left.

    The mel scale is 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987). Computed in float32 in the
    order the recipe does it, because the weights were trained on that rounding.
    """

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    mel = torch.linspace(to_mel(config.low_hz), to_mel(config.high_hz), config.bins + 2)
    hertz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    centers = hertz[1:-1].unsqueeze(1)  # (F, 1)
    widths = (hertz[1:-1] - hertz[:-2]).unsqueeze(1)
    frequencies = torch.linspace(0.0, SAMPLE_RATE_HZ / 2, config.fft // 2 + 1).unsqueeze(0)
    slope = (frequencies - centers) / widths
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)


@dataclass(frozen=True)
class KaldiFrontEndConfig:
    """The filterbank that CAM++ was trained on: Kaldi's defaults, without dither, at 80 bins."""

    bins: int = 80
    fft: int = 512
    window: int = 400
    hop: int = 160
    preemphasis: float = 0.97
    low_hz: float = 20.0
    high_hz: float = SAMPLE_RATE_HZ / 2
    floor: float = float(torch.finfo(torch.float32).eps)


class KaldiFrontEnd(FrontEnd):
    """Kaldi's log-mel filterbank for waveforms in [-1, 1], minus the mean of each bin over the utterance.

    Frames lie wholly within the waveform (`snip_edges`), and each is freed of its mean and pre-emphasized by itself.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, config: KaldiFrontEndConfig) -> None:
        super().__init__()
        self.config = config
        # Povey's window: a symmetric Hann window to the power of 0.85.
        self.register_buffer("window", torch.hann_window(config.window, periodic=False).pow(0.85))
        self.register_buffer("filterbank", kaldi_triangles(config))

    def samples_for(self, frames: int) -> int:
        """Return the fewest samples that hold `frames` whole frames."""
        return self.config.window + (frames - 1) * self.config.hop

    def forward(self, waveforms: Tensor) -> Frames:
        """Compute (B, F, T) features, T = (N - window) // hop + 1, all of them valid."""
        config = self.config
        frames = waveforms.unfold(1, config.window, config.hop)  # (B, T, window)
        frames = frames - frames.mean(dim=2, keepdim=True)
        # The sample before a frame's first counts as equal to it.
        before = torch.cat((frames[:, :, :1], frames[:, :, :-1]), dim=2)
        frames = (frames - config.preemphasis * before).mul_(self.window)
        spectrum = torch.fft.rfft(frames, n=config.fft)
        power = _power(spectrum)  # (B, T, fft // 2 + 1)
        values = torch.log(torch.matmul(power, self.filterbank.T).clamp(min=config.floor)).transpose(1, 2)
        return Frames((values - values.mean(dim=2, keepdim=True)).contiguous(), values.shape[2])


def kaldi_triangles(config: KaldiFrontEndConfig) -> Tensor:
    """Return Kaldi's (F, fft // 2 + 1) mel filters: triangles on the mel scale 1127 ln(1 + f / 700), peak 1.

    The bin at the Nyquist frequency belongs to no filter. Computed in float32, as where the weights were trained.
    """

    def to_mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    low, high = to_mel(config.low_hz), to_mel(config.high_hz)
    step = (high - low) / (config.bins + 1)
    left = (low + torch.arange(config.bins) * step).unsqueeze(1)  # (F, 1)
    hertz = (SAMPLE_RATE_HZ / config.fft) * torch.arange(config.fft // 2)
    mel = (1127.0 * torch.log(1.0 + hertz / 700.0)).unsqueeze(0)
    rising, falling = (mel - left) / step, (left + 2 * step - mel) / step
    return functional.pad(torch.minimum(rising, falling).clamp(min=0.0), (0, 1))
