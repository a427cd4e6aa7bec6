"""How good an utterance is to tell a voice by: how much speech, how noisy, how loud, how wide a band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.audio.meter import CLIPPED_MAGNITUDE
from indexer.audio.regions import Region
from indexer.types import SAMPLE_RATE_HZ, Waveform

TELEPHONE_BANDWIDTH_HZ = 4300.0
"""Speech that ends below has come through 8 kHz somewhere."""

LEAST_LEVEL_DBFS = -120.0
"""What digital silence counts as: beneath the last step of 16-bit and of 20-bit audio."""

MOST_SNR_DB = 60.0
"""Beyond it nothing is left to gain, and an estimate says nothing but that the pauses are digital silence."""

LEAST_SNR_DB = -10.0

_WINDOW = 512
_HOP = 256
_TAPER = np.hanning(_WINDOW).astype(np.float32)
_HZ_PER_BIN = SAMPLE_RATE_HZ / _WINDOW
_OUTSIDE_S = 0.25
"""Least time outside the speech that its noise is measured in."""
_QUANTILE = 0.2
_QUANTILE_OF_MEAN = -math.log1p(-_QUANTILE)
"""The power of a bin of stationary noise is exponentially distributed: its quantile as a share of its mean."""
_BAND_FLOOR_DB = -60.0

_BELOW_THE_END = slice(round(2400 / _HZ_PER_BIN), round(3400 / _HZ_PER_BIN))
_ABOVE_THE_END = slice(round(4200 / _HZ_PER_BIN), round(4800 / _HZ_PER_BIN))
"""Bins on both sides of where a telephone's speech ends."""
_TOLD_FRAMES = math.ceil(SAMPLE_RATE_HZ / _HOP)
"""A second of speech: a word may well have no sound above a telephone's band, longer speech has."""
_LOUDEST_SHARE = 0.05
"""Of the frames of speech; sibilants take more than that."""
_MOST_DB = 0.9
_DB_OF_MOVING_ALONG = 20.0
_SHARE_OF_SPREAD = 0.6
_STANDARD_ERRORS = 2.0
"""Weights of what tells noise from speech there, and the limit: of speech of full bandwidth under noise of any kind at
5 dB and more, less than 1 % is taken for telephone (docs/audio.md)."""
_LEAST_POWER = 1e-14


@dataclass(frozen=True, slots=True)
class Quality:
    """What limits how well an utterance tells a voice.

    Attributes
    ----------
    net_speech_s
        Seconds in which somebody speaks.
    snr_db
        Power of speech over that of the noise behind it, estimated, from -10 to 60; None without speech.
    clipped_share
        Share of its samples that reach full scale, from 0 to 1.
    bandwidth_hz
        Where the spectrum of the speech ends; 0 without speech.
    level_dbfs
        Root mean square of the speech (of everything, where there is none), at least -120.
    """

    net_speech_s: float
    snr_db: float | None
    clipped_share: float
    bandwidth_hz: float
    level_dbfs: float

    @property
    def is_telephone(self) -> bool:
        """Whether the speech ends where a telephone's does."""
        return 0 < self.bandwidth_hz <= TELEPHONE_BANDWIDTH_HZ

    @property
    def telephone(self) -> float | None:
        """1 where it came over a telephone, 0 where it did not, None without speech to tell by."""
        return float(self.is_telephone) if self.bandwidth_hz > 0 else None


def measure_quality(
    waveform: Waveform, regions: Sequence[Region], spectra: NDArray[np.float32] | None = None
) -> Quality:
    """Measure one utterance.

    Parameters
    ----------
    waveform
        (N,) samples at 16 kHz.
    regions
        Where in it somebody speaks, on the same time axis; what lies outside the waveform does not count.
    spectra
        Its `power_spectra`, where they were made already.
    """
    inside = _mask(len(waveform), regions)
    net_speech_s = float(np.count_nonzero(inside)) / SAMPLE_RATE_HZ
    heard = waveform[inside] if net_speech_s else waveform
    power = power_spectra(waveform) if spectra is None else spectra
    frames = _frame_mask(inside, len(power))
    speech = power[frames]
    return Quality(
        net_speech_s=net_speech_s,
        snr_db=_snr_db(speech, power[~_widened(frames)]) if len(speech) else None,
        clipped_share=float(np.mean(np.abs(waveform) >= CLIPPED_MAGNITUDE)) if len(waveform) else 0.0,
        bandwidth_hz=_bandwidth_hz(speech) if len(speech) else 0.0,
        level_dbfs=_level_dbfs(heard),
    )


