"""The bytes of a file of weights with their hash; needs no torch, so that they are read while it is imported."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from indexer.errors import NotFound, UnsupportedCheckpoint

MAX_FILE_BYTES = 2 * 1024**3


class WeightFile(NamedTuple):
    """All of a file, and the SHA-256 of these very bytes, lower-case hex."""

    path: Path
    data: bytes
    sha256: str


def read_weights(path: Path) -> WeightFile:
    """Read and hash a file; see `read_bytes` for the errors."""
    data = read_bytes(path)
    return WeightFile(path, data, hashlib.sha256(data).hexdigest())


def read_bytes(path: Path, count: int | None = None) -> bytes:
    """Read a file, or its first bytes.

    Raises
    ------
    NotFound
        If there is no such file, or it cannot be read.
    UnsupportedCheckpoint
        If it is too large for weights of a speaker encoder.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise NotFound(f"{path}: not a file; give the path of the weights")
        if size > MAX_FILE_BYTES:
            raise UnsupportedCheckpoint(f"{path}: {size} bytes, limit {MAX_FILE_BYTES}; not a speaker encoder")
        with path.open("rb") as stream:
            return stream.read(-1 if count is None else count)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file; check the path, or pull the encoder") from error
    except OSError as error:
        raise NotFound(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
