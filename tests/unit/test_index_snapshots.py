import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import CorruptSnapshot, InvalidRequest, Unavailable
from indexer.index.faiss_index import FaissFlatIndex
from indexer.index.snapshots import SnapshotStore, encoders_indexed, index_folder
from indexer.types import EncoderId, GalleryId
from indexer.vectors import Fingerprint, checksums_of
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("encoder-a")


def _index(count: int, *, seed: int = 0, encoder: EncoderId = ENCODER) -> FaissFlatIndex:
    index = FaissFlatIndex(encoder)
    index.add(np.arange(1, count + 1), unit_vectors(count, seed=seed))
    return index


def _store(folder: Path, encoder: EncoderId = ENCODER, dim: int = 192) -> SnapshotStore:
    return SnapshotStore(folder, encoder, dim)


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"snapshot-*{suffix}"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_saving_and_loading_is_identity(count: int, seed: int) -> None:
    ids = np.random.default_rng(seed).permutation(5 * count + 1)[:count].astype(np.int64)
    index = FaissFlatIndex(ENCODER)
    index.add(ids, unit_vectors(count, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        manifest = _store(Path(folder)).save(index)
        loaded = _store(Path(folder)).load()
    assert loaded is not None
    np.testing.assert_array_equal(loaded.ids, ids)
    np.testing.assert_array_equal(loaded.vectors, index.reconstruct(ids))
    assert loaded.manifest == manifest
    assert loaded.damage is None
    assert manifest.fingerprint == Fingerprint.of(ids, checksums_of(loaded.vectors))


def test_what_one_engine_saved_another_loads(tmp_path: Path) -> None:
    reference = ReferenceIndex(ENCODER)
    reference.add(np.array([5, 3]), unit_vectors(2))
    _store(tmp_path).save(reference)
    loaded = _store(tmp_path).load()
    assert loaded is not None
    index = FaissFlatIndex(ENCODER)
    index.add(loaded.ids, loaded.vectors)
    np.testing.assert_array_equal(index.ids(), reference.ids())
    np.testing.assert_array_equal(index.reconstruct(index.ids()), reference.reconstruct(index.ids()))


def test_a_folder_without_snapshots_loads_nothing(tmp_path: Path) -> None:
    assert _store(tmp_path / "nowhere").load() is None
    assert _store(tmp_path).load() is None


def test_the_newest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    generations = [_store(tmp_path).save(_index(count)).generation for count in (1, 2, 3, 4)]
    assert generations == [1, 2, 3, 4]
    kept = [json.loads(path.read_text())["count"] for path in _files(tmp_path, ".json")]
    assert kept == [3, 4]
    assert len(_files(tmp_path, ".vectors")) == 2


def test_after_an_erasure_only_the_newest_is_left_and_half_written_files_go(tmp_path: Path) -> None:
    store = _store(tmp_path)
    erased = unit_vectors(1, seed=42)
    index = _index(3)
    index.add(np.array([99]), erased)
    store.save(index)
    store.save(index)
    (tmp_path / ".snapshot-0000000009-00.vectors.partial").write_bytes(erased.tobytes())
    index.remove(np.array([99]))
    store.save(index, keep_previous=False)
    assert len(_files(tmp_path, ".vectors")) == 1
    assert not [path for path in tmp_path.iterdir() if erased.tobytes() in path.read_bytes()]


def test_clearing_leaves_no_file_with_a_vector(tmp_path: Path) -> None:
    _store(tmp_path).save(_index(3))
    _store(tmp_path).clear()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    _store(tmp_path / "nowhere").clear()


@pytest.mark.parametrize("suffix", [".vectors", ".json"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip", "lengthen", "garbage"])
def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(tmp_path: Path, suffix: str, harm: str) -> None:
    store = _store(tmp_path)
    store.save(_index(5))
    store.save(_index(9))
    newest = _files(tmp_path, suffix)[-1]
    body = newest.read_bytes()
    flipped = body[:100] + bytes([body[100] ^ 1]) + body[101:]
    harmed = {"truncate": body[:-1], "empty": b"", "flip": flipped, "lengthen": body + b"x", "garbage": os.urandom(64)}
    newest.write_bytes(harmed[harm])
    loaded = store.load()
    assert loaded is not None
    assert loaded.manifest.count == 5
    assert loaded.damage is not None
    assert "voxdex index rebuild" in loaded.damage


def test_vectors_that_are_gone_are_noticed(tmp_path: Path) -> None:
    _store(tmp_path).save(_index(5))
    _files(tmp_path, ".vectors")[0].unlink()
    with pytest.raises(CorruptSnapshot, match=r"\.vectors is gone"):
        _store(tmp_path).load()


def test_no_whole_snapshot_left_is_an_error_that_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(_index(5))
    (data,) = _files(tmp_path, ".vectors")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(CorruptSnapshot, match=r"has 1000 bytes where 3880 were written: run `voxdex index rebuild`"):
        store.load()


def test_a_snapshot_of_another_encoder_or_dimension_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path).save(_index(5))
    with pytest.raises(CorruptSnapshot, match=r"is of encoder encoder-a .* where encoder-b"):
        _store(tmp_path, EncoderId("encoder-b")).load()
    with pytest.raises(CorruptSnapshot, match=r"D = 192.* where .*D = 256"):
        _store(tmp_path, dim=256).load()


def test_a_snapshot_of_a_later_format_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path).save(_index(5))
    (manifest,) = _files(tmp_path, ".json")
    body = json.loads(manifest.read_text()) | {"format_version": 2}
    del body["manifest_sha256"]
    body["manifest_sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps(body))
    with pytest.raises(CorruptSnapshot, match="format version 2 where 1 is read"):
        _store(tmp_path).load()


def test_any_harmed_byte_is_noticed_and_never_crashes(tmp_path: Path) -> None:
    """Harm every part of both files at random: loading must raise, or give what was saved."""
    store, index = _store(tmp_path / "a"), _index(20)
    store.save(index)
    random = np.random.default_rng(5)
    for round_ in range(300):
        folder = tmp_path / "b"
        shutil.copytree(tmp_path / "a", folder)
        victim = _files(folder, [".vectors", ".json"][round_ % 2])[0]
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
            np.testing.assert_array_equal(loaded.ids, index.ids())
            np.testing.assert_array_equal(loaded.vectors, index.reconstruct(index.ids()))
        shutil.rmtree(folder)


def test_a_writer_killed_at_any_moment_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from indexer.index.snapshots import SnapshotStore\n"
        "from tests.vectors import ReferenceIndex, unit_vectors\n"
        "index = ReferenceIndex('encoder-a')\n"
        "index.add(np.arange(400), unit_vectors(400))\n"
        "store = SnapshotStore(Path(sys.argv[1]), 'encoder-a', 192)\n"
        "store.save(index)\n"
        "print('saved', flush=True)\n"
        "while True: store.save(index)\n"
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
    _store(tmp_path).save(_index(1))
    assert len(list(tmp_path.iterdir())) == 5  # two snapshots of two files, the lock, and nothing half-written


def test_two_processes_saving_at_once_both_leave_whole_snapshots(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stores = [_store(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(lambda store: store.save(_index(7)), stores * 5))
    assert sorted(manifest.generation for manifest in manifests) == list(range(1, 21))
    loaded = _store(tmp_path).load()
    assert loaded is not None
    assert (loaded.manifest.generation, loaded.damage) == (20, None)


def test_loading_while_another_saves_and_prunes_always_finds_one(tmp_path: Path) -> None:
    import threading

    store, stop = _store(tmp_path), threading.Event()
    store.save(_index(2))
    index = _index(50)

    def save() -> None:
        while not stop.is_set():
            _store(tmp_path).save(index, keep_previous=False)

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
        _store(tmp_path / "file" / "index").save(_index(1))


def test_an_encoder_id_names_its_folder_whatever_it_holds(tmp_path: Path) -> None:
    for encoder in ("sha256:0575cb64/legacy", "../../escape", "plain"):
        folder = index_folder(tmp_path, GalleryId(3), EncoderId(encoder))
        assert folder.parent == tmp_path / "index" / "3"
        folder.mkdir(parents=True)
    assert encoders_indexed(tmp_path, GalleryId(3)) == ["../../escape", "plain", "sha256:0575cb64/legacy"]
    assert encoders_indexed(tmp_path, GalleryId(4)) == []
    with pytest.raises(InvalidRequest, match=r"'\.\.'"):
        index_folder(tmp_path, GalleryId(3), EncoderId(".."))
