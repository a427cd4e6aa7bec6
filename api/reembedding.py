"""A gallery's change of encoder, put together: to a new one, back to the one before, and the end of the old vectors."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.dependencies import Services
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.transactions import in_transaction
from indexer.embedding.encoder import Encoder
from indexer.encoders_in_use import as_row
from indexer.errors import NotFound
from indexer.reembed import Reembed, ReembedTally, drop_encoder
from indexer.types import EncoderId, GalleryId

OnProgress = Callable[[ReembedTally], None]


@dataclass(frozen=True, slots=True)
class Dropped:
    """An encoder whose vectors are gone from a gallery."""

    encoder_id: EncoderId
    vectors: int


class EncoderChange:
    """The encoders of one gallery, which must exist.

    Raises
    ------
    NotFound
        If it does not.
    """

    def __init__(self, services: Services, gallery: str) -> None:
        self._services = services
        self._gallery = gallery
        self._default_threshold: float | None = None
        with services.record().read_scope() as session:
            self._gallery_id = GalleryId(Galleries(session).by_name(gallery).id)

    def to(self, encoder: str, on_progress: OnProgress, *, beside: bool = False) -> Reembed:
        """Prepare to go to an encoder, by name or path, which is downloaded where it is not here.

        Parameters
        ----------
        beside
            Whether the gallery keeps its own encoder, and is searched under both.
        """
        loaded, spec = self._services.encoders.load(encoder)
        self._default_threshold = spec.identification_threshold
        with self._services.database.session_scope() as session:
            Encoders(session).register(as_row(loaded, spec))
        return self._reembed(loaded, on_progress, beside=beside)

    def alone(self) -> EncoderId | None:
        """Have the gallery searched under its own encoder alone; return the second one that it was searched under.

        The vectors of that stay until they are dropped, so that having it back embeds only what came since.
        """

        def take_out(session: Session) -> EncoderId | None:
            encoders = GalleryEncoders(session, self._gallery_id)
            encoders.lock()
            second_id = Galleries(session).get(self._gallery_id).second_encoder_id
            encoders.set_second(None)
            return second_id

        return in_transaction(self._services.database, take_out)

    def back(self, on_progress: OnProgress) -> Reembed:
        """Prepare to go back to the encoder that the gallery was searched under before.

        Raises
        ------
        NotFound
            If there is none.
        EncoderMismatch
            If another one is found under its name.
        """
        with self._services.database.read_scope() as session:
            previous = GalleryEncoders(session, self._gallery_id).previous()
        if previous is None:
            raise NotFound(
                f"gallery {self._gallery} was searched under no other encoder before, or its vectors are erased: "
                "name one with --encoder"
            )
        loaded, spec = self._services.encoders.of_record(self._services.database, previous)
        self._default_threshold = spec.identification_threshold
        return self._reembed(loaded, on_progress)

    def needs_threshold(self) -> bool:
        """Tell, once the gallery went over, whether it identifies nobody until somebody gives a threshold."""
        with self._services.database.read_scope() as session:
            own = Galleries(session).head(self._gallery).identification_threshold
        setting = self._services.settings.decision.identification_threshold
        return own is None and setting is None and self._default_threshold is None

    def others(self) -> list[EncoderId]:
        """List the encoders that the gallery has, or may have, vectors of and is not searched under."""
        with self._services.database.read_scope() as session:
            return GalleryEncoders(session, self._gallery_id).others()

    def drop_others(self) -> list[Dropped]:
        """Erase their vectors: rows, index files, and what is left in SQLite's log."""
        dropped = []
        for encoder_id in self.others():
            vectors = drop_encoder(self._services.database, self._gallery_id, encoder_id)
            self._services.indexes.drop_encoder(self._gallery_id, encoder_id)
            dropped.append(Dropped(encoder_id, vectors))
        self._services.database.scrub()
        return dropped

    def _reembed(self, encoder: Encoder, on_progress: OnProgress, *, beside: bool = False) -> Reembed:
        services, gallery_id = self._services, self._gallery_id
        return Reembed(
            services.database,
            services.settings,
            gallery_id,
            encoder,
            beside=beside,
            prepare_index=lambda: services.indexes.prepare(gallery_id, encoder.id),
            on_progress=on_progress,
        )
