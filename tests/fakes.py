"""Small real implementations for tests in which the network itself is not the point."""

from collections.abc import Sequence

import numpy as np

from indexer.errors import NonFiniteEmbedding, TooLittleSpeech
from indexer.types import EMBEDDING_DIM, EncoderId, Span, Vectors, Waveform


class SpectrumEncoder:
    """An encoder without weights: the average log spectrum in 192 bands, so that like sounds get like vectors."""

    def __init__(self, *, refuses_above: float = np.inf) -> None:
        self.id = EncoderId("0123456789abcdef-spectrum")
        self.name = "spectrum"
        self.dim = EMBEDDING_DIM
        self.min_samples = 1600
        self.joins_lengths = False
        self.embedded = 0
        self._refuses_above = refuses_above

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        raw = self.embed_raw(waveforms)
        unit: Vectors = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        cut = [[waveform[a:b] for a, b in spans] for waveform, spans in zip(waveforms, windows, strict=True)]
        return self.embed(waveforms), [self.embed(some) for some in cut]

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        rows = []
        for waveform in waveforms:
            if len(waveform) < self.min_samples:
                raise TooLittleSpeech(f"{len(waveform)} samples, the minimum is {self.min_samples}")
            if np.abs(waveform).max() > self._refuses_above:
                raise NonFiniteEmbedding(f"a peak above {self._refuses_above} overflows this encoder")
            power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
            bands = np.array([band.mean() for band in np.array_split(power, self.dim)])
            rows.append(np.log(bands + 1e-9))
        self.embedded += len(rows)
        vectors: Vectors = np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)
        return vectors


class ReversedSpectrumEncoder(SpectrumEncoder):
    """Another encoder: its vectors have nothing to do with those of `SpectrumEncoder`."""

    def __init__(self, *, min_samples: int = 1600) -> None:
        super().__init__()
        self.id = EncoderId("fedcba9876543210-reversed")
        self.name = "reversed"
        self.min_samples = min_samples

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        signs = np.where(np.arange(self.dim) % 2 == 0, 1.0, -1.0).astype(np.float32)
        vectors: Vectors = super().embed_raw(waveforms)[:, ::-1] * signs
        return vectors
