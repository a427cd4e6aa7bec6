import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from indexer.db.migrate import downgrade, head_revision, schema_differences, upgrade
from indexer.db.models import SCHEMA_REVISION, Base
from indexer.db.session import _execute_patiently, make_engine, open_database
from indexer.errors import SchemaMismatch, Unavailable
from indexer.settings import load_settings


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'record 100%.sqlite3'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


def _tables(url: str) -> set[str]:
    engine = make_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"sqlite_sequence"}
    finally:
        engine.dispose()


def _run(url: str, statement: str) -> None:
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def test_the_code_and_the_newest_migration_agree_on_the_revision() -> None:
    assert head_revision() == SCHEMA_REVISION


def test_the_migrations_make_exactly_the_models(empty_url: str) -> None:
    assert upgrade(empty_url) == SCHEMA_REVISION
    assert schema_differences(empty_url) == []
    assert _tables(empty_url) == {*Base.metadata.tables, "alembic_version"}


def test_a_difference_between_database_and_models_is_seen(empty_url: str) -> None:
    upgrade(empty_url)
    _run(empty_url, "DROP INDEX ix_embeddings_projection")
    assert [difference[0] for difference in schema_differences(empty_url)] == ["add_index"]


def test_check_constraints_have_the_names_of_the_convention(empty_url: str) -> None:
    upgrade(empty_url)
    engine = make_engine(empty_url)
    names = {
        constraint["name"]
        for table in Base.metadata.tables
        for constraint in inspect(engine).get_check_constraints(table)
    }
    engine.dispose()
    assert names == {
        "ck_galleries_dim",
        "ck_job_shards_state",
        "ck_jobs_on_duplicate",
        "ck_jobs_state",
        "ck_job_items_state",
        "ck_recordings_state",
        "ck_utterances_stretch",
    }


def test_up_down_and_up_again_leaves_the_same_schema(empty_url: str) -> None:
    upgrade(empty_url)
    assert downgrade(empty_url, "base") is None
    assert _tables(empty_url) == {"alembic_version"}
    assert upgrade(empty_url) == SCHEMA_REVISION
    assert schema_differences(empty_url) == []


def test_upgrading_what_is_up_to_date_changes_nothing(empty_url: str) -> None:
    upgrade(empty_url)
    _run(
        empty_url,
        "INSERT INTO encoders (id, name, family, weights_sha256, front_end, dim, created_at) "
        "VALUES ('e', 'e', 'f', 'w', 'x', 192, '2026-01-01 00:00:00')",
    )
    assert upgrade(empty_url) == SCHEMA_REVISION
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM encoders")).scalar_one() == 1
    engine.dispose()


def test_a_database_newer_than_the_code_is_refused_with_the_remedy(empty_url: str) -> None:
    upgrade(empty_url)
    _run(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=r"revision 9999, newer than .*install a newer voxdex"):
        open_database(load_settings(database={"url": empty_url}))
    with pytest.raises(SchemaMismatch, match="9999"):
        upgrade(empty_url)


ROWS = (
    "INSERT INTO encoders (id, name, family, weights_sha256, front_end, dim, created_at) "
    "VALUES ('e', 'e', 'f', 'w', 'x', 192, '2026-01-01 00:00:00')",
    "INSERT INTO galleries (id, name, encoder_id, dim, created_at) "
    "VALUES (1, 'calls', 'e', 192, '2026-01-01 00:00:00')",
    "INSERT INTO recordings (id, gallery_id, content_sha256, uri, state, created_at, updated_at) "
    "VALUES (7, 1, 'c', '/film.mkv', 'ready', '2026-01-01 00:00:00', '2026-01-01 00:00:00')",
    "INSERT INTO utterances (id, recording_id, start_s, end_s) VALUES (9, 7, 0, 1)",
)