def pooled_quality(parts: Sequence[Quality]) -> Quality:
    """Return the quality of several utterances together: means by their net speech, powers as powers."""
    if len(parts) == 1:  # The same to the bit, without arrays of one number: weighted, and divided by the weight.
        return _alone(parts[0])
    weights = np.array([part.net_speech_s for part in parts])
    net_speech_s = float(weights.sum())
    if not net_speech_s:
        weights = np.ones(len(parts))

    def mean(values: Sequence[float], of: NDArray[np.float64] = weights) -> float:
        return float(np.average(values, weights=of))

    told = np.array([part.snr_db is not None for part in parts]) * weights
    return Quality(
        net_speech_s=net_speech_s,
        snr_db=mean([part.snr_db or 0.0 for part in parts], told) if told.any() else None,
        clipped_share=mean([part.clipped_share for part in parts]),
        bandwidth_hz=mean([part.bandwidth_hz for part in parts]),
        level_dbfs=10 * math.log10(mean([10 ** (part.level_dbfs / 10) for part in parts])),
    )


def _alone(part: Quality) -> Quality:
    weight = part.net_speech_s or 1.0

    def mean(value: float) -> float:
        return value * weight / weight

    return Quality(
        net_speech_s=part.net_speech_s,
        snr_db=mean(part.snr_db) if part.snr_db is not None else None,
        clipped_share=mean(part.clipped_share),
        bandwidth_hz=mean(part.bandwidth_hz),
        level_dbfs=10 * math.log10(mean(10 ** (part.level_dbfs / 10))),
    )


def _mask(samples: int, regions: Sequence[Region]) -> NDArray[np.bool_]:
    inside = np.zeros(samples, dtype=np.bool_)
    for region in regions:
        inside[max(0, round(region.start_s * SAMPLE_RATE_HZ)) : max(0, round(region.end_s * SAMPLE_RATE_HZ))] = True
    return inside


def power_spectra(waveform: Waveform) -> NDArray[np.float32]:
    """Return the power of (T, 257) bins, in frames of 32 ms that overlap by half; a constant offset counts as none."""
    if len(waveform) < _WINDOW:
        waveform = np.pad(waveform, (0, _WINDOW - len(waveform)))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW)[::_HOP]
    import scipy.fft  # here, for it takes a tenth of a second that commands which hear nothing need not wait

    # SciPy's transform: NumPy's takes nine times as long for float32, which was as much as finding the speech.
    parts = scipy.fft.rfft(frames * _TAPER).view(np.float32)  # (T, 2 x 257): real and imaginary parts in turn
    parts *= parts
    power: NDArray[np.float32] = parts[:, ::2] + parts[:, 1::2]
    power[:, :2] = 0.0  # the offset, and what the window spreads of it
    return power


