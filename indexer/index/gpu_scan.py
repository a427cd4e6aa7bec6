"""A scan of every row in float16 on a GPU; the only module of the index that imports torch."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from indexer.embedding.encoder import choose_device
from indexer.errors import DeviceFailed, Unavailable, one_line
from indexer.index.scans import Positions, Proposals, Subset
from indexer.types import EMBEDDING_DIM, Vectors

logger = logging.getLogger(__name__)

HALF = 2.0**-11
"""Largest relative error of rounding a number to float16, whose significand has 11 bits."""

MARGIN = 2.1 * HALF
"""How far a cosine may lie above its estimate.

Row and probe are rounded, each number by at most `HALF` of itself, so their product is off by at most
(2 + HALF) * HALF * sum |v_i p_i|, and the sum is at most 1 for unit vectors. Numbers below 2**-14 lose up to 2**-25
instead, together less than 192**0.5 * 2**-25 = 4e-7 a vector, and summing 192 products in float32 less than
192 * 2**-23 = 2.3e-5: both fit into the tenth that is added.
"""


@dataclass(frozen=True)
class Sizes:
    """How much a scan allocates, sends and computes at a time; what it answers does not depend on them."""

    first_block_rows: int = 1 << 16
    largest_block_rows: int = 1 << 22
    """Rows of one allocation: a new block is as large as all before it, from 24 MiB to 1.5 GiB of 192 numbers."""
    scores: int = 1 << 26
    """Scores computed at a time, over all probes: 256 MiB."""
    probes: int = 1024
    """Probes scored at a time."""
    gather_rows: int = 1 << 18
    """Rows of a filter gathered at a time: 96 MiB of 192 numbers."""
    gather_share: float = 0.25
    """Up to this share of a block the rows of a filter are gathered; above it all are scored and the others masked."""
    group: int = 32
    """Scores of which only the best is looked at first, for selecting costs far more than multiplying."""
    cpu_rows: int = 1 << 14
    """Rows widened to float32 at a time where a CPU multiplies, which has no float16 products."""


DEFAULT_SIZES = Sizes()


@dataclass
class _Block:
    """Rows beside each other on the device."""

    first: int
    """Position of the first of them in the index."""
    rows: torch.Tensor
    """(capacity, D) float16; those of rows that went are zeros."""
    alive: torch.Tensor
    """(capacity,) bool."""
    used: int = 0
    dead: int = 0

    @property
    def free(self) -> int:
        return len(self.rows) - self.used


@dataclass
class _Part:
    """What a filter keeps of one block: few rows by number, many by a mask."""

    chosen: torch.Tensor
    """(m,) rows of the block; of no use where there is a mask."""
    mask: torch.Tensor | None = None
    """(capacity,) bool."""

    def add(self, places: torch.Tensor, block: _Block, gather_share: float) -> None:
        """Keep (n,) more rows of the block."""
        if self.mask is None:
            self.chosen = torch.cat([self.chosen, places])
            if len(self.chosen) <= gather_share * block.used:
                return
            self.mask = torch.zeros_like(block.alive)
            places, self.chosen = self.chosen, self.chosen[:0]
        self.mask[places] = True


class _Piece(NamedTuple):
    """Rows that are scored at once."""

    rows: torch.Tensor
    """(c, D) float16."""
    positions: torch.Tensor
    """(c,) their places in the index."""
    hidden: torch.Tensor | None
    """(c,) bool, those that may not be found; None where all may."""


class GpuSubset:
    """Rows of a `GpuScan` that a search is kept to, held on its device."""

    def __init__(self, scan: "GpuScan") -> None:
        self._scan = scan
        self.parts: dict[int, _Part] = {}
        """By number of the block."""
        self.count = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes on the device, for that is what keeping it costs."""
        return sum(_size(part.chosen) + _size(part.mask) for part in self.parts.values())

    def append(self, positions: Positions) -> None:
        """Take in (n,) more rows; they rise and lie above all before."""
        self._scan.extend(self, positions)


