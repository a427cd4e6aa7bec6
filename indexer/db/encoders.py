"""Named queries about encoders. The session's owner commits."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from indexer.db.models import (
    Encoder,
)
from indexer.db.rows import (
    NewEncoder,
)
from indexer.db.statements import insert_if_absent
from indexer.errors import EncoderMismatch, NotFound
from indexer.types import (
    EncoderId,
)


class Encoders:
    """Encoders that made a vector of this record."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register(self, encoder: NewEncoder) -> Encoder:
        """Record an encoder once; later calls return the same row.

        Raises
        ------
        EncoderMismatch
            If the id is taken by an encoder with other weights, front end or dimension.
        """
        self._session.execute(
            insert_if_absent(self._session, Encoder),
            {
                "id": encoder.id,
                "name": encoder.name,
                "family": encoder.family,
                "weights_sha256": encoder.weights_sha256,
                "front_end": encoder.front_end,
                "dim": encoder.dim,
            },
        )
        row = self.get(encoder.id)
        kept = (row.weights_sha256, row.front_end, row.dim)
        given = (encoder.weights_sha256, encoder.front_end, encoder.dim)
        if kept != given:
            raise EncoderMismatch(
                f"encoder id {encoder.id} is recorded with (weights, front end, dimension) {kept}, not {given}: "
                "an id must name one encoder"
            )
        return row

    def get(self, encoder_id: EncoderId) -> Encoder:
        """Return an encoder, or raise NotFound."""
        row = self._session.get(Encoder, encoder_id)
        if row is None:
            raise NotFound(f"no encoder {encoder_id} in this record: see `voxdex encoder list`")
        return row

    def all(self) -> list[Encoder]:
        """Every encoder, oldest first."""
        return list(self._session.scalars(select(Encoder).order_by(Encoder.created_at, Encoder.id)))
