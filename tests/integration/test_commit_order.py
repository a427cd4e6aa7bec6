"""Eight writers on a real Postgres whose transactions end in another order than they took their ids in."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random

import pytest
from sqlalchemy import select

from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Embedding
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

pytestmark = pytest.mark.postgres

ENCODER = EncoderId("0575cb64/legacy")
WRITERS = 8
ROUNDS = 12
VECTORS = unit_vectors(3, seed=1)


@dataclass
class Writer:
    """One transaction: it has drawn its ids, and ends when it is told to."""

    may_end: threading.Event = field(default_factory=threading.Event)
    has_ids: threading.Event = field(default_factory=threading.Event)
    ids: tuple[int, ...] = ()
    ended: Future[None] | None = None

    def write(self, database: Database, gallery: GalleryId, content: str) -> None:
        parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(VECTORS)]
        with database.session_scope() as session:
            recording = NewRecording(content, f"/{content}.wav", utterances=parts)
            self.ids = tuple(Recordings(session).add(gallery, ENCODER, recording).embedding_ids)
            session.flush()
            self.has_ids.set()
            assert self.may_end.wait(120)


@dataclass
class NaiveReader:
    """Reads what has a higher id than the last row that it saw."""

    last: int = 0
    seen: set[int] = field(default_factory=set)

    def read(self, database: Database) -> None:
        with database.read_scope() as session:
            found = session.scalars(select(Embedding.id).where(Embedding.id > self.last)).all()
        self.seen.update(found)
        self.last = max([self.last, *found])


@dataclass
class FeedReader:
    """Reads the changes after the last one that it saw, as an index does."""

    seq: int = 0
    seen: list[int] = field(default_factory=list)

    def read(self, database: Database, gallery: GalleryId) -> None:
        with database.read_scope() as session:
            for change in Changes(session).since(gallery, self.seq):
                assert change.seq == self.seq + 1
                self.seq = change.seq
                self.seen.extend(change.embedding_ids.tolist())
                # What a change names is there to be read when it can be read itself.
                there = session.scalars(select(Embedding.id).where(Embedding.id.in_(change.embedding_ids.tolist())))
                assert set(there) == set(change.embedding_ids.tolist())


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets one writer in at a time: no transaction there can end out of order")
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)


def test_the_feed_skips_no_row_where_a_reader_that_remembers_the_highest_id_does(
    database: Database, gallery: GalleryId
) -> None:
    random = Random(20261122)
    naive, feed = NaiveReader(), FeedReader()
    written: list[int] = []
    overtaken = 0
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(WRITERS))
        for number in range(ROUNDS):
            writers = [Writer() for _ in range(WRITERS)]
            stack.callback(lambda some=writers: [writer.may_end.set() for writer in some])
            for place, writer in enumerate(writers):  # ids rise from writer to writer
                writer.ended = pool.submit(writer.write, database, gallery, f"{number}-{place}")
                assert writer.has_ids.wait(120)
            order = random.sample(writers, WRITERS)
            highest = 0
            for writer in order:
                writer.may_end.set()
                assert writer.ended is not None
                writer.ended.result(120)
                overtaken += len(writer.ids) if min(writer.ids) < highest else 0
                highest = max(highest, *writer.ids)
                written.extend(writer.ids)
                naive.read(database)
                feed.read(database, gallery)
    assert feed.seen == written  # each once, in the order of the commits
    assert feed.seq == WRITERS * ROUNDS
    # A row whose transaction ended after one with higher ids is what the naive reader never sees.
    assert overtaken > 0
    assert len(naive.seen) == len(written) - overtaken


def test_readers_that_never_rest_hear_of_every_row_while_eight_writers_end_at_once(
    database: Database, gallery: GalleryId
) -> None:
    """All transactions hold their ids, then end together and race for their place in the feed."""
    done = threading.Event()
    readers = [FeedReader() for _ in range(2)]

    def tail(reader: FeedReader) -> None:
        while not done.is_set():
            reader.read(database, gallery)
        reader.read(database, gallery)

    written: set[int] = set()
    with ThreadPoolExecutor(WRITERS + len(readers)) as pool:
        tails = [pool.submit(tail, reader) for reader in readers]
        try:
            for number in range(ROUNDS):
                writers = [Writer() for _ in range(WRITERS)]
                ends = [
                    pool.submit(writer.write, database, gallery, f"{number}-{place}")
                    for place, writer in enumerate(writers)
                ]
                for writer in writers:
                    assert writer.has_ids.wait(120)
                for writer in reversed(writers):
                    writer.may_end.set()
                for end, writer in zip(ends, writers, strict=True):
                    end.result(120)
                    written.update(writer.ids)
        finally:
            done.set()
        for reading in tails:
            reading.result(120)
    for reader in readers:
        assert len(reader.seen) == len(set(reader.seen))
        assert set(reader.seen) == written
