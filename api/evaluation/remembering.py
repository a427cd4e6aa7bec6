"""An encoder that embeds no waveform twice: what changes around it, as what is taken for speech, costs little then."""

import hashlib
from collections.abc import Sequence

import numpy as np

from api.evaluation.cache import HeardCache
from indexer.embedding.encoder import Encoder
from indexer.types import EncoderId, Vectors, Waveform


class RememberingEncoder:
    """Another encoder's vectors, looked up by the very samples where they were embedded before."""

    def __init__(self, encoder: Encoder, cache: HeardCache) -> None:
        self._encoder = encoder
        self._cache = cache

    @property
    def id(self) -> EncoderId:
        """The encoder's own."""
        return self._encoder.id

    @property
    def name(self) -> str:
        """The encoder's own."""
        return self._encoder.name

    @property
    def dim(self) -> int:
        """The encoder's own."""
        return self._encoder.dim

    @property
    def min_samples(self) -> int:
        """The encoder's own."""
        return self._encoder.min_samples

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows of unit norm, in input order; only those that are new go to the network."""
        hashes = [hashlib.sha256(np.ascontiguousarray(waveform).tobytes()).hexdigest() for waveform in waveforms]
        known = self._cache.vectors(hashes, self.id)
        new = [place for place, name in enumerate(hashes) if name not in known]
        if new:
            rows = self._encoder.embed([waveforms[place] for place in new])
            made = {hashes[place]: row for place, row in zip(new, rows, strict=True)}
            self._cache.keep_vectors(made, self.id)
            known |= made
        vectors: Vectors = np.array([known[name] for name in hashes], dtype=np.float32).reshape(len(hashes), self.dim)
        return vectors

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as the network gives them; these are not remembered."""
        return self._encoder.embed_raw(waveforms)
