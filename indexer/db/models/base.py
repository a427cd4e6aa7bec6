"""What all tables have in common: types of columns, numbered rows, names of constraints."""

import datetime as dt
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Enum, Integer, LargeBinary, MetaData, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from indexer.errors import CorruptArtifact
from indexer.types import EMBEDDING_DIM
from indexer.vectors import require_unit_rows

SCHEMA_REVISION = "0008"
"""Newest migration; a test holds it equal to Alembic's head, so that opening a database need not load Alembic."""

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# Postgres compares `jsonb`, and not `json`.
Document = JSON().with_variant(JSONB(), "postgresql")

# SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
RowId = BigInteger().with_variant(Integer(), "sqlite")


def utc_now() -> dt.datetime:
    """Return the present time, aware and in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """An aware instant, stored in UTC; SQLite keeps no zone, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Refuse naive times; convert the rest to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; the record keeps UTC")
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Return an aware UTC time on every database."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class UnitVector(TypeDecorator[NDArray[np.float32]]):
    """A (D,) unit vector as D little-endian float32; the same bytes on every database and machine."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, dim: int = EMBEDDING_DIM) -> None:
        super().__init__()
        self.dim = dim

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Refuse a wrong dimension, NaN, infinity and any norm but 1, each by name."""
        if value is None:
            return None
        return require_unit_rows(np.asarray(value)[None, ...], self.dim).tobytes()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[np.float32] | None:
        """Return a read-only (D,) array.

        Raises
        ------
        CorruptArtifact
            If the stored bytes are not D float32.
        """
        if value is None:
            return None
        if len(value) != 4 * self.dim:
            raise CorruptArtifact(
                f"a stored vector has {len(value)} bytes where {4 * self.dim} are kept: "
                "delete its recording and ingest it again"
            )
        return np.frombuffer(value, dtype="<f4")


def enumerated(values: type[StrEnum], name: str) -> Enum:
    """Return the column type of one of these values; `name` is that of its constraint."""
    # Text and a CHECK on both databases: adding a value is an ordinary migration, not ALTER TYPE.
    return Enum(
        values,
        native_enum=False,
        length=32,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


def state_type(states: type[StrEnum]) -> Enum:
    """Return the column type of a state."""
    return enumerated(states, "state")


class Base(DeclarativeBase):
    """Root of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {dt.datetime: UtcDateTime()}  # noqa: RUF012 - SQLAlchemy reads this class attribute


class Numbered:
    """A row id that is never used again, even after its row is deleted: indexes and logs refer to it."""

    id: Mapped[int] = mapped_column(RowId, primary_key=True, sort_order=-1)


# AUTOINCREMENT: without it SQLite gives a deleted row's id to the next row.
NEVER_REUSE = {"sqlite_autoincrement": True}
