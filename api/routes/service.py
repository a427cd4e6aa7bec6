"""What the service knows and holds: encoders and figures."""

from fastapi import APIRouter

from api.openapi import problems
from api.runtime import Parts
from api.schemas.service import Encoder, Encoders, Stats, System
from api.security import Reader
from api.system import system_view, visible_galleries
from indexer.db.jobs import Jobs

router = APIRouter(tags=["service"])


@router.get("/encoders", responses=problems())
def list_encoders(_: Reader, parts: Parts) -> Encoders:
    """List the encoders that galleries can be made with, and whether their weights are here."""
    registry = parts.services.registry
    return Encoders(
        items=[
            Encoder(
                name=spec.name,
                family=spec.family,
                description=spec.description,
                license=spec.license,
                published_eer=spec.published_eer,
                identification_threshold=spec.identification_threshold,
                verification_threshold=spec.verification_threshold,
                measured_eer=dict(spec.measured_eer),
                times_real_time=spec.times_real_time,
                default=spec.name == parts.settings.embedding.encoder,
                here=registry.cached(spec) is not None,
            )
            for spec in registry.list()
        ]
    )


@router.get("/system", responses=problems())
def show_system(principal: Reader, parts: Parts) -> System:
    """Tell what this process is made of and how it is: indexes and their lag, encoders, work under way, queues."""
    return system_view(parts, principal)


@router.get("/stats", responses=problems())
def show_stats(principal: Reader, parts: Parts) -> Stats:
    """Count what is stored in the galleries that the key opens."""
    galleries = visible_galleries(parts, principal)
    with parts.database.read_scope() as session:
        jobs = Jobs(session).count_by_state(principal.gallery_id)
    return Stats(
        galleries=len(galleries),
        speakers=sum(gallery.speakers for gallery in galleries),
        recordings=sum(gallery.recordings for gallery in galleries),
        embeddings=sum(gallery.embeddings for gallery in galleries),
        duration_s=sum(gallery.duration_s for gallery in galleries),
        jobs=jobs,
    )
