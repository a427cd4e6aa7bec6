"""The encoders that one gallery is searched under: one, or two whose scores are fused."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from indexer.errors import EncoderMismatch
from indexer.types import EncoderId, Span, Vectors, Waveform, without_precision

if TYPE_CHECKING:  # Loads torch, which processes that only hand work over must not.
    from indexer.embedding.encoder import Encoder


class EncoderSet:
    """One encoder, or two of which each makes its own vector of every utterance; vectors of the two never meet.

    Parameters
    ----------
    first : Encoder
        The gallery's own.
    second : Encoder, optional
        The one whose scores are fused with those of the first.

    Raises
    ------
    EncoderMismatch
        If both are the same one: a score fused with itself says nothing more.
    """

    def __init__(self, first: "Encoder", second: "Encoder | None" = None) -> None:
        if second is not None and without_precision(second.id) == without_precision(first.id):
            raise EncoderMismatch(f"encoder {first.id} twice: two different ones are fused, or one is used alone")
        self.first = first
        self.second = second

    def __iter__(self) -> "Iterator[Encoder]":
        """Both, the gallery's own first."""
        return iter((self.first,) if self.second is None else (self.first, self.second))

    @property
    def ids(self) -> tuple[EncoderId, ...]:
        """Their ids, that of the gallery's own first."""
        return tuple(encoder.id for encoder in self)

    @property
    def min_samples(self) -> int:
        """Fewest samples that each of them embeds."""
        return max(encoder.min_samples for encoder in self)

    def prepare(self, waveform: Waveform) -> None:
        """Have each compute what its network will read of an utterance, where it can; see `SpeakerEncoder.prepare`."""
        for encoder in self:
            prepare(encoder, waveform)

    def embed(self, waveforms: Sequence[Waveform]) -> dict[EncoderId, Vectors]:
        """Embed utterances under each encoder, as (B, D) rows of unit norm in input order; see `Encoder.embed`."""
        return {encoder.id: encoder.embed(waveforms) for encoder in self}

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[dict[EncoderId, Vectors], list[Vectors]]:
        """Embed utterances under each encoder, and stretches inside them under the first; see `Encoder`."""
        vectors, of_windows = self.first.embed_with_windows(waveforms, windows)
        beside = {} if self.second is None else {self.second.id: self.second.embed(waveforms)}
        return {self.first.id: vectors, **beside}, of_windows


def prepare(encoder: "Encoder", waveform: Waveform) -> None:
    """Have an encoder compute what its network will read of an utterance, where it can do that beforehand."""
    able = getattr(encoder, "prepare", None)
    if able is not None:
        able(waveform)
