"""Enrollments: this recording is that speaker's voice."""

import math
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.idempotency import Answer, Idempotent
from api.intake import received_to_keep, take
from api.intake_query import How
from api.openapi import problems
from api.pagination import after_of, page_of
from api.probe_warnings import NOISY_DB
from api.runtime import Parts, Runtime
from api.same_voice import same_voice_warnings
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
)
from api.schemas.galleries import Erased
from api.schemas.recordings import PossibleSecondVoice
from api.schemas.speakers import Enrollment, NewEnrollment, Quality
from api.security import Reader, Writer
from api.uploads import audio_body
from indexer.audio.meter import Levels
from indexer.audio.remarks import remarks
from indexer.db.rows import RecordingSummary
from indexer.db.speaker_records import Consent, EnrolledRecording
from indexer.intake import Taken

router = APIRouter(prefix="/galleries/{gallery}/speakers/{speaker}/enrollments", tags=["enrollments"])


LITTLE_SPEECH_S = 3.0
"""Below this much of a voice, others score nearly as high as its owner."""

ENOUGH_SPEECH_S = 10.0
"""What to ask for instead."""

MUCH_CLIPPED = 0.01
"""Share of samples at full scale from which on the voice itself is distorted."""

_KNOWN: dict[str, Any] = {"model": NewEnrollment, "description": "This content is the speaker's enrollment already"}


@router.post(
    "",
    status_code=201,
    response_model=NewEnrollment,
    responses={200: _KNOWN, **problems(404, 408, 409, 413, 415)},
    openapi_extra=audio_body("file"),
)
async def create_enrollment(
    request: Request,
    gallery: GalleryName,
    speaker: SpeakerName,
    principal: Writer,
    parts: Parts,
    once: Idempotent,
    how: How,
    consent_reference: Annotated[
        Reference | None,
        Query(description="Where the speaker's consent is kept; some galleries need it."),
    ] = None,
    _filename: FileName = None,
) -> Response:
    """Enroll a recording of one speaker, who is added if new; the next request finds the voice."""
    consent = Consent(consent_reference) if consent_reference is not None else None
    async with received_to_keep(request, parts, gallery) as upload:

        def work() -> Answer:
            taken = take(parts, gallery, upload, how, speaker=speaker, consent=consent)
            place = f"/v1/galleries/{quote(gallery, '')}/speakers/{quote(speaker, '')}/enrollments"
            location = f"{place}/{taken.recording_id}"
            made = _made(parts, gallery, speaker, taken)
            return Answer(made, 201 if taken.enrolled else 200, location=location)

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
    found = parts.services.catalog.enrollments(
        gallery, speaker, after=after_of(cursor, "enrollments", gallery, speaker), limit=limit + 1
    )
    return page_of(found, limit, _view, "enrollments", gallery, speaker)


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
        uri=row.uri,
        utterances=row.utterances,
        enrolled_s=row.enrolled_s,
        created_at=row.created_at,
        net_speech_s=row.net_speech_s,
        snr_db=row.snr_db,
        cosine_to_others=row.likeness.cosine if row.likeness else None,
        is_outlier=row.likeness is not None and row.likeness.is_outlier,
    )


def _made(parts: Runtime, gallery: str, speaker: str, taken: Taken) -> NewEnrollment:
    (row,) = parts.services.catalog.enrollments(gallery, speaker, after=taken.recording_id - 1, limit=1)
    recording, _ = parts.services.catalog.recording(gallery, taken.recording_id)
    quality = _quality(recording, taken.levels)
    alike = same_voice_warnings(lambda: parts.live.get(gallery), speaker)
    warned = [*taken.warnings, *_doubts(row), *alike]
    unlike = PossibleSecondVoice.of(taken.unlike)
    return NewEnrollment(**_view(row).model_dump(), quality=quality, warnings=warned, possible_second_voice=unlike)


def _doubts(row: EnrolledRecording) -> list[str]:
    """Say what speaks against an enrollment beside what was heard of it alone."""
    doubts = []
    if row.likeness is not None and row.likeness.is_outlier:
        doubts.append(
            f"it does not sound like the speaker's other enrollments: cosine {row.likeness.cosine:.2f}; listen to it, "
            "and take it back if it is somebody else"
        )
    if row.snr_db is not None and row.snr_db < NOISY_DB:
        doubts.append(f"noisy: the speech is {row.snr_db:.0f} dB above the noise, {NOISY_DB:g} or more is good")
    return doubts


def _quality(recording: RecordingSummary, levels: Levels | None) -> Quality:
    known = levels is not None and math.isfinite(levels.level_dbfs)
    return Quality(
        duration_s=recording.duration_s,
        speech_s=recording.speech_s,
        sample_rate_hz=recording.sample_rate_hz,
        channels=recording.channels,
        level_dbfs=round(levels.level_dbfs, 1) if levels is not None and known else None,
        clipped_share=round(levels.clipped_share, 6) if levels is not None else None,
        issues=list(_issues(recording, levels)),
    )


def _issues(recording: RecordingSummary, levels: Levels | None) -> Iterator[str]:
    if recording.error_message:
        yield from remarks(None, [recording.error_message])
    if recording.speech_s is not None and recording.speech_s < LITTLE_SPEECH_S:
        yield (
            f"{recording.speech_s:.2g} s of speech is little: below {LITTLE_SPEECH_S:g} s voices are often confused; "
            f"enroll {ENOUGH_SPEECH_S:g} s or more"
        )
    if levels is not None and levels.clipped_share > MUCH_CLIPPED:
        yield (
            f"{100 * levels.clipped_share:.1f} % of the samples are clipped: above {100 * MUCH_CLIPPED:g} % the voice "
            "is distorted; record it less loud"
        )
