"""Named queries about galleries. The session's owner commits."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select, text, update
from sqlalchemy.orm import Session

from indexer.db.changes import POSITION, Changes, FeedPosition, with_newest
from indexer.db.models import (
    ApiKey,
    Embedding,
    Encoder,
    Gallery,
    GalleryFeed,
    Recording,
    Speaker,
    utc_now,
)
from indexer.db.names import canonical, require_name, require_text
from indexer.db.prepared import Prepared
from indexer.db.rows import (
    PAGE_LIMIT,
    GalleryHead,
    GallerySummary,
)
from indexer.db.session import Database
from indexer.db.statements import batches, insert_if_absent, per_row
from indexer.errors import AlreadyExists, EncoderMismatch, NotFound
from indexer.types import (
    EMBEDDING_DIM,
    EncoderId,
    GalleryId,
)

_HEADS: Select[Any] = with_newest(
    select(
        Gallery.id,
        Gallery.name,
        Gallery.encoder_id,
        Gallery.identification_threshold,
        Gallery.verification_threshold,
        Gallery.index_engine,
        Gallery.second_encoder_id,
        Gallery.calibration_id,
        Gallery.target_fpir,
        Gallery.possible_fpir,
        Gallery.possible_threshold,
        Gallery.target_p_fa,
        Gallery.score_normalization,
        *POSITION,
    )
    .select_from(Gallery)
    .outerjoin(GalleryFeed, GalleryFeed.gallery_id == Gallery.id)
)
# Every answer reads two heads, and whoever keeps galleries in step those of all that are open, several times a second.
_HEADS_BY_ID = Prepared(_HEADS.where(Gallery.id.in_(bindparam("of", expanding=True))))
_HEAD_BY_ID = Prepared(_HEADS.where(Gallery.id == bindparam("of")))
_HEAD_BY_NAME = Prepared(_HEADS.where(Gallery.name == bindparam("of")))


def head_of(database: Database, gallery_id: GalleryId) -> GalleryHead | None:
    """Read what answers from a gallery depend on; None where it is gone."""
    found = _HEAD_BY_ID.rows(database, of=gallery_id)
    return _as_head(found[0]) if found else None


def heads_of(database: Database, gallery_ids: Sequence[GalleryId]) -> dict[GalleryId, GalleryHead]:
    """Read what answers from these galleries depend on; those that are gone are absent."""
    heads = [_as_head(row) for some in batches(gallery_ids) for row in _HEADS_BY_ID.rows(database, of=some)]
    return {head.id: head for head in heads}


def head_named(database: Database, name: str) -> GalleryHead:
    """Read what answers from the gallery of this name depend on, or raise NotFound."""
    found = _HEAD_BY_NAME.rows(database, of=canonical(require_text("gallery", name)))
    if not found:
        raise _no_gallery(name)
    return _as_head(found[0])


def _require_dim(encoder: Encoder) -> None:
    if encoder.dim != EMBEDDING_DIM:
        raise EncoderMismatch(
            f"encoder {encoder.id} makes vectors of dimension {encoder.dim} and galleries keep {EMBEDDING_DIM}: "
            "choose another encoder (`voxdex embed` still runs this one)"
        )


def _as_head(row: Any) -> GalleryHead:
    return GalleryHead(
        id=GalleryId(row.id),
        name=row.name,
        encoder_id=row.encoder_id,
        identification_threshold=row.identification_threshold,
        verification_threshold=row.verification_threshold,
        position=FeedPosition(*row[-len(POSITION) :]),
        engine=row.index_engine,
        second_encoder_id=row.second_encoder_id,
        calibration_id=row.calibration_id,
        target_fpir=row.target_fpir,
        possible_fpir=row.possible_fpir,
        possible_threshold=row.possible_threshold,
        target_p_fa=row.target_p_fa,
        score_normalization=row.score_normalization,
    )


def _no_gallery(name: str) -> NotFound:
    return NotFound(f"no gallery {name!r}: see `voxdex galleries list`")


class Galleries:
    """Galleries by name and id."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, name: str) -> Gallery | None:
        """Return the gallery of this name, if there is one."""
        query = select(Gallery).where(Gallery.name == canonical(require_text("gallery", name)))
        return self._session.scalars(query).one_or_none()

    def by_name(self, name: str) -> Gallery:
        """Return the gallery of this name, or raise NotFound."""
        row = self.find(name)
        if row is None:
            raise _no_gallery(name)
        return row

    def get(self, gallery_id: GalleryId) -> Gallery:
        """Return the gallery of this id, or raise NotFound."""
        row = self._session.get(Gallery, gallery_id)
        if row is None:
            raise NotFound(f"no gallery with id {gallery_id}: see `voxdex galleries list`")
        return row

    def get_or_create(self, name: str, encoder: Encoder) -> Gallery:
        """Return the gallery of this name, made for this encoder if there was none.

        Raises
        ------
        EncoderMismatch
            If the gallery is of another encoder, or the encoder's vectors have a dimension that no gallery keeps.
        """
        self._insert(name, encoder)
        row = self.by_name(name)
        if row.encoder_id != encoder.id:
            raise EncoderMismatch(
                f"gallery {name!r} holds vectors of encoder {row.encoder_id}, not {encoder.id}: "
                "name that encoder or another gallery"
            )
        return row

    def create(self, name: str, encoder: Encoder, second: Encoder | None = None, **rules: Any) -> Gallery:
        """Make a gallery that was not there.

        Parameters
        ----------
        second
            Encoder whose scores are fused with those of the first.
        rules
            Columns of its operating point and rules.

        Raises
        ------
        AlreadyExists
            If the name is taken.
        EncoderMismatch
            If an encoder's vectors have a dimension that no gallery keeps, or both encoders are the same.
        """
        if second is not None and second.id == encoder.id:
            raise EncoderMismatch(f"encoder {encoder.id} twice: name two different ones, or one alone")
        if second is not None:
            _require_dim(second)
        if not self._insert(name, encoder):
            raise AlreadyExists(f"gallery {name!r} is there already; change it, or choose another name")
        row = self.by_name(name)
        self.change(GalleryId(row.id), second_encoder_id=second.id if second is not None else None, **rules)
        return row

    def _insert(self, name: str, encoder: Encoder) -> bool:
        """Add a gallery; return False where the name is taken."""
        _require_dim(encoder)
        statement = insert_if_absent(self._session, Gallery).returning(Gallery.id)
        values = {"name": require_name("gallery", name), "encoder_id": encoder.id, "dim": encoder.dim}
        return self._session.scalars(statement, values).one_or_none() is not None

    def last_number(self) -> int:
        """Return the highest id that was ever given to a gallery, also where it is gone; 0 before the first one."""
        if self._session.get_bind().dialect.name == "postgresql":
            query = text("SELECT pg_sequence_last_value(pg_get_serial_sequence('galleries', 'id')::regclass)")
        else:
            query = text("SELECT seq FROM sqlite_sequence WHERE name = 'galleries'")
        return self._session.scalar(query) or 0

    def names(self) -> list[str]:
        """Name of every gallery, oldest first."""
        return list(self._session.scalars(select(Gallery.name).order_by(Gallery.id)))

    def heads(self, gallery_ids: Iterable[GalleryId]) -> dict[GalleryId, GalleryHead]:
        """Return what answers from these galleries depend on; those that are gone are absent."""
        numbers = list(gallery_ids)
        one = len(numbers) == 1
        found = self._heads(_HEAD_BY_ID.statement, numbers[0]) if one else self._heads(_HEADS_BY_ID.statement, numbers)
        return {head.id: head for head in found}

    def head(self, name: str) -> GalleryHead:
        """Return what answers from the gallery of this name depend on, or raise NotFound."""
        found = self._heads(_HEAD_BY_NAME.statement, canonical(require_text("gallery", name)))
        if not found:
            raise _no_gallery(name)
        return found[0]

    def _heads(self, query: Select[Any], of: object) -> list[GalleryHead]:
        return [_as_head(row) for row in self._session.connection().execute(query, {"of": of})]

    def summary(self, gallery_id: GalleryId) -> GallerySummary:
        """Return one gallery with what it holds, or raise NotFound."""
        self.get(gallery_id)
        return self._summaries(_gallery_query().where(Gallery.id == gallery_id))[0]

    def page(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[GallerySummary]:
        """List galleries with what they hold, in id order, those with an id above `after`."""
        return self._summaries(_gallery_query().where(Gallery.id > after).order_by(Gallery.id).limit(limit))

    def _summaries(self, query: Select[Any]) -> list[GallerySummary]:
        return [
            GallerySummary(
                id=GalleryId(row.Gallery.id),
                name=row.Gallery.name,
                encoder_id=row.Gallery.encoder_id,
                encoder_name=row.encoder_name,
                dim=row.Gallery.dim,
                created_at=row.Gallery.created_at,
                speakers=row.speakers,
                recordings=row.recordings,
                embeddings=row.embeddings,
                duration_s=float(row.duration_s or 0.0),
                identification_threshold=row.Gallery.identification_threshold,
                verification_threshold=row.Gallery.verification_threshold,
                consent_required=row.Gallery.consent_required,
                retention_days=row.Gallery.retention_days,
                second_encoder_id=row.Gallery.second_encoder_id,
                calibration_id=row.Gallery.calibration_id,
                target_fpir=row.Gallery.target_fpir,
                possible_fpir=row.Gallery.possible_fpir,
                possible_threshold=row.Gallery.possible_threshold,
                target_p_fa=row.Gallery.target_p_fa,
                score_normalization=row.Gallery.score_normalization,
            )
            for row in self._session.execute(query)
        ]

    def change(self, gallery_id: GalleryId, **rules: Any) -> None:
        """Set columns of a gallery's operating point and rules; those that are not given stay.

        Scores are normalized by what the calibration was fitted with: with another one, that is off until it is asked
        for again.
        """
        if "calibration_id" in rules:
            rules = {"score_normalization": False, **rules}
        if rules:
            self._session.execute(update(Gallery).where(Gallery.id == gallery_id).values(**rules))
            self._session.expire_all()

    def set_engine(self, gallery_id: GalleryId, encoder_ids: Sequence[EncoderId], engine: str) -> bool:
        """Say what searches a gallery; return False where it is gone, or under other encoders than these, in order."""
        first, second = encoder_ids[0], encoder_ids[1] if len(encoder_ids) > 1 else None
        these = (
            Gallery.id == gallery_id,
            Gallery.encoder_id == first,
            Gallery.second_encoder_id.is_not_distinct_from(second),
        )
        found = self._session.scalars(
            update(Gallery).where(*these).values(index_engine=engine).returning(Gallery.id)
        ).one_or_none()
        self._session.expire_all()
        return found is not None

    def delete(self, gallery_id: GalleryId) -> None:
        """Delete a gallery and all it holds; its index folder is the caller's to remove.

        Keys that open this gallery alone stay as revoked ones: that a key was ever made is what keeps a service closed.

        Raises
        ------
        NotFound
            If it is already gone.
        """
        self.get(gallery_id)
        # Locked first: a key that is being bound to it waits, and finds it gone.
        self._session.execute(select(Gallery.id).where(Gallery.id == gallery_id).with_for_update())
        bound = ApiKey.gallery_id == gallery_id
        self._session.execute(update(ApiKey).where(bound, ApiKey.revoked_at.is_(None)).values(revoked_at=utc_now()))
        self._session.execute(update(ApiKey).where(bound).values(gallery_id=None))
        self._session.execute(delete(Gallery).where(Gallery.id == gallery_id))
        Changes(self._session).gallery_deleted(gallery_id)
        self._session.expire_all()


def _gallery_query() -> Select[Any]:
    in_use = (Embedding.gallery_id == Gallery.id) & (Embedding.encoder_id == Gallery.encoder_id)
    return select(
        Gallery,
        Encoder.name.label("encoder_name"),
        per_row(func.count(Speaker.id), Speaker.gallery_id == Gallery.id).label("speakers"),
        per_row(func.count(Recording.id), Recording.gallery_id == Gallery.id).label("recordings"),
        per_row(func.count(Embedding.id), in_use).label("embeddings"),
        per_row(func.sum(Recording.duration_s), Recording.gallery_id == Gallery.id).label("duration_s"),
    ).join(Encoder, Encoder.id == Gallery.encoder_id)
