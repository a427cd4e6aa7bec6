import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import CorruptSnapshot, InvalidRequest, Unavailable
from indexer.index import snapshot_format, snapshots
from indexer.index.base import FeedMark
from indexer.index.snapshot_format import Block
from indexer.index.snapshots import SnapshotStore, encoders_indexed, index_folder
from indexer.types import EncoderId, GalleryId
from indexer.vectors import Fingerprint, checksums_of
from tests.full_disk import disk_full_beyond
from tests.snapshot_kit import ENCODER, MARK, Source, source
from tests.vectors import unit_vectors


def _store(folder: Path, encoder: EncoderId = ENCODER, dim: int = 192) -> SnapshotStore:
    return SnapshotStore(folder, encoder, dim)


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"snapshot-*{suffix}"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_saving_and_loading_is_identity(count: int, seed: int) -> None:
    ids = np.sort(np.random.default_rng(seed).permutation(5 * count + 1)[:count].astype(np.int64))
    rows = unit_vectors(count, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        saved = _store(Path(folder)).save(Source(ids, rows), MARK)
        loaded = _store(Path(folder)).load()
        assert loaded is not None
        for found in (saved, loaded):
            np.testing.assert_array_equal(found.ids, ids)
            np.testing.assert_array_equal(found.rows, rows)
            np.testing.assert_array_equal(found.crcs, checksums_of(rows))
            assert found.codes is found.codebook is found.calibration is None
    assert loaded.manifest == saved.manifest
    assert loaded.damage is None
    assert (loaded.manifest.mark, loaded.manifest.origin, loaded.manifest.count) == (MARK, "save", count)
    assert saved.manifest.fingerprint == Fingerprint.of(ids, checksums_of(rows))


def test_codes_what_they_were_made_with_and_what_was_measured_are_kept_too(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 256, (20, 48), dtype=np.uint8)
    codebook = random.standard_normal((96, 16, 2)).astype(np.float32)
    measured = {"recall_at_10": 0.9993, "candidates": 1000}
    made = Source(np.arange(20), unit_vectors(20), codes=codes, codebook=codebook, calibration=measured)
    _store(tmp_path).save(made, MARK, origin="rebuild")
    loaded = _store(tmp_path).load()
    assert loaded is not None
    assert loaded.codes is not None
    assert loaded.codebook is not None
    np.testing.assert_array_equal(loaded.codes, codes)
    np.testing.assert_array_equal(loaded.codebook, codebook)
    assert (loaded.calibration, loaded.manifest.origin) == (measured, "rebuild")


def test_rows_of_half_precision_keep_the_checksums_of_what_was_added(tmp_path: Path) -> None:
    rows = unit_vectors(20)
    _store(tmp_path).save(Source(np.arange(20), rows, row_dtype="float16"), MARK)
    loaded = _store(tmp_path).load()
    assert loaded is not None
    np.testing.assert_array_equal(loaded.rows, rows.astype(np.float16))
    np.testing.assert_array_equal(loaded.crcs, checksums_of(rows))


def test_what_is_lent_cannot_be_written_and_outlives_its_files(tmp_path: Path) -> None:
    loaded = _store(tmp_path).save(source(20), MARK)
    for lent in (loaded.ids, loaded.crcs, loaded.rows):
        with pytest.raises(ValueError, match="read-only"):
            lent[0] = 1
    _store(tmp_path).clear()
    np.testing.assert_array_equal(loaded.rows, unit_vectors(20))


def test_large_rows_are_lent_at_once_and_verified_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "VERIFIED_AT_LOAD_BYTES", 0)
    monkeypatch.setattr(snapshot_format, "BLOCK_ROWS", 8)
    monkeypatch.setattr(snapshots, "BLOCK_ROWS", 8)
    _store(tmp_path).save(source(20), MARK)
    loaded = _store(tmp_path).load()
    assert loaded is not None
    assert not loaded.verified
    stop = threading.Event()
    stop.set()
    loaded.verify(stop)
    assert not loaded.verified
    loaded.verify()
    assert loaded.verified
    (rows,) = _files(tmp_path, ".rows")
    _flip(rows, 4 * 192 * 17)
    again = _store(tmp_path).load()
    assert again is not None
    with pytest.raises(CorruptSnapshot, match=r"\.rows does not have the SHA-256"):
        again.verify()
    assert not again.verified


