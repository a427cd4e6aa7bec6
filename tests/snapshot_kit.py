"""What snapshots are made of, for tests of their files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.index.base import FeedMark, Ids
from indexer.index.snapshot_format import Block, Codes, RowType
from indexer.types import EncoderId, Vectors
from tests.vectors import crcs, unit_vectors

ENCODER = EncoderId("encoder-a")
MARK = FeedMark(7, "seven")


@dataclass(frozen=True, eq=False)
class Source:
    """Rows in memory, lent in blocks of odd sizes."""

    ids: Ids
    rows: Vectors
    encoder_id: EncoderId = ENCODER
    dim: int = 192
    row_dtype: RowType = "float32"
    codes: Codes | None = None
    codebook: NDArray[np.float32] | None = None
    calibration: dict[str, Any] | None = None
    block: int = 7

    @property
    def count(self) -> int:
        return len(self.ids)

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.ids), self.block):
            part = slice(start, start + self.block)
            rows = self.rows[part]
            codes = None if self.codes is None else self.codes[part]
            yield Block(self.ids[part], crcs(rows).astype(np.uint32), rows.astype(self.row_dtype), codes)


def source(count: int, *, seed: int = 0) -> Source:
    """Rows of ids 1 to `count`."""
    return Source(np.arange(1, count + 1), unit_vectors(count, seed=seed))
