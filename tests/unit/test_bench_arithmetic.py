"""What a machine's own arithmetic allows: by the numbers that are multiplied, and never less than an engine reaches."""

from pathlib import Path

import pytest
import torch

from api.bench.arithmetic import BFLOAT16, BYTES, FLOAT32, Limit, gflop_per_audio_s, limit_of, matrix_rates
from indexer.embedding.checkpoints import read_checkpoint
from indexer.embedding.engines import multiplies_bytes
from indexer.embedding.folded import COARSER_FROM_S, products_in_bytes

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


def test_an_utterance_takes_what_each_kind_of_number_takes() -> None:
    limit = Limit({BFLOAT16: 3.0, BYTES: 2.0}, {BFLOAT16: 100.0, BYTES: 200.0})
    assert limit.least_s(10.0) == pytest.approx(10 * (3 / 100 + 2 / 200))
    short_s = COARSER_FROM_S - 0.1
    assert limit.least_s(short_s) == pytest.approx(short_s * 5 / 100)
    assert str(limit) == (
        "matrix rate 100 GFLOP/s (bfloat16), 200 GFLOP/s (bytes); a second of audio takes 5 GFLOP, 2 of them in bytes"
    )
    both = limit_of([limit.gflop_per_audio_s, {FLOAT32: 1.0, BFLOAT16: 1.0}], {})
    assert both.gflop_per_audio_s == {BFLOAT16: 4.0, BYTES: 2.0, FLOAT32: 1.0}


def test_work_in_bytes_is_part_of_all_work() -> None:
    checkpoint = read_checkpoint(TINY, "nemo")
    whole = gflop_per_audio_s(checkpoint, BFLOAT16, in_bytes=False)
    parts = gflop_per_audio_s(checkpoint, BFLOAT16, in_bytes=True)
    assert whole.keys() == {BFLOAT16}
    assert sum(parts.values()) == pytest.approx(whole[BFLOAT16])
    frames = checkpoint.build_front_end()(torch.randn(1, 160_000)).valid
    assert parts[BYTES] == pytest.approx(2e-10 * products_in_bytes(checkpoint.network, frames))
    assert 0 < parts[BYTES] < whole[BFLOAT16]


@pytest.mark.skipif(not multiplies_bytes(torch.device("cpu")), reason="this processor multiplies no bytes")
def test_bytes_are_multiplied_faster_than_float32() -> None:
    rates = matrix_rates([FLOAT32, BYTES], 0.4)
    assert rates[BYTES] > rates[FLOAT32] > 0