def test_newer_generations_and_their_marks_are_told_without_opening_one(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert (store.generation(), store.marks()) == (0, [])
    store.save(source(3), FeedMark(1, "a"))
    store.save(source(4), FeedMark(2, "b"))
    assert (store.generation(), store.marks()) == (2, [FeedMark(2, "b"), FeedMark(1, "a")])
    _files(tmp_path, ".json")[-1].write_bytes(b"?")
    assert (store.generation(), store.marks()) == (2, [FeedMark(), FeedMark(1, "a")])


def _flip(path: Path, place: int) -> None:
    body = bytearray(path.read_bytes())
    body[place] ^= 1
    path.write_bytes(body)


def test_a_folder_without_snapshots_loads_nothing(tmp_path: Path) -> None:
    assert _store(tmp_path / "nowhere").load() is None
    assert _store(tmp_path).load() is None


def test_the_newest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    generations = [_store(tmp_path).save(source(count), MARK).manifest.generation for count in (1, 2, 3, 4)]
    assert generations == [1, 2, 3, 4]
    kept = [json.loads(path.read_text())["count"] for path in _files(tmp_path, ".json")]
    assert kept == [3, 4]
    assert len(_files(tmp_path, ".rows")) == 2


def test_after_an_erasure_only_the_newest_is_left_and_half_written_files_go(tmp_path: Path) -> None:
    store = _store(tmp_path)
    erased = unit_vectors(1, seed=42)
    whole = Source(np.array([1, 2, 3, 99]), np.concatenate([unit_vectors(3), erased]))
    store.save(whole, MARK)
    store.save(whole, MARK)
    (tmp_path / ".snapshot-0000000009-00.rows.partial").write_bytes(erased.tobytes())
    store.save(source(3), MARK, keep_previous=False)
    assert len(_files(tmp_path, ".rows")) == 1
    assert not [path for path in tmp_path.iterdir() if erased.tobytes() in path.read_bytes()]


def test_what_a_killed_writer_left_beside_the_newest_goes_without_writing_it_again(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.prune_to_newest()
    store.save(source(3), FeedMark(1, "a"))
    store.save(source(2), FeedMark(2, "b"))
    (tmp_path / "snapshot-0000000009-00.rows").write_bytes(b"half")
    store.prune_to_newest()
    assert (store.generation(), store.marks()) == (2, [FeedMark(2, "b")])
    assert len(list(tmp_path.iterdir())) == 5  # a snapshot of four files, and the lock
    loaded = store.load()
    assert loaded is not None
    assert (loaded.manifest.count, loaded.damage) == (2, None)
    _store(tmp_path / "nowhere").prune_to_newest()
    assert not (tmp_path / "nowhere").exists()


def test_clearing_leaves_no_file_with_a_vector(tmp_path: Path) -> None:
    _store(tmp_path).save(source(3), MARK)
    _store(tmp_path).clear()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    _store(tmp_path / "nowhere").clear()


@pytest.mark.parametrize("suffix", [".rows", ".ids", ".crcs", ".json"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip", "lengthen", "garbage"])
def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(tmp_path: Path, suffix: str, harm: str) -> None:
    store = _store(tmp_path)
    store.save(source(5), MARK)
    store.save(source(9), MARK)
    newest = _files(tmp_path, suffix)[-1]
    body = newest.read_bytes()
    flipped = body[:20] + bytes([body[20] ^ 1]) + body[21:]
    harmed = {"truncate": body[:-1], "empty": b"", "flip": flipped, "lengthen": body + b"x", "garbage": os.urandom(64)}
    newest.write_bytes(harmed[harm])
    loaded = store.load()
    assert loaded is not None
    assert loaded.manifest.count == 5
    assert loaded.damage is not None
    assert "run `" not in loaded.damage  # the remedy is said once, by whoever tells of it


@pytest.mark.parametrize("text", ["null", "[]", "3", "{}"])
def test_a_manifest_that_is_none_is_refused_in_plain_words(tmp_path: Path, text: str) -> None:
    _store(tmp_path).save(source(5), MARK)
    _files(tmp_path, ".json")[0].write_text(text)
    with pytest.raises(CorruptSnapshot, match=r"is not a readable snapshot \(it is no manifest\): run"):
        _store(tmp_path).load()


def test_vectors_that_are_gone_are_noticed(tmp_path: Path) -> None:
    _store(tmp_path).save(source(5), MARK)
    _files(tmp_path, ".rows")[0].unlink()
    with pytest.raises(CorruptSnapshot, match=r"\.rows is gone"):
        _store(tmp_path).load()


def test_no_whole_snapshot_left_is_an_error_that_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(source(5), MARK)
    (data,) = _files(tmp_path, ".rows")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(CorruptSnapshot, match=r"has 1000 bytes where 3840 were written: run `voxdex index rebuild`"):
        store.load()


def test_a_snapshot_of_another_encoder_or_dimension_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path).save(source(5), MARK)
    with pytest.raises(CorruptSnapshot, match=r"is of encoder encoder-a .* where encoder-b"):
        _store(tmp_path, EncoderId("encoder-b")).load()
    with pytest.raises(CorruptSnapshot, match=r"D = 192.* where .*D = 256"):
        _store(tmp_path, dim=256).load()


def test_a_snapshot_of_a_later_format_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path).save(source(5), MARK)
    (manifest,) = _files(tmp_path, ".json")
    body = json.loads(manifest.read_text()) | {"format_version": 3}
    del body["manifest_sha256"]
    body["manifest_sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps(body))
    with pytest.raises(CorruptSnapshot, match="format version 3 where 2 is read"):
        _store(tmp_path).load()


def test_any_harmed_byte_is_noticed_and_never_crashes(tmp_path: Path) -> None:
    """Harm every part of both files at random: loading must raise, or give what was saved."""
    saved = source(20)
    _store(tmp_path / "a").save(saved, MARK)
    random = np.random.default_rng(5)
    for round_ in range(300):
        folder = tmp_path / "b"
        shutil.copytree(tmp_path / "a", folder)
        victim = _files(folder, [".rows", ".json", ".ids", ".crcs"][round_ % 4])[0]
        body = bytearray(victim.read_bytes())
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(0, len(body)))
            body[place : place + int(random.integers(0, 3))] = random.bytes(int(random.integers(1, 4)))
        harmed = bytes(body) != victim.read_bytes()
        victim.write_bytes(body)
        try:
            loaded = _store(folder).load()
        except CorruptSnapshot:
            pass
        else:
            # White space in the manifest may change without changing what it says.
            assert not harmed or victim.suffix == ".json"
            assert loaded is not None
            np.testing.assert_array_equal(loaded.ids, saved.ids)
            np.testing.assert_array_equal(loaded.rows, saved.rows)
        shutil.rmtree(folder)


def test_a_writer_killed_at_any_moment_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from indexer.index.snapshots import SnapshotStore\n"
        "from tests.snapshot_kit import MARK, source\n"
        "made = source(400)\n"
        "store = SnapshotStore(Path(sys.argv[1]), 'encoder-a', 192)\n"
        "store.save(made, MARK)\n"
        "print('saved', flush=True)\n"
        "while True: store.save(made, MARK)\n"
    )
    random = np.random.default_rng()
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer, writer.stdout:
            assert writer.stdout.readline() == "saved\n"
            time.sleep(float(random.uniform(0, 0.2)))
            writer.send_signal(signal.SIGKILL)
        loaded = _store(tmp_path).load()
        assert loaded is not None
        assert loaded.damage is None
        assert loaded.manifest.count == 400
    _store(tmp_path).save(source(1), MARK)
    assert len(list(tmp_path.iterdir())) == 9  # two snapshots of four files, the lock, and nothing half-written


def test_saves_that_fail_leave_none_of_their_files_and_the_snapshot_before_stands(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(source(100), MARK)
    before = sorted(tmp_path.iterdir())
    for limit in (40 * 192 * 4, 100):
        with (
            disk_full_beyond(limit),
            pytest.raises(Unavailable, match=r"cannot write .*File too large; free some space"),
        ):
            store.save(source(100), MARK)
        assert sorted(tmp_path.iterdir()) == before

    class Breaking(Source):
        def blocks(self) -> Iterator[Block]:
            yield from list(super().blocks())[:3]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save(Breaking(np.arange(100), unit_vectors(100)), MARK)
    assert sorted(tmp_path.iterdir()) == before
    loaded = store.load()
    assert loaded is not None
    assert (loaded.manifest.generation, loaded.damage) == (1, None)


def test_what_a_killed_writer_left_makes_room_before_the_next_save(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(source(5), MARK)
    half = tmp_path / "snapshot-0000000002-0123456789abcdef.rows"
    half.write_bytes(b"half")
    there: list[bool] = []

    class Looking(Source):
        def blocks(self) -> Iterator[Block]:
            there.append(half.exists())
            yield from super().blocks()

    store.save(Looking(np.arange(5), unit_vectors(5)), MARK)
    assert there == [False]
    assert store.generation() == 2


def test_files_of_before_an_erasure_go_as_soon_as_the_new_ones_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(tmp_path)
    store.save(source(5), MARK)

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_map", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(source(4), MARK, keep_previous=False)
    assert len(_files(tmp_path, ".rows")) == 1
    loaded = store.load()
    assert loaded is not None
    assert loaded.manifest.count == 4


def test_two_processes_saving_at_once_both_leave_whole_snapshots(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stores = [_store(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(lambda store: store.save(source(7), MARK).manifest, stores * 5))
    assert sorted(manifest.generation for manifest in manifests) == list(range(1, 21))
    loaded = _store(tmp_path).load()
    assert loaded is not None
    assert (loaded.manifest.generation, loaded.damage) == (20, None)


def test_loading_while_another_saves_and_prunes_always_finds_one(tmp_path: Path) -> None:
    store, stop = _store(tmp_path), threading.Event()
    store.save(source(2), MARK)
    made = source(50)

    def save() -> None:
        while not stop.is_set():
            _store(tmp_path).save(made, MARK, keep_previous=False)

    writer = threading.Thread(target=save)
    writer.start()
    try:
        for _ in range(100):
            loaded = store.load()
            assert loaded is not None
            assert loaded.damage is None
    finally:
        stop.set()
        writer.join()


def test_a_folder_that_cannot_be_made_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match=r"cannot write the index in .*file/index"):
        _store(tmp_path / "file" / "index").save(source(1), MARK)


def test_an_encoder_id_names_its_folder_whatever_it_holds(tmp_path: Path) -> None:
    for encoder in ("sha256:0575cb64/legacy", "../../escape", "plain"):
        folder = index_folder(tmp_path, GalleryId(3), EncoderId(encoder))
        assert folder.parent == tmp_path / "index" / "3"
        folder.mkdir(parents=True)
    assert encoders_indexed(tmp_path, GalleryId(3)) == ["../../escape", "plain", "sha256:0575cb64/legacy"]
    assert encoders_indexed(tmp_path, GalleryId(4)) == []
    with pytest.raises(InvalidRequest, match=r"'\.\.'"):
        index_folder(tmp_path, GalleryId(3), EncoderId(".."))
