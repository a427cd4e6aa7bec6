"""How much audio encoders are given, which is more than there is where something is embedded twice."""

import threading
from collections import Counter
from collections.abc import Sequence

from indexer.embedding.around import AroundEncoder
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.types import Span, Vectors, Waveform


class GivenAudio:
    """Lengths of all waveforms that encoders were given, by place in their set: 0 for the first one's."""

    def __init__(self) -> None:
        self._lengths: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        self._lock = threading.Lock()

    def around(self, encoders: EncoderSet) -> EncoderSet:
        """Return the same encoders, which note what they are given."""
        return EncoderSet(*(_Noting(encoder, self, place) for place, encoder in enumerate(encoders)))

    def note(self, place: int, waveforms: Sequence[Waveform]) -> None:
        """Count some more."""
        with self._lock:
            self._lengths[place].update(len(waveform) for waveform in waveforms)

    def taken(self) -> tuple[Counter[int], Counter[int]]:
        """Return how many waveforms of each length, in samples, came since this was asked last."""
        with self._lock:
            taken, self._lengths = self._lengths, (Counter(), Counter())
        return taken


class _Noting(AroundEncoder):
    def __init__(self, inner: Encoder, given: GivenAudio, place: int) -> None:
        super().__init__(inner)
        self._given, self._place = given, place

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        self._given.note(self._place, waveforms)
        return self._inner.embed(waveforms)

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        self._given.note(self._place, waveforms)
        return self._inner.embed_raw(waveforms)

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        self._given.note(self._place, waveforms)
        return self._inner.embed_with_windows(waveforms, windows)
