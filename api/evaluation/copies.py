"""Copies of recordings as they come from worse places: noise, reverberation, a telephone, cut short. Seeds given."""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.evaluation.recordings import content_hash
from indexer.audio.channels import ChannelPolicy
from indexer.audio.decode import open_audio
from indexer.audio.sniff import looks_like_audio
from indexer.errors import InvalidRequest, NotFound
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

_KINDS = re.compile(r"noise(?P<snr>-?\d+)|reverb|telephone|crop(?P<crop>\d+(\.\d+)?)s")
_FORMS = "noise10 (dB), noise5, reverb, telephone, crop2s"

_TELEPHONE_HZ = 8000
_BAND_HZ = (300.0, 3400.0)
_FRAME = 320
_ACTIVE_DB = 30.0
"""Frames of 20 ms less than so far below the loudest are taken for speech when levels are set."""

_PEAK = 0.99
_VERSION = 1
"""Raised when a copy of the same seed would sound different."""


@dataclass(frozen=True, slots=True)
class Sounds:
    """What copies are made with.

    Raises
    ------
    NotFound
        From `read`, if a folder holds no recording.
    """

    names: tuple[str, ...]
    waveforms: tuple[Waveform, ...]

    @classmethod
    def read(cls, folder: Path, limits: AudioSettings) -> "Sounds":
        """Read every recording of a folder, mixed down to mono at 16 kHz."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and looks_like_audio(path))
        if not files:
            raise NotFound(f"{folder}: no recordings in it; give a folder of noises or impulse responses")
        return cls(tuple(content_hash(file) for file in files), tuple(decode(file, limits) for file in files))


class CopyMaker:
    """Makes copies of recordings, each the same for the same seed, whatever else is made.

    Parameters
    ----------
    noises, rirs
        Background sounds and room impulse responses; needed by the conditions that use them.

    Raises
    ------
    InvalidRequest
        If a condition is unknown, or lacks what it is made with.
    """

    def __init__(
        self,
        conditions: Sequence[str],
        *,
        noise_folder: Path | None,
        rir_folder: Path | None,
        seed: int,
        limits: AudioSettings,
    ) -> None:
        self.conditions = tuple(conditions)
        for condition in conditions:
            if _KINDS.fullmatch(condition) is None:
                raise InvalidRequest(f"condition {condition!r}: give some of {_FORMS} with commas between")
            if condition.startswith("noise") and noise_folder is None:
                raise InvalidRequest(f"condition {condition}: give a folder of background sounds with --noise")
            if condition == "reverb" and rir_folder is None:
                raise InvalidRequest("condition reverb: give a folder of room impulse responses with --rir")
        self._noise_folder, self._rir_folder = noise_folder, rir_folder
        self._seed = seed
        self._limits = limits

    def key(self, content: str, condition: str) -> str:
        """Name a copy by all that makes it: as good as a hash of its samples, without making it."""
        sounds: tuple[str, ...] = ()
        if condition.startswith("noise"):
            sounds = self._noises.names
        elif condition == "reverb":
            sounds = self._rirs.names
        made_of = [str(_VERSION), content, condition, str(self._seed), *sounds]
        return "copy " + hashlib.sha256("\n".join(made_of).encode()).hexdigest()

    def make(self, file: Path, condition: str) -> bytes:
        """Return the copy as a WAV file.

        Raises
        ------
        InvalidAudio
            If the recording cannot be decoded.
        """
        waveform = decode(file, self._limits)
        drawn = hashlib.sha256(f"{self._seed}\n{content_hash(file)}\n{condition}".encode()).digest()
        made = self._changed(waveform, condition, np.random.default_rng(int.from_bytes(drawn[:8], "big")))
        return as_wav(made)

    def _changed(self, waveform: Waveform, condition: str, rng: np.random.Generator) -> Waveform:
        kind = _KINDS.fullmatch(condition)
        assert kind is not None
        if kind["snr"] is not None:
            return add_noise(waveform, _one_of(self._noises, rng), float(kind["snr"]), rng)
        if kind["crop"] is not None:
            return crop(waveform, float(kind["crop"]), rng)
        if condition == "reverb":
            return reverberate(waveform, _one_of(self._rirs, rng))
        return through_telephone(waveform)

    @cached_property
    def _noises(self) -> Sounds:
        assert self._noise_folder is not None
        return Sounds.read(self._noise_folder, self._limits)

    @cached_property
    def _rirs(self) -> Sounds:
        assert self._rir_folder is not None
        return Sounds.read(self._rir_folder, self._limits)


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Lay noise under a recording, so many decibels below the level of its speech; short noises are repeated."""
    start = int(rng.integers(0, len(noise)))
    cut = np.resize(np.roll(noise, -start), len(waveform)).astype(np.float64)
    level, own = _active_rms(waveform), _active_rms(cut)
    gain = level / own * 10 ** (-snr_db / 20) if own > 0 else 0.0
    return _within_range(waveform + gain * cut)


