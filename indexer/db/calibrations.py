"""Named queries about what turns scores into log-likelihood ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from indexer.db.models import Calibration, Gallery
from indexer.db.statements import insert_if_absent
from indexer.errors import NotFound
from indexer.types import EncoderId


@dataclass(frozen=True)
class StoredCalibration:
    """A calibration as the record keeps it; `search.calibration` knows what the document means."""

    id: str
    name: str
    encoder_ids: tuple[EncoderId, ...]
    document: Mapping[str, Any]


class Calibrations:
    """Calibrations of this record; those that are shipped are not here."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, calibration: StoredCalibration) -> None:
        """Keep a calibration, for any gallery; the same one again changes nothing."""
        self._session.execute(
            insert_if_absent(self._session, Calibration),
            {
                "id": calibration.id,
                "name": calibration.name,
                "encoder_ids": list(calibration.encoder_ids),
                "document": dict(calibration.document),
            },
        )

    def find(self, calibration_id: str) -> StoredCalibration | None:
        """Return the calibration of this id, if there is one."""
        row = self._session.get(Calibration, calibration_id)
        return _stored(row) if row is not None else None

    def get(self, calibration_id: str) -> StoredCalibration:
        """Return the calibration of this id, or raise NotFound."""
        found = self.find(calibration_id)
        if found is None:
            raise NotFound(f"no calibration {calibration_id!r} in this record: make one with `voxdex calibrate`")
        return found

    def all(self) -> Sequence[StoredCalibration]:
        """List every calibration of the record, oldest first."""
        rows = self._session.scalars(select(Calibration).order_by(Calibration.created_at, Calibration.id))
        return [_stored(row) for row in rows]

    def delete(self, calibration_id: str) -> None:
        """Delete a calibration; galleries that use it use the shipped one from then on. NotFound if already gone."""
        self.get(calibration_id)
        users = update(Gallery).where(Gallery.calibration_id == calibration_id)
        self._session.execute(users.values(calibration_id=None, score_normalization=False))
        self._session.execute(delete(Calibration).where(Calibration.id == calibration_id))
        self._session.expire_all()


def _stored(row: Calibration) -> StoredCalibration:
    return StoredCalibration(
        id=row.id,
        name=row.name,
        encoder_ids=tuple(EncoderId(encoder_id) for encoder_id in row.encoder_ids),
        document=row.document,
    )
