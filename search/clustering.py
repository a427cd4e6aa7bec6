"""Which unnamed utterances are of one voice: a graph of nearest neighbors, then average-link merging along its edges.

Every pair of clusters is judged by the mean cosine over all pairs of their utterances, so that a chain of look-alikes
does not become one giant cluster. Because that mean is the dot product of two sums of vectors, no pair is ever listed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.index.base import VectorIndex
from indexer.types import Vectors

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

NEIGHBORS = 20
"""Neighbors that are looked up for each voice; a voice that is heard more often is found through them all the same."""

PROBES_AT_ONCE = 2048
"""Voices looked up between two looks at whether to go on."""

EDGE_MARGIN = 0.1
"""How far below the threshold a neighbor's cosine may lie: two clusters can be nearer on average than by one pair."""

MOST_ROUNDS = 1000
"""Merging ends long before, for in each round the best pair there is becomes one."""

Evidence = Callable[[Floats, Floats, Floats], Floats]
"""(n,) cosines, net speech of both sides in seconds -> (n,) values that are compared with the threshold, rising with
the cosine: the llr of a calibration, for instance."""


def cosine_itself(cosines: Floats, first_s: Floats, second_s: Floats) -> Floats:
    """Judge by the plain cosine, whatever the amount of speech."""
    return cosines


@dataclass(frozen=True, eq=False)
class Nodes:
    """What is clustered: utterances, or several that are known to be of one voice.

    Attributes
    ----------
    sums : (m, D) float32 array
        Of each node, the sum of its utterances' unit vectors, each times its weight.
    weights : (m,) float64 array
        Of each node, the sum of those weights; a node that weighs more counts for more in means.
    speech_s : (m,) float64 array
        Typical net speech of an utterance of the node, in seconds.
    apart : (p, 2) int64 array
        Pairs of nodes that are never put into one cluster.
    fixed : (m,) bool array
        Nodes of which no two are ever put into one cluster: voices that people have put together.
    """

    sums: Vectors
    weights: Floats
    speech_s: Floats
    apart: Numbers
    fixed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.weights)

    def unit(self) -> Vectors:
        """Return the direction of each node as (m, D) unit rows; a node whose vectors cancel out points anywhere."""
        rows = self.sums / self.weights[:, None].astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1)
        lost = lengths < 1e-6
        rows[lost, 0], lengths[lost] = 1.0, 1.0
        unit: Vectors = (rows / lengths[:, None]).astype(np.float32)
        return unit


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """Pairs of nodes that are near each other, each pair once with the lower number first.

    Attributes
    ----------
    first, second : (e,) int64 arrays
        Node numbers, `first < second`.
    """

    first: Numbers
    second: Numbers

    def __len__(self) -> int:
        return len(self.first)

    def between(self, nodes: NDArray[np.bool_]) -> "NeighborGraph":
        """Return the pairs of which both are among these (m,) nodes."""
        kept = nodes[self.first] & nodes[self.second]
        return NeighborGraph(self.first[kept], self.second[kept])


def nothing_told(done: int) -> None:
    """Report progress to nobody."""


