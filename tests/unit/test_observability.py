"""Log lines carry ids and no messages of errors; metrics count seconds also of what fails."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter

from indexer.observability import (
    BusySeconds,
    counting_seconds,
    counting_seconds_of,
    current_request_id,
    log_context,
    setup_logging,
)
from indexer.settings import load_settings

OWN = (None, "api", "indexer", "search", "worker", "uvicorn", "uvicorn.access", "celery")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in OWN}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_its_time_level_logger_message_and_ids(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(load_settings(), service="worker")
    with log_context(task_id="t-1", job_id=7), log_context(request_id="r-1"):
        assert current_request_id() == "r-1"
        logging.getLogger("worker.tasks").info("shard %d is done", 3, extra={"gallery_id": 2, "speaker": "Ada"})
    logging.getLogger("indexer").warning("outside")
    first, second = lines(capsys)
    assert first.pop("time").endswith("+00:00")  # type: ignore[attr-defined]
    assert first == {
        "level": "INFO",
        "logger": "worker.tasks",
        "message": "shard 3 is done",
        "service": "worker",
        "request_id": "r-1",
        "task_id": "t-1",
        "job_id": "7",
        "gallery_id": 2,
    }
    assert {"request_id", "task_id", "job_id"} & set(second) == set()


@pytest.mark.parametrize("service", ["serve", "cli"])
def test_an_error_is_told_by_its_types_and_places_and_never_by_its_message(
    service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(load_settings(), service=service)  # type: ignore[arg-type]

    def ask_about(name: str) -> None:
        try:
            {}[name]
        except KeyError as error:
            raise ValueError(f"{name} is not here") from error

    try:
        ask_about("Ada Lovelace")
    except ValueError:
        logging.getLogger("api").exception("a request failed")
    written = capsys.readouterr().err
    assert "Ada" not in written
    assert "a request failed" in written
    for part in ("ValueError", "caused by KeyError", "ask_about", "test_observability.py"):
        assert part in written


def test_the_command_line_is_quiet_and_other_libraries_are_quieter(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(load_settings(), service="cli")
    logging.getLogger("indexer").info("not told")
    logging.getLogger("indexer").warning("told")
    setup_logging(load_settings(logging={"level": "DEBUG", "format": "json"}), service="cli")
    logging.getLogger("indexer").debug("told too")
    logging.getLogger("httpx").info("GET https://somewhere/?name=Ada")
    logging.getLogger("uvicorn.access").info("GET /v1/galleries/Ada")
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 2  # One handler, however often it is set up.
    assert written[0].endswith("WARNING indexer: told")
    assert json.loads(written[1])["message"] == "told too"


def test_seconds_are_counted_also_of_what_fails_and_not_of_who_takes_the_items() -> None:
    counter = Counter("seconds", "for this test", registry=CollectorRegistry())

    def value() -> float:
        return float(next(iter(counter.collect())).samples[0].value)

    with suppress(KeyError), counting_seconds(counter):
        time.sleep(0.02)
        raise KeyError
    assert 0.02 <= value() < 10
    before = value()
    for _ in counting_seconds_of(iter([1, 2]), counter):
        time.sleep(0.5)
    assert value() - before < 0.8


def test_seconds_of_what_is_under_way_side_by_side_count_once() -> None:
    counter = Counter("busy", "for this test", registry=CollectorRegistry())
    busy = BusySeconds(counter)

    def value() -> float:
        return float(next(iter(counter.collect())).samples[0].value)

    started = time.perf_counter()
    with busy.counting():
        with suppress(KeyError), busy.counting():
            time.sleep(0.2)
            raise KeyError
        with busy.counting():
            time.sleep(0.2)
    ended = time.perf_counter()
    assert 0.4 <= value() <= ended - started
    before = value()
    time.sleep(0.05)
    with busy.counting():
        time.sleep(0.02)
    assert 0.02 <= value() - before <= time.perf_counter() - ended - 0.05
