import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.errors import DeviceFailed
from indexer.index.base import FeedMark, IdSet, SearchParameters
from indexer.index.faiss_index import FaissIndex
from indexer.index.gpu_scan import GpuScan
from indexer.index.local_store import LocalStore
from indexer.index.scans import Proposals, Subset
from indexer.settings import IndexSettings
from indexer.types import EncoderId, Vectors
from tests.vectors import unit_vectors

ENCODER = EncoderId("encoder-a")
ON_CPU = IndexSettings(engine="faiss-gpu", device="cpu")
VECTORS = unit_vectors(6000)


class SmallDevice(GpuScan):
    """A device with room for 5,000 rows, which may break."""

    broken = False

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))

    def append(self, prepared: np.ndarray) -> None:
        if self.count + len(prepared) > 5000:
            raise DeviceFailed("no room for more")
        super().append(prepared)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        if self.broken:
            raise DeviceFailed("it fell off the bus")
        return super().search(probes, fetch, subset)


def on_small_device(count: int) -> FaissIndex:
    index = FaissIndex(ENCODER, settings=ON_CPU)
    index.scan_on_device = SmallDevice
    index.add(np.arange(count), VECTORS[:count])
    assert index.wait_until_settled(180)
    assert index.info().kind == "faiss-flat-float16"
    return index


def assert_right(index: FaissIndex, count: int) -> None:
    probes = VECTORS[:count:500]
    even = IdSet(np.arange(0, count, 2))
    for allowed in (None, even):
        exact = index.search(probes, 7, allowed=allowed, parameters=SearchParameters(exhaustive=True))
        assert index.search(probes, 7, allowed=allowed) == exact
    assert [hits[0].embedding_id for hits in index.search_above(probes, 0.9)] == list(range(0, count, 500))


def test_vectors_that_the_device_has_no_room_for_are_scanned_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    index = on_small_device(4900)
    with caplog.at_level(logging.WARNING):
        index.add(np.arange(4900, 6000), VECTORS[4900:])
        assert index.wait_until_settled(180)
    assert [record.message for record in caplog.records] == [
        "index: vectors are scanned on the CPU from now on: no room for more"
    ]
    assert index.info().kind == "faiss-flat"
    assert index.count == 6000
    assert_right(index, 6000)
    index.close()


def test_an_index_too_large_for_the_device_never_leaves_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    index = FaissIndex(ENCODER, settings=ON_CPU)
    index.scan_on_device = SmallDevice
    with caplog.at_level(logging.WARNING):
        index.add(np.arange(4000), VECTORS[:4000])
        index.add(np.arange(4000, 6000), VECTORS[4000:])
        assert index.wait_until_settled(180)
    assert len(caplog.records) == 1
    assert index.info().kind == "faiss-flat"
    assert_right(index, 6000)
    index.close()


def test_a_search_that_the_device_fails_is_answered_by_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    index = on_small_device(4900)
    assert isinstance(index.scan, SmallDevice)
    index.scan.broken = True
    with caplog.at_level(logging.WARNING):
        assert_right(index, 4900)
    assert [record.message for record in caplog.records] == [
        "index: vectors are scanned on the CPU from now on: it fell off the bus"
    ]
    assert index.info().kind == "faiss-flat"
    index.close()


def test_a_saved_index_is_scanned_on_the_device_before_and_after(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, ENCODER, settings=ON_CPU)
    index = store.create()
    index.add(np.random.default_rng(0).permutation(6000), VECTORS)
    index.remove(np.arange(0, 6000, 3))
    assert index.wait_until_settled(180)
    probes = VECTORS[:5]
    before = index.search(probes, 9)
    index.begin_save(FeedMark(1, "ab" * 32)).write()
    assert index.info().kind == "faiss-flat-float16"
    assert index.search(probes, 9) == before
    index.close()
    kept = store.load()
    assert kept is not None
    assert kept.index.search(probes, 9) == before
    assert isinstance(kept.index, FaissIndex)
    assert kept.index.wait_until_settled(180)
    assert kept.index.info().kind == "faiss-flat-float16"
    assert kept.index.search(probes, 9) == before
    kept.index.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_device_the_cpu_scans_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            index = FaissIndex(ENCODER, settings=IndexSettings(engine="faiss-gpu", device="cuda:7"))
            index.add(np.arange(100), VECTORS[:100])
            assert index.wait_until_settled(180)
            assert index.info().kind == "faiss-flat"
            index.close()
    (record,) = caplog.records
    assert "device 'cuda:7': this machine has 0 CUDA devices" in record.message
