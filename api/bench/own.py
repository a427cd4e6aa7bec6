"""The index under test: built, saved, loaded again in another process, searched, filtered and deleted from."""

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from api.bench.exhaustive import flat_search
from api.bench.machine import PeakMemory
from api.bench.timing import medians_s, seconds_of
from api.bench.trial import DELETED, FILTERS, KINDS, SCOPED_PROBES, K, Trial, left_name, scope_name
from api.bench.truth import recall
from indexer.index.base import FeedMark, Hit, IdSet, IndexStore, VectorIndex
from indexer.index.stores import open_store
from indexer.settings import load_settings
from indexer.types import EncoderId, GalleryId, Vectors

ENCODER = EncoderId("0123456789abcdef-bench")
GALLERY = GalleryId(1)

ADD_ROWS = 4096
"""Vectors added at a time: what an index that reads a record adds at a time."""

AFTER_TRAINING = 0.2
"""Share of the vectors that is added once the index has been trained: on these the rate is measured."""

BATCH = 256
SETTLE_S = 600.0
_FLAT_TURNS = 10
_BATCH_TURNS = 3
_MANY = 2_000_000
"""Vectors above which a flat batch takes most of a minute, and is measured once."""


@runtime_checkable
class Settling(Protocol):
    """An index that goes on working on itself after a change."""

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Wait until it has nothing left to do."""
        ...


def build(*, trial: dict[str, Any], engine: str, device: str) -> dict[str, Any]:
    """Build an index of all vectors and save it; return what that took."""
    of = Trial(**trial)
    rows = of.rows
    first = of.count - round(AFTER_TRAINING * of.count)
    store = _store(of, engine, device)
    with PeakMemory() as memory:
        index = store.create()
        began = time.perf_counter()
        _add(index, rows, 0, first)
        added_s = time.perf_counter() - began
        settle(index)
        built_s = time.perf_counter() - began
        rest_s = seconds_of(lambda: _add(index, rows, first, of.count))
        settle(index)
        total_s = time.perf_counter() - began
        held = memory.now_bytes()
        saved_s = seconds_of(index.begin_save(FeedMark()).write)
        settle(index)
        after_save = memory.now_bytes()
    kind = index.info().kind
    index.close()
    return {
        "kind": kind,
        "first_adds_per_s": first / added_s,
        "trained_s": built_s - added_s,
        "adds_per_s": (of.count - first) / rest_s,
        "build_s": total_s,
        "snapshot_s": saved_s,
        "snapshot_bytes": sum(path.stat().st_size for path in (of.path("home")).rglob("*") if path.is_file()),
        "memory_bytes": held,
        "memory_saved_bytes": after_save,
        "memory_peak_bytes": memory.peak_bytes,
    }


def search(*, trial: dict[str, Any], engine: str, device: str, budget_s: float) -> dict[str, Any]:
    """Open the saved index in a process that has nothing else, and return how well and how fast it answers."""
    of = Trial(**trial)
    rows = of.rows
    probes = {kind: of.probes(kind) for kind in KINDS}
    store = _store(of, engine, device)
    flat_search(rows[:1], probes["known"][:1], 1)  # FAISS and its threads are there before memory is counted
    with PeakMemory() as memory:
        began = time.perf_counter()
        kept = store.load()
        assert kept is not None, "nothing was saved"
        index = kept.index
        index.search(probes["known"][:1], K)
        ready_s = time.perf_counter() - began
        settle(index)
        found = {kind: _in_batches(index, probes[kind]) for kind in KINDS}
        alone = {kind: [index.search(probe[None], K)[0] for probe in probes[kind][:SCOPED_PROBES]] for kind in KINDS}
        held = memory.now_bytes()
    info = index.info()
    answer: dict[str, Any] = {
        "kind": info.kind,
        "details": info.details,
        "ready_s": ready_s,
        "memory_bytes": held,
        "memory_peak_bytes": memory.peak_bytes,
        "mapped_bytes": info.mapped_bytes,
        "recall": {kind: recall(_numbers(found[kind]), of.truth(kind)) for kind in KINDS},
        "recall_alone": {kind: recall(_numbers(alone[kind]), of.truth(kind)[:SCOPED_PROBES]) for kind in KINDS},
        "largest_score_error": max(_score_error(rows, probes[kind], found[kind]) for kind in KINDS),
        **_beside_flat(index, rows, probes, budget_s),
    }
    del found, alone
    answer["filters"] = [_filtered(index, of, probes, share, budget_s / 4) for share in FILTERS]
    answer["deleted"] = _after_deletions(index, of, probes, budget_s / 4)
    index.close()
    return answer


def _beside_flat(index: VectorIndex, rows: Vectors, probes: dict[str, Vectors], budget_s: float) -> dict[str, Any]:
    """Time single probes and batches in turns with a flat scan of the same vectors in the same process."""
    own = {kind: partial(_ask_next, index, _one_by_one(probes[kind])) for kind in KINDS}
    turn = _one_by_one(probes["known"])

    def flat() -> object:
        return flat_search(rows, next(turn), K)

    flat()
    # Several searches to one scan: the scan leaves none of the index in the processor's cache.
    few = 4
    single = medians_s(
        [flat, *[own["known"]] * few, *[own["strangers"]] * few], budget_s=budget_s, least=_FLAT_TURNS, most=100
    )
    batches = {kind: np.resize(probes[kind], (BATCH, rows.shape[1])) for kind in KINDS}
    batch = medians_s(
        [
            lambda: flat_search(rows, batches["known"], K),
            lambda: index.search(batches["known"], K),
            lambda: index.search(batches["strangers"], K),
        ],
        budget_s=budget_s,
        least=_BATCH_TURNS if len(rows) <= _MANY else 1,
        most=7,
    )
    flat_batch, known_batch, strangers_batch = (seconds / BATCH for seconds in batch)
    known_s, strangers_s = float(np.median(single[1 : 1 + few])), float(np.median(single[1 + few :]))
    return {
        "flat_single_s": single[0],
        "single_s": {"known": known_s, "strangers": strangers_s},
        "single_times_faster": {"known": single[0] / known_s, "strangers": single[0] / strangers_s},
        "flat_batch_s": flat_batch,
        "batch_s": {"known": known_batch, "strangers": strangers_batch},
        "batch_times_faster": {"known": flat_batch / known_batch, "strangers": flat_batch / strangers_batch},
    }


def _filtered(
    index: VectorIndex, of: Trial, probes: dict[str, Vectors], share: float, budget_s: float
) -> dict[str, Any]:
    allowed = IdSet(np.flatnonzero(of.kept_by(share)) + 1)
    prepared_s = seconds_of(lambda: index.search(probes["known"][:1], K, allowed=allowed))
    return {
        "share": share,
        "kept": len(allowed),
        "first_s": prepared_s,
        **_scoped(index, of, probes, scope_name(share), allowed, budget_s),
    }


def _after_deletions(index: VectorIndex, of: Trial, probes: dict[str, Vectors], budget_s: float) -> dict[str, Any]:
    ids = np.flatnonzero(of.deleted()) + 1
    removed_s = seconds_of(
        lambda: [index.remove(ids[start : start + ADD_ROWS]) for start in range(0, len(ids), ADD_ROWS)]
    )
    at_once = _scoped(index, of, probes, left_name(), None, budget_s)
    settle(index)
    return {
        "share": DELETED,
        "removed": len(ids),
        "removes_per_s": len(ids) / removed_s,
        "at_once": at_once,
        "settled": _scoped(index, of, probes, left_name(), None, budget_s),
    }


def _scoped(
    index: VectorIndex, of: Trial, probes: dict[str, Vectors], scope: str, allowed: IdSet | None, budget_s: float
) -> dict[str, Any]:
    answer: dict[str, Any] = {"recall": {}, "single_s": {}, "batch_s": {}}
    for kind in KINDS:
        some = probes[kind][:SCOPED_PROBES]
        found = index.search(some, K, allowed=allowed)
        answer["recall"][kind] = recall(_numbers(found), of.truth(kind, scope))
        (answer["single_s"][kind],) = medians_s(
            [partial(_ask_next, index, _one_by_one(some), allowed)], budget_s=budget_s, least=5
        )
        whole = np.resize(some, (BATCH, some.shape[1]))
        (batch_s,) = medians_s([partial(index.search, whole, K, allowed=allowed)], budget_s=budget_s, most=3)
        answer["batch_s"][kind] = batch_s / BATCH
    return answer


def _one_by_one(probes: Vectors) -> Iterator[Vectors]:
    """Yield (1, D) probes, again and again."""
    return itertools.cycle(probes[:, None, :])


def _ask_next(index: VectorIndex, turn: Iterator[Vectors], allowed: IdSet | None = None) -> object:
    return index.search(next(turn), K, allowed=allowed)


def _in_batches(index: VectorIndex, probes: Vectors) -> list[list[Hit]]:
    return [hits for start in range(0, len(probes), BATCH) for hits in index.search(probes[start : start + BATCH], K)]


def _numbers(found: Sequence[Sequence[Hit]]) -> list[list[int]]:
    return [[int(hit.embedding_id) for hit in hits] for hits in found]


def _score_error(rows: Vectors, probes: Vectors, found: Sequence[Sequence[Hit]]) -> float:
    """Largest difference between a score and the float64 cosine of the full vectors."""
    worst = 0.0
    for probe, hits in zip(probes.astype(np.float64), found, strict=True):
        exact = rows[[hit.embedding_id - 1 for hit in hits]].astype(np.float64) @ probe
        worst = max(worst, float(np.abs(exact - [hit.score for hit in hits]).max(initial=0.0)))
    return worst


def _add(index: VectorIndex, rows: Vectors, start: int, stop: int) -> None:
    for first in range(start, stop, ADD_ROWS):
        end = min(first + ADD_ROWS, stop)
        index.add(np.arange(first + 1, end + 1, dtype=np.int64), rows[first:end])


def settle(index: object) -> None:
    """Wait until an index that goes on working on itself has done so."""
    if isinstance(index, Settling):
        index.wait_until_settled(SETTLE_S)


def _store(of: Trial, engine: str, device: str) -> IndexStore:
    home = of.path("home")
    home.mkdir(exist_ok=True)
    settings = load_settings(home=home, index={"engine": engine, "device": device})
    return open_store(settings, GALLERY, ENCODER, engine)
