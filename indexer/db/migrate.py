"""Run and inspect the migrations that are installed with the package; nothing reads an ini file."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from indexer.db.models import SCHEMA_REVISION, Base
from indexer.db.session import driver_message, make_engine, schema_revision, shown
from indexer.errors import SchemaMismatch, Unavailable

_ADVISORY_LOCK = 0x766F78646578  # "voxdex": one migration at a time on a Postgres that many processes share


def migrations_config() -> Config:
    """Return Alembic's configuration, pointed at the installed `migrations` package."""
    spec = find_spec("migrations")
    if spec is None or not spec.submodule_search_locations:
        raise SchemaMismatch("the migrations package is not installed: install voxdex again")
    config = Config()
    # Config is an interpolating parser: a percent sign in a folder's name must be doubled.
    config.set_main_option("script_location", str(Path(spec.submodule_search_locations[0])).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """Newest revision that this installation can produce."""
    head = ScriptDirectory.from_config(migrations_config()).get_current_head()
    assert head is not None  # the package ships its migrations
    return head


def is_older(revision: str | None) -> bool:
    """Tell whether a database at this revision can be upgraded by this installation."""
    if revision is None:
        return True
    known = {script.revision for script in ScriptDirectory.from_config(migrations_config()).walk_revisions()}
    return revision in known and revision != head_revision()


def mismatch(revision: str | None, database: str) -> SchemaMismatch:
    """Say how a database's revision differs from the code's, and what cures it."""
    if is_older(revision):
        found = f"is at revision {revision}" if revision else "holds no voxdex schema"
        return SchemaMismatch(f"{database} {found} where {SCHEMA_REVISION} is needed: run `voxdex db upgrade`")
    return SchemaMismatch(
        f"{database} is at revision {revision}, newer than the {SCHEMA_REVISION} this voxdex knows: "
        "install a newer voxdex"
    )


@contextmanager
def _migrating(url: str) -> Iterator[tuple[Config, Connection]]:
    engine = make_engine(url, foreign_keys=False)
    try:
        # One transaction for all of it: a migration killed half way leaves the database as it was.
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            config = migrations_config()
            config.attributes["connection"] = connection
            yield config, connection
            _check_foreign_keys(connection)
    except DBAPIError as error:
        raise Unavailable(
            f"cannot migrate {shown(engine.url)}: {driver_message(error)}; nothing was changed"
        ) from error
    finally:
        engine.dispose()


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise SchemaMismatch(f"a migration would leave {broken[0]} without its {broken[2]}: nothing was changed")


def upgrade(url: str, revision: str = "head") -> str | None:
    """Bring a database to a revision, creating a SQLite file where there is none; return the revision it is at.

    Safe to run from several processes at once, and again when nothing is to be done.

    Raises
    ------
    SchemaMismatch
        If the database is newer than this code.
    Unavailable
        If it cannot be reached, or a migration failed; the transaction is undone.
    """
    with _migrating(url) as (config, connection):
        at = schema_revision(connection)
        if at is not None and at != SCHEMA_REVISION and not is_older(at):
            raise mismatch(at, shown(connection.engine.url))
        command.upgrade(config, revision)
        return schema_revision(connection)


def downgrade(url: str, revision: str) -> str | None:
    """Take a database back to an older revision ("base" removes every table); return the revision it is at."""
    with _migrating(url) as (config, connection):
        command.downgrade(config, revision)
        return schema_revision(connection)


def schema_differences(url: str) -> list[Any]:
    """List the operations that would turn the database into the models, as `alembic check` does; empty when none."""
    with _migrating(url) as (_config, connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))
