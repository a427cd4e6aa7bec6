"""What makes a vector storable, and how two sets of stored vectors are told apart."""

import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import EncoderMismatch, InvalidRequest, NonFiniteEmbedding
from indexer.types import Vectors

UNIT_NORM_TOLERANCE = 1e-4
"""Largest | ||v|| - 1 | of a vector called unit; float32 rounding over 192 terms stays below 1e-6."""

FINGERPRINT_MODULUS = 65_521
"""Largest prime below 2**16: products of two residues stay below 2**32, so that 2**31 rows sum in 64 bits."""


def require_unit_rows(vectors: ArrayLike, dim: int) -> Vectors:
    """Return the rows as contiguous little-endian float32, or refuse them by name.

    Parameters
    ----------
    vectors : (n, D) array
        Rows that claim unit L2 norm.
    dim : int
        The D that is required.

    Raises
    ------
    EncoderMismatch
        If the rows have another dimension; the message names both numbers.
    NonFiniteEmbedding
        If a row holds NaN or infinity.
    InvalidRequest
        If a row's norm differs from 1 by more than `UNIT_NORM_TOLERANCE`.
    """
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    if rows.ndim != 2 or rows.shape[1] != dim:
        given = rows.shape[-1] if rows.ndim == 2 else f"of shape {rows.shape}"
        raise EncoderMismatch(f"vectors have dimension {given} where {dim} is kept: use the encoder of this gallery")
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))  # (n, D) -> (n,)
    finite = np.isfinite(norms)
    if not finite.all():
        row = int(np.argmin(finite))
        raise NonFiniteEmbedding(f"vector {row} of {len(rows)} holds NaN or infinity: embed the audio again")
    off = np.abs(norms - 1.0) > UNIT_NORM_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise InvalidRequest(
            f"vector {row} of {len(rows)} has norm {norms[row]:.6g} where 1 +- {UNIT_NORM_TOLERANCE:g} is needed: "
            "divide it by its norm"
        )
    return rows


def checksums_of(vectors: Vectors) -> NDArray[np.int64]:
    """CRC-32 of each row's little-endian float32 bytes: (n, D) -> (n,) in [0, 2**32)."""
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.int64, count=len(rows))


@dataclass(frozen=True)
class Fingerprint:
    """Four sums over (id, checksum) pairs that both SQL and NumPy compute without seeing a vector.

    Equal sets have equal fingerprints. A missing, extra or changed row changes `count`, `ids` or `checksums`;
    two rows that swapped vectors change `products`. It tells drift, not malice: `check` compares every row.
    """

    count: int
    ids: int
    checksums: int
    products: int

    @classmethod
    def of(cls, ids: NDArray[np.int64], checksums: NDArray[np.int64]) -> Self:
        """Fingerprint of (n,) embedding ids and their vectors' CRC-32."""
        products = (ids % FINGERPRINT_MODULUS) * (checksums % FINGERPRINT_MODULUS)
        return cls(len(ids), int(ids.sum()), int(checksums.sum()), int(products.sum()))

    def __add__(self, other: "Fingerprint") -> "Fingerprint":
        return Fingerprint(
            self.count + other.count,
            self.ids + other.ids,
            self.checksums + other.checksums,
            self.products + other.products,
        )


EMPTY = Fingerprint(0, 0, 0, 0)
"""Fingerprint of no rows."""
