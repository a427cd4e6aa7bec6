"""Whether requests should be sent to this process: every part is asked, and none is waited for long."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, create_task_group, fail_after
from anyio.to_thread import run_sync
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import text

from api.schemas.service import Check, EncoderCheck, GalleryLag, IndexCheck, Readiness
from indexer.errors import Unavailable, VoxdexError
from indexer.observability import REGISTRY

if TYPE_CHECKING:  # It holds an examiner itself.
    from api.runtime import Runtime

MOST_LAG_S = 10.0
"""From here on an index counts as behind: ten times what following the record takes."""

_WAIT_S = 3.0

_TIMEOUT = "timeout"
_BEHIND = "behind"

_Found = TypeVar("_Found", bound=Check)


class Examiner:
    """Asks the parts of a process how they are."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        # Threads of its own: a database that hangs holds a few of these, and none that requests need.
        self._threads = CapacityLimiter(8)

    async def examine(self) -> Readiness:
        """Ask all parts at once."""
        checks: dict[str, Check | None] = {"broker": None, "encoder": self._encoder()}
        async with create_task_group() as group:
            group.start_soon(self._note, checks, "database", self._database, Check)
            group.start_soon(self._note, checks, "index", self._index, IndexCheck)
            if self._runtime.settings.broker.url is not None:
                group.start_soon(self._note, checks, "broker", self._broker, Check)
        ready = all(check.ok for check in checks.values() if check is not None)
        return Readiness.model_validate({"ready": ready, **checks})

    async def _note(
        self, checks: dict[str, Check | None], name: str, ask: Callable[[], Check], kind: type[_Found]
    ) -> None:
        try:
            with fail_after(_WAIT_S):
                checks[name] = await run_sync(ask, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError:
            checks[name] = kind(ok=False, problem=_TIMEOUT)
        except VoxdexError as error:
            checks[name] = kind(ok=False, problem=error.code)

    def _database(self) -> Check:
        with self._runtime.database.read_scope() as session:
            session.execute(text("SELECT 1"))
        return Check(ok=True)

    def _broker(self) -> Check:
        reached = self._runtime.services.queue.waiting() is not None
        return Check(ok=reached, problem=None if reached else Unavailable.code)

    def _encoder(self) -> EncoderCheck:
        preload = self._runtime.preload
        problem = preload.encoder_problem
        return EncoderCheck(ok=problem is None, problem=problem, encoder_id=preload.encoder_id)

    def _index(self) -> IndexCheck:
        lags = [
            GalleryLag(
                gallery_id=one.gallery_id,
                vectors=one.vectors,
                changes_behind=one.changes_behind,
                lag_s=round(one.lag_s, 3),
            )
            for one in self._runtime.live.lag()
        ]
        longest = max((one.lag_s for one in lags), default=0.0)
        problem = self._runtime.preload.galleries_problem or (_BEHIND if longest > MOST_LAG_S else None)
        return IndexCheck(ok=problem is None, problem=problem, lag_s=longest, galleries=lags)


class Scrape:
    """Every metric of this process: what it counted, and what it reads now."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """Yield the counted ones, then depth of queues, size and lag of open indexes."""
        yield from REGISTRY.collect()
        depth = GaugeMetricFamily("voxdex_queue_depth", "Messages or probes that wait", labels=["queue"])
        for queue, waiting in self._runtime.queue_depths().items():
            depth.add_metric([queue], waiting)
        yield depth
        vectors = GaugeMetricFamily("voxdex_index_vectors", "Vectors in an open index", labels=["gallery_id"])
        lag = GaugeMetricFamily(
            "voxdex_index_lag_seconds", "Age of the oldest change that is not in the index", labels=["gallery_id"]
        )
        drifted = GaugeMetricFamily(
            "voxdex_index_drifted_vectors",
            "Vectors that the last sampled comparison with the record found wrong, and that were repaired",
            labels=["gallery_id"],
        )
        damaged = GaugeMetricFamily(
            "voxdex_index_damaged_vectors",
            "Vectors that the last sampled comparison found damaged in the record, and that nobody finds",
            labels=["gallery_id"],
        )
        try:
            lags = self._runtime.live.lag()
        except VoxdexError:  # The record is away: the other metrics say so, and must be had.
            lags = []
        for one in lags:
            vectors.add_metric([str(one.gallery_id)], one.vectors)
            lag.add_metric([str(one.gallery_id)], one.lag_s)
            drifted.add_metric([str(one.gallery_id)], one.drifted)
            damaged.add_metric([str(one.gallery_id)], one.damaged)
        yield vectors
        yield lag
        yield drifted
        yield damaged
