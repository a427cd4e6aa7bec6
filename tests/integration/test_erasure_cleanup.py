"""Erasures whose cleaning up cannot be finished at once: told as done, and finished by the chores."""

import sqlite3
import uuid
from pathlib import Path

from sqlalchemy import text

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.index.orphans import drop_orphans
from indexer.index.snapshots import index_folder
from indexer.jobs.sweep import Sweeper
from indexer.settings import Settings, load_settings
from indexer.types import GalleryId
from tests.api_kit import serving, wav
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.waiting import eventually
from worker.local_queue import LocalQueue


def make_gallery(database: Database, home: Path) -> GalleryId:
    encoder = SpectrumEncoder()
    with database.session_scope() as session:
        row = Encoders(session).register(NewEncoder(encoder.id, "spectrum", "speechbrain", "0" * 64, "x", encoder.dim))
        number = GalleryId(Galleries(session).get_or_create(uuid.uuid4().hex, row).id)
    make_files(home, number)
    return number


def make_files(home: Path, number: int) -> None:
    folder = index_folder(home, GalleryId(number)) / "encoder"
    folder.mkdir(parents=True)
    (folder / "vectors").write_bytes(b"a voice")


def delete_gallery(database: Database, number: GalleryId) -> None:
    with database.session_scope() as session:
        Galleries(session).delete(number)


def numbers(home: Path) -> list[int]:
    return sorted(int(path.name) for path in (home / "index").iterdir())


def test_files_of_a_gallery_that_was_deleted_elsewhere_go(database: Database, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    stays, goes, last = (make_gallery(database, tmp_path) for _ in range(3))
    delete_gallery(database, goes)
    delete_gallery(database, last)
    make_files(tmp_path, last + 1)  # Of another record: this one never made such a gallery.
    assert drop_orphans(database, settings) == 2
    assert numbers(tmp_path) == [stays, last + 1]
    assert drop_orphans(database, settings) == 0


def test_files_of_an_encoder_whose_vectors_were_erased_elsewhere_go(database: Database, tmp_path: Path) -> None:
    settings, former = load_settings(home=tmp_path), ReversedSpectrumEncoder().id
    number = make_gallery(database, tmp_path)
    with database.session_scope() as session:
        Encoders(session).register(NewEncoder(former, "reversed", "speechbrain", "0" * 64, "x", 192))
        GalleryEncoders(session, number).begin(former)
    for encoder_id in (SpectrumEncoder().id, former):
        index_folder(tmp_path, number, encoder_id).mkdir()
    folders = index_folder(tmp_path, number)
    drop_orphans(database, settings)
    assert len(list(folders.iterdir())) == 3  # It is on the way there.
    with database.session_scope() as session:
        GalleryEncoders(session, number).forget(former)
    drop_orphans(database, settings)
    # `encoder` is none that this record ever heard of.
    assert {path.name for path in folders.iterdir()} == {"encoder", SpectrumEncoder().id}


def test_a_record_without_any_gallery_costs_no_files(database: Database, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert drop_orphans(database, settings) == 0
    make_files(tmp_path, 1)
    assert drop_orphans(database, settings) == 0
    assert numbers(tmp_path) == [1]


def test_a_service_removes_what_was_deleted_while_it_was_down(
    database: Database, record_settings: Settings, tmp_path: Path
) -> None:
    goes, stays = (make_gallery(database, record_settings.home) for _ in range(2))
    delete_gallery(database, goes)
    with serving(record_settings):
        eventually(lambda: goes not in numbers(record_settings.home))
        assert numbers(record_settings.home) == [stays]


def test_an_erasure_that_finds_the_log_in_use_is_done_and_finished_by_the_chores(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, database={}, jobs={"sweep_s": 300})
    with serving(settings) as client:
        client.post("/v1/galleries", json={"name": "calls"})
        enrolled = client.post(
            "/v1/galleries/calls/speakers/Ann/enrollments", content=wav(2), headers={"content-type": "audio/wav"}
        )
        assert enrolled.status_code == 201
        shorten_waits(client.runtime.database)
        log = tmp_path / "voxdex.sqlite3-wal"
        reader = sqlite3.connect(tmp_path / "voxdex.sqlite3", isolation_level=None)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM speakers").fetchone()
            assert client.delete("/v1/galleries/calls/speakers/Ann").status_code == 200
            assert client.get("/v1/galleries/calls/speakers/Ann").status_code == 404
            assert client.delete("/v1/galleries/calls").status_code == 200
            assert log.stat().st_size > 0
            reader.execute("ROLLBACK")
        finally:
            reader.close()
        Sweeper(client.runtime.database, settings, LocalQueue(settings.jobs)).sweep()
        assert log.stat().st_size == 0


def shorten_waits(database: Database) -> None:
    """Wait for nobody: half a minute is too long for a test."""
    from sqlalchemy import event

    event.listen(database.engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout = 50"))
    with database.read_scope() as session:
        assert session.scalar(text("PRAGMA busy_timeout")) == 50
