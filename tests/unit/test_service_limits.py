"""What bounds a process of the service: requests under way, connections to the record, errors that keep facts."""

import threading
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text

from api.preload import LOADING, Preload
from api.threads import RequestThreads
from indexer.db import session as db_session
from indexer.db.session import open_database
from indexer.errors import Overloaded, RateLimited, TooLittleSpeech, Unavailable, about
from indexer.settings import load_settings
from indexer.stretches import CheckedFiles
from tests.api_kit import RegisteredSpectrum
from tests.waiting import eventually


def test_an_error_that_is_given_a_name_keeps_what_else_it_says() -> None:
    named = about("a.wav", Overloaded("too much waits", retry_after_s=7))
    assert (str(named), named.retry_after_s) == ("a.wav: too much waits", 7)
    assert about("a.wav", RateLimited("wait", retry_after_s=9)).retry_after_s == 9
    assert type(about("a.wav", TooLittleSpeech("too short"))) is TooLittleSpeech


def test_more_requests_than_are_admitted_are_sent_away_and_a_place_comes_free() -> None:
    threads = RequestThreads(1, most=2, what="uploads", retry_after_s=5)
    with threads.admitted():
        with threads.admitted(), pytest.raises(Overloaded, match="2 uploads") as refused, threads.admitted():
            pass
        with threads.admitted():
            assert anyio.run(threads.run, threading.current_thread) is not threading.current_thread()
    assert refused.value.retry_after_s == 5


class LoadsAtLast:
    """Fails in a way that nobody foresaw, then works."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> RegisteredSpectrum:
        self.calls += 1
        if self.calls < 3:
            raise RuntimeError("out of memory")
        return RegisteredSpectrum()


def test_a_load_that_fails_unforeseen_is_reported_and_tried_again() -> None:
    load, seen = LoadsAtLast(), set[str | None]()
    preload = Preload(load, lambda: None, again_s=0.05)

    def loaded() -> bool:
        seen.add(preload.encoder_problem)
        return preload.encoder_problem is None

    preload.start()
    try:
        eventually(loaded, every_s=0.005)
    finally:
        preload.close()
    assert (load.calls, preload.encoder_problem) == (3, None)
    assert seen - {None} == {LOADING, "internal"} or seen - {None} == {"internal"}


def test_a_record_whose_connections_are_all_in_use_is_overloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_session, "_POOL", {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1})
    database = open_database(load_settings(home=tmp_path))
    try:
        with database.read_scope() as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(Overloaded, match="in use"), database.read_scope() as other:
                other.execute(text("SELECT 1"))
    finally:
        database.close()


def test_a_file_is_hashed_again_only_where_it_changed(tmp_path: Path) -> None:
    path, files = tmp_path / "a.wav", CheckedFiles(most=1)
    path.write_bytes(b"one")
    first = files.sha256(path, max_bytes=10, name="a")
    # No limit would let it be read again, so this answer can only be the one that is known.
    assert files.sha256(path, max_bytes=0, name="a") == first
    path.write_bytes(b"two")
    assert files.sha256(path, max_bytes=10, name="a") != first


def test_preloading_reports_errors_of_its_own_kind_by_code() -> None:
    def away() -> None:
        raise Unavailable("no broker")

    preload = Preload(RegisteredSpectrum, away, again_s=0.01)
    preload.start()
    eventually(lambda: preload.galleries_problem != LOADING)
    preload.close()
    assert (preload.encoder_problem, preload.galleries_problem) == (None, "unavailable")
