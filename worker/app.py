"""The Celery application: what is agreed between whoever sends a task and whoever runs it.

Importing this loads neither torch nor the tasks, so that the API can send without being able to work.
"""

from typing import Final

from celery import Celery
from kombu import Queue

from indexer.errors import InvalidRequest
from indexer.settings import Settings

PLAN_JOB: Final = "voxdex.plan_job"
INGEST_SHARD: Final = "voxdex.ingest_shard"
CLUSTER_VOICES: Final = "voxdex.cluster_voices"
SWEEP: Final = "voxdex.sweep"
EMBED_PROBES: Final = "voxdex.embed_probes"

MAINTENANCE: Final = "maintenance"
"""Queue of the sweeps."""
PLANNING: Final = "planning"
"""Queue of the jobs that are to be planned, which must not wait behind every shard of a large one."""
INGEST: Final = "ingest"
"""Queue of the shards."""
PROBES: Final = "probes"
"""Queue of the voices of requests."""
QUEUES: Final = (MAINTENANCE, PLANNING, INGEST, PROBES)

CONNECT_S = 3.0
"""Longest wait for a connection to the broker before whoever wanted one is told that there is none."""

SOCKET_S = 30.0
"""Longest wait for an answer on a connection that may be dead without having been closed."""

_LAST_RESORT = 0.9
"""Share of the visibility timeout after which the process of a task that plans or sweeps is killed.

Neither should come near it. Work on a shard is watched file by file (`JobSettings.hang_s`); one recording of a day may
take longer than the broker waits, and the message that comes again then finds the lease alive.
"""

_SLOWEST = 10.0
"""Times real time at which even a slow worker goes through one long recording, which is a task of its own."""


def broker_url(settings: Settings) -> str:
    """URL of the broker.

    Raises
    ------
    InvalidRequest
        If none is set, or one that is no Redis; a URL is not repeated, for it may hold a password.
    """
    if settings.broker.url is None:
        raise InvalidRequest(
            "there is no broker: set VOXDEX_BROKER__URL, as in redis://:password@host:6379/0 (without one, "
            "`voxdex serve` works through its jobs by itself)"
        )
    url = settings.broker.url.get_secret_value()
    if not url.startswith(("redis://", "rediss://")):
        raise InvalidRequest(
            "VOXDEX_BROKER__URL is no Redis: write redis://:password@host:6379/0, or rediss:// for TLS"
        )
    return url


def make_app(settings: Settings) -> Celery:
    """Build the Celery application of this process; nothing is connected yet."""
    app = Celery("voxdex", broker=broker_url(settings), set_as_current=False)
    visibility_s = settings.broker.visibility_timeout_s
    app.conf.update(
        # JSON and nothing else: a message is never able to run code.
        task_serializer="json",
        accept_content=["json"],
        # The record has the results.
        task_ignore_result=True,
        task_queues=[Queue(name) for name in QUEUES],
        task_create_missing_queues=False,
        task_default_queue=INGEST,
        task_routes={
            PLAN_JOB: {"queue": PLANNING},
            # Beside the plans, for a sweep that finds it lying sends a plan, which hands it on.
            CLUSTER_VOICES: {"queue": PLANNING},
            SWEEP: {"queue": MAINTENANCE},
            INGEST_SHARD: {"queue": INGEST},
            EMBED_PROBES: {"queue": PROBES},
        },
        # A message is taken off the broker when its work is done. One whose process died is not put back at once:
        # its lease would still be alive and the message be used up for nothing. The sweep sends it when the lease ends.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        task_time_limit=max(visibility_s * _LAST_RESORT, settings.audio.max_duration_s / _SLOWEST),
        task_annotations={
            task: {"time_limit": visibility_s * _LAST_RESORT} for task in (PLAN_JOB, SWEEP, EMBED_PROBES)
        },
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_S,
        broker_transport_options={
            "visibility_timeout": visibility_s,
            # In turn: neither do shards wait until the last file of a huge job is listed, nor the listing for them.
            "queue_order_strategy": "round_robin",
            "socket_connect_timeout": CONNECT_S,
            "socket_timeout": SOCKET_S,
            "socket_keepalive": True,
        },
        # Whoever sends is told soon that it failed: the sweep sends again, and a request must not hang meanwhile.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1},
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # A loaded machine may take long to start a process; one that died is noticed soon.
        worker_proc_alive_timeout=60.0,
        worker_lost_wait=1.0,
        enable_utc=True,
        beat_schedule={
            # A sweep that was not done before the next one is sent would do nothing the next one does not.
            "sweep": {"task": SWEEP, "schedule": settings.jobs.sweep_s, "options": {"expires": settings.jobs.sweep_s}}
        },
        # One entry that is due from the start needs no file that remembers when it ran last.
        beat_scheduler="celery.beat:Scheduler",
        beat_max_loop_interval=settings.jobs.sweep_s,
    )
    return app
