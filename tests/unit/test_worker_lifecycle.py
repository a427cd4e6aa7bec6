import os
import subprocess
import sys

import pytest

from indexer.errors import InvalidRequest, LeaseLost, NotFound, Unavailable, UnsafeFork
from indexer.settings import Settings, load_settings
from indexer.types import JobId
from worker import lifecycle
from worker.app import EMBED_PROBES, INGEST, INGEST_SHARD, PLAN_JOB, PLANNING, PROBES, SWEEP, make_app
from worker.client import CeleryQueue
from worker.devices import worker_device, worker_pool
from worker.lifecycle import WorkerServices, is_device_broken, require_safe_fork
from worker.stopping import StopFlag


def broker_settings(url: str = "redis://:a-secret@127.0.0.1:1/0") -> Settings:
    return load_settings(broker={"url": url})


def test_what_the_api_imports_of_workers_loads_no_torch() -> None:
    script = (
        "import sys\n"
        "import worker.app, worker.client, worker.probes, worker.local_queue, worker.supervisor, worker.lifecycle\n"
        "sys.exit('torch' in sys.modules or 'faiss' in sys.modules or 'worker.tasks' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_process_that_touched_cuda_is_not_forked() -> None:
    require_safe_fork(lambda: False)
    with pytest.raises(UnsafeFork, match=f"process {os.getpid()} has touched CUDA"):
        require_safe_fork(lambda: True)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_is_used_by_threads_of_a_process_that_never_forks(device: str) -> None:
    assert worker_pool(device) == "threads"


@pytest.mark.skipif(sys.platform != "linux", reason="workers fork on Linux only")
def test_on_a_cpu_a_child_does_the_work() -> None:
    assert worker_pool("cpu") == "prefork"


def test_a_device_that_is_named_is_taken_at_its_word() -> None:
    assert worker_device(load_settings(embedding={"device": "cuda:3"})) == "cuda:3"


def test_without_a_broker_the_error_says_what_to_set() -> None:
    with pytest.raises(InvalidRequest, match="VOXDEX_BROKER__URL"):
        make_app(load_settings())


def test_a_broker_that_is_no_redis_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(InvalidRequest, match="no Redis") as refusal:
        make_app(broker_settings("amqp://guest:a-secret@host//"))
    assert "a-secret" not in str(refusal.value)


def test_messages_are_json_and_go_to_the_queue_of_their_kind() -> None:
    settings = broker_settings()
    app = make_app(settings)
    try:
        assert app.conf.accept_content == ["json"]
        queues = {
            name: app.amqp.router.route({}, name)["queue"].name for name in (PLAN_JOB, INGEST_SHARD, EMBED_PROBES)
        }
        assert queues == {PLAN_JOB: PLANNING, INGEST_SHARD: INGEST, EMBED_PROBES: PROBES}
        assert app.conf.beat_schedule["sweep"]["task"] == SWEEP
        # A plan ends far inside the time after which the broker sends its message again.
        assert app.conf.task_annotations[PLAN_JOB]["time_limit"] < settings.broker.visibility_timeout_s
    finally:
        app.close()


def test_a_queue_whose_broker_is_away_says_so_and_shows_no_password() -> None:
    queue = CeleryQueue(broker_settings())
    try:
        queue.send_shards([])
        with pytest.raises(Unavailable, match="broker") as refusal:
            queue.send_planning(JobId(1))
        assert "a-secret" not in str(refusal.value)
        assert queue.waiting() is None
    finally:
        queue.close()


def test_a_task_that_finds_something_out_of_reach_holds_the_next_one_back() -> None:
    stopping = Recorded()
    parts = WorkerServices(broker_settings(), stopping)

    def fail() -> None:
        raise Unavailable("the database starts")

    for _ in range(3):
        parts.perform("1", fail)
    assert stopping.waits == list(lifecycle.PAUSES_S[:3])
    parts.perform("1", lambda: None)
    parts.perform("1", fail)
    assert stopping.waits[3] == lifecycle.PAUSES_S[0]
    parts.close()


@pytest.mark.parametrize("error", [LeaseLost("taken over"), NotFound("no such job"), ValueError("a defect")])
def test_no_failure_leaves_a_task(error: Exception) -> None:
    stopping = Recorded()

    def fail() -> None:
        raise error

    parts = WorkerServices(broker_settings(), stopping)
    parts.perform("1", fail)
    assert stopping.waits == []
    parts.close()


def test_a_fault_of_the_device_is_told_from_other_errors() -> None:
    import torch

    assert is_device_broken(torch.AcceleratorError("an illegal memory access"))
    assert not is_device_broken(RuntimeError("anything else"))


def test_a_process_that_was_not_set_up_as_a_worker_says_so() -> None:
    with pytest.raises(Unavailable, match="start it by `voxdex worker`"):
        lifecycle.services()


class Recorded(StopFlag):
    """A flag that waits for nothing and remembers for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        return False
