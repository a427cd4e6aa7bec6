"""The parts of one API process, put together once and shared by all of its requests."""

import threading
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from api.chores import index_chores
from api.dependencies import Services
from api.keys import KeyRing
from api.made_once import made_once
from api.preload import Preload
from api.rate_limits import RateLimiter
from api.readiness import Examiner
from api.security import Gate
from api.threads import RequestThreads
from indexer.db.galleries import Galleries
from indexer.media import MediaStore
from indexer.settings import Settings
from indexer.types import GalleryId

if TYPE_CHECKING:
    from api.gallery_reports import GalleryReports
    from api.live import LiveGalleries
    from indexer.db.session import Database
    from indexer.intake import Intake
    from indexer.jobs.bulk import BulkIngest

_DECODERS = 4
"""Uploads, and recordings to listen to, that are decoded at the same time."""

_REPORTS = 16
"""Reports of whole galleries that are waited for; one is made at a time, for each is seconds of work."""

_LOOKERS = 2
"""Threads that look, for all who watch jobs, at how far these are."""


class Runtime:
    """What requests work with; each part is made when it is first needed, under a lock, and closed with the process.

    Parameters
    ----------
    services
        Parts that the command line has too; tests give some with an encoder of their own.
    """

    def __init__(self, settings: Settings, *, services: Services | None = None) -> None:
        self.settings = settings
        self.services = services or Services(settings)
        self.limiter = RateLimiter(settings.broker)
        self.media = MediaStore(settings.media_path)
        # As many threads as there may be probes; most of them sleep until the encoder has had their batch.
        probes = settings.probes.queue + settings.probes.batch
        self.probe_threads = RequestThreads(probes, most=probes, what="probes")
        self.intake_threads = RequestThreads(_DECODERS, most=settings.api.max_uploads, what="uploads", retry_after_s=5)
        self.listening_threads = RequestThreads(_DECODERS, most=4 * _DECODERS, what="stretches", retry_after_s=5)
        self.watching_threads = RequestThreads(
            _LOOKERS, most=settings.api.max_watchers, what="watchers", retry_after_s=30
        )
        self.report_threads = RequestThreads(1, most=_REPORTS, what="reports", retry_after_s=10)
        self.examiner = Examiner(self)
        self.chores = index_chores(lambda: self.database, settings)
        self.stopping = threading.Event()
        """Set when the process is asked to stop, so that streams without end end."""

    @property
    def database(self) -> "Database":
        """The record."""
        return self.services.database

    @made_once
    def gate(self) -> Gate:
        """Who may ask."""
        return Gate(self.database, self.settings.api, self.limiter)

    @made_once
    def keys(self) -> KeyRing:
        """The keys that open the service."""
        return KeyRing(self.database)

    @made_once
    def live(self) -> "LiveGalleries":
        """Encoder and index of each gallery, following the record."""
        from api.live import LiveGalleries

        live = LiveGalleries(self.services)
        self.services.share_with(live)
        return live

    @made_once
    def intake(self) -> "Intake":
        """Takes single recordings in; what it committed is found by the next request."""
        from indexer.intake import Intake

        return Intake(
            self.database,
            self.settings,
            media=self.media,
            encoders_for=self.live.encoders_for,
            listening=self.services.listening,
            committed=self.live.catch_up,
        )

    @made_once
    def reports(self) -> "GalleryReports":
        """What is told of galleries as a whole."""
        from api.gallery_reports import GalleryReports

        return GalleryReports(self)

    def gallery_id(self, name: str) -> GalleryId:
        """Return the id of the gallery of this name, or raise NotFound."""
        with self.database.read_scope() as session:
            return GalleryId(Galleries(session).by_name(name).id)

    def catch_up(self, gallery: str) -> None:
        """Make what was just committed to a gallery count for the next request; others hear of it within a second."""
        self.live.catch_up(self.gallery_id(gallery))

    @made_once
    def preload(self) -> Preload:
        """Loads the default encoder and opens the galleries while the service already answers."""
        return Preload(lambda: self.live.comparison().encoder, lambda: self.live.open_all())

    @property
    def bulk(self) -> "BulkIngest":
        """The use cases of jobs."""
        return self.services.bulk

    def start(self) -> None:
        """Open the record now, so that a service that cannot work says so when it starts; begin what runs beside."""
        _ = self.gate, self.keys
        # First this, then the thread: Celery's package replaces itself while it is imported, and a second thread that
        # imports it meanwhile finds it empty.
        self.services.work_on_jobs()
        self.preload.start()
        self.chores.start()

    def close(self) -> None:
        """Close what was opened."""
        self.stopping.set()
        if "preload" in vars(self):
            self.preload.close()
        self.chores.close()
        self.services.close()

    def queue_depths(self) -> dict[str, int]:
        """Count what waits: messages of the broker's queues or of this process, and probes of this process."""
        depths = self.services.queue_depths()
        depths["probes"] = depths.get("probes", 0) + self.live.probes_waiting
        return depths


def runtime_of(request: Request) -> Runtime:
    """Return the parts that a request works with; also a FastAPI dependency."""
    runtime: Runtime = request.app.state.runtime
    return runtime


Parts = Annotated[Runtime, Depends(runtime_of)]
"""The parts that a route works with."""
