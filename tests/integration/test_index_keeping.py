"""Several processes with one index open: one writes its files, all change over to what is newer, none drifts unseen."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.embeddings import Embeddings
from indexer.db.recordings import Recordings
from indexer.db.repositories import Encoders, Galleries
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.errors import Unavailable
from indexer.index import gallery_index
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.index.snapshots import SnapshotStore, index_folder
from indexer.observability import REGISTRY
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors

ENCODER = EncoderId("0575cb64/legacy")


@pytest.fixture
def kept(database: Database, record_settings: Settings) -> GalleryIndex:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        number = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
    return GalleryIndex(database, record_settings, number)


@pytest.fixture
def keeper(kept: GalleryIndex) -> Iterator[FollowedIndex]:
    """Opened first, so it writes."""
    add(kept, 1)
    followed = FollowedIndex(kept, ENCODER)
    yield followed
    followed.close()


@pytest.fixture
def other(kept: GalleryIndex, keeper: FollowedIndex) -> Iterator[FollowedIndex]:
    """As in another process: it shares the folder and the record, and nothing else."""
    followed = FollowedIndex(kept, ENCODER)
    yield followed
    followed.close()


def add(kept: GalleryIndex, seed: int, count: int = 4) -> RecordedIds:
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(unit_vectors(count, seed=seed))]
    with kept.database.session_scope() as session:
        recording = NewRecording(f"content-{seed}", f"/{seed}.wav", utterances=parts)
        return Recordings(session).add(kept.gallery_id, ENCODER, recording)


def delete(kept: GalleryIndex, added: RecordedIds) -> None:
    with kept.database.session_scope() as session:
        Recordings(session).delete(added.recording_id)


def snapshots(kept: GalleryIndex) -> SnapshotStore:
    return SnapshotStore(index_folder(kept.settings.home, kept.gallery_id, ENCODER), ENCODER, 192)


def on_disk(kept: GalleryIndex, vector: np.ndarray) -> bool:
    files = index_folder(kept.settings.home, kept.gallery_id, ENCODER).glob("*.rows")
    return any(vector.tobytes() in path.read_bytes() for path in files)


def assert_in_step(kept: GalleryIndex, followed: FollowedIndex) -> None:
    followed.follow()
    with kept.database.read_scope() as session:
        ids, _ = Embeddings(session).checksums(kept.gallery_id, ENCODER)
        vectors = Embeddings(session).vectors(ids.tolist())
    np.testing.assert_array_equal(followed.index.ids(), ids)
    np.testing.assert_array_equal(followed.index.reconstruct(ids), vectors)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_only_the_first_writes_until_it_ends(kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex) -> None:
    add(kept, 2)
    keeper.follow()
    other.follow()
    before = snapshots(kept).generation()
    other.keep(closing=True)
    assert snapshots(kept).generation() == before
    keeper.close()
    other.keep(closing=True)
    assert snapshots(kept).generation() == before + 1
    assert on_disk(kept, unit_vectors(4, seed=2)[0])


def test_an_erased_voice_leaves_the_files_that_every_process_maps(
    kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex
) -> None:
    gone = add(kept, 2)
    for followed in (keeper, other):
        followed.follow()
    keeper.keep(closing=True)
    other.keep()
    delete(kept, gone)
    for followed in (keeper, other):
        followed.follow()
    other.keep(closing=True)
    keeper.keep(closing=True)
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    assert other.untidy()  # it still maps the file that is gone
    other.keep()
    assert not other.untidy()
    assert_in_step(kept, other)
    mapped = Path("/proc/self/maps").read_text().splitlines()
    assert [line for line in mapped if "(deleted)" in line and "snapshot-" in line] == []


def test_a_rebuild_by_a_command_is_taken_over_by_every_process_which_answers_all_the_while(
    kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex
) -> None:
    probe = unit_vectors(4, seed=1)[:1]
    for followed in (keeper, other):
        with followed.index.lent() as index:
            index.remove(followed.index.ids()[:1])  # something is wrong with them, whatever it was
    kept.rebuild(ENCODER).close()
    assert kept.check(ENCODER).in_step
    for followed in (keeper, other):
        assert followed.index.search(probe, 1)[0][0].score < 0.9
        assert followed.untidy()
        with followed.index.lent() as before:
            followed.keep()
            assert len(before.search(probe, 3)[0]) == 3  # whoever was inside goes on with the one before
        assert followed.index.search(probe, 1)[0][0].score == pytest.approx(1)
        assert_in_step(kept, followed)
        assert not followed.untidy()
    add(kept, 3)
    keeper.follow()
    keeper.keep(closing=True)
    assert snapshots(kept).generation() == 3


def test_a_keeper_that_writes_over_a_rebuild_it_had_not_seen_makes_up_for_it(
    kept: GalleryIndex, keeper: FollowedIndex
) -> None:
    with keeper.index.lent() as index:
        index.remove(keeper.index.ids()[:1])
    kept.rebuild(ENCODER).close()
    keeper._write(keep_previous=True)  # as when the rebuild ends while the keeper is writing
    assert_in_step(kept, keeper)
    keeper.keep(closing=True)
    assert kept.check(ENCODER).in_step


def test_a_command_leaves_an_erasure_to_the_process_that_keeps_the_files(
    kept: GalleryIndex, keeper: FollowedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_index, "KEEPER_WAIT_S", 0.3)
    gone = add(kept, 2)
    keeper.follow()
    keeper.keep(closing=True)
    delete(kept, gone)
    kept.scrub(wait=False)
    with pytest.raises(Unavailable, match="another process keeps the index files"):
        kept.scrub()
    keeper.follow()
    keeper.keep(closing=True)
    kept.scrub()
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    keeper.close()
    kept.scrub()
    assert kept.check(ENCODER).in_step


def test_drift_is_found_by_a_sample_counted_logged_and_repaired(
    kept: GalleryIndex, keeper: FollowedIndex, caplog: pytest.LogCaptureFixture
) -> None:
    compared, drift = counted("voxdex_index_compared_vectors_total"), counted("voxdex_index_drifted_total")
    keeper.check()
    assert keeper.drifted == 0
    assert counted("voxdex_index_compared_vectors_total") > compared
    ids = keeper.index.ids()
    with keeper.index.lent() as index:
        index.remove(ids[:2])
        index.add(np.array([ids[1], 999]), unit_vectors(2, seed=50))
    keeper.check()
    assert keeper.drifted == 3  # one is missing, one has other bytes, one is of no row
    assert counted("voxdex_index_drifted_total") == drift + 3
    assert f"3 differ from the record (first: embedding {ids[0]})" in caplog.text
    assert_in_step(kept, keeper)
    keeper.check()
    assert keeper.drifted == 0


def test_files_that_rot_under_an_open_index_never_yield_a_score_and_are_made_anew(
    kept: GalleryIndex, keeper: FollowedIndex
) -> None:
    keeper.keep(closing=True)
    (rows,) = index_folder(kept.settings.home, kept.gallery_id, ENCODER).glob("*.rows")
    with rows.open("r+b") as file:
        file.seek(4 * 192 * 2)
        file.write(unit_vectors(1, seed=77).tobytes())
    keeper.check()
    assert keeper.drifted >= 1
    assert_in_step(kept, keeper)
    keeper.keep(closing=True)
    assert kept.check(ENCODER).in_step


def test_a_row_that_is_damaged_in_the_record_is_no_drift(kept: GalleryIndex, keeper: FollowedIndex) -> None:
    added = add(kept, 2)
    with kept.database.session_scope() as session:
        change = text("UPDATE embeddings SET checksum = checksum + 1 WHERE id = :id")
        session.execute(change, {"id": added.embedding_ids[0]})
    keeper.check()
    assert keeper.drifted == 0
    assert keeper.index.count == 7
