"""The scan of a device, measured alone: the same code on the CPU, at sizes that say nothing of speed."""

import pytest
import torch

from api.bench import device_scan as measured
from api.bench.device_scan import device_scan, require_device
from indexer.errors import InvalidRequest, Unavailable


def test_rates_are_told_beside_how_often_the_memory_could_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "_BLOCK_ROWS", 1000)  # several blocks, the last of them cut short
    entry = device_scan(count=3505, device="cpu", seed=1, budget_s=0.05)
    assert entry["recall"] == 1.0
    assert entry["copy_bytes_per_s"] > 1e8
    assert entry["device_bytes"] >= 3505 * 192 * 2
    assert [batch["batch"] for batch in entry["batches"]] == [1, 1024]
    for batch in entry["batches"]:
        passes = entry["copy_bytes_per_s"] / (3505 * 192 * 2)
        assert batch["limit_queries_per_s"] == pytest.approx(batch["batch"] * passes)
        assert batch["share_of_limit"] == pytest.approx(batch["queries_per_s"] / batch["limit_queries_per_s"])


def test_what_is_no_device_or_not_there_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="'tpu'"):
        require_device("tpu")
    with pytest.raises(Unavailable, match=r"'cuda:97'.*--device cpu"):
        require_device("cuda:97")


@pytest.mark.requires_cuda
def test_more_than_fits_is_refused_before_anything_is_made() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    with pytest.raises(Unavailable, match="ask for fewer"):
        device_scan(count=10**10, device="cuda", seed=1, budget_s=0.1)
