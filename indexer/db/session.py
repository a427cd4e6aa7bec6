"""Connections to the record, and the two scopes in which it is used: one that commits and one that only reads."""

import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from indexer.db.changes import Changes
from indexer.db.models import SCHEMA_REVISION
from indexer.errors import Conflict, CorruptArtifact, InvalidRequest, Overloaded, SchemaMismatch, Unavailable, one_line
from indexer.file_integrity import make_private_dir
from indexer.settings import Settings

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 30_000
"""How long a SQLite writer waits for another; one ingest batch holds the lock for milliseconds."""

CONNECT_TIMEOUT_S = 5
"""How long a Postgres server may take to answer before it is reported as unreachable."""

_READ_ONLY = "voxdex_read_only"

# Connections are made when they are needed, and kept: under the default of 5, a service that many threads ask spends
# more on opening them than on its questions. Parameters hold names and vectors, and errors are logged and shown.
_POOL: dict[str, Any] = {"pool_size": 16, "max_overflow": 16, "pool_timeout": 10, "hide_parameters": True}

# A server whose machine is gone says nothing, and TCP by itself waits for hours: found out within a minute, whether the
# connection was idle (probes of the system) or a query was under way (bytes that nobody acknowledges). No limit on how
# long a statement runs: migrations, and the streams that indexes are built from, take as long as they take.
_ALIVE: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def parse_url(url: str) -> URL:
    """Read a database URL; plain `postgresql://` means the psycopg 3 driver.

    Raises
    ------
    InvalidRequest
        If it is not a URL of SQLite or Postgres; the URL is not repeated, for it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidRequest(
            "VOXDEX_DATABASE__URL is not a database URL: write postgresql://user:password@host/name or sqlite:///path"
        ) from None
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"}:
            raise InvalidRequest("VOXDEX_DATABASE__URL names a SQLite database in memory, which loses it: give a path")
        return parsed
    raise InvalidRequest(
        f"VOXDEX_DATABASE__URL names the driver {parsed.drivername!r} where postgresql or sqlite is supported"
    )


def shown(url: URL) -> str:
    """Name a database for people, without its password."""
    return url.render_as_string(hide_password=True)


def make_engine(url: str, *, foreign_keys: bool = True) -> Engine:
    """Build an engine whose connections behave alike on SQLite and Postgres; nothing is connected yet.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    foreign_keys : bool
        Whether SQLite enforces foreign keys; only migrations turn it off, because rebuilding a table that others
        refer to would otherwise cascade into them.
    """
    parsed = parse_url(url)
    if parsed.drivername.startswith("sqlite"):
        engine = create_engine(parsed, **_POOL)
        _prepare_sqlite(engine, foreign_keys)
        return engine
    return create_engine(parsed, pool_pre_ping=True, connect_args=_ALIVE, **_POOL)


def _prepare_sqlite(engine: Engine, foreign_keys: bool) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # Its own folds ASCII only, and Postgres more: a search for a part of a name must find the same on both.
        connection.create_function("lower", 1, _lower, deterministic=True)
        # The driver's own transaction control would begin at the first write only; `begin` below does it instead.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            # In WAL mode a commit is in the operating system's hands once it returns, so a killed process loses
            # nothing; only a power failure can take the last commits (never the consistency), and ingest resumes.
            "synchronous = NORMAL",
            f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
            # A deleted voice must not stay readable in free pages.
            "secure_delete = ON",
        ):
            _execute_patiently(connection, f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = bool(connection.get_execution_options().get(_READ_ONLY))
        if connection.info.get(_READ_ONLY) is not read_only:
            connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
            connection.info[_READ_ONLY] = read_only
        # A transaction that reads first and writes later cannot wait for another writer (its snapshot is stale and
        # SQLite fails it at once), so whoever may write takes the write lock when it begins.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _execute_patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement; where another connection is in its way, again for as long as one waits for a writer.

    SQLite itself does not wait where two connections take a new file to WAL mode at once: one of them is refused.
    """
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Database:
    """The record as the use cases see it: sessions that commit as one, and sessions that only read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        reading = engine.execution_options(**{_READ_ONLY: True})
        if engine.dialect.name == "postgresql":
            # One snapshot for the whole scope, as SQLite gives by itself: sums and rows agree.
            reading = reading.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._write = sessionmaker(engine, expire_on_commit=False)
        self._read = sessionmaker(reading, expire_on_commit=False)

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises. The only commit there is.

        Last of all, right before the commit, the changes it noted are written to the feed; see `Changes`.

        Raises
        ------
        Unavailable
            If the database cannot be reached or stays locked; as Overloaded, if too many threads ask it.
        Conflict
            If what was written contradicts the record (a constraint says so).
        CorruptArtifact
            If the file of a SQLite database is damaged.
        """
        with self.translated_errors(), self._write.begin() as session:
            yield session
            Changes(session).write()

    @contextmanager
    def read_scope(self) -> Iterator[Session]:
        """One consistent view of the record, never blocked by a writer; writing in it is an error."""
        with self.translated_errors(), self._read() as session:
            yield session

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise the errors of the library and the driver as ours; see `session_scope`."""
        try:
            yield
        except IntegrityError as error:
            raise Conflict(f"the record refuses the change: {driver_message(error)}") from error
        except PoolTimeout as error:
            raise Overloaded(
                f"every connection to the record is in use and none came free in {_POOL['pool_timeout']} s; try again"
            ) from error
        except OperationalError as error:
            said = driver_message(error)
            first = "make room on its disk, then " if _NO_ROOM.search(said) else ""
            raise Unavailable(f"{shown(self.engine.url)}: {said}; {first}try again") from error
        except DBAPIError as error:
            if type(error.orig) is sqlite3.DatabaseError:  # "database disk image is malformed"
                raise _damaged(self.engine, error) from error
            if not error.connection_invalidated:
                raise
            raise Unavailable(f"{shown(self.engine.url)}: the connection was lost; try again") from error

    def scrub(self) -> None:
        """Take deleted rows out of SQLite's write-ahead log as well; Postgres manages its own.

        Raises
        ------
        Unavailable
            If a reader that began before the deletion still needs the log; calling again finishes the work.
        """
        if self.engine.dialect.name != "sqlite":
            return
        with self.translated_errors():
            connection = self.engine.raw_connection()
            try:
                busy, _, _ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        if busy:
            raise Unavailable(
                f"deleted rows stay in the log of {shown(self.engine.url)} while another process reads it: try again"
            )

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """Connect to the record and make sure that its schema is the one this code was written for.

    A SQLite file is created and upgraded here; a Postgres database never is, because several releases may share it.

    Raises
    ------
    Unavailable
        If the database cannot be reached; the message never shows the password.
    SchemaMismatch
        If it is newer than this code, or a Postgres database that `voxdex db upgrade` has not brought up to date.
    """
    engine = make_engine(settings.database_url)
    try:
        if engine.dialect.name == "sqlite":
            _make_folder(engine.url)
        revision = revision_of(engine)
        if revision != SCHEMA_REVISION:
            # Alembic is loaded only where it is needed; most commands find the schema as it should be.
            from indexer.db import migrate

            if engine.dialect.name == "sqlite" and migrate.is_older(revision):
                logger.info("upgrading %s from revision %s to %s", shown(engine.url), revision, SCHEMA_REVISION)
                migrate.upgrade(settings.database_url)
            else:
                raise migrate.mismatch(revision, shown(engine.url))
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)


def schema_revision(connection: Connection) -> str | None:
    """Read which migration a database is at; None where none has run.

    Raises
    ------
    SchemaMismatch
        If it is at several at once, which no release of voxdex writes.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    revisions = list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    if len(revisions) > 1:
        raise SchemaMismatch(f"the database is at {len(revisions)} revisions at once: restore it from a backup")
    return revisions[0] if revisions else None


