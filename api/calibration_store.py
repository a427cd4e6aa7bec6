"""Calibrations that may be used: those that come with voxdex and those of the record."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from indexer.errors import Conflict, EncoderMismatch, InvalidRequest, NotFound
from indexer.types import GalleryId, without_precision
from search.calibration import Calibration, default_calibrations
from search.stored_calibration import stored_calibration

if TYPE_CHECKING:  # Loads SQLAlchemy.
    from indexer.db.calibrations import StoredCalibration
    from indexer.db.session import Database

Origin = Literal["voxdex", "record"]

_LEAST_PREFIX = 4


class CalibrationStore:
    """Finds calibrations by name or the beginning of their id, keeps them, and lets galleries use them.

    Parameters
    ----------
    database
        None where there is no record yet: only what comes with voxdex is known then.
    """

    def __init__(self, database: "Database | None") -> None:
        self._database = database

    def list(self) -> Sequence[tuple[Calibration, Origin]]:
        """Return all of them, those that come with voxdex first.

        Raises
        ------
        CorruptArtifact
            If one of the record is damaged.
        """
        shipped: list[tuple[Calibration, Origin]] = [(found, "voxdex") for found in default_calibrations()]
        known = {found.id for found, _ in shipped}
        return shipped + [(found, "record") for found in self._read() if found.id not in known]

    def find(self, wanted: str) -> Calibration:
        """Return the calibration of this name, or whose id begins so.

        Raises
        ------
        NotFound
            If there is none.
        InvalidRequest
            If there are several, or the beginning of an id is shorter than four characters.
        """
        known = {found.id: found for found, _ in self.list()}
        named = [found for found in known.values() if found.name == wanted]
        if len(named) > 1:
            which = "; ".join(f"{found.id[:12]} of {' + '.join(found.encoder_ids)}" for found in named)
            raise InvalidRequest(f"{len(named)} calibrations are named {wanted!r}: give the id of one: {which}")
        return named[0] if named else known[_only(wanted, known)]

    def keep(self, calibration: Calibration) -> None:
        """Keep a calibration in the record, for any gallery; the same one again changes nothing."""
        from indexer.db.calibrations import Calibrations, StoredCalibration

        stored = StoredCalibration(calibration.id, calibration.name, calibration.encoder_ids, calibration.to_document())
        with self._record().session_scope() as session:
            Calibrations(session).add(stored)

    def use(self, gallery: str, calibration: Calibration | None) -> None:
        """Let a gallery use a calibration; None: the one that comes with voxdex.

        Raises
        ------
        NotFound
            If there is no such gallery.
        EncoderMismatch
            If the calibration is of other encoders than the gallery.
        """
        from indexer.db.galleries import Galleries

        if calibration is not None:
            calibration = self.fitting(gallery, calibration)
            self.keep(calibration)
        with self._record().session_scope() as session:
            galleries = Galleries(session)
            number = GalleryId(galleries.by_name(gallery).id)
            galleries.change(number, calibration_id=calibration.id if calibration else None)

    def fitting(self, gallery: str, calibration: Calibration) -> Calibration:
        """Return a calibration with its encoders in the gallery's order; see `use` for the errors."""
        from indexer.db.galleries import Galleries

        with self._record().read_scope() as session:
            galleries = Galleries(session)
            (head,) = galleries.heads([GalleryId(galleries.by_name(gallery).id)]).values()
        both = head.encoder_id, *([head.second_encoder_id] if head.second_encoder_id else [])
        of, wanted = tuple(map(without_precision, calibration.encoder_ids)), tuple(map(without_precision, both))
        if of in (wanted, wanted[:1]):
            return calibration
        if of == wanted[::-1]:
            return calibration.swapped()
        raise EncoderMismatch(
            f"calibration {calibration.name} is of {' + '.join(calibration.encoder_ids)}, gallery {gallery} of "
            f"{' + '.join(both)}: fit one with `voxdex calibrate --gallery {gallery}`"
        )

    def find_id(self, beginning: str) -> str:
        """Return the id that begins so, of a calibration that may be damaged; see `find` for the errors."""
        stored = {one.id for one in self._stored()}
        return _only(beginning, stored | {found.id for found in default_calibrations()})

    def delete(self, calibration_id: str) -> None:
        """Delete a calibration of the record, damaged or not; galleries that use it go back to the shipped one.

        Raises
        ------
        Conflict
            If it comes with voxdex and is not in the record.
        """
        from indexer.db.calibrations import Calibrations

        with self._record().session_scope() as session:
            known = Calibrations(session)
            if known.find(calibration_id) is None:
                raise Conflict(f"calibration {calibration_id[:12]} comes with voxdex and cannot be deleted")
            known.delete(calibration_id)

    def _read(self) -> Iterator[Calibration]:
        return (stored_calibration(stored.id, stored.document) for stored in self._stored())

    def _stored(self) -> "Sequence[StoredCalibration]":
        from indexer.db.calibrations import Calibrations

        if self._database is None:
            return []
        with self._database.read_scope() as session:
            return Calibrations(session).all()

    def _record(self) -> "Database":
        if self._database is None:
            raise NotFound("nothing is stored yet: run voxdex ingest, or name another folder with --home")
        return self._database


def _only(beginning: str, ids: Iterable[str]) -> str:
    if len(beginning) < _LEAST_PREFIX:
        raise InvalidRequest(f"calibration {beginning!r}: give at least {_LEAST_PREFIX} characters of its id")
    found = [one for one in ids if one.startswith(beginning)]
    if not found:
        raise NotFound(f"no calibration {beginning!r}: `voxdex calibrations list` shows those there are")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} calibrations begin with {beginning!r}: give more of the id")
    return found[0]
