"""What queries on both databases are made of."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Insert, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.models import (
    Base,
    Embedding,
)
from indexer.types import (
    EmbeddingId,
    EncoderId,
    GalleryId,
)

BIND_LIMIT = 10_000
"""Values in one IN list or VALUES clause; SQLite accepts 32,766 parameters in a statement, Postgres 65,535."""


T = TypeVar("T")


def batches(items: Sequence[T], size: int = BIND_LIMIT) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def table_of(model: type[Base]) -> Table:
    """Return the table of a model, for statements that no object of the session is concerned by."""
    table = model.__table__
    assert isinstance(table, Table)
    return table


def insert_if_absent(session: Session, table: type[Base]) -> Insert:
    """Build an INSERT that skips rows which a unique constraint already holds, on either database."""
    target = table_of(table)
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(target).on_conflict_do_nothing()
    return sqlite.insert(target).on_conflict_do_nothing()


def take_out_vectors(session: Session, gallery_id: GalleryId, which: ColumnElement[bool]) -> tuple[EmbeddingId, ...]:
    """Delete these embeddings of a gallery, note exactly what went for the indexes, and return the ids, rising.

    Reading the ids first would miss what another transaction commits between the reading and the deletion.
    """
    statement = delete(Embedding).where(which).returning(Embedding.id, Embedding.encoder_id)
    gone: dict[EncoderId, list[int]] = {}
    for number, encoder_id in session.execute(statement.execution_options(synchronize_session=False)):
        gone.setdefault(encoder_id, []).append(number)
    for encoder_id, numbers in gone.items():
        Changes(session).vectors_removed(gallery_id, encoder_id, numbers)
    return tuple(EmbeddingId(number) for number in sorted(chain.from_iterable(gone.values())))


def per_row(aggregate: Any, condition: ColumnElement[bool]) -> Any:
    """Aggregate over the rows that belong to each row of the enclosing query."""
    return select(aggregate).where(condition).scalar_subquery()
