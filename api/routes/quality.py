"""How well a gallery's voices are told apart, and the calibrations it could be given."""

from fastapi import APIRouter

from api.calibration_store import CalibrationStore
from api.gallery_reports import calibration_view
from api.openapi import problems
from api.runtime import Parts
from api.schemas.common import GalleryName
from api.schemas.quality import Calibrations, GalleryMapView, GalleryQualityView
from api.security import Reader

router = APIRouter(tags=["quality"])


@router.get("/galleries/{gallery}/quality", responses=problems(404))
async def show_quality(gallery: GalleryName, principal: Reader, parts: Parts) -> GalleryQualityView:
    """Tell how well a gallery's recordings are told apart: scores of pairs, and errors to expect at each threshold.

    Each enrolled recording is compared with the others as if it were new; of many speakers a sample is compared. The
    answer is kept until somebody is enrolled or the rules change.
    """
    with parts.report_threads.admitted():
        return await parts.report_threads.run(lambda: parts.reports.quality(gallery))


@router.get("/galleries/{gallery}/map", responses=problems(404))
async def show_map(gallery: GalleryName, principal: Reader, parts: Parts) -> GalleryMapView:
    """Place a gallery's speakers on a plane, near to whom they sound like; of many speakers a sample is placed."""
    with parts.report_threads.admitted():
        return await parts.report_threads.run(lambda: parts.reports.map(gallery))


@router.get("/calibrations", responses=problems())
def list_calibrations(_: Reader, parts: Parts) -> Calibrations:
    """List the calibrations that galleries can be given: those that come with voxdex, and those fitted here."""
    known = CalibrationStore(parts.database).list()
    return Calibrations(items=[calibration_view(found, origin) for found, origin in known])
