"""What the arithmetic of a network needs, and what a machine's own can do."""

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from api.bench.timing import median_s
from indexer.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import torch

    from indexer.embedding.checkpoints import Checkpoint

_MATRIX = 1536
"""Rows of the square matrices that give the machine's own rate: as large as this network's products."""


def gflop_per_audio_s(checkpoint: "Checkpoint") -> float:
    """Billions of multiplications and additions that a second of audio takes, counted over ten seconds.

    Of the network as it was published, whatever computes it: convolutions and matrix products only, which are more
    than 99 % of the work.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode():
        frames = checkpoint.build_front_end()(torch.randn(1, 10 * SAMPLE_RATE_HZ))
        with FlopCounterMode(display=False) as counter:
            checkpoint.build_network()(frames.values, frames.valid)
    return float(counter.get_total_flops()) / 10.0 / 1e9


def matrix_gflop_per_s(dtype: "torch.dtype", budget_s: float) -> float:
    """Rate at which this machine multiplies square matrices of a type, in GFLOP/s.

    The better one of torch's own product, which on some processors leaves half of the float32 units idle, and of the
    product of packed weights that the encoder computes with: a limit that an engine passes is none.
    """
    import torch

    from indexer.embedding.products import Product

    left = torch.randn(_MATRIX, _MATRIX).to(dtype)
    ways = [partial(torch.mm, left, left)]
    with suppress(RuntimeError):  # oneDNN packs no bfloat16 for processors without AVX-512
        ways.append(partial(Product(left.float(), torch.zeros(_MATRIX), dtype), left))
    with torch.inference_mode():
        seconds = min(median_s(one, budget_s / len(ways)) for one in ways)
    return 2 * _MATRIX**3 / seconds / 1e9
