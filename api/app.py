"""The HTTP service: every router, every error handler and every middleware in one place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware import Middleware
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool

from api import errors, openapi
from api.body_limit import BodyLimit
from api.browser_headers import BrowserHeaders
from api.middleware import RequestRecords
from api.page_files import PageFiles
from api.parameters import only_known
from api.paths import WholeSegments
from api.routes import (
    enrollments,
    galleries,
    health,
    jobs,
    keys,
    quality,
    recording_sound,
    recordings,
    service,
    sessions,
    sound,
    speakers,
    unknown_voices,
    voices,
)
from api.routes.page import PageRoute
from api.runtime import Runtime
from indexer.settings import Settings

V1: tuple[APIRouter, ...] = (
    galleries.router,
    speakers.router,
    enrollments.router,
    voices.router,
    sound.router,
    recordings.router,
    recording_sound.router,
    unknown_voices.router,
    quality.router,
    jobs.router,
    keys.router,
    sessions.router,
    service.router,
)
"""What answers below /v1, in the order of the API's document."""

UNVERSIONED: tuple[APIRouter, ...] = (health.router,)
"""What answers at the root: for probes of orchestrators and for Prometheus."""

DESCRIPTION = """\
Speaker search: enroll voices, ask who speaks, verify a claim, find a voice in an archive.

Send a key as `Authorization: Bearer vdx_...`. Galleries and speakers are addressed by name, percent-encoded; recordings
and jobs by number. Every error is a problem (RFC 9457) with a stable `code`. Lists come in pages: hand `next_cursor`
back as `cursor`. A POST that writes takes an `Idempotency-Key`.
"""


def create_app(settings: Settings, runtime: Runtime | None = None, page: PageFiles | None = None) -> FastAPI:
    """Build the service.

    Parameters
    ----------
    runtime
        Its parts; made from the settings where they are not given, and closed with the application either way.
    page
        The files of the page; those that `make page` built where they are not given.
    """
    parts = runtime or Runtime(settings)
    files = page or PageFiles()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(parts.start)
        await run_in_threadpool(files.index)  # Read and compressed before anybody waits for it.
        try:
            yield
        finally:
            await run_in_threadpool(parts.close)

    app = FastAPI(
        title="voxdex",
        version=version("voxdex"),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=None,  # `api.openapi` answers it.
        docs_url=None,  # The page would load its script from elsewhere.
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # Spans would hold paths, and paths hold names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.runtime = parts
    for router in V1:
        app.include_router(router, prefix="/v1", dependencies=[Depends(only_known)])
    for router in UNVERSIONED:
        app.include_router(router)
    errors.install(app)
    openapi.install(app)
    app.router.routes.append(PageRoute(files))  # Last: everything that is the API's has been looked for by then.
    # From the outside in.
    app.user_middleware = [
        Middleware(RequestRecords, api=app),
        Middleware(BrowserHeaders),
        Middleware(errors.UnexpectedErrors),
        Middleware(BodyLimit),
        Middleware(WholeSegments),
    ]
    # Built now rather than by the first request: the framework switches warnings off while it builds, which is a
    # setting of the whole process, and other threads run by then.
    list(iter_route_contexts(app.routes))
    return app