def reverberate(waveform: Waveform, rir: Waveform) -> Waveform:
    """Put a recording into the room of an impulse response; length, place and level stay as they were."""
    from scipy.signal import fftconvolve

    direct = int(np.argmax(np.abs(rir)))
    wet = fftconvolve(waveform.astype(np.float64), rir.astype(np.float64))[direct : direct + len(waveform)]
    level = _active_rms(wet)
    return _within_range(wet * (_active_rms(waveform) / level if level > 0 else 1.0))


def through_telephone(waveform: Waveform) -> Waveform:
    """Pass a recording through a telephone line: 300 to 3400 Hz, 8 kHz, mu-law in 8 bits (ITU-T G.711's law)."""
    import soxr
    from scipy.signal import butter, sosfilt

    narrow = soxr.resample(waveform.astype(np.float64), SAMPLE_RATE_HZ, _TELEPHONE_HZ)
    narrow = sosfilt(butter(4, _BAND_HZ, btype="bandpass", fs=_TELEPHONE_HZ, output="sos"), narrow)
    peak = max(float(np.abs(narrow).max(initial=0.0)), 1e-9)
    mu = 255.0
    loudness = np.log1p(mu * np.abs(narrow) / peak) / np.log1p(mu)
    steps = np.round(loudness * 127) / 127
    line = np.sign(narrow) * np.expm1(steps * np.log1p(mu)) / mu * peak
    wide = soxr.resample(line, _TELEPHONE_HZ, SAMPLE_RATE_HZ)
    return _within_range(np.resize(np.pad(wide, (0, max(0, len(waveform) - len(wide)))), len(waveform)))


def crop(waveform: Waveform, length_s: float, rng: np.random.Generator) -> Waveform:
    """Cut so many seconds out of anywhere; a shorter recording stays whole."""
    length = round(length_s * SAMPLE_RATE_HZ)
    if len(waveform) <= length:
        return waveform
    start = int(rng.integers(0, len(waveform) - length + 1))
    return waveform[start : start + length]


def decode(file: Path, limits: AudioSettings) -> Waveform:
    """Read a whole recording, mixed down to mono at 16 kHz."""
    with open_audio(file, channels=ChannelPolicy.parse("mix"), limits=limits) as reader:
        return np.concatenate([block[0] for block in reader.blocks()])


def as_wav(waveform: Waveform) -> bytes:
    """Return a 16-bit WAV file at 16 kHz."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _one_of(sounds: Sounds, rng: np.random.Generator) -> Waveform:
    return sounds.waveforms[int(rng.integers(0, len(sounds.waveforms)))]


def _active_rms(waveform: NDArray[np.floating]) -> float:
    """Return the root mean square of the loud frames: of the speech, not of the pauses."""
    whole = len(waveform) // _FRAME * _FRAME
    frames = waveform[:whole].reshape(-1, _FRAME) if whole else waveform[None, :]
    power = (frames.astype(np.float64) ** 2).mean(axis=1)
    loud = power[power >= power.max(initial=0.0) * 10 ** (-_ACTIVE_DB / 10)]
    return float(np.sqrt(loud.mean())) if len(loud) else 0.0


def _within_range(waveform: NDArray[np.floating]) -> Waveform:
    peak = float(np.abs(waveform).max(initial=0.0))
    return (waveform * (_PEAK / peak if peak > _PEAK else 1.0)).astype(np.float32)
