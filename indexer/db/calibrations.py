"""Named queries about what turns scores into log-likelihood ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from indexer.db.models import Calibration, Gallery
from indexer.db.repositories import insert_if_absent
from indexer.errors import NotFound
from indexer.types import EncoderId, GalleryId


@dataclass(frozen=True)
class StoredCalibration:
    """A calibration as the record keeps it; `search.calibration` knows what the document means."""

    id: str
    name: str
    encoder_ids: tuple[EncoderId, ...]
    document: Mapping[str, Any]
    gallery_id: GalleryId | None = None
    """The gallery that it goes with; None: any."""


class Calibrations:
    """Calibrations of this record; those that are shipped are not here."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, calibration: StoredCalibration) -> None:
        """Keep a calibration; the same one again changes nothing, and belongs to no single gallery from then on."""
        self._session.execute(
            insert_if_absent(self._session, Calibration),
            {
                "id": calibration.id,
                "name": calibration.name,
                "encoder_ids": list(calibration.encoder_ids),
                "document": dict(calibration.document),
                "gallery_id": calibration.gallery_id,
            },
        )
        same = Calibration.id == calibration.id
        if calibration.gallery_id is None:
            shared = same & Calibration.gallery_id.is_not(None)
        else:
            shared = same & (Calibration.gallery_id != calibration.gallery_id)
        self._session.execute(update(Calibration).where(shared).values(gallery_id=None))
        self._session.expire_all()

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

    def usable(self, gallery_id: GalleryId | None = None) -> Sequence[StoredCalibration]:
        """List the calibrations of no single gallery and those of this one, oldest first."""
        query = select(Calibration).where(or_(Calibration.gallery_id.is_(None), Calibration.gallery_id == gallery_id))
        rows = self._session.scalars(query.order_by(Calibration.created_at, Calibration.id))
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
        gallery_id=GalleryId(row.gallery_id) if row.gallery_id is not None else None,
    )
