import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from indexer.db.session import make_engine, open_database, parse_url, shown
from indexer.errors import CorruptArtifact, InvalidRequest, Unavailable
from indexer.settings import load_settings


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg"),
        ("sqlite:////tmp/x.sqlite3", "sqlite"),
    ],
)
def test_the_usual_ways_to_write_a_url_are_understood(given: str, driver: str) -> None:
    assert parse_url(given).drivername == driver


@pytest.mark.parametrize("given", ["", "nonsense secret", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:"])
def test_other_urls_are_refused_without_repeating_a_password(given: str) -> None:
    with pytest.raises(InvalidRequest, match="VOXDEX_DATABASE__URL") as caught:
        parse_url(given)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    assert shown(parse_url("postgresql://user:secret@host/name")) == "postgresql+psycopg://user:***@host/name"


def test_an_unreachable_server_is_unavailable_and_its_password_stays_hidden() -> None:
    settings = load_settings(database={"url": "postgresql://user:s3cret@127.0.0.1:1/name"})
    with pytest.raises(Unavailable, match="cannot open the database") as caught:
        open_database(settings)
    message = str(caught.value)
    assert "s3cret" not in message
    assert "\n" not in message
    assert "127.0.0.1" in message


def test_a_file_that_is_no_database_is_damaged_by_name(tmp_path: Path) -> None:
    (tmp_path / "voxdex.sqlite3").write_bytes(b"this is not a database, whatever its name says " * 100)
    with pytest.raises(CorruptArtifact, match=r"voxdex\.sqlite3 is damaged: file is not a database"):
        open_database(load_settings(home=tmp_path, database={}))


def test_damage_that_is_met_later_is_named_too(tmp_path: Path) -> None:
    database = open_database(load_settings(home=tmp_path, database={}))
    try:
        with database.session_scope() as session:
            session.execute(text("PRAGMA writable_schema = ON"))
            session.execute(text("UPDATE sqlite_schema SET rootpage = 1000000 WHERE name = 'galleries'"))
        database.engine.dispose()
        with pytest.raises(CorruptArtifact, match=r"voxdex\.sqlite3 is damaged: "), database.read_scope() as session:
            session.execute(text("SELECT * FROM galleries"))
    finally:
        database.close()


def test_a_home_that_cannot_be_made_is_unavailable_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match="choose another --home"):
        open_database(load_settings(home=tmp_path / "file" / "home", database={}))


def test_sqlite_is_set_up_for_writers_that_wait_and_voices_that_go(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous", "secure_delete")
        }
    engine.dispose()
    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "synchronous": 1,
        "secure_delete": 1,
    }


def test_what_a_killed_process_committed_is_kept_and_what_it_did_not_is_gone(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sqlalchemy import text\n"
        "from indexer.db.session import open_database\n"
        "from indexer.settings import load_settings\n"
        "database = open_database(load_settings(home=Path(sys.argv[1]), database={}))\n"
        "row = \"INSERT INTO encoders VALUES (:id, 'n', 'f', 'w', 'x', 192, '2026-01-01')\"\n"
        "for number in range(20):\n"
        "    with database.session_scope() as session:\n"
        "        session.execute(text(row), {'id': f'done-{number}'})\n"
        "with database.session_scope() as session:\n"
        "    session.execute(text(row), {'id': 'half'})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert killed.returncode == -9
    database = open_database(load_settings(home=tmp_path, database={}))
    with database.read_scope() as session:
        found = set(session.scalars(text("SELECT id FROM encoders")))
    database.close()
    assert found == {f"done-{number}" for number in range(20)}


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    database = open_database(load_settings(home=tmp_path, database={}))
    holder = sqlite3.connect(tmp_path / "voxdex.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with database.read_scope() as session:  # a reader is not disturbed
            session.execute(text("SELECT 1"))
            session.execute(text("PRAGMA busy_timeout = 50"))
        with pytest.raises(Unavailable, match="database is locked; try again"), database.session_scope() as session:
            session.execute(text("SELECT 1"))
    finally:
        holder.close()
        database.close()


def test_a_log_that_a_reader_still_needs_is_reported_and_cleared_later(tmp_path: Path) -> None:
    database = open_database(load_settings(home=tmp_path, database={}))
    log = tmp_path / "voxdex.sqlite3-wal"
    reader = sqlite3.connect(tmp_path / "voxdex.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM encoders").fetchone()
    try:
        with database.session_scope() as session:
            session.execute(text("INSERT INTO encoders VALUES ('e', 'n', 'f', 'w', 'x', 192, '2026-01-01')"))
            session.execute(text("PRAGMA busy_timeout = 50"))
        with pytest.raises(Unavailable, match=r"stay in the log .* try again"):
            database.scrub()
        reader.execute("ROLLBACK")
        database.scrub()
        assert log.stat().st_size == 0
    finally:
        reader.close()
        database.close()


def test_a_full_disk_is_unavailable_and_says_to_make_room(tmp_path: Path) -> None:
    database = open_database(load_settings(home=tmp_path, database={}))

    def fill() -> None:
        with database.session_scope() as session:
            session.execute(text("PRAGMA max_page_count = 1"))  # SQLite says then what it says of a full disk
            session.execute(text("CREATE TABLE big (data BLOB)"))

    try:
        with pytest.raises(Unavailable, match="is full; make room on its disk, then try again"):
            fill()
    finally:
        database.close()
