"""Differences between an index and the record: all of them, or those that a sample shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from indexer.db.embeddings import Embeddings, is_sound
from indexer.errors import CorruptSnapshot, NotFound, Unavailable
from indexer.index.base import Ids, VectorIndex
from indexer.types import EMBEDDING_DIM, EmbeddingId, EncoderId, GalleryId

SAMPLE_STRETCHES = 8
"""Places of a gallery that a sample looks at."""

SAMPLE_ROWS = 512
"""Vectors that are compared at each place: 8 of them take some 20 ms."""


@dataclass(frozen=True)
class CheckReport:
    """Every difference between an index and the record, by embedding id."""

    recorded: int
    indexed: int
    """In the index as it is once it has read what is newer than its files; 0 where there are none."""
    missing: tuple[EmbeddingId, ...]
    """In the record and not in the index."""
    extra: tuple[EmbeddingId, ...]
    """In the index and not in the record."""
    changed: tuple[EmbeddingId, ...]
    """In both, with different bytes."""
    damaged: tuple[EmbeddingId, ...]
    """In the record with bytes that do not match the record's own checksum: no index can hold what was meant."""
    behind: int = 0
    """Rows newer than the files: whoever opens the index adds them, as after every ingest. They count as indexed where
    there are files."""
    problem: str | None = None
    """What is wrong with which file, where one could not be used."""
    kept: bool = True
    """Whether there are files at all; there are none before the index is first opened, or after all were lost."""

    @property
    def in_step(self) -> bool:
        """Whether every vector that should be there is there as recorded, and nothing else."""
        return not (self.missing or self.extra or self.changed or self.damaged or self.problem)

    @property
    def differences(self) -> dict[str, tuple[EmbeddingId, ...]]:
        """Ids that differ, by what is wrong with them."""
        kinds = {"missing": self.missing, "extra": self.extra, "changed": self.changed, "damaged": self.damaged}
        return {kind: ids for kind, ids in kinds.items() if ids}

    @property
    def differing(self) -> Ids:
        """(n,) rising ids that are missing, extra or changed."""
        return np.unique(np.array([*self.missing, *self.extra, *self.changed], dtype=np.int64))

    def only(self, ids: Ids) -> "CheckReport":
        """Return the report with no other differences than those of these ids, and with what the record itself has."""
        kept = set(ids.tolist())
        return replace(
            self,
            missing=tuple(number for number in self.missing if number in kept),
            extra=tuple(number for number in self.extra if number in kept),
            changed=tuple(number for number in self.changed if number in kept),
        )

    def describe(self) -> str:
        """Say in one sentence what was found and what to do."""
        if self.in_step and not self.kept:
            return (
                f"there is no index file yet: whoever opens the index next makes it of the {self.behind} vectors "
                "in the record"
            )
        if self.in_step:
            newer = f"; {self.behind} of them are newer than its files and read when it is opened"
            later = newer if self.behind else ""
            return f"index and record agree on {self.indexed} vectors{later}"
        found = [f"{len(ids)} {kind} (first id {ids[0]})" for kind, ids in self.differences.items()]
        if self.problem:
            found.append(self.problem)
        remedies = ["delete the recordings of the damaged ones"] if self.damaged else []
        if self.problem or len(self.differing):
            remedies.append(CorruptSnapshot.remedy)
        said = f"{self.indexed} vectors in the index, {self.recorded} in the record: {', '.join(found)}"
        return f"{said}: {' and '.join(remedies)}"


@dataclass(frozen=True)
class Sample:
    """What a look at some vectors of an index found."""

    compared: int = 0
    drifted: tuple[EmbeddingId, ...] = ()
    """Missing, extra or with other bytes than the record's."""
    damaged: tuple[EmbeddingId, ...] = ()
    """In the record with bytes that do not match the record's own checksum."""


def everything(index: VectorIndex, *, deep: bool) -> tuple[Ids, Ids]:
    """Return all (n,) rising ids of an index and their (n,) checksums; see `VectorIndex.contents`."""
    blocks = list(index.contents(deep=deep))
    empty = np.empty(0, dtype=np.int64)
    ids = np.concatenate([empty, *(block[0] for block in blocks)])
    checksums = np.concatenate([empty, *(block[1] for block in blocks)])
    return ids, checksums


