"""Runs that find the unknown voices of a gallery: asked for as jobs, done in the background, again after a kill."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from sqlalchemy.orm import Session

from indexer.db.galleries import Galleries
from indexer.db.jobs import CLUSTER, Jobs
from indexer.db.plans import Plans, stalls
from indexer.db.session import Database
from indexer.db.transactions import in_transaction
from indexer.db.unknown_voices import UnknownVoices
from indexer.errors import Conflict, LeaseLost, Unavailable, VoxdexError, one_line
from indexer.jobs.leases import kept_lease
from indexer.jobs.planning import MAX_STALLS, send
from indexer.jobs.queue import JobQueue
from indexer.settings import Settings
from indexer.types import GalleryId, JobId
from search.unknown_voices import ClusterRule

logger = logging.getLogger(__name__)

SOURCE = "unnamed utterances"
"""What such a job is said to read."""


class _StoppedError(Exception):
    """The process is to end."""


def _nobody(done: int, found: int) -> None:
    pass


class Clusterings:
    """Runs as the API, the command line and the workers see them.

    Parameters
    ----------
    stopping
        Tells whether this process is to end; a run is then given back, and begins anew elsewhere.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        queue: JobQueue,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._settings = settings
        self._queue = queue
        self._stopping = stopping

    def submit(self, gallery: str, rule: ClusterRule, *, send_it: bool = True) -> JobId:
        """Accept a run.

        Parameters
        ----------
        send_it
            Whether somebody else is to do it; the caller does it by `perform` otherwise.

        Raises
        ------
        NotFound
            If there is no such gallery.
        ConsentRequired
            If the gallery requires consent: nobody is grouped in it.
        Conflict
            If another run of the gallery has not ended: of two at once, one would undo what the other finds.
        """
        with self._database.session_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            voices = UnknownVoices(session, gallery_id)
            voices.require_allowed()
            voices.lock()
            other = Jobs(session).not_ended(gallery_id, CLUSTER)
            if other is not None:
                raise Conflict(
                    f"job {other} looks for unknown voices in gallery {gallery} already: wait for it (`voxdex jobs "
                    f"watch {other}`), or cancel it (`voxdex jobs cancel {other}`)"
                )
            job_id = Jobs(session).create(gallery_id, kind=CLUSTER, source=SOURCE, options=asdict(rule))
        if send_it:
            send(lambda: self._queue.send_clustering(job_id))
        return job_id

    def perform(self, job_id: JobId, told: Callable[[int, int], None] = _nobody) -> None:
        """Do a run; returns at once where it has ended or is in somebody else's hands.

        Parameters
        ----------
        told
            Told how many voices were looked up, of how many.

        Raises
        ------
        Unavailable
            If the record is out of reach; a sweep sends the run again.
        """
        token = Plans.new_token()
        lease_s = self._settings.jobs.lease_s
        with self._database.session_scope() as session:
            job = Plans(session, job_id, token).claim(lease_s)
            if job is not None and stalls(job) > MAX_STALLS:
                reason = f"begun {MAX_STALLS} times without coming to an end: its worker was killed, or hung"
                Jobs(session).fail(job_id, f"{reason}; look at its log and memory, then retry the job")
                job = None
        if job is None:
            return
        try:
            with kept_lease(lambda: self._renew(job_id, token), lease_s) as lost:

                def look() -> None:
                    if lost.is_set():
                        raise LeaseLost(f"job {job_id}: somebody else does it, or it was canceled")
                    if self._stopping():
                        raise _StoppedError

                from worker.cluster_run import ClusterRun  # Loads FAISS, which whoever only asks for a run needs not.

                ClusterRun(self._database, self._settings, job, token, look, told).run()
        except LeaseLost as lost_error:
            logger.info("a run over unknown voices stops: %s", lost_error)
        except _StoppedError:
            in_transaction(self._database, partial(_give_back, job_id, token))
        except Unavailable:
            raise  # The lease ends by itself, and a sweep finds the run.
        except VoxdexError as error:
            in_transaction(self._database, partial(_fail, job_id, token, one_line(error)))
        except Exception:
            in_transaction(self._database, partial(_stall, job_id, token))
            raise

    def _renew(self, job_id: JobId, token: str) -> bool:
        with self._database.session_scope() as session:
            return Plans(session, job_id, token).renew(self._settings.jobs.lease_s)


def _give_back(job_id: JobId, token: str, session: Session) -> None:
    plans = Plans(session, job_id, token)
    plans.start_over()  # What was counted as a try was none.
    plans.pause()


def _fail(job_id: JobId, token: str, reason: str, session: Session) -> None:
    if Plans(session, job_id, token).pause():
        Jobs(session).fail(job_id, reason)


def _stall(job_id: JobId, token: str, session: Session) -> None:
    Plans(session, job_id, token).stall()