def _frame_mask(inside: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """Which frames have their middle inside the speech."""
    middles = np.minimum(np.arange(frames) * _HOP + _WINDOW // 2, max(0, len(inside) - 1))
    return inside[middles] if len(inside) else np.zeros(frames, dtype=np.bool_)


def _widened(frames: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames of speech, and those that share samples with one."""
    wide = frames.copy()
    wide[1:] |= frames[:-1]
    wide[:-1] |= frames[1:]
    return wide


def _snr_db(speech: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    if len(outside) * _HOP >= _OUTSIDE_S * SAMPLE_RATE_HZ:
        noise = float(outside.sum(axis=1, dtype=np.float64).mean())
    else:  # Between the harmonics and in the gaps of speech each bin shows the noise now and then.
        noise = float(_quantile(speech).sum(dtype=np.float64)) / _QUANTILE_OF_MEAN
    total = float(speech.sum(axis=1, dtype=np.float64).mean())
    if total <= 0:
        return LEAST_SNR_DB
    signal = max(total - noise, 0.0)
    if noise <= signal * 10 ** (-MOST_SNR_DB / 10):
        return MOST_SNR_DB
    return LEAST_SNR_DB if signal == 0 else max(LEAST_SNR_DB, 10 * math.log10(signal / noise))


def _quantile(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the quantile of each column of (T, F), as `np.quantile` does, in a sixth of its time."""
    rising = np.sort(power, axis=0)
    below, share = divmod(_QUANTILE * (len(power) - 1), 1.0)
    lower = rising[int(below)]
    upper = rising[min(int(below) + 1, len(power) - 1)]
    quantile: NDArray[np.float32] = lower + (upper - lower) * np.float32(share)
    return quantile


def _bandwidth_hz(speech: NDArray[np.float32]) -> float:
    """Return the highest frequency at which the long-term spectrum is above a share of its loudest part.

    Where noise goes on above speech that came over a telephone, that is the end of a telephone's band.
    """
    spectrum = speech.mean(axis=0, dtype=np.float64)
    smooth = np.convolve(spectrum, np.ones(5) / 5, mode="same")
    above = np.flatnonzero(smooth >= smooth.max() * 10 ** (_BAND_FLOOR_DB / 10))
    if smooth.max() <= 0:
        return 0.0
    end_hz = min(float((above[-1] + 1) * _HZ_PER_BIN), SAMPLE_RATE_HZ / 2)
    if end_hz > TELEPHONE_BANDWIDTH_HZ and _only_noise_above_the_end(speech):
        return TELEPHONE_BANDWIDTH_HZ
    return end_hz


def _only_noise_above_the_end(speech: NDArray[np.float32]) -> bool:
    """Tell whether what sounds above a telephone's band is noise alone.

    Speech of full bandwidth has sibilants, which are as loud above the end as the rest of it is below, and its levels
    on both sides rise and fall together. Where the loudest moments above are quiet beside the speech below (but for how
    far the level above varies anyway), and move along with it by no more than chance, it is noise. The correlation is
    taken at the upper end of what it may be (Fisher's transform; half of the frames count, for they overlap by half).
    Noise that is loud, or that comes and goes on both sides at once, hides which it is: then nothing is said.

    Parameters
    ----------
    speech
        (T, 257) power of the frames of speech.
    """
    if len(speech) < _TOLD_FRAMES:
        return False
    below, above = (
        speech[:, bins].mean(axis=1, dtype=np.float64) + _LEAST_POWER for bins in (_BELOW_THE_END, _ABOVE_THE_END)
    )
    loudest = np.sort(above)[-round(_LOUDEST_SHARE * len(above)) :].mean()
    first, second = (10 * np.log10(power) for power in (below, above))
    first -= first.mean()
    second -= second.mean()
    varying = float(first @ first), float(second @ second)
    alike = float(first @ second) / math.sqrt(varying[0] * varying[1]) if min(varying) > 0 else 1.0
    moving = math.atanh(min(max(alike, -0.99), 0.99)) + _STANDARD_ERRORS / math.sqrt(len(speech) / 2 - 3)
    spread_db = math.sqrt(varying[1] / len(speech))
    told_db = 10 * math.log10(loudest / below.mean()) - _SHARE_OF_SPREAD * spread_db + _DB_OF_MOVING_ALONG * moving
    return told_db < _MOST_DB


def _level_dbfs(samples: Waveform) -> float:
    if not len(samples):
        return LEAST_LEVEL_DBFS
    power = float(np.var(samples, dtype=np.float64))
    return LEAST_LEVEL_DBFS if power <= 0 else max(LEAST_LEVEL_DBFS, 10 * math.log10(power))
