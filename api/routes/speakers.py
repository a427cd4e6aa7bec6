"""Speakers: added, listed, changed, found to be one person, erased."""

import datetime as dt
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response

from api import catalog
from api.idempotency import Answer, Idempotent
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Parts
from api.schemas.common import PAGE_ROWS, Cursor, GalleryName, Limit, Name, Page, PartOf, SpeakerName
from api.schemas.galleries import Erased
from api.schemas.speakers import Erasable, NewSpeaker, Speaker, SpeakerChange, SpeakerMerge
from api.security import Reader, Writer
from indexer.db.rows import SpeakerSummary
from indexer.db.speaker_records import Consent
from indexer.errors import InvalidRequest

router = APIRouter(prefix="/galleries/{gallery}/speakers", tags=["speakers"])


@router.post("", status_code=201, response_model=Speaker, responses=problems(404, 409, 413))
def create_speaker(
    gallery: GalleryName, body: NewSpeaker, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Add a speaker without a voice; enrolling a new name does that by itself."""

    def work() -> Answer:
        made = parts.services.catalog.add_speaker(
            gallery, body.name, labels=body.labels, consent=consent_given(body.consent_reference, body.consented_at)
        )
        return Answer(
            speaker_view(made), location=f"/v1/galleries/{quote(gallery, '')}/speakers/{quote(body.name, '')}"
        )

    return once(principal, body, work)


@router.get("", responses=problems(404))
def list_speakers(
    gallery: GalleryName,
    principal: Reader,
    parts: Parts,
    label: Annotated[list[Name] | None, Query(max_length=50, description="Only those with all these labels.")] = None,
    q: PartOf = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> Page[Speaker]:
    """List the speakers of a gallery in the order they were added."""
    found = parts.services.catalog.speakers(
        gallery, after=after_of(cursor, "speakers", gallery), limit=limit + 1, labels=label or (), part=q
    )
    return page_of(found, limit, speaker_view, "speakers", gallery)


@router.get("/{speaker}", responses=problems(404))
def get_speaker(gallery: GalleryName, speaker: SpeakerName, principal: Reader, parts: Parts) -> Speaker:
    """Show a speaker and how much of their voice is enrolled."""
    return speaker_view(parts.services.catalog.speaker_summary(gallery, speaker))


@router.get("/{speaker}/erasure", responses=problems(404))
def show_erasure(
    gallery: GalleryName,
    speaker: SpeakerName,
    principal: Reader,
    parts: Parts,
    keep_recordings: Annotated[bool, Query(description="As it would be asked of the erasure.")] = False,
) -> Erasable:
    """Tell what erasing a speaker would take away now; nothing is erased."""
    return Erasable.model_validate(parts.services.catalog.erasable(gallery, speaker, keep_recordings=keep_recordings))


@router.patch("/{speaker}", responses=problems(404, 409, 413))
def change_speaker(
    gallery: GalleryName, speaker: SpeakerName, body: SpeakerChange, principal: Writer, parts: Parts
) -> Speaker:
    """Change a speaker's name, labels or consent; what is left out stays."""
    given = body.model_fields_set
    change = catalog.SpeakerChange(
        name=body.name if "name" in given else None,
        labels=body.labels if "labels" in given else None,
        changes_consent=bool(given & {"consent_reference", "consented_at"}),
        consent=consent_given(body.consent_reference, body.consented_at),
    )
    changed = parts.services.catalog.change_speaker(gallery, speaker, change)
    parts.catch_up(gallery)
    return speaker_view(changed)


@router.post("/{speaker}/merge", response_model=Speaker, responses=problems(404, 409, 413))
def merge_speaker(
    gallery: GalleryName, speaker: SpeakerName, body: SpeakerMerge, principal: Writer, parts: Parts, once: Idempotent
) -> Response:
    """Make this speaker and another one the same person: enrollments and labels go over, and this name is gone."""

    def work() -> Answer:
        merged = parts.services.catalog.merge_speakers(gallery, speaker, body.into)
        parts.catch_up(gallery)
        return Answer(speaker_view(merged), 200)

    return once(principal, body, work)


@router.delete("/{speaker}", responses=problems(404))
def delete_speaker(
    gallery: GalleryName,
    speaker: SpeakerName,
    principal: Writer,
    parts: Parts,
    keep_recordings: Annotated[
        bool, Query(description="Forget the name only: the voice stays in the archive as an unknown one.")
    ] = False,
) -> Erased:
    """Erase a speaker: name, enrollments, and the vectors and audio that were enrolled to nobody else."""
    erased = parts.services.catalog.delete_speaker(gallery, speaker, keep_recordings=keep_recordings)
    parts.catch_up(gallery)
    return Erased.model_validate(erased)


def consent_given(reference: str | None, given_at: dt.datetime | None) -> Consent | None:
    """Return the consent that a request gives; None where it gives none."""
    if reference is not None:
        return Consent(reference, given_at)
    if given_at is not None:
        raise InvalidRequest("consented_at without a consent_reference; say where the consent is kept")
    return None


def speaker_view(row: SpeakerSummary) -> Speaker:
    """Show a speaker."""
    return Speaker(
        name=row.name,
        labels=list(row.labels),
        consent_reference=row.consent_reference,
        consented_at=row.consented_at,
        created_at=row.created_at,
        enrolled_utterances=row.enrollments,
        enrolled_s=row.enrolled_s,
        recordings=row.recordings,
    )
