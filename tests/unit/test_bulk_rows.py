"""COPY names its columns by hand: a column that a migration adds must not be forgotten there."""

import pytest
from sqlalchemy.dialects import postgresql

from indexer.db.bulk_rows import _COPIED
from indexer.db.models import Base

_SPELLED = {
    "int8": "BIGINT",
    "int4": "INTEGER",
    "float8": "DOUBLE PRECISION",
    "bytea": "BYTEA",
    "varchar": "VARCHAR(200)",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}


@pytest.mark.parametrize("table", _COPIED, ids=lambda table: table.__tablename__)
def test_every_column_is_copied_in_the_type_that_it_has(table: type[Base]) -> None:
    columns = {column.name: column.type.compile(postgresql.dialect()) for column in table.__table__.columns}
    assert columns == {name: _SPELLED[kind] for name, kind in _COPIED[table].items()}
