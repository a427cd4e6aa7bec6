"""What a gallery is under one of its encoders: vectors, voiceprints and filtered rows that belong together."""

from dataclasses import dataclass

from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from indexer.embedding.encoder import Encoder
from indexer.embedding.registry import EncoderSpec
from indexer.index.base import VectorIndex


@dataclass(frozen=True, eq=False, slots=True)
class EncoderSide:
    """One encoder's side of a gallery; a gallery that fuses two encoders has two, whose vectors never meet."""

    encoder: Encoder
    spec: EncoderSpec
    index: VectorIndex
    enrolled: EnrolledGallery
    filtered: FilteredGallery

    def close(self) -> None:
        """Close the index and who is enrolled, where nobody else uses them."""
        self.index.close()
        self.enrolled.close()
