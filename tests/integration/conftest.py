"""A record on SQLite and on a real PostgreSQL; every test gets an empty one."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from api.cli.local_servers import LocalPostgres
from indexer.db.migrate import upgrade
from indexer.db.session import Database, open_database
from indexer.errors import Unavailable
from indexer.settings import Settings, load_settings
from tests.conftest import unavailable

if TYPE_CHECKING:  # Loads an encoder's libraries, which most tests do without.
    from indexer.jobs.bulk import BulkIngest
    from tests.job_kit import ListQueue

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a running server, with `{}` for a database's name."""
    try:
        with LocalPostgres() as server:
            yield server.url
    except Unavailable as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def _template(postgres: str) -> str:
    """Name of a migrated database that the others are copied from."""
    _administer(postgres, "CREATE DATABASE template_voxdex")
    upgrade(postgres.format("template_voxdex"))
    return "template_voxdex"


@pytest.fixture(scope="session")
def _template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database that the others are copies of."""
    settings = load_settings(home=tmp_path_factory.mktemp("template"), database={})
    open_database(settings).close()
    (file,) = settings.home.iterdir()
    return file


@pytest.fixture
def empty_postgres_url(postgres: str) -> str:
    """URL of a database without any table."""
    name = f"empty_{next(_numbers)}"
    _administer(postgres, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    return postgres.format(name)


_BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=_BOTH)
def record_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a migrated record in a home folder of its own, once on each database."""
    return _migrated(request, tmp_path / "home")


@pytest.fixture(params=_BOTH, scope="module")
def module_settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same for tests of one module that share a record, as they can where each works in a gallery of its own."""
    return _migrated(request, tmp_path_factory.mktemp("home"))


def _migrated(request: pytest.FixtureRequest, home: Path) -> Settings:
    if request.param == "sqlite":
        file: Path = request.getfixturevalue("_template_file")
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(file, home)
        return load_settings(home=home, database={})
    server: str = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("_template")
    name = f"record_{next(_numbers)}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    return load_settings(home=home, database={"url": server.format(name)})


@pytest.fixture
def database(record_settings: Settings) -> Iterator[Database]:
    """An empty record."""
    opened = open_database(record_settings)
    yield opened
    opened.close()


@pytest.fixture
def queue(database: Database) -> "ListQueue":
    """The queue of a record with the gallery "archive"."""
    from tests.fakes import SpectrumEncoder
    from tests.job_kit import ListQueue, make_gallery

    make_gallery(database, SpectrumEncoder())
    return ListQueue()


@pytest.fixture
def bulk(database: Database, record_settings: Settings, queue: "ListQueue") -> "BulkIngest":
    """What does jobs of that record, by an encoder without weights."""
    from tests.job_kit import make_bulk

    return make_bulk(database, record_settings, queue)


def _administer(server: str, statement: str) -> None:
    engine = create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
