"""Where within speech one voice takes over from another, told by how their frames of 25 ms sound."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.audio.regions import Region
from indexer.listening import VoiceTurn
from indexer.types import SAMPLE_RATE_HZ, Waveform

Floats = NDArray[np.float64]

REACH_S = 0.3
"""How far a change is moved at most, either way."""

LEAST_S = 0.1
"""A change comes no nearer to another."""

_TOUCHING_S = 1e-3
_MOST_S = 10.0
"""How much of one turn is listened to."""

_LEAST_FRAMES = 30
"""Of a voice of which fewer are heard, nothing is told."""

_SHRUNK = 0.3
"""Share of the covariance of all voices in that of each: few seconds tell only part of it."""

_PULL = 1.0
"""By how many nats a change is less likely a tenth of a second from where it was found; four times as many at two."""

_STEP, _WINDOW, _BINS, _BANDS = 160, 400, 512, 24
_BAND_HZ = (100.0, 7600.0)
_FLOOR = 1e-8
_LEAST_VARIANCE = 1e-3
_STEP_S, _WINDOW_S = _STEP / SAMPLE_RATE_HZ, _WINDOW / SAMPLE_RATE_HZ
_TAPER = np.hamming(_WINDOW).astype(np.float32)


class _Place(NamedTuple):
    """Where a change may be: after turn `turn`, from `low_s` to `high_s`."""

    turn: int
    low_s: float
    high_s: float


class ChangeFinder:
    """Moves the changes of voice of one track to where either side sounds most like its voice.

    The frames of each voice are taken for normally distributed; a change is where the likelihood of those around it is
    largest, all before it being of one voice and all after it of the other.

    Parameters
    ----------
    turns
        Rising and disjoint.

    References
    ----------
    Barras, Zhu, Meignier and Gauvain, "Multistage speaker diarization of broadcast news", IEEE Transactions on Audio,
    Speech, and Language Processing, 2006, find changes of voice anew by densities of spectral frames.
    """

    def __init__(self, turns: Sequence[VoiceTurn]) -> None:
        self._turns = list(turns)
        self._places: dict[Region, _Place] = {}
        self._own: dict[Region, int] = {}
        for turn, (before, after) in enumerate(zip(self._turns, self._turns[1:], strict=False)):
            if before.voice != after.voice and after.start_s - before.end_s <= _TOUCHING_S:
                low_s = max(before.start_s + LEAST_S, before.end_s - REACH_S)
                high_s = min(after.end_s - LEAST_S, before.end_s + REACH_S)
                if high_s > low_s:
                    self._places[_heard_around(low_s, high_s)] = _Place(turn, low_s, high_s)
        for voice, start_s, end_s in self._turns if self._places else ():
            inner = Region(start_s + LEAST_S, min(end_s - LEAST_S, start_s + LEAST_S + _MOST_S))
            if inner.end_s - inner.start_s >= _WINDOW_S:
                self._own[inner] = voice
        self._sounds: dict[int, _Sound] = {}
        self._frames: dict[Region, Floats] = {}

    @property
    def stretches(self) -> list[Region]:
        """What is to be heard; nothing where no two voices touch."""
        return sorted({*self._own, *self._places})

    def hear(self, stretch: Region, waveform: Waveform) -> None:
        """Hear one of the stretches, in any order."""
        frames = log_mel(waveform)
        if stretch in self._own:
            self._sounds.setdefault(self._own[stretch], _Sound()).add(frames)
        if stretch in self._places:
            self._frames[stretch] = frames

    def turns(self) -> list[VoiceTurn]:
        """Return the turns with their changes moved."""
        moved = list(self._turns)
        scorers = self._scorers()
        for stretch, (turn, low_s, high_s) in self._places.items():
            before, after = moved[turn], moved[turn + 1]
            frames = self._frames.get(stretch)
            if frames is None or not {before.voice, after.voice} <= scorers.keys():
                continue
            gains = np.concatenate(
                ([0.0], np.cumsum(scorers[before.voice].scores(frames) - scorers[after.voice].scores(frames)))
            )
            times = stretch.start_s + (_WINDOW_S - _STEP_S) / 2 + _STEP_S * np.arange(len(gains))
            gains -= _PULL * ((times - before.end_s) / 0.1) ** 2
            gains[(times < max(low_s, before.start_s + LEAST_S)) | (times > high_s)] = -np.inf
            if gains.max() > -np.inf:
                change_s = float(times[gains.argmax()])
                moved[turn] = before._replace(end_s=change_s)
                moved[turn + 1] = after._replace(start_s=change_s)
        return moved

    def _scorers(self) -> "dict[int, _Scorer]":
        known = {voice: sound for voice, sound in self._sounds.items() if sound.frames >= _LEAST_FRAMES}
        if len(known) < 2:
            return {}
        weights = np.array([sound.frames for sound in known.values()], dtype=np.float64)
        common = np.average([sound.covariance for sound in known.values()], axis=0, weights=weights)
        return {voice: _Scorer(sound, common) for voice, sound in known.items()}


def _heard_around(low_s: float, high_s: float) -> Region:
    """Return what holds the frames with which a change from `low_s` to `high_s` begins and ends."""
    around_s = (_WINDOW_S - _STEP_S) / 2
    return Region(max(0.0, low_s - around_s), high_s + around_s)


class _Sound:
    """Mean and covariance of the frames of one voice, as they come."""

    def __init__(self) -> None:
        self.frames = 0
        self._sum = np.zeros(_BANDS)
        self._products = np.zeros((_BANDS, _BANDS))

    def add(self, frames: Floats) -> None:
        self.frames += len(frames)
        self._sum += frames.sum(axis=0)
        self._products += frames.T @ frames

    @property
    def mean(self) -> Floats:
        return self._sum / self.frames

    @property
    def covariance(self) -> Floats:
        return self._products / self.frames - np.outer(self.mean, self.mean)


class _Scorer:
    """The logarithm of a normal density of frames, but for a constant."""

    def __init__(self, sound: _Sound, common: Floats) -> None:
        covariance = (1 - _SHRUNK) * sound.covariance + _SHRUNK * common + _LEAST_VARIANCE * np.eye(_BANDS)
        self._mean = sound.mean
        self._root = np.linalg.cholesky(covariance)
        self._offset = float(np.log(np.diag(self._root)).sum())

    def scores(self, frames: Floats) -> Floats:
        """Return (T,) nats."""
        distances: Floats = np.square(np.linalg.solve(self._root, (frames - self._mean).T)).sum(axis=0)
        return -0.5 * distances - self._offset


def log_mel(waveform: Waveform) -> Floats:
    """Return (T, 24) logarithms of the energy in bands of 25 ms every 10 ms; none of less."""
    if len(waveform) < _WINDOW:
        return np.zeros((0, _BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW)[::_STEP] * _TAPER
    power = np.square(np.abs(np.fft.rfft(frames, _BINS)))
    bands: Floats = np.log(power @ _triangles() + _FLOOR)
    return bands


@lru_cache(maxsize=1)
def _triangles() -> Floats:
    """Return (257, 24) weights: triangles of equal width in mel, each up to the middles of its neighbors."""

    def mel(hertz: "Floats | float") -> Floats:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    edges = np.linspace(mel(_BAND_HZ[0]), mel(_BAND_HZ[1]), _BANDS + 2)
    bins = mel(np.linspace(0.0, SAMPLE_RATE_HZ / 2, _BINS // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
