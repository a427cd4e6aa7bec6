"""Work that one process at a time does, of all that share a record."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from indexer.db.session import Database

_CHORES = 0x766F786463686F72
"""Key of the advisory lock: any number that nothing else in the database locks."""


@contextmanager
def chores_turn(database: Database) -> Iterator[bool]:
    """Tell whether it is this process's turn at what is in no hurry, and keep it until the block ends.

    A process that dies loses it. A record that is a file has one process that sweeps, whose turn it always is.

    Raises
    ------
    Unavailable
        If the record is out of reach.
    """
    if database.engine.dialect.name != "postgresql":
        yield True
        return
    with database.session_scope() as session:
        yield bool(session.scalar(select(func.pg_try_advisory_xact_lock(_CHORES))))
