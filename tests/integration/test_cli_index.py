"""`voxdex index` beside a process that has the index open."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from api.cli.main import app
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database, open_database
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import load_settings
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")
VECTORS = unit_vectors(6, seed=4)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(load_settings(home=tmp_path, database={}))
    yield opened
    opened.close()


@pytest.fixture
def serving(database: Database, tmp_path: Path) -> Iterator[FollowedIndex]:
    """As in a process that serves: it keeps the files of the gallery."""
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        gallery = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
        parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(VECTORS)]
        Recordings(session).add(gallery, ENCODER, NewRecording("call", "/call.wav", utterances=parts))
    followed = FollowedIndex(GalleryIndex(database, load_settings(home=tmp_path, database={}), gallery), ENCODER)
    yield followed
    followed.close()


def voxdex(home: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["index", *arguments, "-g", "archive", "--home", str(home)])
    return done.exit_code, done.output


def test_check_prints_every_id_that_differs_and_says_so_by_its_exit_status(
    serving: FollowedIndex, database: Database, tmp_path: Path
) -> None:
    assert voxdex(tmp_path, "check") == (0, "gallery archive: index and record agree on 6 vectors\n")
    with database.session_scope() as session:
        session.execute(text("DELETE FROM embeddings WHERE id IN (2, 5)"))  # of which no change tells
        session.execute(text("UPDATE embeddings SET checksum = checksum + 1 WHERE id = 3"))
    status, output = voxdex(tmp_path, "check")
    assert status == 1
    assert output.splitlines()[1:] == ["extra    2", "extra    5", "damaged  3"]
    assert "2 extra (first id 2), 1 damaged (first id 3)" in output.splitlines()[0]
    status, output = voxdex(tmp_path, "check", "--json")
    document = json.loads(output)
    assert (status, document["in_step"], document["extra"], document["damaged"]) == (1, False, [2, 5], [3])


def test_check_says_where_there_is_no_file_yet_and_names_a_damaged_one_once(
    serving: FollowedIndex, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (rows,) = tmp_path.glob("index/*/*/*.rows")
    rows.write_bytes(rows.read_bytes()[:1000])
    status, output = voxdex(tmp_path, "check")
    assert status == 1
    assert output.count("run `voxdex index rebuild`") == 1
    assert f"{rows.name} has 1000 bytes" in output.replace("\n", "")
    (line,) = [record for record in caplog.records if "has 1000 bytes" in record.getMessage()]
    assert line.getMessage().endswith("; the index is made anew from the record")
    assert line.exc_info is None
    for path in tmp_path.glob("index/*/*/snapshot-*"):
        path.unlink()
    told = "there is no index file yet: whoever opens the index next makes it of the 6 vectors in the record"
    assert voxdex(tmp_path, "check") == (0, f"gallery archive: {told}\n")
    status, output = voxdex(tmp_path, "check", "--json")
    assert (status, json.loads(output)["kept"]) == (0, False)


def test_a_rebuild_is_taken_over_by_a_process_that_answers_meanwhile(
    serving: FollowedIndex, database: Database, tmp_path: Path
) -> None:
    with database.session_scope() as session:
        session.execute(text("DELETE FROM embeddings WHERE id = 2"))
    probe = VECTORS[1:2]
    assert serving.index.search(probe, 1)[0][0].embedding_id == 2
    assert voxdex(tmp_path, "rebuild") == (0, "gallery archive: rebuilt with 5 vectors\n")
    assert len(serving.index.search(probe, 10)[0]) == 6  # by the index before, as long as that is open
    serving.keep()
    assert not serving.index.holds(np.array([2])).any()
    assert len(serving.index.search(probe, 10)[0]) == 5
    assert voxdex(tmp_path, "check")[0] == 0


def test_info_shows_what_the_index_is(serving: FollowedIndex, tmp_path: Path) -> None:
    status, output = voxdex(tmp_path, "info")
    shown = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert (status, shown["kind"], shown["count"], shown["generation"]) == (0, "faiss-flat", "6", "1")