def neighbor_graph(
    index: VectorIndex,
    units: Vectors,
    *,
    at_least: float,
    neighbors: int = NEIGHBORS,
    progress: Callable[[int], None] = nothing_told,
) -> NeighborGraph:
    """Look up the nearest neighbors of every node in an index that holds node number n under the id n + 1.

    Parameters
    ----------
    index : VectorIndex
        Of exactly these nodes.
    units : (m, D) float32 array
        Unit vectors of the nodes.
    at_least : float
        Cosine below which a neighbor is passed over.
    neighbors : int
        k of the search.
    progress
        Told how many nodes are done after every batch; what it raises ends the search.

    Raises
    ------
    InvalidRequest
        If `neighbors` is below 1.
    """
    if neighbors < 1:
        raise InvalidRequest(f"neighbors = {neighbors} where at least 1 is needed")
    keys: list[Numbers] = []
    count = len(units)
    for start in range(0, count, PROBES_AT_ONCE):
        found = index.search(units[start : start + PROBES_AT_ONCE], neighbors + 1)
        sizes = [len(hits) for hits in found]
        total = sum(sizes)
        near = np.fromiter((hit.embedding_id for hits in found for hit in hits), dtype=np.int64, count=total) - 1
        scores = np.fromiter((hit.score for hits in found for hit in hits), dtype=np.float64, count=total)
        here = np.repeat(np.arange(start, start + len(found)), sizes)
        kept = (scores >= at_least) & (near != here)
        low, high = np.minimum(here, near)[kept], np.maximum(here, near)[kept]
        keys.append(low * count + high)
        progress(min(start + PROBES_AT_ONCE, count))
    edges = np.unique(np.concatenate(keys)) if keys else np.empty(0, dtype=np.int64)
    return NeighborGraph(edges // max(count, 1), edges % max(count, 1))


def cluster(
    nodes: Nodes, graph: NeighborGraph, *, threshold: float, evidence: Evidence = cosine_itself
) -> NDArray[np.int64]:
    """Put nodes into clusters: average-link merging along the edges of a graph, down to a threshold.

    In each round every cluster finds the best of its neighbors, and those that are each other's best become one: for
    average linkage that gives the same clusters as merging the best pair of all, one after another, and the order of
    the nodes does not matter. A pair that must stay apart keeps the clusters around it apart.

    Parameters
    ----------
    nodes : Nodes
        m of them.
    graph : NeighborGraph
        Which of them are looked at together.
    threshold : float
        Least evidence for one voice.
    evidence
        Judges the mean cosine of two clusters, at the mean net speech of their utterances.

    Returns
    -------
    (m,) int64 array
        Cluster of each node, numbered from 0 by their lowest node.

    References
    ----------
    Murtagh, "A Survey of Recent Advances in Hierarchical Clustering Algorithms", The Computer Journal 26(4), 1983: on
    reciprocal nearest neighbors.
    """
    merging = _Merging(nodes, graph, threshold, evidence)
    for _ in range(MOST_ROUNDS):
        if not merging.step():
            break
    _, labels = np.unique(merging.owner, return_inverse=True)
    return labels.astype(np.int64)


class _Merging:
    """Clusters on their way; each is called by its lowest node."""

    def __init__(self, nodes: Nodes, graph: NeighborGraph, threshold: float, evidence: Evidence) -> None:
        self._count = len(nodes)
        self.owner = np.arange(self._count)
        """(m,) cluster of each node."""
        self._sums = nodes.sums.copy()
        self._weights = nodes.weights.astype(np.float64)
        self._speech = nodes.speech_s.astype(np.float64) * self._weights
        self._fixed = nodes.fixed.copy()
        self._threshold = threshold
        self._evidence = evidence
        low, high = np.sort(nodes.apart.reshape(-1, 2), axis=1).T
        self._apart = np.unique(low * self._count + high)
        self._edges = graph.first * self._count + graph.second
        """(e,) keys of neighboring clusters, rising."""
        self._values = np.full(len(self._edges), np.nan)
        """(e,) evidence for each, NaN where it has to be computed."""

    def step(self) -> bool:
        """Merge every cluster with its best neighbor where both agree; False where nothing is left to merge."""
        self._drop_forbidden()
        self._judge()
        # What is below the threshold stays as an edge: after its clusters have grown, it may be above.
        first, second = self._ends(self._edges)
        good = self._values >= self._threshold
        first, second, values = first[good], second[good], self._values[good]
        if not len(first):
            return False
        # Best neighbor of each cluster: the highest value, and of equal ones the pair that is numbered lowest.
        order = np.lexsort((second, first, -values))
        place = np.full(self._count, len(order))
        np.minimum.at(place, first[order], np.arange(len(order)))
        np.minimum.at(place, second[order], np.arange(len(order)))
        agreed = order[(place[first[order]] == np.arange(len(order))) & (place[second[order]] == np.arange(len(order)))]
        self._merge(first[agreed], second[agreed])
        return True

    def _ends(self, keys: Numbers) -> tuple[Numbers, Numbers]:
        return keys // self._count, keys % self._count

    def _drop_forbidden(self) -> None:
        first, second = self._ends(self._edges)
        allowed = ~(self._fixed[first] & self._fixed[second])
        if len(self._apart):
            allowed &= ~np.isin(self._edges, self._apart, assume_unique=True)
        self._edges, self._values = self._edges[allowed], self._values[allowed]

    def _judge(self) -> None:
        unknown = np.flatnonzero(np.isnan(self._values))
        speech_s = self._speech / self._weights
        for start in range(0, len(unknown), _PAIRS_AT_ONCE):
            some = unknown[start : start + _PAIRS_AT_ONCE]
            first, second = self._ends(self._edges[some])
            dots = np.einsum("nd,nd->n", self._sums[first], self._sums[second], dtype=np.float64)
            cosines = dots / (self._weights[first] * self._weights[second])
            self._values[some] = self._evidence(cosines, speech_s[first], speech_s[second])

    def _merge(self, stays: Numbers, goes: Numbers) -> None:
        """Make pairs one; no cluster is in two of them, and `stays` is the lower number of each."""
        self._sums[stays] += self._sums[goes]
        self._weights[stays] += self._weights[goes]
        self._speech[stays] += self._speech[goes]
        self._fixed[stays] |= self._fixed[goes]
        becomes = np.arange(self._count)
        becomes[goes] = stays
        self.owner = becomes[self.owner]
        changed = np.zeros(self._count, dtype=bool)
        changed[stays] = True
        self._apart, _ = self._renamed(self._apart, np.zeros(len(self._apart)), becomes, changed)
        self._edges, self._values = self._renamed(self._edges, self._values, becomes, changed)

    def _renamed(
        self, keys: Numbers, values: Floats, becomes: Numbers, changed: NDArray[np.bool_]
    ) -> tuple[Numbers, Floats]:
        """Return the keys of pairs by what their clusters are called now, each once; changed ones are unknown again."""
        first, second = (becomes[ends] for ends in self._ends(keys))
        values = np.where(changed[first] | changed[second], np.nan, values)
        others = first != second
        low, high = np.minimum(first, second)[others], np.maximum(first, second)[others]
        # Values of equal keys are equal: unchanged ones were there once, and the rest is unknown.
        renamed, where = np.unique(low * self._count + high, return_index=True)
        return renamed, values[others][where]


_PAIRS_AT_ONCE = 1 << 17
"""Pairs whose cosines are computed at a time: 2 x 100 MB of vectors."""
