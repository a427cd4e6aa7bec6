"""Processes that follow one gallery into one Milvus, some of them killed."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database, open_database
from indexer.errors import Unavailable
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings, load_settings
from indexer.types import EncoderId, GalleryId, RecordingId, Vectors
from tests.vectors import unit_vectors
from tests.waiting import eventually

ENCODER = EncoderId("0575cb64/legacy")
REPOSITORY = Path(__file__).parents[2]
SERVER = """
import sys, time
from milvus_lite.adapter.grpc.server import start_server_in_thread
server, db, port = start_server_in_thread(sys.argv[1], port=int(sys.argv[2]))
sys.stdout.write(f"{port}\\n")
sys.stdout.flush()
time.sleep(600)
"""


class MilvusProcess:
    """A Milvus Lite in a process of its own, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self._folder / "milvus.db"), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[MilvusProcess]:
    process = MilvusProcess(tmp_path)
    yield process
    process.kill()


@pytest.fixture
def uri(milvus: MilvusProcess) -> str:
    return milvus.uri


@pytest.fixture
def settings(tmp_path: Path, uri: str) -> Settings:
    return load_settings(home=tmp_path / "home", database={}, index={"milvus": {"uri": uri}})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = open_database(settings)
    with opened.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        Galleries(session).get_or_create("archive", encoder)
    yield opened
    opened.close()


def follower(settings: Settings, uri: str) -> subprocess.Popen[str]:
    arguments = [str(settings.home), uri, settings.index.milvus.prefix, ENCODER]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.milvus_follower", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )


def add(database: Database, first: int, vectors: Vectors) -> RecordingId:
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(vectors)]
    with database.session_scope() as session:
        recording = NewRecording(f"{first:064d}", f"/{first}.wav", utterances=parts)
        return Recordings(session).add(GalleryId(1), ENCODER, recording).recording_id


def test_followers_that_are_killed_and_started_again_leave_milvus_in_step(
    database: Database, settings: Settings, uri: str
) -> None:
    dice, vectors = random.Random(4), unit_vectors(700)
    kept = GalleryIndex(database, settings, GalleryId(1), "milvus")
    recordings = [add(database, 0, vectors[:10])]
    index = kept.open(ENCODER)  # and kept: all follow into this one
    collection = index.info().details["collection"]
    followers = [follower(settings, uri) for _ in range(3)]
    try:
        for first in range(10, 700, 10):
            recordings.append(add(database, first, vectors[first : first + 10]))
            if dice.random() < 0.4:
                with database.session_scope() as session:
                    Recordings(session).delete(recordings.pop(dice.randrange(len(recordings))))
            if dice.random() < 0.05:
                place = dice.randrange(3)
                followers[place].kill()
                followers[place].communicate()
                followers[place] = follower(settings, uri)
            if first % 100 == 0:  # while others write, who may be ahead of what this one sees
                found = kept.check(ENCODER)
                assert found.in_step, found.describe()
            time.sleep(0.02)
        eventually(
            lambda: index.count == 10 * len(recordings), told=lambda: f"{index.count} vectors of {10 * len(recordings)}"
        )
        time.sleep(0.5)  # for whoever would add again what is gone
        report = kept.check(ENCODER)
        assert report.in_step, report.describe()
        assert (report.indexed, report.behind) == (10 * len(recordings), 0)
        assert kept.open(ENCODER).info().details["collection"] == collection
    finally:
        for process in followers:
            process.kill()
            process.communicate()


def test_a_milvus_that_dies_is_named_and_answers_again_once_it_is_back(
    database: Database, settings: Settings, milvus: MilvusProcess
) -> None:
    vectors = unit_vectors(40)
    first = add(database, 0, vectors[:10])
    followed = FollowedIndex(GalleryIndex(database, settings, GalleryId(1), "milvus"), ENCODER)
    assert len(followed.index.search(vectors[:1], 20)[0]) == 10
    milvus.kill()
    with pytest.raises(Unavailable, match=rf"Milvus at {milvus.uri} "):
        followed.index.search(vectors[:1], 20)
    assert followed.index.count == 10
    assert not followed.untidy()
    add(database, 10, vectors[10:40])  # the record goes on
    with database.session_scope() as session:
        Recordings(session).delete(first)
    with pytest.raises(Unavailable):
        followed.follow()
    milvus.start()

    def reached() -> bool:
        with suppress(Unavailable):
            followed.follow()
            return True
        return False

    eventually(reached, every_s=0.1)
    assert len(followed.index.search(vectors[:1], 50)[0]) == 30
    assert GalleryIndex(database, settings, GalleryId(1), "milvus").check(ENCODER).in_step
    followed.close()
