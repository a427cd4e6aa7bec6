"""Waveform to log-mel filterbank: the front ends that the supported checkpoints were trained with.

A front end belongs to its weights. The two NeMo generations differ at the edges of an utterance only, which moves
the vector of a one-second word by several hundredths of cosine, so each is part of the encoder id.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.embedding.ragged import Ragged
from indexer.types import SAMPLE_RATE_HZ

Generation = Literal["legacy", "current"]


_DEVIATION_GUARD = 1e-5
"""Of NeMo's normalization, added outside the square root, as in training."""


class Frames(NamedTuple):
    """What a network reads: `values` (B, F, T), of which the first `valid` frames are speech and the rest padding."""

    values: Tensor
    valid: int


class RaggedFrames(NamedTuple):
    """Features of utterances of any lengths: `rows` (1, N, F), and where each utterance lies among them."""

    rows: Tensor
    ragged: Ragged


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

    @property
    def takes_any_lengths(self) -> bool:
        """Whether there is `of_ragged`."""
        return False

    def of_ragged(self, waveforms: Tensor, samples: Sequence[int]) -> RaggedFrames:
        """Turn (N,) waveforms of so many samples each, behind one another, into what `forward` makes of each."""
        raise NotImplementedError(f"{type(self).__name__} takes waveforms of one length")

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

    def stft_frames(self, samples: int) -> int:
        """Return how many frames the transform gives."""
        return (samples + 2 * self.edge - self.fft) // self.hop + 1

    def valid_frames(self, samples: int) -> int:
        """Return how many frames count as speech."""
        return self.stft_frames(samples) - (self.generation == "current")

    def padded_frames(self, samples: int) -> int:
        """Return how many frames the network reads."""
        frames = self.stft_frames(samples)
        return frames + -frames % self.pad_to if self.pad_to > 0 else frames


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
        values = self._log(torch.matmul(self.filterbank, self._power_spectrum(waveforms, samples)))
        if config.frame_splicing > 1:
            # NeMo's splicing joins each frame to itself, not to its neighbors; the weights expect that.
            values = values.repeat(1, config.frame_splicing, 1)
        values = self._normalize(values, valid)
        values[:, :, valid:] = config.pad_value
        # Padding is not masked inside the network, so the multiple matters to the vector and not to speed only.
        if missing := config.padded_frames(samples) - values.shape[2]:
            values = functional.pad(values, (0, missing), value=config.pad_value)
        return Frames(values, valid)

    @property
    def takes_any_lengths(self) -> bool:
        """All but those that pad to N / hop frames and are normalized over all bins, which no checkpoint does."""
        return not self.config.exact_pad and self.config.normalize != "all_features"

    def of_ragged(self, waveforms: Tensor, samples: Sequence[int]) -> RaggedFrames:
        """Compute what `forward` does for each utterance, frames past its valid ones included."""
        config = self.config
        ragged = Ragged(
            [config.padded_frames(count) for count in samples],
            [config.valid_frames(count) for count in samples],
            waveforms.device,
        )
        if config.preemphasis is not None:
            first = ragged.starts_of(samples)
            rest = waveforms[1:] - config.preemphasis * waveforms[:-1]
            waveforms = torch.cat((waveforms[:1], rest)).index_copy(0, first, waveforms.index_select(0, first))
        cut = _cut(waveforms, samples, ragged, config.fft, config.hop, mirrored=config.generation == "legacy")
        rim = (config.fft - config.window) // 2
        window = functional.pad(self.window, (rim, config.fft - config.window - rim))
        power = self._raised(torch.fft.rfft(cut * window))  # (N, fft // 2 + 1)
        rows = self._log(torch.matmul(power, self.filterbank.mT)).view(1, len(power), -1)
        rows = rows.repeat(1, 1, config.frame_splicing)
        speech = ragged.is_speech
        if config.normalize is not None:
            mean = ragged.sum(rows * speech) / ragged.counts
            squares = ((rows - ragged.spread(mean)) * speech).square()
            deviation = (ragged.sum(squares) / (ragged.counts - 1)).sqrt()
            rows = (rows - ragged.spread(mean)) / ragged.spread(deviation + _DEVIATION_GUARD)
        return RaggedFrames(torch.where(speech, rows, config.pad_value), ragged)

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
        return self._raised(spectrum)

    def _raised(self, spectrum: Tensor) -> Tensor:
        magnitude = _power(spectrum).sqrt()
        return magnitude if self.config.power == 1.0 else magnitude.pow(self.config.power)

    def _log(self, mel: Tensor) -> Tensor:
        config = self.config
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
        return (values - mean) / (deviation + _DEVIATION_GUARD)


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

    @property
    def takes_any_lengths(self) -> bool:
        """Always."""
        return True

    def of_ragged(self, waveforms: Tensor, samples: Sequence[int]) -> RaggedFrames:
        """Compute what `forward` does for each utterance."""
        config = self.config
        frames = [count // config.hop + 1 for count in samples]
        ragged = Ragged(frames, frames, waveforms.device)
        cut = _cut(waveforms, samples, ragged, config.fft, config.hop, mirrored=False)
        power = _power(torch.fft.rfft(cut * self.window))  # (N, fft // 2 + 1)
        decibels = 10.0 * torch.log10(torch.matmul(power, self.filterbank.T).clamp(min=config.floor)).unsqueeze(0)
        loudest = ragged.highest(decibels.amax(dim=2, keepdim=True))
        decibels = torch.maximum(decibels, ragged.spread(loudest - config.range_db))
        return RaggedFrames(decibels - ragged.spread(ragged.sum(decibels) / ragged.counts), ragged)


def _cut(waveforms: Tensor, samples: Sequence[int], ragged: Ragged, fft: int, hop: int, *, mirrored: bool) -> Tensor:
    """Cut (N, fft) frames around every `hop` samples of each utterance; past its ends it is mirrored, or silent."""
    utterance = torch.stack((ragged.starts_of(samples), ragged.sent(samples)), dim=1)  # (B, 2)
    start, count = torch.split(ragged.spread(utterance)[0], 1, dim=1)
    sample = (ragged.place * hop - fft // 2).unsqueeze(1) + torch.arange(fft, device=waveforms.device)
    if mirrored:
        sample = sample.abs()
        # Rows of padding lie further out than a mirror image reaches, and are overwritten by their reader.
        sample = torch.minimum(sample, 2 * (count - 1) - sample).clamp_(min=0)
        return waveforms[start + sample]
    outside = (sample < 0) | (sample >= count)
    return torch.where(outside, 0.0, waveforms[(start + sample).clamp_(0, len(waveforms) - 1)])


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
