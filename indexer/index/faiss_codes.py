"""Codes of vectors in main memory: two bits a component, laid out so that FAISS compares many of them at once."""

import ctypes
import mmap
import sys
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.index.scans import Positions
from indexer.index.snapshot_format import Codes
from indexer.types import Vectors

if sys.platform == "darwin":
    # torch and faiss each bring an OpenMP runtime. On Linux both are GNU's and live side by side; two copies of LLVM's
    # crash in a parallel region, so faiss keeps to one thread there.
    faiss.omp_set_num_threads(1)

# The types that faiss ships describe its C++ constructors, not the ones its Python layer puts in their place.
_faiss: Any = faiss

STRIPE_ROWS = 1 << 19
"""Rows of one stripe: what one thread scans at a time, and what growing may have to copy (24 MiB)."""

LANES = 32
"""Rows that the fast scan interleaves: the unit in which packed codes can be appended."""

PROBES_A_PASS = 24
"""Probes that one pass over the codes compares; a pass of fewer takes more time for each."""

_FOURS = 0x444444
"""How FAISS is to compare probes in one pass over the codes: six times four, where its own choice is eleven in all.

Measured on 1,000,000 rows in two stripes, a thread each, 48 probes that take turns with the other ways: 1.02 ms a probe
at the least where 2,360 rows are proposed, and 1.10 with eight times three; 0.83 and 0.84 where 128 are."""

_LARGE_PAGES = 4 << 20
"""Bytes of codes from which on pages of 2 MiB are made of them."""

_MADV_COLLAPSE = 25
"""Of Linux from 6.1 on; an earlier one refuses it, and keeps its pages."""

_CENTROIDS = 16
_SUBVECTOR = 2
"""Components that share a code of 4 bits, the index of one of 16 centroids: 2 bits a component.

Measured on 1,000,000 clustered vectors of 192: 2 bits a component find the ten best of a known voice among the first
100, where RaBitQ's 1 bit needs 5 times as many and its scan, for all its smaller codes, takes twice as long.
"""


def describe_faiss() -> str:
    """Say which FAISS runs here and what it was built for."""
    return f"faiss {faiss.__version__} ({str(_faiss.get_compile_options()).strip()}; {_faiss.get_num_gpus()} GPUs)"


