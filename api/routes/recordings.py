"""Recordings: uploaded, listed, shown, listened to, erased."""

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.idempotency import Answer, Idempotent
from api.intake import received_to_keep, take
from api.intake_query import How
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Parts
from api.schemas.common import (
    PAGE_ROWS,
    Cursor,
    FileName,
    GalleryName,
    Instant,
    Limit,
    Name,
    Page,
    PartOf,
    Reference,
    RowNumber,
)
from api.schemas.galleries import Erased
from api.schemas.recordings import (
    PossibleSecondVoice,
    Recording,
    RecordingDetail,
    TakenRecording,
    Utterance,
    UtteranceQuality,
)
from api.security import Reader, Writer
from api.uploads import audio_body
from indexer.db.models import RecordingState
from indexer.db.rows import RecordingSummary
from indexer.db.speaker_records import Consent

router = APIRouter(prefix="/galleries/{gallery}/recordings", tags=["recordings"])


_KNOWN: dict[str, Any] = {"model": TakenRecording, "description": "The gallery has this content already"}


@router.post(
    "",
    status_code=201,
    response_model=TakenRecording,
    responses={200: _KNOWN, **problems(404, 408, 409, 413, 415)},
    openapi_extra=audio_body("file"),
)
async def create_recording(
    request: Request,
    gallery: GalleryName,
    principal: Writer,
    parts: Parts,
    once: Idempotent,
    how: How,
    speaker: Annotated[Name | None, Query(description="Whom to enroll it as.")] = None,
    consent_reference: Annotated[
        Reference | None,
        Query(description="Where the speaker's consent is kept; some galleries need it to enroll."),
    ] = None,
    session: Annotated[Name | None, Query(description="The occasion it was made on.")] = None,
    recorded_at: Annotated[Instant | None, Query(description="When it was made; without a time zone: in UTC.")] = None,
    label: Annotated[list[Name] | None, Query(max_length=100, description="Words it is known by.")] = None,
    _filename: FileName = None,
) -> Response:
    """Take one recording in and keep its audio; for many, post a job."""
    consent = Consent(consent_reference) if consent_reference is not None else None
    async with received_to_keep(request, parts, gallery) as upload:

        def work() -> Answer:
            said = {"speaker": speaker, "session": session, "recorded_at": recorded_at, "labels": label or ()}
            taken = take(parts, gallery, upload, how, consent=consent, **said)
            row, _ = parts.services.catalog.recording(gallery, taken.recording_id)
            location = f"/v1/galleries/{quote(gallery, '')}/recordings/{row.id}"
            unlike = PossibleSecondVoice.of(taken.unlike)
            shown = TakenRecording(**_fields(row), warnings=list(taken.warnings), possible_second_voice=unlike)
            return Answer(shown, 201 if taken.created else 200, location=location)

        return await parts.intake_threads.run(lambda: once(principal, upload.identity, work))


@router.get("", responses=problems(404))
def list_recordings(
    gallery: GalleryName,
    principal: Reader,
    parts: Parts,
    state: Annotated[RecordingState | None, Query(description="Only recordings in this state.")] = None,
    q: PartOf = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> Page[Recording]:
    """List the recordings of a gallery in the order they came in."""
    found = parts.services.catalog.recordings(
        gallery, state=state, part=q, after=after_of(cursor, "recordings", gallery), limit=limit + 1
    )
    return page_of(found, limit, lambda row: Recording(**_fields(row)), "recordings", gallery)


@router.get("/{recording_id}", responses=problems(404))
def get_recording(gallery: GalleryName, recording_id: RowNumber, principal: Reader, parts: Parts) -> RecordingDetail:
    """Show a recording with every stretch that was embedded: whose voice, how good, and whom it is enrolled as."""
    row, utterances = parts.services.catalog.recording(gallery, recording_id)
    inside = [
        Utterance(
            id=one.utterance_id,
            channel=one.channel,
            start_s=one.start_s,
            end_s=one.end_s,
            voice=one.voice,
            quality=UtteranceQuality(**asdict(one.quality)) if one.quality else None,
            speakers=list(one.speakers),
        )
        for one in utterances
    ]
    return RecordingDetail(**_fields(row), utterances=inside)


@router.delete("/{recording_id}", responses=problems(404))
def delete_recording(gallery: GalleryName, recording_id: RowNumber, principal: Writer, parts: Parts) -> Erased:
    """Erase a recording: row, utterances, vectors, enrollments, and its audio if it was uploaded."""
    erased = parts.services.catalog.delete_recording(gallery, recording_id)
    parts.catch_up(gallery)
    return Erased.model_validate(erased)


def _fields(row: RecordingSummary) -> dict[str, Any]:
    return {
        "id": row.id,
        "uri": row.uri,
        "state": row.state,
        "content_sha256": row.content_sha256,
        "duration_s": row.duration_s,
        "speech_s": row.speech_s,
        "voices": row.voices,
        "audio_track": row.audio_track,
        "audio_tracks": row.audio_tracks,
        "sample_rate_hz": row.sample_rate_hz,
        "channels": row.channels,
        "container": row.container,
        "codec": row.codec,
        "size_bytes": row.size_bytes,
        "session": row.session,
        "recorded_at": row.recorded_at,
        "labels": list(row.labels),
        "error_code": row.error_code,
        "error_message": row.error_message,
        "created_at": row.created_at,
        "utterance_count": row.utterances,
        "speakers": list(row.speakers),
    }
