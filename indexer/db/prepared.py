"""Statements that every answer waits for, written once and run by the driver itself.

After a pass of the network hardly anything is left in the processor's cache, and a session, a transaction and a result
of SQLAlchemy take 0.4 to 0.7 ms to read one row then; by the driver it is a tenth of that.
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Select

from indexer.db.session import Database

_Readers = Sequence[tuple[int, Callable[[Any], Any]]]


@dataclass
class _Written:
    """A statement in the words of one kind of database."""

    text: str
    constants: dict[str, Any]
    lists: dict[str, list[str]]
    """Names of the items of each collection."""
    places: tuple[str, ...] | None
    """Names of its values in order, where the driver knows them by their place."""
    readers: _Readers | None = None
    """What makes values of ours of the driver's, by column; None before the first result, which says what these are."""


class Prepared:
    """A SELECT that is run by itself, on one consistent view of the record.

    Parameters
    ----------
    statement
        Its values are numbers and texts, given by name, or collections of numbers where they are expanding.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self._statement = statement
        # Columns of one name, and those without any, are known by their place.
        row = namedtuple("row", statement.selected_columns.keys(), rename=True)  # type: ignore[misc]
        self._row: Callable[..., Any] = row
        self._written: dict[tuple[str, tuple[int, ...]], _Written] = {}

    @property
    def statement(self) -> Select[*tuple[Any, ...]]:
        """The same for a session, as part of what it reads."""
        return self._statement

    def rows(self, database: Database, **values: int | str | Collection[int]) -> list[Any]:
        """Return the rows as named tuples; none where a collection is empty.

        Raises
        ------
        Unavailable, CorruptArtifact
            As `Database.read_scope` does.
        """
        lists = {name: _filled(value) for name, value in values.items() if not isinstance(value, int | str)}
        if not all(lists.values()):
            return []
        key = database.engine.dialect.name, tuple(map(len, lists.values()))
        written = self._written.get(key)
        if written is None:
            written = self._written[key] = self._write(database.engine.dialect, {**values, **lists})
        given = {**written.constants, **values}
        for name, items in lists.items():
            given.update(zip(written.lists[name], items, strict=True))
        found = self._read(database, written, given)
        if found is None:
            # As everybody else reads: for the same errors, and for another connection where this one was lost.
            with database.read_scope() as session:
                found = list(session.connection().execute(self._statement, {**values, **lists}))
        return [self._row(*row) for row in found]

    def _write(self, dialect: Dialect, values: dict[str, Any]) -> _Written:
        compiled = self._statement.compile(dialect=dialect)
        written = compiled.construct_expanded_state(values)
        places = tuple(written.positiontup or ()) if compiled.positional else None
        lists = {name: list(names) for name, names in written.parameter_expansion.items()}
        return _Written(written.statement, dict(written.parameters), lists, places)

    def _read(self, database: Database, written: _Written, given: dict[str, Any]) -> list[Any] | None:
        """Return the rows by the driver; None where it fails."""
        values: Any = given if written.places is None else [given[name] for name in written.places]
        dialect = database.engine.dialect
        with database.translated_errors():
            try:
                with closing(database.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
                    cursor.execute(written.text, values)
                    found = list(cursor.fetchall())
                    if written.readers is None:
                        written.readers = self._readers(dialect, cursor.description)
            except dialect.loaded_dbapi.Error:
                return None
        return [_as_ours(row, written.readers) for row in found] if written.readers else found

    def _readers(self, dialect: Dialect, description: Any) -> _Readers:
        columns = zip(self._statement.selected_columns, description, strict=True)
        readers = [column.type.dialect_impl(dialect).result_processor(dialect, told[1]) for column, told in columns]
        return [(place, reader) for place, reader in enumerate(readers) if reader is not None]


def _filled(items: Collection[int]) -> list[int]:
    """Repeat the last of them up to a power of two, so that there are few lengths of statements."""
    given = list(items)
    return given + given[-1:] * ((1 << (len(given) - 1).bit_length()) - len(given)) if given else []


def _as_ours(row: Any, readers: _Readers) -> list[Any]:
    values = list(row)
    for place, reader in readers:
        values[place] = reader(values[place])
    return values