def compare_all(held: tuple[Ids, Ids], recorded: Iterable[tuple[Ids, Ids, Sequence[bytes]]]) -> CheckReport:
    """Compare the ids and checksums of an index with (ids, checksums, bytes) of the record, block by block."""
    held_ids, held_checksums = held
    missing: list[int] = []
    changed: list[int] = []
    damaged: list[int] = []
    seen: list[Ids] = [np.empty(0, dtype=np.int64)]
    for ids, checksums, stored in recorded:
        seen.append(ids)
        sound = np.array([is_sound(*row) for row in zip(checksums.tolist(), stored, strict=True)], dtype=bool)
        inside, places = _find(held_ids, ids)
        missing += ids[~inside & sound].tolist()
        differs = np.zeros(len(ids), dtype=bool)
        differs[inside] = held_checksums[places[inside]] != checksums[inside]
        changed += ids[differs & sound].tolist()
        damaged += ids[~sound].tolist()
    all_ids = np.concatenate(seen)
    extra = np.setdiff1d(held_ids, all_ids, assume_unique=True)
    return CheckReport(
        recorded=len(all_ids),
        indexed=len(held_ids),
        missing=_as_ids(missing),
        extra=_as_ids(extra.tolist()),
        changed=_as_ids(changed),
        damaged=_as_ids(damaged),
    )


def compare_some(index: VectorIndex, record: Embeddings, gallery_id: GalleryId, encoder_id: EncoderId) -> Sample:
    """Compare stretches of an index, chosen at random, with the record, whose view must be the index's own."""
    compared = 0
    random = np.random.default_rng()
    top = record.last_id(gallery_id, encoder_id)
    drifted, damaged = set(index.ids(after=top).tolist()), set[int]()
    for after in random.integers(-SAMPLE_ROWS, max(1, top - SAMPLE_ROWS), SAMPLE_STRETCHES, endpoint=True).tolist():
        nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), ())
        ids, checksums, stored = next(record.raw_stream(gallery_id, encoder_id, after, SAMPLE_ROWS), nothing)
        last = int(ids[-1]) if len(ids) == SAMPLE_ROWS else top
        here = index.ids(after=after, upto=last)
        sound = np.array([is_sound(*row) for row in zip(checksums.tolist(), stored, strict=True)], dtype=bool)
        recorded = ids[sound]
        damaged.update(ids[~sound].tolist())
        drifted.update(np.setxor1d(here, recorded, assume_unique=True).tolist())
        both = np.intersect1d(here, recorded, assume_unique=True)
        meant = np.frombuffer(b"".join(compress(stored, sound)), dtype="<f4")
        drifted.update(_other_bytes(index, both, meant.reshape(-1, EMBEDDING_DIM)[np.isin(recorded, both)]))
        compared += len(ids)
    return Sample(compared, _as_ids(sorted(drifted)), _as_ids(sorted(damaged)))


def compare_these(
    index: VectorIndex, record: Embeddings, gallery_id: GalleryId, encoder_id: EncoderId, ids: Ids
) -> Ids:
    """Return those of (n,) rising ids that are missing, extra, or with other bytes than the record's."""
    inside = ids[index.holds(ids)]
    recorded, meant, damaged = record.present(gallery_id, encoder_id, ids)
    differ = np.setxor1d(inside, np.setdiff1d(recorded, damaged), assume_unique=True)
    both = np.intersect1d(inside, recorded, assume_unique=True)
    other = _other_bytes(index, both, meant[np.isin(recorded, both)])
    return np.union1d(differ, np.array(other, dtype=np.int64))


def _other_bytes(index: VectorIndex, ids: Ids, meant: NDArray[np.float32]) -> list[int]:
    """Return those of (m,) ids whose row in the index is not the (m, D) row that was meant."""
    try:
        rows = index.reconstruct(ids)
    except (Unavailable, NotFound):  # damaged, as the index itself noticed; or taken out by another process just now
        return [int(number) for number in ids]
    same = rows == meant
    # An index that keeps half precision gives back rounded rows.
    same |= rows == meant.astype(np.float16)
    return [int(number) for number in ids[~same.all(axis=1)]]


def _find(sorted_ids: Ids, wanted: Ids) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether each wanted id is there, and where."""
    if len(sorted_ids) == 0:
        return np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted), dtype=np.intp)
    places = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return sorted_ids[places] == wanted, places


def _as_ids(numbers: list[int]) -> tuple[EmbeddingId, ...]:
    return tuple(EmbeddingId(number) for number in numbers)
