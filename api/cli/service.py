"""The commands that run the service's other processes: worker, beat, and all of it on one machine."""

import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from api.cli import options
from api.cli.output import print_line, print_notice


class Queues(StrEnum):
    """What a worker works on."""

    INGEST = "ingest"
    PROBES = "probes"
    BOTH = "both"


def worker(
    queues: Annotated[
        Queues,
        typer.Option(
            "--queues",
            help="ingest: the jobs; probes: the voices of requests, where VOXDEX_PROBES__WHERE is workers; "
            "both: a process for each.",
        ),
    ] = Queues.INGEST,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            help="Answer Prometheus on this port, and on the next one for the second process of `both` "
            "(default: VOXDEX_METRICS__WORKER_PORT, else not at all).",
            min=1,
            max=65534,
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
) -> None:
    """Work on what is sent over the broker, until Ctrl-C or SIGTERM; then give unfinished work back.

    It keeps a Celery worker running that suits the device: on a CPU one child process does the work, on a GPU a thread
    of the one process, which is never forked. Processes that die are started again.
    """
    from api.dependencies import settings_of
    from indexer.observability import setup_logging
    from worker.app import broker_url
    from worker.devices import worker_device, worker_pool
    from worker.supervisor import MISUSED, Program, Supervisor, python

    settings = settings_of(home=home)
    broker_url(settings)
    setup_logging(settings, service="worker")
    device = worker_device(settings)
    port = metrics_port if metrics_port is not None else settings.metrics.worker_port
    programs = []
    for position, queue in enumerate([Queues.INGEST, Queues.PROBES] if queues is Queues.BOTH else [queues]):
        environment = {**os.environ, "VOXDEX_HOME": str(settings.home), "VOXDEX_EMBEDDING__DEVICE": device}
        if port is not None:
            environment["VOXDEX_METRICS__WORKER_PORT"] = str(port + position)
        programs.append(
            Program(
                name=f"worker {queue}",
                command=python("worker.process", queue, worker_pool(device)),
                environment=environment,
                hopeless=frozenset({MISUSED}),
                # Whoever kills this process's group, as a container's end does, takes the worker with it.
                own_session=False,
            )
        )
    status = Supervisor(programs).run()
    if status:
        raise typer.Exit(status)


def beat(home: options.Home = None) -> None:
    """Have lost work looked for regularly (VOXDEX_JOBS__SWEEP_S), until Ctrl-C or SIGTERM; one such process is enough.

    Workers notice when it is gone and look by themselves.
    """
    from api.dependencies import settings_of
    from indexer.observability import setup_logging
    from worker.app import broker_url
    from worker.beat import run_beat

    settings = settings_of(home=home)
    broker_url(settings)
    setup_logging(settings, service="beat")
    run_beat(settings)


def up_local(
    workers: Annotated[int, typer.Option("--workers", help="Worker processes on the CPU.", min=0, max=64)] = 2,
    port: Annotated[
        int, typer.Option("--port", help="Port of the API on this machine; 0: a free one.", min=0, max=65535)
    ] = 0,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Where homes, uploads and logs are kept (default: a new temporary folder, removed at the end).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the whole service on this machine for a try: PostgreSQL, Redis, API, workers, beat; Ctrl-C ends all of it.

    Everything listens on this machine only, and the database is thrown away at the end.
    """
    from api.cli.local_service import LocalService

    def interrupt(*_: object) -> None:
        # Nothing may interrupt the end of it: that would leave servers behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    with suppress(KeyboardInterrupt), LocalService(workers=workers, port=port, folder=folder) as service:
        print_line(f"API URL   {service.url}")
        print_line(f"API key   {service.key}")
        print_line(f"logs in   {service.logs}")
        print_notice("Ctrl-C ends everything and throws the database away")
        sys.stdout.flush()
        service.run()
