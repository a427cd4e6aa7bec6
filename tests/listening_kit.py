"""Listening without networks: bands of noise are voices, silence parts regions, and like spectra are one voice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from indexer.audio.regions import Region
from indexer.listening import Doubt, Listening, Speakers, Suspicion, UnlikeStretch, VoiceTurn
from indexer.types import EMBEDDING_DIM, SAMPLE_RATE_HZ, EncoderId, Vectors, Waveform

_STEP_S = 0.1


def voice(number: int, seconds: float, seed: int = 0) -> Waveform:
    """Noise of one band, which stands for a voice."""
    noise = np.random.default_rng([seed, number]).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    spectrum = np.fft.rfft(noise)
    low, high = (number * len(spectrum) // 3, (number + 1) * len(spectrum) // 3)
    spectrum[:low] = spectrum[high:] = 0
    return (0.1 * np.fft.irfft(spectrum, len(noise))).astype(np.float32)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)


def write_take(path: Path, *parts: Waveform) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE_HZ, "FLOAT")
    return path


class LoudnessDetector:
    """Takes tenths of a second that are not silent for speech."""

    def stream(self, *, edges: bool = True) -> "LoudnessStream":
        return LoudnessStream()

    def regions(self, waveform: Waveform) -> list[Region]:
        stream = self.stream()
        return [*stream.push(waveform), *stream.finish()]


class LoudnessStream:
    def __init__(self) -> None:
        self._held: list[Waveform] = []

    def push(self, block: Waveform) -> list[Region]:
        self._held.append(np.array(block))
        return []

    def finish(self) -> list[Region]:
        samples = np.concatenate(self._held)
        step = round(_STEP_S * SAMPLE_RATE_HZ)
        regions: list[Region] = []
        for start in range(0, len(samples), step):
            if np.abs(samples[start : start + step]).max() < 0.001:
                continue
            start_s, end_s = start / SAMPLE_RATE_HZ, min(start + step, len(samples)) / SAMPLE_RATE_HZ
            if regions and abs(regions[-1].end_s - start_s) < 1e-9:
                regions[-1] = Region(regions[-1].start_s, end_s)
            else:
                regions.append(Region(start_s, end_s))
        return regions

    def spoken(self) -> list[Region]:
        return self.finish()


class NearestDiarizer:
    """Half a second is of the first voice whose vector it resembles."""

    def for_encoder(self, encoder_id: EncoderId) -> "NearestDiarizer":
        return self

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        return [
            Region(float(start), float(min(start + 0.5, region.end_s)))
            for region in regions
            for start in np.arange(region.start_s, region.end_s - 0.2, 0.5)
        ]

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None
    ) -> list[VoiceTurn]:
        seen: list[Vectors] = []
        turns = []
        for window, vector in zip(windows, vectors, strict=True):
            like = [number for number, one in enumerate(seen) if one @ vector > 0.8]
            if not like:
                seen.append(vector)
            turns.append(VoiceTurn(like[0] if like else len(seen) - 1, window.start_s, window.end_s))
        return turns


class AlikeScreen:
    """Looks at the same windows as the diarizer."""

    def windows(self, regions: Sequence[Region]) -> list[Region]:
        return NearestDiarizer().windows(regions)

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        return None if (vectors @ vectors[0]).min() > 0.8 else Suspicion()

    def least_voices(self, vectors: Vectors, encoder_id: EncoderId) -> int | None:
        return 1 if (np.sum(vectors[:, 0] * vectors[:, 1], axis=1) > 0.8).all() else None


class EndlessDoubts:
    """Takes the last window of every recording for what may be somebody else's."""

    def doubt(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Doubt | None:
        return Doubt((windows[0], windows[-1]), len(windows))

    def tells_best(self, encoder_ids: Sequence[EncoderId]) -> EncoderId:
        return encoder_ids[-1]

    def find(self, doubt: Doubt, vectors: Vectors, encoder_id: EncoderId) -> UnlikeStretch | None:
        return UnlikeStretch(*doubt.windows[1], 0.25) if len(vectors) == len(doubt.windows) else None


def plain_listening(speakers: Speakers = "auto") -> Listening:
    return Listening(LoudnessDetector(), NearestDiarizer(), AlikeScreen(), speakers)


def window_vectors(voices: Sequence[int], seed: int, noise: float) -> Vectors:
    """One (D,) unit vector for each window, of the voice that it hears: each voice is a direction, with noise on it."""
    directions = np.random.default_rng(99).standard_normal((max(voices) + 1, EMBEDDING_DIM))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    off = np.random.default_rng(seed).standard_normal((len(voices), EMBEDDING_DIM)) / EMBEDDING_DIM**0.5
    rows = directions[list(voices)] + noise * off
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
