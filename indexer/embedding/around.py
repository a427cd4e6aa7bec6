"""What every encoder that stands before another one says of it."""

from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import prepare
from indexer.types import EncoderId, Waveform


class AroundEncoder:
    """An encoder whose vectors are another's: it has its id, name, dimension and shortest utterance."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner

    @property
    def id(self) -> EncoderId:
        """The inner encoder's id."""
        return self._inner.id

    @property
    def name(self) -> str:
        """The inner encoder's name."""
        return self._inner.name

    @property
    def dim(self) -> int:
        """The inner encoder's dimension."""
        return self._inner.dim

    @property
    def min_samples(self) -> int:
        """The inner encoder's shortest utterance."""
        return self._inner.min_samples

    @property
    def joins_lengths(self) -> bool:
        """As the inner encoder says."""
        return self._inner.joins_lengths

    def prepare(self, waveform: Waveform) -> None:
        """Have the inner encoder prepare an utterance, where it can."""
        prepare(self._inner, waveform)
