"""Other engines on the same vectors; each runs in a process of its own and is asked as its makers say.

Only this measurement touches their libraries: the product does not.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from api.bench.machine import PeakMemory
from api.bench.timing import medians_s, seconds_of
from api.bench.trial import KINDS, SCOPED_PROBES, K, Trial
from api.bench.truth import recall
from indexer.errors import InvalidRequest, Unavailable
from indexer.types import Vectors

_BATCH = 256
_LINKS = 32
"""Neighbors of a node of a graph, twice as many at the bottom."""
_BUILD_EFFORT = 80
"""Candidates that a graph looks at for each vector that is added."""
_EFFORTS = (64, 256, 1024)
_INSERT_ROWS = 10_000

Found = NDArray[np.int64]


class Peer(ABC):
    """One engine; row numbers count from 0."""

    library: ClassVar[str | None] = None
    """Distribution whose version is reported; None for FAISS, which is always there."""
    efforts: ClassVar[tuple[int, ...]] = (0,)
    """Settings of a search that are tried, least effort first; 0 where there is nothing to set."""

    @abstractmethod
    def build(self, rows: Vectors, folder: Path) -> None:
        """Take in (n, D) vectors."""

    @abstractmethod
    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Return the (Q, k) rows that it finds."""

    def close(self) -> None:
        """Give back what only ends when told to."""
        return


class Flat(Peer):
    """FAISS, every vector in memory and compared."""

    def build(self, rows: Vectors, folder: Path) -> None:
        """Copy the vectors."""
        import faiss

        self._index: Any = faiss.IndexFlatIP(rows.shape[1])
        for start in range(0, len(rows), _INSERT_ROWS):
            self._index.add(rows[start : start + _INSERT_ROWS])

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Search exhaustively."""
        found: Found = self._index.search(probes, k)[1]
        return found


class FaissGraph(Peer):
    """FAISS, HNSW."""

    efforts = _EFFORTS

    def build(self, rows: Vectors, folder: Path) -> None:
        """Link the vectors."""
        import faiss

        self._index: Any = faiss.IndexHNSWFlat(rows.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = _BUILD_EFFORT
        for start in range(0, len(rows), _INSERT_ROWS):
            self._index.add(rows[start : start + _INSERT_ROWS])

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Walk the graph."""
        self._index.hnsw.efSearch = effort
        found: Found = self._index.search(probes, k)[1]
        return found


