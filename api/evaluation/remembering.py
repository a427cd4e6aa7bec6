"""An encoder that embeds no waveform twice: what changes around it, as what is taken for speech, costs little then."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from api.evaluation.cache import HeardCache
from indexer.embedding.around import AroundEncoder
from indexer.embedding.encoder import Encoder
from indexer.types import Span, Vectors, Waveform


class RememberingEncoder(AroundEncoder):
    """Another encoder's vectors, looked up by the very samples where they were embedded before."""

    def __init__(self, encoder: Encoder, cache: HeardCache) -> None:
        super().__init__(encoder)
        self._cache = cache

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows of unit norm, in input order; only those that are new go to the network."""
        hashes = [_sha256(waveform) for waveform in waveforms]
        known = self._cache.vectors(hashes, self.id)
        new = [place for place, name in enumerate(hashes) if name not in known]
        if new:
            rows = self._inner.embed([waveforms[place] for place in new])
            made = {hashes[place]: row for place, row in zip(new, rows, strict=True)}
            self._cache.keep_vectors(made, self.id)
            known |= made
        return self._rows(hashes, known)

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances and stretches inside them; a waveform is known where all that is asked of it is."""
        hashes = [_sha256(waveform) for waveform in waveforms]
        names = [
            [name, *(f"{name}:{start}-{end}" for start, end in spans)]
            for name, spans in zip(hashes, windows, strict=True)
        ]
        known = self._cache.vectors([name for some in names for name in some], self.id)
        new = [place for place, some in enumerate(names) if not known.keys() >= set(some)]
        if new:
            rows, of_windows = self._inner.embed_with_windows(
                [waveforms[place] for place in new], [windows[place] for place in new]
            )
            made = {
                name: vector
                for place, row, own in zip(new, rows, of_windows, strict=True)
                for name, vector in zip(names[place], [row, *own], strict=True)
            }
            self._cache.keep_vectors(made, self.id)
            known |= made
        return self._rows(hashes, known), [self._rows(some[1:], known) for some in names]

    def _rows(self, names: Sequence[str], known: Mapping[str, NDArray[np.float32]]) -> Vectors:
        rows: Vectors = np.array([known[name] for name in names], dtype=np.float32).reshape(len(names), self.dim)
        return rows

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as the network gives them; these are not remembered."""
        return self._inner.embed_raw(waveforms)


def _sha256(waveform: Waveform) -> str:
    return hashlib.sha256(np.ascontiguousarray(waveform).tobytes()).hexdigest()
