"""Alembic's entry point; `indexer.db.migrate` hands it an open connection inside a transaction."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection

from indexer.db.models import Base, UnitVector, UtcDateTime
from indexer.errors import InvalidRequest


def spell_out(kind: str, item: Any, _autogen_context: AutogenContext) -> str | Literal[False]:
    """Write our column types as plain SQL types: a migration must not change when the models do."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, UnitVector):
        return "sa.LargeBinary()"
    return False


def run(connection: Connection) -> None:
    """Run the migrations on a connection whose transaction the caller commits."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        render_item=spell_out,
        # SQLite cannot alter a column: Alembic copies the table instead.
        render_as_batch=True,
        # SQLite undoes DDL like anything else once the driver leaves transactions alone, as make_engine sees to.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is None:
    raise InvalidRequest("migrations need an open connection: run `voxdex db upgrade`")
run(given)
