"""For orchestrators and Prometheus: alive, ready, metrics. They need no key, and hold no names."""

from typing import Any

from fastapi import APIRouter
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import JSONResponse, Response

from api.readiness import Scrape
from api.runtime import Parts
from api.schemas.service import Alive, Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def tell_alive() -> Alive:
    """Tell that the process answers; nothing else is asked."""
    return Alive()


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Requests should go elsewhere; the same document says why"}},
)
async def tell_ready(parts: Parts) -> Response:
    """Tell whether requests should be sent here: record, broker, encoder, and indexes in step with the record."""
    found = await parts.examiner.examine()
    return JSONResponse(found.model_dump(mode="json"), 200 if found.ready else 503)


_EXPOSITION: dict[str, Any] = {
    "content": {
        "text/plain": {
            "schema": {"type": "string"},
            "example": "# HELP voxdex_audio_seconds_total Audio that was taken in.\n"
            "# TYPE voxdex_audio_seconds_total counter\nvoxdex_audio_seconds_total 3600.0\n",
        }
    }
}


@router.get("/metrics", response_class=Response, responses={200: _EXPOSITION})
def tell_metrics(parts: Parts) -> Response:
    """Tell Prometheus what this process counted; queues and indexes are read now."""
    return Response(generate_latest(Scrape(parts)), media_type=CONTENT_TYPE_PLAIN_0_0_4)