def revision_of(engine: Engine) -> str | None:
    """Connect, and read which migration the database is at; None where none has run.

    Raises
    ------
    Unavailable
        If it cannot be reached.
    SchemaMismatch
        If it is at several revisions at once.
    """
    try:
        with engine.execution_options(**{_READ_ONLY: True}).connect() as connection:
            return schema_revision(connection)
    except OperationalError as error:
        sqlite = engine.dialect.name == "sqlite"
        remedy = (
            "its folder and the files beside it must be writable, even to read"
            if sqlite
            else "check VOXDEX_DATABASE__URL and that the server is running"
        )
        raise Unavailable(f"cannot open the database {shown(engine.url)}: {driver_message(error)}; {remedy}") from error
    except DBAPIError as error:
        # SQLite reports a file that is no database, or a damaged one, in this way.
        raise _damaged(engine, error) from error


def _damaged(engine: Engine, error: DBAPIError) -> CorruptArtifact:
    return CorruptArtifact(
        f"the database {shown(engine.url)} is damaged: {driver_message(error)}; restore it from a backup"
    )


def _make_folder(url: URL) -> None:
    assert url.database is not None  # parse_url refuses SQLite without a path
    try:
        make_private_dir(Path(url.database).parent)
    except OSError as error:
        raise Unavailable(f"cannot make the folder of {shown(url)}: {error.strerror}; choose another --home") from error


_NO_ROOM = re.compile("disk is full|no space left", re.IGNORECASE)
"""What SQLite and PostgreSQL say of a full disk."""


def driver_message(error: DBAPIError) -> str:
    """Return what the database driver says, on one line and without the password that some repeat."""
    line = one_line(error.orig) if error.orig is not None else type(error).__name__
    line = re.sub(r"(://[^:/@\s]+):[^@\s]*@", r"\1:***@", line)
    return re.sub(r"(password=)\S+", r"\1***", line)[:300]
