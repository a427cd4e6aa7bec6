"""What a running process says of itself: log lines that carry ids, and metrics for every stage.

Neither holds audio, vectors or names. A log line is written by our own code from ids and figures; an exception in it
is told by its types and frames, because messages repeat what a request or a file name said.
"""

import datetime as dt
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, TextIO, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from pythonjsonlogger.json import JsonFormatter

from indexer.settings import Settings

logger = logging.getLogger(__name__)

Service = Literal["cli", "serve", "worker", "beat"]
"""What a process is; told in every JSON line."""

_OWN_LOGGERS = ("indexer", "search", "worker", "api", "uvicorn", "celery")

_IDS: dict[str, ContextVar[str | None]] = {
    name: ContextVar(name, default=None) for name in ("request_id", "task_id", "job_id")
}

_MOST_CAUSES = 10
"""Exceptions of a chain that are told; a chain can loop."""

_FIGURES = ("service", *_IDS, "method", "route", "status", "duration_s", "gallery_id", "encoder_id", "key_id")
"""Extra attributes of a record that reach the line; anything else a library attaches does not."""


@contextmanager
def log_context(
    *, request_id: str | None = None, task_id: str | None = None, job_id: int | None = None
) -> Iterator[None]:
    """Put ids into every line that is logged inside, in this thread and in what it hands to the thread pool."""
    given = {"request_id": request_id, "task_id": task_id, "job_id": None if job_id is None else str(job_id)}
    tokens = [(_IDS[name], _IDS[name].set(value)) for name, value in given.items() if value is not None]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


def current_request_id() -> str | None:
    """Id of the request that this code runs for."""
    return _IDS["request_id"].get()


def setup_logging(settings: Settings, *, service: Service) -> None:
    """Log to standard error, from now on and in place of an earlier call.

    Other people's libraries are heard from WARNING on: at lower levels some of them log addresses and bodies.
    """
    level = settings.logging.level or ("WARNING" if service == "cli" else "INFO")
    wanted = settings.logging.format or ("text" if service == "cli" else "json")
    handler = _StandardError()
    handler.addFilter(_AddIds(service))
    handler.setFormatter(_JsonLines() if wanted == "json" else _TextLines())
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one, _StandardError)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(max(logging.getLevelName(level), logging.WARNING))
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    # Its lines hold paths, and paths hold names; `api.middleware` writes ours.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment, as tests and daemons replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class keeps the one it was made with
        return sys.stderr


class _AddIds(logging.Filter):
    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def filter(self, record: logging.LogRecord) -> bool:
        record.service = self._service
        for name, variable in _IDS.items():
            if getattr(record, name, None) is None:
                setattr(record, name, variable.get())
        return True


class _DiscreetErrors(logging.Formatter):
    """Tells an exception, and what caused it, without its message."""

    def formatException(  # noqa: N802 - the name is the library's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        if ei[1] is None:
            return ""
        told: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None and len(told) < _MOST_CAUSES:
            frames = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
            ]
            told.append("\n  ".join([type(error).__qualname__, *reversed(frames)]))
            hidden = None if error.__suppress_context__ else error.__context__
            error = error.__cause__ or hidden
        return "\ncaused by ".join(told)


