"""Named queries about the encoders of a gallery: which one it is searched under, which it was, and what each keeps."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from indexer.db.galleries import Galleries
from indexer.db.leases import clock
from indexer.db.models import Calibration, Embedding, Encoder, Gallery, GalleryEncoder, Recording, Reembedding, utc_now
from indexer.db.statements import insert_if_absent, take_out_vectors
from indexer.errors import Conflict, NotFound
from indexer.types import EncoderId, GalleryId, without_precision

DROPPED_AT_ONCE = 10_000
"""Vectors that one transaction erases: 8 MB of them, in a second or so."""


class GalleryEncoders:
    """Encoders of one gallery."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def begin(self, encoder_id: EncoderId) -> None:
        """Note that the gallery is being embedded for an encoder; saying it again changes nothing."""
        row = {"gallery_id": self._gallery_id, "encoder_id": encoder_id, "started_at": utc_now()}
        self._session.execute(insert_if_absent(self._session, GalleryEncoder), row)

    def lock(self) -> EncoderId:
        """Return the encoder that the gallery is searched under, which nobody changes or writes vectors of meanwhile.

        Raises
        ------
        NotFound
            If the gallery is gone.
        """
        query = select(Gallery.encoder_id).where(Gallery.id == self._gallery_id).with_for_update()
        current = self._session.scalar(query)
        if current is None:
            raise NotFound(f"no gallery with id {self._gallery_id}: see `voxdex galleries list`")
        return current

    def is_searched_under(self, encoder_id: EncoderId, *, second: bool = False) -> bool:
        """Lock the gallery as `lock` does, and tell whether this is its encoder, or its second one."""
        current = self.lock()
        return encoder_id == (Galleries(self._session).get(self._gallery_id).second_encoder_id if second else current)

    def switch(self, encoder_id: EncoderId) -> None:
        """Have a locked gallery searched under an encoder, with the thresholds that it had under it if it ever was.

        Where that was its second one the two change places: both have vectors of everything. The calibration that the
        gallery had comes back too, if it is of the encoders that it has now.
        """
        gallery = Galleries(self._session).get(self._gallery_id)
        second_id = gallery.encoder_id if encoder_id == gallery.second_encoder_id else gallery.second_encoder_id
        self.begin(gallery.encoder_id)
        self.begin(encoder_id)
        left = {
            "identification_threshold": gallery.identification_threshold,
            "verification_threshold": gallery.verification_threshold,
            "possible_threshold": gallery.possible_threshold,
            "calibration_id": gallery.calibration_id,
            "left_at": clock(self._session),
        }
        self._session.execute(update(GalleryEncoder).where(*self._of(gallery.encoder_id)).values(**left))
        kept = self._session.execute(
            update(GalleryEncoder)
            .where(*self._of(encoder_id))
            .values(left_at=None)
            .returning(
                GalleryEncoder.identification_threshold,
                GalleryEncoder.verification_threshold,
                GalleryEncoder.possible_threshold,
                GalleryEncoder.calibration_id,
            )
        ).one()
        Galleries(self._session).change(
            self._gallery_id,
            encoder_id=encoder_id,
            second_encoder_id=second_id,
            identification_threshold=kept.identification_threshold,
            verification_threshold=kept.verification_threshold,
            possible_threshold=kept.possible_threshold,
            calibration_id=self._fitting(kept.calibration_id, (encoder_id, second_id)),
        )

    def _fitting(self, calibration_id: str | None, encoder_ids: tuple[EncoderId | None, ...]) -> str | None:
        """Return a calibration if it is of these encoders, or of the first of them alone."""
        row = self._session.get(Calibration, calibration_id) if calibration_id is not None else None
        if row is None:
            return None
        both = [without_precision(one) for one in encoder_ids if one is not None]
        return row.id if [without_precision(EncoderId(one)) for one in row.encoder_ids] in (both, both[:1]) else None

    def set_second(self, encoder_id: EncoderId | None) -> None:
        """Have a locked gallery searched under a second encoder too; None: under its own alone.

        A calibration of other encoders than these says nothing any more, and goes; so does one of the first alone
        where a second comes, for by it the second would have no say.

        Raises
        ------
        Conflict
            If it is the gallery's own.
        """
        gallery = Galleries(self._session).get(self._gallery_id)
        if gallery.encoder_id == encoder_id:
            raise Conflict(f"gallery {gallery.name} is of encoder {encoder_id} already: name another one to go beside")
        if gallery.second_encoder_id != encoder_id:
            # Also of the one that leaves: what is noted here is what is found again, or dropped, later.
            for noted in (gallery.second_encoder_id, encoder_id):
                if noted is not None:
                    self.begin(noted)
            kept = self._fitting(gallery.calibration_id, (gallery.encoder_id, None)) if encoder_id is None else None
            Galleries(self._session).change(self._gallery_id, second_encoder_id=encoder_id, calibration_id=kept)

    def previous(self) -> EncoderId | None:
        """Return the encoder that the gallery was searched under before; None where there is none."""
        query = (
            select(GalleryEncoder.encoder_id)
            .join(Gallery, Gallery.id == GalleryEncoder.gallery_id)
            .where(
                GalleryEncoder.gallery_id == self._gallery_id,
                GalleryEncoder.left_at.is_not(None),
                _is_unused(GalleryEncoder.encoder_id),
            )
            .order_by(GalleryEncoder.left_at.desc())
        )
        return self._session.scalars(query.limit(1)).one_or_none()

    def others(self) -> list[EncoderId]:
        """List the encoders that the gallery was searched under or is embedded for, but not those it is now."""
        query = (
            select(GalleryEncoder.encoder_id)
            .join(Gallery, Gallery.id == GalleryEncoder.gallery_id)
            .where(GalleryEncoder.gallery_id == self._gallery_id, _is_unused(GalleryEncoder.encoder_id))
            .order_by(GalleryEncoder.started_at, GalleryEncoder.encoder_id)
        )
        return list(self._session.scalars(query))

    def unused(self, encoder_ids: Iterable[EncoderId]) -> list[EncoderId]:
        """Tell of which of these encoders the gallery has no vectors, nor is about to; one never heard of is not told.

        None of them where the gallery is gone.
        """
        here = Gallery.id == self._gallery_id
        query = select(Encoder.id).where(
            Encoder.id.in_(list(encoder_ids)),
            exists().where(here, _is_unused(Encoder.id)),
            ~exists().where(GalleryEncoder.gallery_id == self._gallery_id, GalleryEncoder.encoder_id == Encoder.id),
            ~exists().where(Embedding.gallery_id == self._gallery_id, Embedding.encoder_id == Encoder.id),
        )
        return list(self._session.scalars(query.order_by(Encoder.id)))

    def close_way_back(self, encoder_id: EncoderId) -> None:
        """Have the gallery never go back to an encoder by itself: its vectors are about to be erased.

        Raises
        ------
        Conflict
            If the gallery is searched under it, or somebody embeds for it now.
        """
        self._require_unused(encoder_id)
        rows = update(GalleryEncoder).where(*self._of(encoder_id))
        self._session.execute(rows.values(left_at=None))

    def drop_some(self, encoder_id: EncoderId, most: int = DROPPED_AT_ONCE) -> int:
        """Erase some of the gallery's vectors under an encoder, oldest first; return how many went.

        Raises
        ------
        Conflict
            If the gallery is searched under it, or somebody embeds for it now.
        """
        self._require_unused(encoder_id)
        of_encoder = (Embedding.gallery_id == self._gallery_id) & (Embedding.encoder_id == encoder_id)
        some = self._session.scalars(select(Embedding.id).where(of_encoder).order_by(Embedding.id).limit(most)).all()
        if not some:
            return 0
        which = of_encoder & (Embedding.id >= some[0]) & (Embedding.id <= some[-1])
        return len(take_out_vectors(self._session, self._gallery_id, which))

    def forget(self, encoder_id: EncoderId) -> None:
        """Delete what is noted of an encoder whose vectors are erased."""
        self._session.execute(delete(GalleryEncoder).where(*self._of(encoder_id)))
        gone = (Reembedding.encoder_id == encoder_id, Reembedding.recording_id.in_(self._recordings()))
        self._session.execute(delete(Reembedding).where(*gone).execution_options(synchronize_session=False))

    def _require_unused(self, encoder_id: EncoderId) -> None:
        if self.is_searched_under(encoder_id, second=True):
            raise Conflict(
                f"the gallery is searched under encoder {encoder_id} beside its own: its vectors are not erased; "
                "`voxdex reembed --alone` takes it out of use first"
            )
        if self.is_searched_under(encoder_id):
            raise Conflict(f"the gallery is searched under encoder {encoder_id}: its vectors are not erased")
        alive = (
            select(Reembedding.recording_id)
            .where(Reembedding.encoder_id == encoder_id, Reembedding.recording_id.in_(self._recordings()))
            .where(Reembedding.lease_until > clock(self._session))
        )
        if self._session.scalar(alive.limit(1)) is not None:
            raise Conflict(f"recordings are being embedded under {encoder_id} now: stop that first, or let it end")

    def _recordings(self) -> Select[Any]:
        return select(Recording.id).where(Recording.gallery_id == self._gallery_id)

    def _of(self, encoder_id: EncoderId) -> tuple[ColumnElement[bool], ...]:
        return GalleryEncoder.gallery_id == self._gallery_id, GalleryEncoder.encoder_id == encoder_id


def _is_unused(encoder_id: InstrumentedAttribute[EncoderId]) -> ColumnElement[bool]:
    """Tell that a gallery is not searched under an encoder."""
    return and_(
        Gallery.encoder_id != encoder_id,
        or_(Gallery.second_encoder_id.is_(None), Gallery.second_encoder_id != encoder_id),
    )