class GpuScan:
    """Every row compared with every probe in float16, on a GPU or, with the same code, on a CPU.

    One search at a time works on the device, in memory that does not depend on how many rows there are. What is too
    much for the device's memory, or a device that fails, raises `DeviceFailed`, and the scan is of no use any more:
    whoever owns it makes another one on the CPU.
    """

    kind = "flat-float16"
    probes_a_core = 0
    margin = MARGIN
    candidates = 64

    def __init__(self, device: torch.device, dim: int = EMBEDDING_DIM, sizes: Sizes = DEFAULT_SIZES) -> None:
        self._device = device
        self._dim = dim
        self._sizes = sizes
        self._blocks: list[_Block] = []
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Rows that were appended, those that went among them."""
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Resident bytes in the process, which are none where the device has memory of its own."""
        return self._device_bytes() if self._device.type == "cpu" else 0

    @property
    def details(self) -> dict[str, str | int | float]:
        """Device, what is taken of it, and the error of the estimates."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type
        return {"device": name, "device_bytes": self._device_bytes(), "margin": self.margin}

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Round to half precision."""
        return vectors.astype(np.float16)  # a copy: torch takes no array that may not be written

    def append(self, prepared: NDArray[Any]) -> None:
        """Take in (n, D) more rows of half precision."""
        with self._working():
            self._reserve(len(prepared))
            taken = 0
            while taken < len(prepared):
                block = next(block for block in self._blocks if block.free)
                step = min(len(prepared) - taken, block.free)
                places = slice(block.used, block.used + step)
                block.rows[places] = torch.from_numpy(prepared[taken : taken + step])
                block.alive[places] = True
                block.used += step
                taken += step
            self._count += taken

    def remove(self, positions: Positions) -> None:
        """Hear that these rows went; nothing of them stays on the device."""
        with self._working():
            for number, places in self._by_block(np.unique(positions)):
                block = self._blocks[number]
                block.dead += int(block.alive[places].sum())
                block.alive[places] = False
                block.rows[places] = 0

    def subset(self, positions: Positions) -> GpuSubset:
        """Prepare a filter: (n,) rising positions that searches are kept to."""
        made = GpuSubset(self)
        made.append(positions)
        return made

    def extend(self, subset: GpuSubset, positions: Positions) -> None:
        """Let a filter keep these rows too."""
        with self._working():
            for number, places in self._by_block(positions):
                part = subset.parts.setdefault(number, _Part(places[:0]))
                part.add(places, self._blocks[number], self._sizes.gather_share)
            subset.count += len(positions)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose `fetch` rows for each of (Q, D) probes."""
        if subset is not None and not isinstance(subset, GpuSubset):
            raise TypeError(f"a {type(subset).__name__} was not made by this scan")
        with self._working():
            scope = self._count if subset is None else subset.count
            fetch = min(fetch, scope)
            scores = np.empty((len(probes), fetch), dtype=np.float32)
            positions = np.empty((len(probes), fetch), dtype=np.int64)
            width = max(8 * fetch, self._sizes.scores // max(1, min(len(probes), self._sizes.probes)))
            height = max(1, min(self._sizes.probes, self._sizes.scores // width))
            for start in range(0, len(probes) if fetch else 0, height):
                some = slice(start, start + height)
                best, theirs = self._best(probes[some], fetch, width, subset)
                scores[some], positions[some] = best.cpu().numpy(), theirs.cpu().numpy()
            positions[scores == -np.inf] = -1
        floors = scores.min(axis=1) if fetch < scope else np.full(len(probes), -np.inf, dtype=np.float32)
        return Proposals(scores, positions, floors)

    def close(self) -> None:
        """Give the device's memory back."""
        with self._lock:
            self._blocks.clear()
            self._count = 0
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _best(
        self, probes: Vectors, fetch: int, width: int, subset: GpuSubset | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (q, fetch) best scores and their positions, from all pieces of `width` rows."""
        sent = torch.from_numpy(probes.astype(np.float16)).to(self._device)
        scores = torch.empty((len(sent), 0), dtype=torch.float32, device=self._device)
        positions = torch.empty((len(sent), 0), dtype=torch.int64, device=self._device)
        for piece in self._pieces(width, subset):
            products = self._products(sent, piece.rows)
            if piece.hidden is not None:
                products.masked_fill_(piece.hidden, -torch.inf)
            some, columns = _first(products, fetch, self._sizes.group)
            scores = torch.cat([scores, some], dim=1)
            positions = torch.cat([positions, piece.positions[columns]], dim=1)
            if scores.shape[1] > fetch:
                scores, columns = scores.topk(fetch, dim=1)
                positions = positions.gather(1, columns)
        return scores, positions

    def _pieces(self, width: int, subset: GpuSubset | None) -> Iterator[_Piece]:
        """Yield the rows that may be found, at most `width` at a time."""
        for number, block in enumerate(self._blocks):
            part = None if subset is None else subset.parts.get(number)
            if subset is not None and part is None:
                continue
            if part is None or part.mask is not None:
                for start in range(0, block.used, width):
                    some = slice(start, min(start + width, block.used))
                    shown = None if part is None or part.mask is None else part.mask[some]
                    if block.dead:
                        shown = block.alive[some] if shown is None else shown & block.alive[some]
                    positions = torch.arange(block.first + some.start, block.first + some.stop, device=self._device)
                    yield _Piece(block.rows[some], positions, None if shown is None else ~shown)
            else:
                step = min(width, self._sizes.gather_rows)
                for start in range(0, len(part.chosen), step):
                    chosen = part.chosen[start : start + step]
                    hidden = ~block.alive[chosen] if block.dead else None
                    yield _Piece(block.rows[chosen], chosen + block.first, hidden)

    def _products(self, probes: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return (q, c) float32 products of (q, D) and (c, D) float16 rows, summed in float32."""
        if self._device.type == "cuda":
            return torch.mm(probes, rows.T, out_dtype=torch.float32)
        products = torch.empty((len(probes), len(rows)), dtype=torch.float32)
        for start in range(0, len(rows), self._sizes.cpu_rows):
            some = slice(start, start + self._sizes.cpu_rows)
            products[:, some] = probes.float() @ rows[some].float().T
        return products

    def _reserve(self, more: int) -> None:
        """Make room for so many rows before the first of them comes."""
        more -= sum(block.free for block in self._blocks)
        while more > 0:
            all_rows = sum(len(block.rows) for block in self._blocks)
            capacity = min(max(all_rows, more, self._sizes.first_block_rows), self._sizes.largest_block_rows)
            rows = torch.zeros((capacity, self._dim), dtype=torch.float16, device=self._device)
            alive = torch.zeros(capacity, dtype=torch.bool, device=self._device)
            self._blocks.append(_Block(all_rows, rows, alive))
            more -= capacity

    def _by_block(self, positions: Positions) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the number of each block that holds some of these rising positions, and its rows of them."""
        ends = np.searchsorted(positions, [block.first + block.used for block in self._blocks])
        start = 0
        for number, end in enumerate(ends.tolist()):
            if end > start:
                places = positions[start:end] - self._blocks[number].first
                yield number, torch.from_numpy(places).to(self._device)
            start = end

    def _device_bytes(self) -> int:
        return sum(_size(block.rows) + _size(block.alive) for block in self._blocks)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Have the device to oneself, and say in our own words when it fails."""
        with self._lock:
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise DeviceFailed(
                    f"{self._device} has no room for {self._count} vectors and what a search needs beside them: use "
                    f"another device or engine `faiss` ({one_line(error)})"
                ) from error
            except RuntimeError as error:
                raise DeviceFailed(f"{self._device} failed: {one_line(error)}") from error


def find_device(choice: str) -> torch.device | None:
    """Return the device that a setting names; None, with a line in the log, where there is none."""
    try:
        return choose_device(choice)
    except Unavailable as error:
        _say_once(str(error))
        return None


@cache
def _say_once(reason: str) -> None:
    logger.warning("engine faiss-gpu scans on the CPU: %s", reason)


def _first(scores: torch.Tensor, fetch: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best `fetch` of (q, c) scores, or all of them, and their columns.

    The best of c scores lie in those of its groups whose best are best: so only those groups are looked through.
    """
    count = scores.shape[1]
    if 2 * fetch * group > count:
        found = scores.topk(min(fetch, count), dim=1)
        return found.values, found.indices
    whole = count - count % group
    groups = scores[:, :whole].view(len(scores), -1, group).amax(dim=2).topk(fetch, dim=1, sorted=False).indices
    inside = torch.arange(group, device=scores.device)
    columns = (groups.unsqueeze(2) * group + inside).flatten(1)  # (q, fetch, 1) + (group,) -> (q, fetch * group)
    rest = torch.arange(whole, count, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    found = scores.gather(1, columns).topk(fetch, dim=1)
    return found.values, columns.gather(1, found.indices)


def _size(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()
