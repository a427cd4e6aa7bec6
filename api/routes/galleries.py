"""Galleries: made, listed, changed, erased."""

from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from api.calibration_store import CalibrationStore
from api.idempotency import Answer, Idempotent
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Parts
from api.schemas.common import PAGE_ROWS, Cursor, GalleryName, Limit, Page
from api.schemas.galleries import Erased, Gallery, GalleryChange, NewGallery
from api.security import Admin, Reader
from indexer.db.rows import GallerySummary

router = APIRouter(prefix="/galleries", tags=["galleries"])


@router.post("", status_code=201, response_model=Gallery, responses=problems(404, 409, 413))
def create_gallery(body: NewGallery, principal: Admin, parts: Parts, once: Idempotent) -> Response:
    """Make a gallery; its encoders are loaded, and downloaded where they are not here yet."""

    def work() -> Answer:
        said = body.model_dump(exclude={"name", "encoder"})
        parts.services.create_gallery(body.name, body.encoder, **said)
        made = _view(parts.services.catalog.gallery(body.name))
        return Answer(made, location=f"/v1/galleries/{quote(body.name, '')}", gallery=body.name)

    return once(principal, body, work)


@router.get("", responses=problems())
def list_galleries(principal: Reader, parts: Parts, cursor: Cursor = None, limit: Limit = PAGE_ROWS) -> Page[Gallery]:
    """List the galleries that the key opens."""
    if principal.gallery is not None:
        return Page[Gallery](items=[_view(parts.services.catalog.gallery(principal.gallery))], next_cursor=None)
    found = parts.services.catalog.galleries(after=after_of(cursor, "galleries"), limit=limit + 1)
    return page_of(found, limit, _view, "galleries")


@router.get("/{gallery}", responses=problems(404))
def get_gallery(gallery: GalleryName, principal: Reader, parts: Parts) -> Gallery:
    """Show a gallery and what it holds."""
    return _view(parts.services.catalog.gallery(gallery))


@router.patch("/{gallery}", responses=problems(404, 413))
def change_gallery(gallery: GalleryName, body: GalleryChange, principal: Admin, parts: Parts) -> Gallery:
    """Change a gallery's operating point and rules; what is left out stays."""
    rules = body.model_dump(exclude_unset=True)
    chooses = "calibration_id" in rules
    chosen = rules.pop("calibration_id", None)
    store = CalibrationStore(parts.database)
    # Refused before anything is changed where it is of other encoders.
    calibration = store.fitting(gallery, store.find(chosen)) if chosen is not None else None
    # Last, for what scores are normalized by is the calibration's.
    normalize = {name: rules.pop(name) for name in ("score_normalization",) if name in rules}
    parts.services.catalog.change_gallery(gallery, **rules)
    if chooses:
        store.use(gallery, calibration)
    return _view(parts.services.catalog.change_gallery(gallery, **normalize))


@router.delete("/{gallery}", responses=problems(404))
def delete_gallery(gallery: GalleryName, principal: Admin, parts: Parts) -> Erased:
    """Erase a gallery: speakers, recordings, vectors, index files and uploaded audio."""
    return Erased.model_validate(parts.services.catalog.delete_gallery(gallery))


def _view(row: GallerySummary) -> Gallery:
    return Gallery(
        name=row.name,
        encoder=row.encoder_name,
        encoder_id=row.encoder_id,
        second_encoder_id=row.second_encoder_id,
        created_at=row.created_at,
        identification_threshold=row.identification_threshold,
        verification_threshold=row.verification_threshold,
        possible_threshold=row.possible_threshold,
        target_fpir=row.target_fpir,
        possible_fpir=row.possible_fpir,
        target_p_fa=row.target_p_fa,
        calibration_id=row.calibration_id,
        score_normalization=row.score_normalization,
        consent_required=row.consent_required,
        retention_days=row.retention_days,
        speakers=row.speakers,
        recordings=row.recordings,
        embeddings=row.embeddings,
        duration_s=row.duration_s,
    )
