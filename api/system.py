"""What a process is made of and how it is, for whoever runs it."""

import shutil
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from api.schemas.service import EncoderInUse, IndexView, System, WorkUnderWay
from indexer.db.jobs import Jobs
from indexer.db.rows import GallerySummary
from indexer.types import EncoderId

if TYPE_CHECKING:
    from api.runtime import Runtime
    from api.security import Principal


def visible_galleries(parts: "Runtime", principal: "Principal") -> list[GallerySummary]:
    """List every gallery that somebody may see."""
    catalog = parts.services.catalog
    if principal.gallery is not None:
        return [catalog.gallery(principal.gallery)]
    found = page = catalog.galleries()
    while page:
        page = catalog.galleries(after=page[-1].id)
        found += page
    return found


def system_view(parts: "Runtime", principal: "Principal") -> System:
    """Say it to somebody who may see some galleries or all."""
    settings = parts.settings
    galleries = visible_galleries(parts, principal)
    used: dict[EncoderId, list[str]] = {}
    for row in galleries:
        for encoder_id in (row.encoder_id, row.second_encoder_id):
            if encoder_id is not None:
                used.setdefault(encoder_id, []).append(row.name)
    names = {row.encoder_id: row.encoder_name for row in galleries}
    with parts.database.read_scope() as session:
        under_way = Jobs(session).shards_under_way(principal.gallery_id)
    return System(
        version=version("voxdex"),
        database="postgresql" if parts.database.engine.dialect.name == "postgresql" else "sqlite",
        jobs_run="here" if settings.broker.url is None else "workers",
        workers=[
            WorkUnderWay(name=token[:8], state=f"job {job_id}: {items} {'file' if items == 1 else 'files'}")
            for token, job_id, items in under_way
        ],
        queues=parts.queue_depths(),
        device=settings.embedding.device,
        encoders=[
            EncoderInUse(encoder_id=encoder_id, name=names.get(encoder_id, encoder_id), galleries=of)
            for encoder_id, of in used.items()
        ],
        indexes=[
            IndexView(
                gallery=one.gallery,
                encoder_id=one.info.encoder_id,
                kind=one.info.kind,
                vectors=one.info.count,
                memory_bytes=one.info.memory_bytes,
                mapped_bytes=one.info.mapped_bytes,
                changes_behind=one.changes_behind,
                lag_s=round(one.lag_s, 3),
                details=one.info.details,
            )
            for one in parts.live.indexes()
            if principal.sees(one.gallery_id)
        ],
        media_bytes_free=_bytes_free(parts),
    )


def _bytes_free(parts: "Runtime") -> int | None:
    folder = parts.media.root
    with suppress(OSError):
        there = next(one for one in (folder, *folder.parents) if one.is_dir())  # Made by the first upload.
        return shutil.disk_usage(there).free
    return None
