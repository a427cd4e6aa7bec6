"""Enrollments: this recording is that speaker's voice."""

import math
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.idempotency import Answer, Idempotent
from api.intake import received_to_keep, take
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Runtime, runtime_of
from api.schemas.common import (
    PAGE_ROWS,
    Cursor,
    FileName,
    GalleryName,
    Limit,
    Page,
    Reference,
    RowNumber,
    SpeakerName,
    Text,
)
from api.schemas.galleries import Erased
from api.schemas.speakers import Enrollment, NewEnrollment, Quality
from api.security import Reader, Writer
from api.uploads import audio_body
from indexer.audio.meter import Levels
from indexer.db.rows import RecordingSummary
from indexer.db.speaker_records import Consent, EnrolledRecording
from indexer.types import RecordingId

router = APIRouter(prefix="/galleries/{gallery}/speakers/{speaker}/enrollments", tags=["enrollments"])

Parts = Annotated[Runtime, Depends(runtime_of)]


@router.post(
    "",
    status_code=201,
    response_model=NewEnrollment,
    responses=problems(404, 408, 409, 413, 415),
    openapi_extra=audio_body("file"),
)
async def create_enrollment(
    request: Request,
    gallery: GalleryName,
    speaker: SpeakerName,
    principal: Writer,
    parts: Parts,
    once: Idempotent,
    consent_reference: Annotated[
        Reference | None,
        Query(description="Where the speaker's consent is kept; some galleries need it."),
    ] = None,
    channel: Annotated[
        Text | None, Query(max_length=16, description="mix, left, right or a channel number; left out: the setting.")
    ] = None,
    _filename: FileName = None,
) -> Response:
    """Enroll a recording of one speaker, who is added if new; the next request finds the voice."""
    consent = Consent(consent_reference) if consent_reference is not None else None
    async with received_to_keep(request, parts, gallery) as upload:

        def work() -> Answer:
            taken = take(parts, gallery, upload, channels=channel, speaker=speaker, consent=consent)
            place = f"/v1/galleries/{quote(gallery, '')}/speakers/{quote(speaker, '')}/enrollments"
            location = f"{place}/{taken.recording_id}"
            return Answer(_made(parts, gallery, speaker, taken.recording_id, taken.levels), location=location)

        return await parts.intake_threads.run(lambda: once(principal, upload.identity, work))


@router.get("", responses=problems(404))
def list_enrollments(
    gallery: GalleryName,
    speaker: SpeakerName,
    principal: Reader,
    parts: Parts,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> Page[Enrollment]:
    """List the recordings that a speaker is enrolled with."""
    found = parts.services.catalog.enrollments(gallery, speaker, after=after_of(cursor), limit=limit + 1)
    return page_of(found, limit, _view)


@router.delete("/{enrollment_id}", responses=problems(404, 409))
def delete_enrollment(
    gallery: GalleryName,
    speaker: SpeakerName,
    enrollment_id: RowNumber,
    principal: Writer,
    parts: Parts,
    erase: Annotated[bool, Query(description="Erase the recording too, with its vectors and audio.")] = False,
) -> Erased:
    """Take back that a recording is this speaker's voice."""
    erased = parts.services.catalog.delete_enrollment(gallery, speaker, enrollment_id, erase=erase)
    parts.catch_up(gallery)
    return Erased.model_validate(erased)


def _view(row: EnrolledRecording) -> Enrollment:
    return Enrollment(
        enrollment_id=row.id,
        recording_id=row.id,
        utterances=row.utterances,
        enrolled_s=row.enrolled_s,
        created_at=row.created_at,
    )


def _made(
    parts: Runtime, gallery: str, speaker: str, recording_id: RecordingId, levels: Levels | None
) -> NewEnrollment:
    (row,) = parts.services.catalog.enrollments(gallery, speaker, after=recording_id - 1, limit=1)
    recording, _ = parts.services.catalog.recording(gallery, recording_id)
    return NewEnrollment(**_view(row).model_dump(), quality=_quality(recording, levels))


def _quality(recording: RecordingSummary, levels: Levels | None) -> Quality:
    known = levels is not None and math.isfinite(levels.level_dbfs)
    return Quality(
        duration_s=recording.duration_s,
        speech_s=recording.speech_s,
        sample_rate_hz=recording.sample_rate_hz,
        channels=recording.channels,
        level_dbfs=round(levels.level_dbfs, 1) if levels is not None and known else None,
        clipped_share=round(levels.clipped_share, 6) if levels is not None else None,
        issues=[recording.error_message] if recording.error_message else [],
    )