class Quantizer:
    """Makes codes of 4 bits from every two components of a vector, and scans them."""

    def __init__(self, centroids: NDArray[np.float32]) -> None:
        self.centroids = centroids
        """(D / 2, 16, 2)."""
        self.dim = centroids.shape[0] * _SUBVECTOR
        self.code_bytes = self.dim // 4
        self._encoder: Any = self._coder()
        self._encoder.pq.sync_transposed_centroids()  # encodes 1.4 times as fast, and takes room only once

    @classmethod
    def trained(cls, sample: Vectors) -> "Quantizer":
        """Learn the centroids from (n, D) vectors, some 65,000 of them."""
        parts = sample.shape[1] // _SUBVECTOR
        coder: Any = _faiss.IndexPQ(sample.shape[1], parts, 4, faiss.METRIC_INNER_PRODUCT)
        coder.train(np.ascontiguousarray(sample, dtype=np.float32))
        numbers: NDArray[np.float32] = _faiss.vector_to_array(coder.pq.centroids)
        return cls(numbers.reshape(parts, _CENTROIDS, _SUBVECTOR).copy())

    def encode(self, vectors: Vectors) -> Codes:
        """(n, D) -> (n, D / 4)."""
        codes: Codes = self._encoder.sa_encode(np.ascontiguousarray(vectors, dtype=np.float32))
        return codes

    def pack(self, codes: Codes) -> Any:
        """Lay (n, D / 4) codes out for the fast scan."""
        coder = self._coder()
        _faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), coder.codes)
        coder.ntotal = len(codes)
        packed: Any = _faiss.IndexPQFastScan(coder)
        packed.qbs = _FOURS
        return packed

    def _coder(self) -> Any:
        coder: Any = _faiss.IndexPQ(self.dim, self.dim // _SUBVECTOR, 4, faiss.METRIC_INNER_PRODUCT)
        _faiss.copy_array_to_vector(np.ascontiguousarray(self.centroids, dtype=np.float32).ravel(), coder.pq.centroids)
        coder.is_trained = True
        return coder


class PackedCodes:
    """Codes laid out for the fast scan, appended to without laying out again what is there."""

    def __init__(self, quantizer: Quantizer, codes: Codes) -> None:
        self._quantizer = quantizer
        self._packed: Any = quantizer.pack(codes)
        if sys.platform == "linux":
            _keep_in_large_pages(self._packed.codes)
        self._rest: Codes = codes[len(codes) // LANES * LANES :].copy()
        self.count = len(codes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the codes."""
        return int(self._packed.codes.size())

    def append(self, codes: Codes) -> None:
        """Add (n, C) codes at the end."""
        whole = self.count - len(self._rest)
        new = np.concatenate([self._rest, codes])
        more: Any = self._quantizer.pack(new)
        start, size = whole * self._quantizer.code_bytes, more.codes.size()
        self._packed.codes.resize(start + size)
        _faiss.rev_swig_ptr(self._packed.codes.get(), start + size)[start:] = _faiss.rev_swig_ptr(
            more.codes.get(), size
        )
        self.count = whole + len(new)
        self._packed.ntotal = self.count
        self._packed.ntotal2 = whole + more.ntotal2
        self._rest = new[len(new) // LANES * LANES :].copy()

    def search(self, probes: Vectors, fetch: int) -> tuple[NDArray[np.float32], Positions]:
        """Best (Q, F) codes for each probe, by falling estimate; places from 0."""
        scores: NDArray[np.float32]
        places: Positions
        scores, places = self._packed.search(probes, min(fetch, self.count))
        return scores, places


def _keep_in_large_pages(codes: Any) -> None:
    """Have pages of 2 MiB made of the memory of packed codes, where the system can: a pass looks up each page.

    Measured on 524,288 rows, one core, in a virtual machine: a pass takes 5 % less for batches and 8 % less for one
    probe.
    """
    start = -(-int(codes.get()) // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (int(codes.get()) + int(codes.size())) // mmap.PAGESIZE * mmap.PAGESIZE
    if end - start >= _LARGE_PAGES:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


class Stripe:
    """Some neighboring rows: their codes, and the same laid out for scanning; mapped codes take no memory."""

    def __init__(self, quantizer: Quantizer, first: int, codes: Codes, *, mapped: bool) -> None:
        self.first = first
        self.mapped = mapped
        self.packed = PackedCodes(quantizer, codes)
        self._codes = codes

    @property
    def count(self) -> int:
        """Rows."""
        return self.packed.count

    @property
    def codes(self) -> Codes:
        """(count, C) codes as they were made."""
        return self._codes[: self.count]

    @property
    def room(self) -> int:
        """How many more rows it takes."""
        return 0 if self.mapped else STRIPE_ROWS - self.count

    @property
    def memory_bytes(self) -> int:
        """Bytes of both."""
        return self.packed.memory_bytes + (0 if self.mapped else int(self.codes.nbytes))

    def append(self, codes: Codes) -> None:
        """Add as many (n, C) codes as there is room for."""
        end = self.count + len(codes)
        if end > len(self._codes):
            # Room for the whole stripe costs no memory before it is used.
            larger = np.empty((STRIPE_ROWS, codes.shape[1]), dtype=np.uint8)
            larger[: self.count] = self.codes
            self._codes = larger
        self._codes[self.count : end] = codes
        self.packed.append(codes)


def compressible(dim: int) -> bool:
    """Tell whether vectors of a dimension can be compressed."""
    return dim % 4 == 0


def give_memory_back() -> None:
    """Return to the system what training has freed; the C library would keep it for a next time."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