def test_recordings_of_before_do_not_know_their_audio_track_and_survive_both_ways(empty_url: str) -> None:
    upgrade(empty_url, "0007")
    for row in ROWS:
        _run(empty_url, row)
    before = _schema_of(empty_url, "recordings")

    assert upgrade(empty_url) == SCHEMA_REVISION
    assert _rows(empty_url, "SELECT id, uri, audio_track, audio_tracks FROM recordings") == [
        (7, "/film.mkv", None, None)
    ]
    assert schema_differences(empty_url) == []
    _run(empty_url, "UPDATE recordings SET audio_track = 2, audio_tracks = 3")

    assert downgrade(empty_url, "0007") == "0007"
    assert _schema_of(empty_url, "recordings") == before
    assert _rows(
        empty_url, "SELECT r.id, r.uri, u.id FROM recordings r JOIN utterances u ON u.recording_id = r.id"
    ) == [(7, "/film.mkv", 9)]
    upgrade(empty_url)
    assert _rows(empty_url, "SELECT audio_track FROM recordings") == [(None,)]
    if empty_url.startswith("sqlite"):  # The table was copied: an id that was given away is not given again.
        _run(empty_url, "DELETE FROM recordings")
        _run(empty_url, ROWS[2].replace("(id, ", "(").replace("(7, ", "("))
        assert _rows(empty_url, "SELECT id FROM recordings") == [(8,)]


def _rows(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]
    finally:
        engine.dispose()


def _schema_of(url: str, table: str) -> dict[str, list[str | None]]:
    """Names of what a table is made of."""
    engine = make_engine(url)
    try:
        found = inspect(engine)
        return {
            "columns": [column["name"] for column in found.get_columns(table)],
            "indexes": sorted(str(index["name"]) for index in found.get_indexes(table)),
            "checks": sorted(str(check["name"]) for check in found.get_check_constraints(table)),
            "unique": sorted(str(unique["name"]) for unique in found.get_unique_constraints(table)),
            "references": sorted(str(key["name"]) for key in found.get_foreign_keys(table)),
        }
    finally:
        engine.dispose()


@pytest.mark.postgres
def test_postgres_is_never_migrated_by_opening_it(empty_postgres_url: str) -> None:
    settings = load_settings(database={"url": empty_postgres_url})
    with pytest.raises(SchemaMismatch, match=r"holds no voxdex schema .*voxdex db upgrade"):
        open_database(settings)
    assert _tables(empty_postgres_url) == set()
    upgrade(empty_postgres_url)
    open_database(settings).close()


def test_a_sqlite_record_is_made_and_migrated_by_opening_it(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "new" / "home", database={})
    open_database(settings).close()
    assert schema_differences(settings.database_url) == []


def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(empty_url: str) -> None:
    # A table of the same name as one that the migration makes late: the ones before it must be undone.
    _run(empty_url, "CREATE TABLE utterances (id INTEGER)")
    with pytest.raises(Unavailable, match=r"cannot migrate .*already exists.*nothing was changed"):
        upgrade(empty_url)
    assert _tables(empty_url) == {"utterances"}


def test_a_migration_never_cascades_through_foreign_keys_on_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    engine = make_engine(f"sqlite:///{path}", foreign_keys=False)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 0
    engine.dispose()


def test_who_opens_a_file_waits_for_who_is_in_the_way_where_sqlite_does_not(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "new", isolation_level=None, check_same_thread=False)
    with closing(other), closing(sqlite3.connect(tmp_path / "new", isolation_level=None, timeout=0)) as mine:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            mine.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.2, other.execute, ["COMMIT"])
        done.start()
        _execute_patiently(mine, "BEGIN IMMEDIATE")
        assert mine.in_transaction
        done.join()


def test_two_processes_may_open_a_new_home_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    settings = load_settings(home=tmp_path / "home", database={})
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: open_database(settings), range(4)):
            database.close()
    with sqlite3.connect(tmp_path / "home" / "voxdex.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()
