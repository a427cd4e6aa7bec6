"""The encoders of one process: each is loaded when it is first asked for, once, and kept.

What reads the record is imported where it is read: it takes half a second, and to embed and compare nobody reads one.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from indexer.embedding.encoder_set import EncoderSet
from indexer.embedding.registry import EncoderRegistry, EncoderSpec
from indexer.embedding.weight_files import read_weights
from indexer.errors import EncoderMismatch
from indexer.settings import EmbeddingSettings
from indexer.types import EncoderId, GalleryId, Precision, precision_of, without_precision

if TYPE_CHECKING:
    from indexer.db.rows import NewEncoder
    from indexer.db.session import Database

    # Loads torch, which processes that only hand work over must not.
    from indexer.embedding.encoder import SpeakerEncoder


class EncodersInUse:
    """Loads encoders by name, or as a gallery needs them; safe to ask from several threads."""

    def __init__(self, registry: EncoderRegistry, settings: EmbeddingSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._loaded: dict[tuple[str, str | None, Precision | None], tuple[SpeakerEncoder, EncoderSpec]] = {}
        self._loading = threading.Lock()

    def load(
        self, name: str | None = None, front_end: str | None = None, precision: Precision | None = None
    ) -> "tuple[SpeakerEncoder, EncoderSpec]":
        """Load an encoder, or return it where it is loaded already.

        Parameters
        ----------
        name
            Name in the registry, or a path; None means the setting.
        front_end
            Front end that replaces the registry's; only NeMo weights have a choice.
        precision
            What the vectors keep to; None means the setting, or exact where fast would gain nothing.

        Raises
        ------
        NotFound
            If there is no such encoder.
        """
        known = name or self._settings.encoder
        with self._loading:
            if (known, front_end, precision) not in self._loaded:
                found = self._load(known, front_end, precision)
                # Kept under what it turned out to be as well: what a gallery asks for next is often that.
                self._loaded[known, front_end, precision_of(found[0].id)] = found
                self._loaded[known, front_end, precision] = found
            return self._loaded[known, front_end, precision]

    def of_gallery(
        self, database: "Database", gallery: str, wanted: str | None = None
    ) -> "tuple[SpeakerEncoder, EncoderSpec]":
        """Load the encoder of a gallery by its name; for one that does not exist yet, `wanted` or the setting.

        Raises
        ------
        EncoderMismatch
            If the gallery's vectors are of another encoder than the one that is found under its name, or than `wanted`.
        """
        from indexer.db.galleries import Galleries

        with database.read_scope() as session:
            row = Galleries(session).find(gallery)
        return self.load(wanted) if row is None else self.of_gallery_id(database, GalleryId(row.id), wanted)

    def of_gallery_id(
        self, database: "Database", gallery_id: GalleryId, wanted: str | None = None
    ) -> "tuple[SpeakerEncoder, EncoderSpec]":
        """Load the encoder of a gallery that exists; see `of_gallery` for the errors."""
        from indexer.db.encoders import Encoders
        from indexer.db.galleries import Galleries

        with database.read_scope() as session:
            gallery = Galleries(session).get(gallery_id)
            recorded = Encoders(session).get(gallery.encoder_id)
        loaded, spec = self.load(
            wanted or recorded.name,
            None if wanted else front_end_of(recorded.family, recorded.id),
            precision_of(recorded.id),
        )
        if loaded.id != recorded.id:
            raise EncoderMismatch(
                f"gallery {gallery.name} holds vectors of encoder {recorded.name} ({recorded.id}); "
                f"{spec.name} is {loaded.id}: use that encoder, or ingest into another gallery"
            )
        return loaded, spec

    def all_of_gallery(
        self, database: "Database", gallery_id: GalleryId, *, at_hand: "SpeakerEncoder | None" = None
    ) -> EncoderSet:
        """Load every encoder that a gallery is searched under; see `of_gallery` for the errors.

        Parameters
        ----------
        at_hand
            One that is loaded already, perhaps from a file that is in no registry; used where it is the gallery's.
        """
        from indexer.db.galleries import Galleries

        with database.read_scope() as session:
            gallery = Galleries(session).get(gallery_id)
        at_hand = at_hand if at_hand is not None and at_hand.id == gallery.encoder_id else None
        first = at_hand or self.of_gallery_id(database, gallery_id)[0]
        second = gallery.second_encoder_id
        return EncoderSet(first, None if second is None else self.of_record(database, second)[0])

    def of_record(self, database: "Database", encoder_id: EncoderId) -> "tuple[SpeakerEncoder, EncoderSpec]":
        """Load an encoder that vectors of the record were made by.

        Raises
        ------
        NotFound
            If the record, or the registry, does not know it.
        EncoderMismatch
            If another one is found under its name.
        """
        from indexer.db.encoders import Encoders

        with database.read_scope() as session:
            recorded = Encoders(session).get(encoder_id)
        loaded, spec = self.load(recorded.name, front_end_of(recorded.family, recorded.id), precision_of(recorded.id))
        if loaded.id != recorded.id:
            raise EncoderMismatch(
                f"encoder {recorded.name} was {recorded.id} and is {loaded.id} now: put its former weights back"
            )
        return loaded, spec

    def _load(
        self, name: str, front_end: str | None, precision: Precision | None
    ) -> "tuple[SpeakerEncoder, EncoderSpec]":
        spec = self._registry.get(name)
        if front_end is not None:
            spec = replace(spec, front_end=front_end)
        with ThreadPoolExecutor(1) as beside:
            weights = beside.submit(read_weights, self._registry.pull(spec))
            from indexer.embedding.encoder import load_encoder  # torch, for which one waits longer
        loaded = load_encoder(
            weights.result(),
            name=spec.name,
            family=spec.family,
            front_end=spec.front_end,
            device=self._settings.device,
            precision=precision or self._settings.precision,
            or_exact=precision is None,
            batch_audio_s=self._settings.batch_audio_s,
            threads=self._settings.threads,
        )
        return loaded, spec


def front_end_of(family: str, encoder_id: EncoderId) -> str | None:
    """Front end that a recorded encoder was used with; only NeMo weights have a choice."""
    return without_precision(encoder_id).split("-", 1)[1] if family == "nemo" else None


def as_row(loaded: "SpeakerEncoder", spec: EncoderSpec) -> "NewEncoder":
    """Describe an encoder as the record keeps it."""
    from indexer.db.rows import NewEncoder

    return NewEncoder(
        id=loaded.id,
        name=spec.name,
        family=spec.family,
        weights_sha256=loaded.checkpoint.weights_sha256,
        front_end=loaded.checkpoint.front_end,
        dim=loaded.dim,
    )
