"""Vectors to search, of any number, the same for the same seed: synthetic voices, or real embeddings jittered."""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest, Unavailable
from indexer.types import EMBEDDING_DIM, Vectors

BLOCK_ROWS = 50_000
"""Vectors that are made at a time: 38 MB, from a random stream of their own."""

PER_SPEAKER = 10
"""Utterances of a synthetic speaker."""

SPREAD = 0.67
"""Length of what sets an utterance apart from its speaker's direction: 1 / (1 + 0.67**2) = 0.69 is then the cosine of
two utterances of one speaker, as between ten-second utterances under the default encoder."""

HELD_OUT = 0.2
"""Share of the real embeddings that no vector of a jittered set is made of: the strangers."""

_SPEAKERS = BLOCK_ROWS // PER_SPEAKER
# What a random stream is for; each purpose and block has a stream of its own.
_ROWS, _KNOWN, _STRANGERS = range(3)


class VectorSet(Protocol):
    """Vectors and probes, made block by block."""

    @property
    def name(self) -> str:
        """What the set is called in reports."""
        ...

    def describe(self) -> str:
        """Say what the vectors are made of."""
        ...

    def block(self, number: int) -> Vectors:
        """Return (BLOCK_ROWS, D) unit vectors, the same whenever the number is."""
        ...

    def known(self, count: int, rows: int) -> Vectors:
        """Return (count, D) probes: new utterances of voices that are among the first `rows` vectors."""
        ...

    def strangers(self, count: int) -> Vectors:
        """Return (count, D) probes of voices of which no set of any size has a vector."""
        ...


