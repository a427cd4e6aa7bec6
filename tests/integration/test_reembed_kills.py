"""Processes that embed a gallery for another encoder may be killed at any statement: the next ones go on."""

import multiprocessing
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, func, select

from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.models import Embedding, IndexChange, Reembedding
from indexer.db.session import Database, open_database
from indexer.errors import Unavailable
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId
from indexer.vectors import checksums_of
from tests.api_kit import changed
from tests.fakes import ReversedSpectrumEncoder, SpectrumEncoder
from tests.job_kit import make_gallery, write_archive
from tests.job_workers import die
from tests.reembed_kit import current_encoder, ingest_files, reembedding, utterances, vectors_of

OLD, NEW = SpectrumEncoder(), ReversedSpectrumEncoder()

_fork = multiprocessing.get_context("fork")


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, OLD)


def run_and_die(settings: Settings, gallery_id: GalleryId, dies_at: int, *, at_the_switch: bool = False) -> int:
    """Run in a process that kills itself at a statement or commit; return its exit status.

    With `at_the_switch`, they are counted from when all is ready for the switch.
    """
    process = _fork.Process(target=_work, args=[settings, gallery_id, dies_at, at_the_switch], daemon=True)
    process.start()
    process.join(180)
    status: int | None = process.exitcode
    process.close()
    assert status is not None
    return status


def _work(settings: Settings, gallery_id: GalleryId, dies_at: int, at_the_switch: bool) -> None:
    database, left = open_database(settings), [dies_at]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    def begin() -> None:
        event.listen(database.engine, "before_cursor_execute", count)
        event.listen(database.engine, "commit", count)

    reembed = reembedding(database, settings, gallery_id, NEW)
    if at_the_switch:
        reembed.prepare_index = begin
    else:
        begin()
    reembed.run()
    os._exit(0)  # Nothing that a fork inherited is torn down.


def require_whole(database: Database, gallery_id: GalleryId) -> None:
    """A gallery is under the one encoder or under the other in every respect."""
    with database.read_scope() as session:
        row = Galleries(session).get(gallery_id)
        state = (row.encoder_id, row.identification_threshold, GalleryEncoders(session, gallery_id).previous())
    assert state in ((OLD.id, 0.6, None), (NEW.id, None, OLD.id))


def feed_of(database: Database, encoder_id: EncoderId) -> list[int]:
    with database.read_scope() as session:
        query = select(IndexChange.embedding_ids).where(IndexChange.encoder_id == encoder_id, ~IndexChange.removed)
        return sorted(number for ids in session.scalars(query) for number in np.frombuffer(ids, dtype="<i8").tolist())


def test_killed_at_any_statement_it_goes_on_where_it_was_and_nothing_is_there_twice(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    hasty = changed(record_settings, "jobs", lease_s=0.4, tries=100)
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 40, seconds=0.15))
    with database.session_scope() as session:
        Galleries(session).change(gallery_id, identification_threshold=0.6)
    draw, killed = random.Random(4), 0
    while run_and_die(hasty, gallery_id, draw.randint(2, 60)) != 0:
        killed += 1
        require_whole(database, gallery_id)
        if killed == 12:
            # This one is not to lose its lease on a busy machine; those of the dead are short enough to wait for.
            lasting = changed(record_settings, "jobs", lease_s=60.0, tries=100)
            assert reembedding(database, lasting, gallery_id, NEW).run().switched
    assert killed >= 3
    assert current_encoder(database, gallery_id) == NEW.id
    vectors = vectors_of(database, NEW.id)
    assert set(vectors) == set(utterances(database))
    with database.read_scope() as session:
        rows = session.execute(select(Embedding.id, Embedding.utterance_id, Embedding.checksum, Embedding.encoder_id))
        made = [row for row in rows if row.encoder_id == NEW.id]
        assert session.scalar(select(func.count()).select_from(Reembedding)) == 0
    assert feed_of(database, NEW.id) == sorted(row.id for row in made)
    assert [row.checksum for row in made] == checksums_of(
        np.array([vectors[row.utterance_id] for row in made])
    ).tolist()


def test_killed_at_each_statement_of_the_switch_it_has_happened_or_not(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    hasty = changed(record_settings, "jobs", lease_s=0.4)
    ingest_files(database, record_settings, gallery_id, OLD, write_archive(tmp_path, 2, seconds=0.15))
    with database.session_scope() as session:
        Galleries(session).change(gallery_id, identification_threshold=0.6)
    with pytest.raises(Unavailable, match="disk is full"):  # All is embedded, and nothing else.
        replace(reembedding(database, hasty, gallery_id, NEW), prepare_index=_cannot).run()
    died = 0
    while run_and_die(hasty, gallery_id, died + 1, at_the_switch=True) != 0:
        died += 1
        require_whole(database, gallery_id)
    assert died > 10
    assert current_encoder(database, gallery_id) == NEW.id


def _cannot() -> None:
    raise Unavailable("the disk is full")
