"""Sends work to the workers: all that the API may import of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis import Redis
from redis.exceptions import RedisError

from indexer.errors import Unavailable, one_line
from indexer.settings import Settings
from indexer.types import JobId, ShardId
from worker.app import (
    CLUSTER_VOICES,
    CONNECT_S,
    INGEST,
    INGEST_SHARD,
    PLAN_JOB,
    PLANNING,
    SOCKET_S,
    broker_url,
    make_app,
)

logger = logging.getLogger(__name__)


class CeleryQueue:
    """The `JobQueue` that Celery workers listen to."""

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        self._app = app or make_app(settings)
        self.redis = connect_redis(settings)

    def send_planning(self, job_id: JobId) -> None:
        """Have a worker plan this job."""
        self._send(PLAN_JOB, [job_id])

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        """Have workers work through these shards."""
        self._send(INGEST_SHARD, shard_ids)

    def send_clustering(self, job_id: JobId) -> None:
        """Have a worker find the unknown voices that this job is about."""
        self._send(CLUSTER_VOICES, [job_id])

    def waiting(self) -> int | None:
        """Count the jobs and shards that no worker has taken yet; None while the broker cannot be asked."""
        depths = [self.waiting_plans(), self.waiting_shards()]
        return None if None in depths else sum(depth or 0 for depth in depths)

    def waiting_plans(self) -> int | None:
        """Count the jobs that wait to be planned."""
        return self.depth(PLANNING)

    def waiting_shards(self) -> int | None:
        """Count the shards that wait, those included that are done or whose job was canceled."""
        return self.depth(INGEST)

    def depth(self, queue: str) -> int | None:
        """Count the messages that wait in a queue; None while the broker cannot be asked."""
        try:
            with translated_errors():
                return int(self.redis.llen(queue))
        except Unavailable as error:
            logger.warning("queue %s cannot be counted: %s", queue, error.code)
            return None

    def close(self) -> None:
        """Close every connection."""
        self._app.close()
        self.redis.close()

    def _send(self, task: str, ids: Sequence[int]) -> None:
        if not ids:
            return
        with translated_errors(), self._app.producer_or_acquire() as producer:
            for number in ids:
                self._app.send_task(task, args=[number], producer=producer)


def connect_redis(settings: Settings, *, longest_answer_s: float = SOCKET_S, connections: int = 100) -> Redis:
    """Make a client of the broker's Redis, for so many threads at once; nothing is connected yet."""
    return Redis.from_url(
        broker_url(settings),
        socket_connect_timeout=CONNECT_S,
        socket_timeout=longest_answer_s,
        socket_keepalive=True,
        max_connections=connections,
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise Unavailable where the broker fails; what the driver says may hold the address, and never the password."""
    try:
        yield
    except (OperationalError, KombuError, RedisError, OSError) as error:
        raise Unavailable(f"the broker cannot be reached: {one_line(error)}; check VOXDEX_BROKER__URL") from error
