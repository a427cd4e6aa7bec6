"""Unknown voices: found by a job, listed, listened to, put right, given a name."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path
from starlette.responses import Response

from api.idempotency import Answer, Idempotent
from api.job_views import job_view
from api.openapi import problems
from api.pagination import after_of, page_of
from api.routes.speakers import consent_given, speaker_view
from api.runtime import Parts
from api.schemas.common import PAGE_ROWS, Cursor, GalleryName, Limit, Name, Page, RowNumber
from api.schemas.jobs import Job
from api.schemas.speakers import Speaker
from api.schemas.unknown_voices import (
    NewClustering,
    Parted,
    Promotion,
    Ungrouped,
    UnknownMerge,
    UnknownSplit,
    UnknownUtterance,
    UnknownVoice,
)
from api.security import Reader, Writer
from indexer.db.jobs import Jobs
from indexer.db.unknown_voices import UnknownVoiceSummary
from search.unknown_voices import ClusterRule

router = APIRouter(prefix="/galleries/{gallery}/unknown-voices", tags=["unknown voices"])

VoiceName = Annotated[Name, Path(description="The unknown voice's name.", examples=["Unknown-17"])]


@router.post("/cluster", status_code=202, response_model=Job, responses=problems(404, 409, 413))
def find_unknown_voices(
    gallery: GalleryName, body: NewClustering, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Group the utterances of a gallery that are enrolled as nobody: a job, done in the background.

    Voices that were found before keep their names. Off where the gallery requires consent.
    """

    def work() -> Answer:
        job_id = parts.services.clusterings.submit(gallery, ClusterRule(**body.model_dump()))
        with parts.database.read_scope() as session:
            return Answer(job_view(session, Jobs(session).get(job_id)), 202, location=f"/v1/jobs/{job_id}")

    return once(principal, body, work)


@router.get("", responses=problems(404))
def list_unknown_voices(
    gallery: GalleryName, principal: Reader, parts: Parts, cursor: Cursor = None, limit: Limit = PAGE_ROWS
) -> Page[UnknownVoice]:
    """List the unknown voices of a gallery in the order they were found, of one run the most frequent first."""
    found = parts.services.unknown.page(gallery, after=after_of(cursor, "unknown", gallery), limit=limit + 1)
    return page_of(found, limit, _view, "unknown", gallery)


@router.get("/{voice}", responses=problems(404))
def get_unknown_voice(gallery: GalleryName, voice: VoiceName, principal: Reader, parts: Parts) -> UnknownVoice:
    """Show an unknown voice and how much of it is heard."""
    return _view(parts.services.unknown.show(gallery, voice))


@router.get("/{voice}/utterances", responses=problems(404))
def list_unknown_utterances(
    gallery: GalleryName,
    voice: VoiceName,
    principal: Reader,
    parts: Parts,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> Page[UnknownUtterance]:
    """List where an unknown voice is heard, to listen to it."""
    of = ("unknown utterances", gallery, voice)
    found = parts.services.unknown.stretches(gallery, voice, after=after_of(cursor, *of), limit=limit + 1)
    return page_of(found, limit, UnknownUtterance.model_validate, *of)


@router.post("/{voice}/promote", response_model=Speaker, responses=problems(404, 409, 413))
def promote_unknown_voice(
    gallery: GalleryName, voice: VoiceName, body: Promotion, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Enroll all that an unknown voice says as a speaker, who is added if new; the unknown voice is gone."""

    def work() -> Answer:
        consent = consent_given(body.consent_reference, body.consented_at)
        speaker = parts.services.unknown.promote(gallery, voice, body.speaker, consent)
        parts.catch_up(gallery)
        location = f"/v1/galleries/{quote(gallery, '')}/speakers/{quote(speaker.name, '')}"
        return Answer(speaker_view(speaker), 200, location=location)

    return once(principal, body, work)


@router.post("/{voice}/merge", response_model=UnknownVoice, responses=problems(404, 409, 413))
def merge_unknown_voice(
    gallery: GalleryName, voice: VoiceName, body: UnknownMerge, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Make this unknown voice and another one the same: this name is gone, and no run parts them again."""
    return once(principal, body, lambda: Answer(_view(parts.services.unknown.merge(gallery, voice, body.into)), 200))


@router.post("/{voice}/split", response_model=Parted, responses=problems(404, 409, 413))
def split_unknown_voice(
    gallery: GalleryName, voice: VoiceName, body: UnknownSplit, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Make two of an unknown voice, by the utterances named or by its vectors; no run joins them again."""

    def work() -> Answer:
        kept, made = parts.services.unknown.split(gallery, voice, body.utterance_ids)
        return Answer(Parted(kept=_view(kept), made=_view(made)), 200)

    return once(principal, body, work)


@router.delete("/{voice}/utterances/{utterance_id}", responses=problems(404, 409))
def remove_unknown_utterance(
    gallery: GalleryName, voice: VoiceName, utterance_id: RowNumber, principal: Writer, parts: Parts
) -> UnknownVoice:
    """State that an utterance is not of an unknown voice; no run puts it back. The utterance itself stays."""
    return _view(parts.services.unknown.take_out(gallery, voice, [utterance_id]))


@router.delete("/{voice}", responses=problems(404))
def delete_unknown_voice(gallery: GalleryName, voice: VoiceName, principal: Writer, parts: Parts) -> Ungrouped:
    """Forget an unknown voice; its utterances stay in the archive, and the next run may find it under a new name."""
    return Ungrouped(utterances=parts.services.unknown.delete(gallery, voice))


def _view(row: UnknownVoiceSummary) -> UnknownVoice:
    return UnknownVoice(
        name=row.name,
        utterances=row.utterances,
        recordings=row.recordings,
        speech_s=row.speech_s,
        edited=row.pinned,
        created_at=row.created_at,
    )