class _Codes(Peer):
    """FAISS, compressed codes scanned whole; as many candidates as the effort says are then scored exactly."""

    efforts = (100, 1000)
    factory: ClassVar[str]
    _TRAINED_ON = 65_536

    def build(self, rows: Vectors, folder: Path) -> None:
        """Train on a sample and encode."""
        import faiss

        self._rows = rows
        self._index: Any = faiss.index_factory(rows.shape[1], self.factory, faiss.METRIC_INNER_PRODUCT)
        step = max(1, len(rows) // self._TRAINED_ON)
        self._index.train(np.ascontiguousarray(rows[::step][: self._TRAINED_ON]))
        for start in range(0, len(rows), _INSERT_ROWS):
            self._index.add(rows[start : start + _INSERT_ROWS])

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Scan the codes and score the best exactly."""
        proposed: Found = self._index.search(probes, min(effort, len(self._rows)))[1]
        found = np.empty((len(probes), k), dtype=np.int64)
        for number, (probe, some) in enumerate(zip(probes, proposed, strict=True)):
            scores = self._rows[some] @ probe
            found[number] = some[np.argsort(-scores)[:k]]
        return found


class ProductCodes(_Codes):
    """Four bits for two numbers each: what our index is built on, without the rest of it."""

    factory = "PQ96x4fs"


class BitCodes(_Codes):
    """RaBitQ, a bit a number."""

    factory = "RaBitQfs"


class Usearch(Peer):
    """usearch, HNSW."""

    library = "usearch"
    efforts = _EFFORTS

    def build(self, rows: Vectors, folder: Path) -> None:
        """Link the vectors."""
        from usearch.index import Index

        self._index: Any = Index(
            ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=_LINKS, expansion_add=_BUILD_EFFORT
        )
        for start in range(0, len(rows), _INSERT_ROWS):
            some = np.ascontiguousarray(rows[start : start + _INSERT_ROWS])
            self._index.add(np.arange(start, start + len(some)), some)

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Walk the graph."""
        self._index.expansion_search = effort
        keys = np.asarray(self._index.search(probes, k).keys, dtype=np.int64)
        return keys.reshape(len(probes), -1)


class Hnswlib(Peer):
    """hnswlib, HNSW."""

    library = "hnswlib"
    efforts = _EFFORTS

    def build(self, rows: Vectors, folder: Path) -> None:
        """Link the vectors."""
        import hnswlib

        self._index: Any = hnswlib.Index(space="ip", dim=rows.shape[1])
        self._index.init_index(max_elements=len(rows), M=_LINKS, ef_construction=_BUILD_EFFORT)
        for start in range(0, len(rows), _INSERT_ROWS):
            some = rows[start : start + _INSERT_ROWS]
            self._index.add_items(some, np.arange(start, start + len(some)))

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Walk the graph."""
        self._index.set_ef(effort)
        return np.asarray(self._index.knn_query(probes, k)[0], dtype=np.int64)


class _MilvusLite(Peer):
    """Milvus Lite, a file beside the process."""

    library = "milvus-lite"
    index_type: ClassVar[str]
    build_parameters: ClassVar[dict[str, int]] = {}

    def build(self, rows: Vectors, folder: Path) -> None:
        """Insert in batches, then build and load its index."""
        from pymilvus import DataType, MilvusClient

        client: Any = MilvusClient
        self._client = client(str(folder / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1])
        wanted = client.prepare_index_params()
        wanted.add_index("vector", index_type=self.index_type, metric_type="IP", params=dict(self.build_parameters))
        self._client.create_collection("bench", schema=schema)
        for start in range(0, len(rows), _INSERT_ROWS):
            some = np.ascontiguousarray(rows[start : start + _INSERT_ROWS])
            self._client.insert("bench", [{"id": start + n, "vector": row} for n, row in enumerate(some)])
        self._client.flush("bench")
        self._client.create_index("bench", wanted)
        self._client.load_collection("bench")

    def search(self, probes: Vectors, k: int, effort: int) -> Found:
        """Ask the server."""
        parameters = {"metric_type": "IP", "params": {"ef": effort} if effort else {}}
        found = self._client.search("bench", data=list(probes), limit=k, search_params=parameters)
        return np.array([[hit["id"] for hit in hits] for hits in found], dtype=np.int64)

    def close(self) -> None:
        """End the connection and the server behind it."""
        self._client.close()


class MilvusFlat(_MilvusLite):
    """Milvus Lite, every vector compared."""

    index_type = "FLAT"


class MilvusGraph(_MilvusLite):
    """Milvus Lite, HNSW."""

    index_type = "HNSW"
    efforts = _EFFORTS
    build_parameters: ClassVar[dict[str, int]] = {"M": _LINKS, "efConstruction": _BUILD_EFFORT}


PEERS: dict[str, type[Peer]] = {
    "FAISS flat": Flat,
    "FAISS PQ96x4fs + exact": ProductCodes,
    "FAISS RaBitQfs + exact": BitCodes,
    "FAISS HNSW32": FaissGraph,
    "usearch HNSW32": Usearch,
    "hnswlib HNSW32": Hnswlib,
    "Milvus Lite FLAT": MilvusFlat,
    "Milvus Lite HNSW32": MilvusGraph,
}


def peer_names(text: str) -> tuple[str, ...]:
    """Names of the peers that begin with one of the words, commas between them; "all" for all.

    Raises
    ------
    InvalidRequest
        If a word begins no name.
    """
    chosen: list[str] = []
    for word in (word.strip().lower() for word in text.split(",")):
        found = [name for name in PEERS if word and (word == "all" or name.lower().startswith(word))]
        if not found:
            raise InvalidRequest(f"--peers {word!r}: there are {', '.join(PEERS)}, and all")
        chosen += found
    return tuple(dict.fromkeys(chosen))


def peer(*, trial: dict[str, Any], name: str, budget_s: float) -> dict[str, Any]:
    """Build one peer and measure it at each effort.

    Raises
    ------
    Unavailable
        If it is not installed.
    """
    of = Trial(**trial)
    rows = of.rows
    probes = {kind: of.probes(kind) for kind in KINDS}
    kind_of = PEERS[name]
    try:
        at = version(kind_of.library) if kind_of.library else ""
    except PackageNotFoundError as error:
        raise Unavailable("not installed") from error
    _warm_up()
    with TemporaryDirectory(dir=of.folder) as folder, PeakMemory() as memory, closing(kind_of()) as engine:
        build_s = seconds_of(lambda: engine.build(rows, Path(folder)))
        answers = [
            {"effort": effort, **_measured(engine, of, probes, effort, budget_s / 4)} for effort in kind_of.efforts
        ]
        held = memory.now_bytes()
    return {"version": at, "build_s": build_s, "memory_bytes": held, "answers": answers}


def _measured(engine: Peer, of: Trial, probes: dict[str, Vectors], effort: int, budget_s: float) -> dict[str, Any]:
    answer: dict[str, Any] = {"recall": {}, "single_s": {}, "batch_s": {}}
    for kind in KINDS:
        some = probes[kind][: 2 * SCOPED_PROBES]
        found = engine.search(some, K, effort) + 1
        answer["recall"][kind] = recall(found.tolist(), of.truth(kind)[: len(some)])
        answer["single_s"][kind], answer["batch_s"][kind] = _times(engine, some, effort, budget_s)
    return answer


def _times(engine: Peer, probes: Vectors, effort: int, budget_s: float) -> tuple[float, float]:
    turn: Iterator[Vectors] = itertools.cycle(probes[:, None, :])
    whole = np.resize(probes, (_BATCH, probes.shape[1]))
    calls: Sequence[Callable[[], object]] = [lambda: engine.search(next(turn), K, effort)]
    (single_s,) = medians_s(calls, budget_s=budget_s, least=5, most=200)
    (batch_s,) = medians_s([lambda: engine.search(whole, K, effort)], budget_s=budget_s, most=5)
    return single_s, batch_s / _BATCH


def _warm_up() -> None:
    """Have FAISS and its threads in the process before memory is counted."""
    from api.bench.exhaustive import flat_search

    few = np.eye(4, dtype=np.float32)
    flat_search(few, few, 1)