class ClusteredVoices:
    """Speakers in directions of no preference, ten utterances each around the speaker's."""

    name = "clustered"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def describe(self) -> str:
        """Say what the vectors are made of."""
        same = 1 / (1 + SPREAD**2)
        return f"{PER_SPEAKER} utterances a speaker, cosine of two of one speaker about {same:.2f}"

    def block(self, number: int) -> Vectors:
        """Return the vectors of some speakers; see `VectorSet`."""
        rng = self._stream(_ROWS, number)
        centers = np.repeat(_directions(rng, _SPEAKERS), PER_SPEAKER, axis=0)
        return _around(centers, rng)

    def known(self, count: int, rows: int) -> Vectors:
        """Return an eleventh utterance of speakers drawn at random; see `VectorSet`."""
        rng = self._stream(_KNOWN, rows)
        speakers = rng.integers(0, max(1, rows // PER_SPEAKER), count)
        centers = np.empty((count, EMBEDDING_DIM), dtype=np.float32)
        for number in np.unique(speakers // _SPEAKERS).tolist():
            inside = speakers // _SPEAKERS == number
            centers[inside] = _directions(self._stream(_ROWS, number), _SPEAKERS)[speakers[inside] % _SPEAKERS]
        return _around(centers, rng)

    def strangers(self, count: int) -> Vectors:
        """Return utterances of speakers of their own; see `VectorSet`."""
        rng = self._stream(_STRANGERS, 0)
        return _around(_directions(rng, count), rng)

    def _stream(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, purpose, number])


class JitteredEmbeddings:
    """Real embeddings, multiplied by noise that has their own covariance: it goes where real voices differ.

    Parameters
    ----------
    embeddings : (n, D) float32 array
        Unit vectors in the order of their recordings; the last fifth is kept for strangers.
    origin
        What they are, for the report.
    """

    name = "jittered"

    def __init__(self, embeddings: Vectors, origin: str, seed: int) -> None:
        least = 100
        if len(embeddings) < least:
            raise InvalidRequest(f"{origin}: {len(embeddings)} embeddings where {least} are needed; give more of them")
        first_stranger = round(len(embeddings) * (1 - HELD_OUT))
        self._bases, self._others = embeddings[:first_stranger], embeddings[first_stranger:]
        self._origin = origin
        self._seed = seed
        deviations = embeddings.astype(np.float64) - embeddings.mean(axis=0)
        covariance = deviations.T @ deviations / len(embeddings)
        # (D, D): takes white noise to noise of this covariance, of the length that `SPREAD` says on average.
        values, directions = np.linalg.eigh(covariance)
        scaled = directions * np.sqrt(np.maximum(values, 0.0)) * (SPREAD / np.sqrt(np.trace(covariance)))
        self._color = (scaled @ directions.T).astype(np.float32)

    def describe(self) -> str:
        """Say what the vectors are made of."""
        return (
            f"{len(self._bases)} embeddings of {self._origin} with noise of their own covariance, "
            f"{len(self._others)} others for strangers"
        )

    def block(self, number: int) -> Vectors:
        """Return jittered embeddings; see `VectorSet`."""
        rng = self._stream(_ROWS, number)
        return self._jittered(self._bases[rng.integers(0, len(self._bases), BLOCK_ROWS)], rng)

    def known(self, count: int, rows: int) -> Vectors:
        """Return embeddings that the vectors are made of, jittered once more; see `VectorSet`."""
        rng = self._stream(_KNOWN, rows)
        return self._jittered(self._bases[rng.integers(0, len(self._bases), count)], rng)

    def strangers(self, count: int) -> Vectors:
        """Return embeddings that were kept out, jittered; see `VectorSet`."""
        rng = self._stream(_STRANGERS, 0)
        return self._jittered(self._others[rng.integers(0, len(self._others), count)], rng)

    def _jittered(self, bases: Vectors, rng: np.random.Generator) -> Vectors:
        return _unit(bases + rng.standard_normal(bases.shape, dtype=np.float32) @ self._color)

    def _stream(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, purpose, number])


def _directions(rng: np.random.Generator, count: int) -> Vectors:
    return _unit(rng.standard_normal((count, EMBEDDING_DIM), dtype=np.float32))


def _around(centers: Vectors, rng: np.random.Generator) -> Vectors:
    noise = rng.standard_normal(centers.shape, dtype=np.float32)
    noise *= np.float32(SPREAD / np.sqrt(EMBEDDING_DIM))
    noise += centers
    return _unit(noise)


def _unit(rows: Vectors) -> Vectors:
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows


def read_embeddings(path: Path) -> Vectors:
    """Read the vectors of a .npz file, as `voxdex embed --output` writes it: one array or many, (D,) or (n, D).

    Raises
    ------
    InvalidRequest
        If it cannot be read, or holds something else.
    """
    try:
        # Opened here: numpy leaves a file open that begins as an archive and is none.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            parts = [np.atleast_2d(archive[key]).astype(np.float32) for key in archive.files]
    except OSError as error:
        raise InvalidRequest(
            f"{path}: cannot be read ({error.strerror or error}); `voxdex embed --output` makes an .npz file"
        ) from error
    except (ValueError, EOFError, TypeError, BadZipFile) as error:  # numpy's own words advise to unpickle it
        raise InvalidRequest(f"{path}: no .npz file of vectors; `voxdex embed --output` makes one") from error
    if not parts or any(part.ndim != 2 or part.shape[1] != EMBEDDING_DIM for part in parts):
        shapes = sorted({str(part.shape) for part in parts})
        raise InvalidRequest(f"{path}: holds {', '.join(shapes) or 'nothing'} where (n, {EMBEDDING_DIM}) is needed")
    rows = np.concatenate(parts)
    if not np.isfinite(rows).all() or not (np.linalg.norm(rows, axis=1) > 0).all():
        raise InvalidRequest(f"{path}: holds vectors that have no direction (zero, NaN or infinity)")
    return _unit(rows)


def blocks_of(source: VectorSet, count: int) -> Iterator[Vectors]:
    """Yield the first `count` vectors of a set, made by as many threads as there are cores, in order."""
    threads = os.cpu_count() or 1
    numbers = iter(range(-(-count // BLOCK_ROWS)))
    with ThreadPoolExecutor(threads, thread_name_prefix="bench-vectors") as pool:
        ahead: deque[Future[Vectors]] = deque()
        left = count
        while left > 0:
            while len(ahead) <= threads and (number := next(numbers, None)) is not None:
                ahead.append(pool.submit(source.block, number))
            rows = ahead.popleft().result()[:left]
            left -= len(rows)
            yield rows


def write_rows(source: VectorSet, count: int, path: Path, *, spare: float) -> None:
    """Write the first `count` vectors as (count, D) little-endian float32, ready to be mapped.

    Parameters
    ----------
    spare
        Space that must be left beside the file, in its own sizes: what is built from it needs room too.

    Raises
    ------
    Unavailable
        If the disk has not enough space.
    """
    size = count * EMBEDDING_DIM * 4
    free = shutil.disk_usage(path.parent).free
    if free < (needed := round(size * (1 + spare))):
        raise Unavailable(
            f"{path.parent}: {free / 1e9:.1f} GB free where {count:,} vectors need {needed / 1e9:.1f}; choose another "
            "--folder"
        )
    with path.open("wb") as file:
        for rows in blocks_of(source, count):
            file.write(rows.astype("<f4", copy=False).data)


def map_rows(path: Path) -> NDArray[np.float32]:
    """Map what `write_rows` wrote, as (n, D)."""
    mapped = np.memmap(path, dtype="<f4", mode="r")
    return mapped.reshape(-1, EMBEDDING_DIM)
