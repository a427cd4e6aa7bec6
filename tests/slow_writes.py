"""A record that is slow to write to: whoever is to be stopped midway is midway for long enough to be found there.

How fast an encoder or a disk is says nothing then: every vector costs the same time, on SQLite of the processor, inside
of the transaction that writes it, which is where most stops hit.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, text

from indexer.db.session import open_database
from indexer.settings import load_settings

_RANDOM_BYTES = 10_000_000
"""Made for each vector: about 20 ms of a processor of 2024."""


def slow_writes(home: Path) -> None:
    """Make writing vectors slow in the record of a home, which is made where there is none."""
    open_database(load_settings(home=home, database={})).close()
    _run(
        home,
        f"CREATE TRIGGER slow_writes AFTER INSERT ON embeddings BEGIN SELECT length(randomblob({_RANDOM_BYTES})); END",
    )


def slow_postgres_writes(url: str, seconds: float) -> None:
    """Make writing a vector take so long in a record on Postgres."""
    statements = (
        "CREATE FUNCTION slow_writes() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$",
        "CREATE TRIGGER slow_writes AFTER INSERT ON embeddings FOR EACH ROW EXECUTE FUNCTION slow_writes()",
    )
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def usual_writes(home: Path) -> None:
    """Make it as fast again as it was."""
    _run(home, "DROP TRIGGER slow_writes")


def _run(home: Path, statement: str) -> None:
    with closing(sqlite3.connect(home / "voxdex.sqlite3", timeout=60)) as connection, connection:
        connection.execute(statement)
