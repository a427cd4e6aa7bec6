"""What carries work to whoever does it: Celery's broker, or a thread of this process."""

from collections.abc import Sequence
from typing import Protocol

from indexer.types import JobId, ShardId


class JobQueue(Protocol):
    """Wakes workers. It may lose a message and may deliver one twice: the record says what is to be done.

    Every method is called after the commit of what the message is about, and raises Unavailable where the broker
    cannot be reached; the work is then found by the next sweep.
    """

    def send_planning(self, job_id: JobId) -> None:
        """Have `BulkIngest.plan` called with this job."""

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        """Have `BulkIngest.work` called with each of these shards."""

    def send_clustering(self, job_id: JobId) -> None:
        """Have the unknown voices of this job's gallery found."""

    def waiting_plans(self) -> int | None:
        """Count the messages about planning that no worker has taken yet; None where that cannot be told."""

    def waiting_shards(self) -> int | None:
        """Count the messages about shards that no worker has taken yet; None where that cannot be told."""
