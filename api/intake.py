"""What uploads that are kept have in common: received once the gallery is known to exist, taken in, found at once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.runtime import Runtime
from api.uploads import Upload, received
from indexer.intake import Sent, Taken


@asynccontextmanager
async def received_to_keep(request: Request, parts: Runtime, gallery: str) -> AsyncIterator[Upload]:
    """Receive the one recording of a request, after making sure that there is a gallery for it.

    Raises
    ------
    NotFound
        If there is no such gallery; nothing was read then.
    Overloaded
        If as many uploads are under way as there may be; nothing was read then either.
    """
    await run_in_threadpool(parts.gallery_id, gallery)
    limit = min(parts.settings.api.max_upload_bytes, parts.settings.audio.max_bytes)
    floor = parts.settings.media.min_free_bytes
    with parts.intake_threads.admitted():
        async with received(request, parts.media, max_bytes=limit, min_free_bytes=floor) as uploads:
            yield uploads["file"]


def take(parts: Runtime, gallery: str, upload: Upload, how: Mapping[str, Any], **said: Any) -> Taken:
    """Take an upload into a gallery; `how` and what is raised are those of `Intake.take`."""
    sent = Sent(upload.path, upload.name, upload.size_bytes, upload.sha256, **said)
    return parts.intake.take(parts.gallery_id(gallery), sent, **how)
