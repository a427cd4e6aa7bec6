"""The scan of a GPU alone: float16 vectors made where they are searched, beside what the device's memory allows.

Neither the record nor the full vectors are needed, which at 100 million are 77 GB: the rows are made in blocks on the
device, always the same of a seed, so that what is exact can be computed from them again without keeping them.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from api.bench.timing import medians_s, seconds_of
from api.bench.trial import K
from api.bench.truth import recall
from api.bench.vector_sets import PER_SPEAKER, SPREAD
from indexer.errors import Unavailable
from indexer.index.gpu_scan import GpuScan, find_device
from indexer.types import EMBEDDING_DIM, Vectors

BATCHES = (1, 1024)
"""Probes that are searched at a time."""

_BLOCK_ROWS = 500_000
"""Rows made at a time: 384 MB in float32."""

_ROW_BYTES = EMBEDDING_DIM * 2
_SPARE_BYTES = 4 << 30
"""Room on the device for what is computed beside the rows: scores of a batch, a block that is made."""

_COPIED_BYTES = {"cuda": 2 << 30, "cpu": 64 << 20}
"""Far more than any cache of the device holds."""

_CHECKED = 64
"""Probes that are compared with an exhaustive search in full precision."""


def require_device(choice: str) -> torch.device:
    """Return the device that is measured.

    Raises
    ------
    InvalidRequest
        If `choice` names no device that scans.
    Unavailable
        If there is no such device.
    """
    device = find_device(choice)
    if device is None:
        raise Unavailable(
            f"engine faiss-gpu cannot be measured on {choice!r}: there is no such device here; measure where there is "
            "one, or add --device cpu to try the same code"
        )
    return device


def device_scan(*, count: int, device: str, seed: int, budget_s: float) -> dict[str, Any]:
    """Fill a scan with `count` rows and time it, single and in batches.

    Raises
    ------
    Unavailable
        If there is no such device, or the rows do not fit on it.
    DeviceFailed
        If it fails.
    """
    on = require_device(device)
    _require_room(on, count)
    copied = _copy_rate(on, budget_s / 4)
    voices = _DeviceVoices(on, seed, count)
    scan = GpuScan(on)
    try:
        filled_s = seconds_of(lambda: _fill(scan, voices))
        probes = voices.probes(max(BATCHES))
        details = scan.details
        single_limit = copied / (count * _ROW_BYTES)
        batches = []
        for size in BATCHES:
            turn = itertools.cycle(probes[start : start + size] for start in range(0, len(probes), size))
            scan.search(next(turn), scan.candidates)  # whatever the device prepares at the first time
            (taken,) = medians_s([partial(_next, scan, turn)], budget_s=budget_s, least=5, most=1000)
            batches.append(
                {
                    "batch": size,
                    "queries_per_s": size / taken,
                    "limit_queries_per_s": size * single_limit,
                    "share_of_limit": 1 / (taken * single_limit),
                }
            )
        checked = probes[:_CHECKED]
        proposed = scan.search(checked, scan.candidates).positions
        found = recall(proposed.tolist(), voices.exact(checked))
    finally:
        scan.close()
    return {
        "vectors": count,
        "device": details["device"],
        "device_bytes": details["device_bytes"],
        "copy_bytes_per_s": copied,
        "filled_s": filled_s,
        "recall": found,
        "candidates": scan.candidates,
        "batches": batches,
    }


class _DeviceVoices:
    """Utterances of synthetic speakers, made on a device; see `ClusteredVoices`."""

    def __init__(self, device: torch.device, seed: int, count: int) -> None:
        self._device = device
        self._seed = seed
        self._count = count
        self._rows = min(_BLOCK_ROWS, -(-count // PER_SPEAKER) * PER_SPEAKER)

    def blocks(self) -> Iterator[torch.Tensor]:
        """Yield (n, D) float32 unit rows, the same every time."""
        for number, start in enumerate(range(0, self._count, self._rows)):
            stream = self._stream(2 * number)
            centers = self._centers(stream).repeat_interleave(PER_SPEAKER, dim=0)
            yield self._around(centers, stream)[: self._count - start]

    def probes(self, count: int) -> Vectors:
        """Return (count, D): one utterance more of speakers of the first block."""
        centers = self._centers(self._stream(0))
        centers = centers[torch.arange(count, device=self._device) % len(centers)]
        rows: Vectors = self._around(centers, self._stream(1)).cpu().numpy()
        return rows

    def exact(self, probes: Vectors) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the (Q, 10) rows of highest cosine, in full precision, made once more block by block."""
        asked = torch.from_numpy(probes).to(self._device)
        scores = torch.empty((len(probes), 0), device=self._device)
        numbers = torch.empty((len(probes), 0), dtype=torch.int64, device=self._device)
        first = 0
        for rows in self.blocks():
            best = (asked @ rows.T).topk(min(K, len(rows)), dim=1)
            scores, places = torch.cat([scores, best.values], dim=1).sort(dim=1, descending=True)
            numbers = torch.cat([numbers, best.indices + first], dim=1).gather(1, places)
            scores, numbers = scores[:, :K], numbers[:, :K]
            first += len(rows)
        found: np.ndarray[Any, np.dtype[np.int64]] = numbers.cpu().numpy()
        return found

    def _centers(self, stream: torch.Generator) -> torch.Tensor:
        return _unit(self._noise((self._rows // PER_SPEAKER, EMBEDDING_DIM), stream))

    def _around(self, centers: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        return _unit(centers + self._noise(tuple(centers.shape), stream) * (SPREAD / EMBEDDING_DIM**0.5))

    def _noise(self, shape: tuple[int, ...], stream: torch.Generator) -> torch.Tensor:
        return torch.randn(shape, generator=stream, device=self._device)

    def _stream(self, number: int) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(self._seed + number)


def _fill(scan: GpuScan, voices: _DeviceVoices) -> None:
    for rows in voices.blocks():
        scan.append(rows.half().cpu().numpy())


def _next(scan: GpuScan, turn: Iterator[Vectors]) -> object:
    return scan.search(next(turn), scan.candidates)


def _copy_rate(device: torch.device, budget_s: float) -> float:
    """Bytes a second that the device's memory reads and writes when it copies: what a scan can read at the most."""
    size = _COPIED_BYTES[device.type]
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    copy()
    (taken,) = medians_s([copy], budget_s=budget_s, least=5, most=100)
    return 2 * size / taken


def _require_room(device: torch.device, count: int) -> None:
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    needed = count * (_ROW_BYTES + 1) + _SPARE_BYTES  # a byte a row says which are alive
    if needed > free:
        raise Unavailable(
            f"{count:,} vectors need {needed / 1e9:.1f} GB of {device} where {free / 1e9:.1f} are free: ask for fewer"
        )


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