class _JsonLines(_DiscreetErrors, JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage()
        log_data.update((name, value) for name in _FIGURES if (value := getattr(record, name, None)) is not None)
        if exception := message_dict.get("exc_info"):
            log_data["exception"] = exception


class _TextLines(_DiscreetErrors):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # Another handler's telling of the error, with its message, is kept there.
        try:
            return super().format(record)
        finally:
            record.exc_text = None


disable_created_metrics()  # type: ignore[no-untyped-call]  # A series beside each counter that nobody asks for.

REGISTRY = CollectorRegistry()
"""Every metric of this process. What is a state rather than a count (index, queues) is read when it is asked for, by
`api.routes.metrics`."""

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

AUDIO_SECONDS = Counter("voxdex_audio_seconds", "Audio of archive files that was decoded", registry=REGISTRY)
SPEECH_SECONDS = Counter("voxdex_speech_seconds", "Audio of archive files that was embedded", registry=REGISTRY)
DECODE_SECONDS = Counter(
    "voxdex_decode_seconds", "Time that decoding threads worked on archive files and probes", registry=REGISTRY
)
STAGE_CPU_SECONDS = Counter(
    "voxdex_stage_cpu_seconds",
    "Processor time of the threads that decode, by stage: hash, decode, speech, measure",
    ["stage"],
    registry=REGISTRY,
)
EMBED_SECONDS = Counter(
    "voxdex_embed_seconds", "Time that the encoder worked; passes side by side count once", registry=REGISTRY
)
COMMIT_SECONDS = Counter("voxdex_commit_seconds", "Time that writing results to the record took", registry=REGISTRY)
FILES = Counter(
    "voxdex_files", "Archive files by what became of them: done, duplicate, failed", ["outcome"], registry=REGISTRY
)
PROBE_BATCH_SIZE = Histogram(
    "voxdex_probe_batch_size",
    "Probes that went through the encoder together",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=REGISTRY,
)
SEARCH_SECONDS = Histogram(
    "voxdex_search_seconds",
    "Time from a probe's vector to its answer: index, record and scores",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
INDEX_COMPARED = Counter(
    "voxdex_index_compared_vectors", "Vectors of open indexes that were compared with the record", registry=REGISTRY
)
INDEX_DRIFT = Counter(
    "voxdex_index_drifted", "Vectors that were found to differ from the record, and were repaired", registry=REGISTRY
)
DECISIONS = Counter(
    "voxdex_decisions",
    "Answers by kind (identify, verify, compare, search) and outcome",
    ["kind", "outcome"],
    registry=REGISTRY,
)
HTTP_REQUESTS = Counter(
    "voxdex_http_requests", "Requests by route template", ["method", "route", "status"], registry=REGISTRY
)
HTTP_SECONDS = Histogram(
    "voxdex_http_request_seconds",
    "Time from a request's head to the end of its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)


_Item = TypeVar("_Item")


def counting_seconds_of(items: Iterable[_Item], counter: Counter) -> Iterator[_Item]:
    """Yield the items, adding the time that making them takes to a counter; not the time that their user takes."""
    source = iter(items)
    while True:
        with counting_seconds(counter):
            try:
                item = next(source)
            except StopIteration:
                return
        yield item


@contextmanager
def counting_stage(stage: str) -> Iterator[None]:
    """Add the processor time that this thread spends inside to that of a stage."""
    started = time.thread_time()
    try:
        yield
    finally:
        STAGE_CPU_SECONDS.labels(stage=stage).inc(time.thread_time() - started)


def counting_stage_of(items: Iterable[_Item], stage: str) -> Iterator[_Item]:
    """Yield the items, adding the processor time that making them takes to that of a stage."""
    source = iter(items)
    while True:
        with counting_stage(stage):
            try:
                item = next(source)
            except StopIteration:
                return
        yield item


@contextmanager
def counting_seconds(counter: Counter) -> Iterator[None]:
    """Add the time spent inside to a counter of seconds, also when it ends in an error."""
    started = time.perf_counter()
    try:
        yield
    finally:
        counter.inc(time.perf_counter() - started)


class BusySeconds:
    """Adds to a counter the time in which anything is under way: what threads do side by side counts once."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.forget()

    def forget(self) -> None:
        """Take nothing to be under way, as in a child process, which its parent's threads are not in."""
        self._lock = threading.Lock()
        self._under_way = 0
        self._since = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the time spent inside, also when it ends in an error."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._under_way:
                self._counter.inc(now - self._since)
            self._under_way += by
            self._since = now


ENCODER_BUSY = BusySeconds(EMBED_SECONDS)
os.register_at_fork(after_in_child=ENCODER_BUSY.forget)


def serve_metrics(settings: Settings) -> None:
    """Answer Prometheus from this worker process for as long as it lives, where the settings give a port.

    A port that is taken is no reason not to work: two workers of one machine are told apart by their settings, and
    whoever forgot that still gets the metrics of the first.
    """
    port = settings.metrics.worker_port
    if port is None:
        return
    try:
        start_http_server(port, addr=settings.metrics.worker_host, registry=REGISTRY)
    except OSError as error:
        logger.warning("metrics are not served on port %d: %s", port, error.strerror)
