"""What the arithmetic of a network needs, and what a machine's own can do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from api.bench.timing import median_s
from indexer.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from indexer.embedding.checkpoints import Checkpoint

FLOAT32, BFLOAT16, BYTES = "float32", "bfloat16", "bytes"
"""Numbers that are multiplied."""

_MATRIX = 1536
"""Rows of the square matrices that give the machine's own rate: as large as this network's products."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a second of audio takes, and how fast this machine could do that.

    Attributes
    ----------
    gflop_per_audio_s : dict of float
        Billions of multiplications and additions, by the numbers that are multiplied; those of bytes are of bfloat16 in
        utterances of less than two seconds.
    matrix_gflop_per_s : dict of float
        The machine's own rates, in GFLOP/s.
    """

    gflop_per_audio_s: dict[str, float]
    matrix_gflop_per_s: dict[str, float]

    def least_s(self, utterance_s: float) -> float:
        """Return the seconds that an utterance takes at least."""
        from indexer.embedding.folded import COARSER_FROM_S

        def numbers(kind: str) -> str:
            return BFLOAT16 if kind == BYTES and utterance_s < COARSER_FROM_S else kind

        return utterance_s * sum(
            gflop / self.matrix_gflop_per_s[numbers(kind)] for kind, gflop in self.gflop_per_audio_s.items()
        )

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:.0f} GFLOP/s ({kind})" for kind, rate in self.matrix_gflop_per_s.items())
        inside = f", {self.gflop_per_audio_s[BYTES]:.2g} of them in bytes" if BYTES in self.gflop_per_audio_s else ""
        return f"matrix rate {rates}; a second of audio takes {sum(self.gflop_per_audio_s.values()):.3g} GFLOP{inside}"


def gflop_per_audio_s(checkpoint: "Checkpoint", numbers: str, *, in_bytes: bool) -> dict[str, float]:
    """Billions of multiplications and additions that a second of audio takes, by the numbers that are multiplied.

    Counted over ten seconds, of the network as it was published, whatever computes it: convolutions and matrix products
    only, which are more than 99 % of the work.

    Parameters
    ----------
    numbers
        What most products are of: `FLOAT32` or `BFLOAT16`.
    in_bytes
        Whether the engine multiplies bytes where `FoldedEcapa` can.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from indexer.embedding.folded import products_in_bytes

    with torch.inference_mode():
        frames = checkpoint.build_front_end()(torch.randn(1, 10 * SAMPLE_RATE_HZ))
        with FlopCounterMode(display=False) as counter:
            checkpoint.build_network()(frames.values, frames.valid)
    total = float(counter.get_total_flops())
    of_bytes = 2.0 * products_in_bytes(checkpoint.network, frames.valid) if in_bytes else 0.0
    by_numbers = {numbers: total - of_bytes, BYTES: of_bytes}
    return {kind: flop / 10.0 / 1e9 for kind, flop in by_numbers.items() if flop}


def limit_of(works: Iterable[Mapping[str, float]], rates: dict[str, float]) -> Limit:
    """Return the limit of several networks that all get the same audio."""
    total = sum((Counter(work) for work in works), Counter[str]())
    return Limit({kind: float(gflop) for kind, gflop in total.items()}, rates)


def matrix_rates(kinds: Iterable[str], budget_s: float) -> dict[str, float]:
    """Rate at which this machine multiplies square matrices of each kind of numbers, in GFLOP/s.

    The better one of torch's own product, which on some processors leaves half of the float32 units idle, and of the
    product of packed weights that the encoder computes with: a limit that an engine passes is none.
    """
    import torch

    from indexer.embedding.products import ByteProduct, Product

    square, nothing = torch.randn(_MATRIX, _MATRIX), torch.zeros(_MATRIX)
    rates = {}
    with torch.inference_mode():
        for kind in kinds:
            if kind == BYTES:
                unsigned = torch.randint(0, 256, (_MATRIX, _MATRIX), dtype=torch.uint8)
                ways = [partial(ByteProduct(square, nothing).of_bytes, unsigned)]
            else:
                dtype = torch.bfloat16 if kind == BFLOAT16 else torch.float32
                left = square.to(dtype)
                ways = [partial(torch.mm, left, left)]
                with suppress(RuntimeError):  # oneDNN packs no bfloat16 for processors without AVX-512
                    ways.append(partial(Product(square, nothing, dtype), left))
            seconds = min(median_s(one, budget_s / len(ways)) for one in ways)
            rates[kind] = 2 * _MATRIX**3 / seconds / 1e9
    return rates
