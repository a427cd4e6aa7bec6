"""Grouping voices: known answers, and laws that hold whatever the voices are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import InvalidRequest
from indexer.types import EncoderId, Vectors
from search.calibration import default_calibrations
from search.clustering import NeighborGraph, Nodes, cluster, neighbor_graph
from search.unknown_voices import (
    ClusterPoint,
    ClusterRule,
    Heard,
    cluster_point,
    group,
    halves,
    keep_names,
    make_nodes,
    recurring,
)
from tests.vectors import ReferenceIndex, unit_vectors, voices

NONE = np.empty((0, 2), dtype=np.int64)


def nodes_of(vectors: Vectors, apart: np.ndarray = NONE, fixed: np.ndarray | None = None) -> Nodes:
    count = len(vectors)
    nobody = np.zeros(count, dtype=bool)
    return Nodes(vectors, np.ones(count), np.full(count, 5.0), apart, nobody if fixed is None else fixed)


def every_pair(count: int) -> NeighborGraph:
    first, second = np.triu_indices(count, 1)
    return NeighborGraph(first.astype(np.int64), second.astype(np.int64))


def angled(*degrees: float) -> Vectors:
    """Unit vectors in a plane."""
    radians = np.radians(degrees)
    rows = np.zeros((len(degrees), 192), dtype=np.float32)
    rows[:, 0], rows[:, 1] = np.cos(radians), np.sin(radians)
    return rows


def parts(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def heard(count: int, **known: object) -> Heard:
    unknown = np.full(count, -1, dtype=np.int64)
    values = {
        "recordings": np.arange(count),
        "channels": unknown,
        "voices": unknown,
        "speech_s": np.full(count, 5.0),
        "pinned": unknown,
        "apart": NONE,
    }
    values |= {name: np.asarray(value) for name, value in known.items()}
    return Heard(**values)


def test_voices_are_told_apart() -> None:
    truth = np.repeat(np.arange(20), 5)
    labels = cluster(nodes_of(voices(20, 5)), every_pair(100), threshold=0.4)
    assert parts(labels) == parts(truth)


def test_a_chain_of_look_alikes_does_not_become_one_cluster() -> None:
    # Neighbors are 20 degrees apart (cosine 0.94), the ends 180: connected components would join them all.
    labels = cluster(nodes_of(angled(*range(0, 181, 20))), every_pair(10), threshold=0.8)
    widest = max(max(part) - min(part) for part in parts(labels))
    assert widest <= 3


def test_pairs_are_judged_by_the_mean_of_all_pairs() -> None:
    # 0 and 30 degrees join first; to both, 70 degrees has cosines of 0.34 and 0.77: 0.55 on average.
    vectors = angled(0, 30, 70)
    assert parts(cluster(nodes_of(vectors), every_pair(3), threshold=0.54)) == {frozenset({0, 1, 2})}
    assert parts(cluster(nodes_of(vectors), every_pair(3), threshold=0.56)) == {frozenset({0, 1}), frozenset({2})}


def test_a_node_that_weighs_more_counts_for_more() -> None:
    vectors = angled(0, 30, 70)
    nodes = Nodes(
        vectors * np.array([[1], [3], [1]], dtype=np.float32),
        np.array([1.0, 3, 1]),
        np.ones(3),
        NONE,
        np.zeros(3, dtype=bool),
    )
    # (0.34 + 3 * 0.77) / 4 = 0.66
    assert len(parts(cluster(nodes, every_pair(3), threshold=0.65))) == 1
    assert len(parts(cluster(nodes, every_pair(3), threshold=0.67))) == 2


def test_what_is_no_edge_is_not_joined() -> None:
    graph = NeighborGraph(np.array([0]), np.array([1]))
    assert parts(cluster(nodes_of(voices(1, 3)), graph, threshold=0.4)) == {frozenset({0, 1}), frozenset({2})}


def test_evidence_may_ask_more_of_short_utterances() -> None:
    def strict(cosines: np.ndarray, first_s: np.ndarray, second_s: np.ndarray) -> np.ndarray:
        return np.where(np.minimum(first_s, second_s) < 2.0, cosines - 0.5, cosines)

    count = 4
    nodes = Nodes(angled(0, 10, 90, 100), np.ones(count), np.array([5.0, 5, 5, 1]), NONE, np.zeros(count, dtype=bool))
    labels = cluster(nodes, every_pair(count), threshold=0.6, evidence=strict)
    assert parts(labels) == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_fixed_nodes_are_never_joined() -> None:
    fixed = np.array([True, True, False, False])
    labels = cluster(nodes_of(voices(1, 4), fixed=fixed), every_pair(4), threshold=0.2)
    assert labels[0] != labels[1]
    assert len(parts(labels)) == 2


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.1, 0.9))
def test_the_order_of_the_voices_does_not_matter(seed: int, count: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    vectors = voices(max(1, count // 4), 4, seed=seed)[:count]
    count = len(vectors)
    apart = random.integers(0, count, (3, 2))
    apart = apart[apart[:, 0] != apart[:, 1]]
    order = random.permutation(count)
    place = np.argsort(order)
    labels = cluster(nodes_of(vectors, apart), every_pair(count), threshold=threshold)
    shuffled = cluster(nodes_of(vectors[order], place[apart]), every_pair(count), threshold=threshold)
    assert parts(labels) == parts(shuffled[place])


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 30), st.floats(-0.9, 0.9))
def test_what_must_stay_apart_stays_apart(seed: int, count: int, pairs: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    apart = random.integers(0, count, (pairs, 2))
    apart = apart[apart[:, 0] != apart[:, 1]]
    labels = cluster(nodes_of(voices(2, count, seed=seed)[:count], apart), every_pair(count), threshold=threshold)
    assert (labels[apart[:, 0]] != labels[apart[:, 1]]).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(-0.5, 0.9))
def test_merging_mutual_best_pairs_gives_what_merging_the_best_of_all_one_by_one_gives(
    seed: int, count: int, threshold: float
) -> None:
    vectors = voices(max(1, count // 3), 3, cosine=0.5, seed=seed)[:count]
    assert parts(cluster(nodes_of(vectors), every_pair(len(vectors)), threshold=threshold)) == one_by_one(
        vectors.astype(np.float64), threshold
    )


def one_by_one(vectors: np.ndarray, threshold: float) -> set[frozenset[int]]:
    groups = [[place] for place in range(len(vectors))]
    while len(groups) > 1:
        means = [
            (float(np.mean(vectors[first] @ vectors[second].T)), a, b)
            for a, first in enumerate(groups)
            for b, second in enumerate(groups[:a])
        ]
        best, a, b = max(means)
        if best < threshold:
            break
        groups[b] += groups.pop(a)
    return {frozenset(inside) for inside in groups}


def test_the_graph_holds_each_pair_of_neighbors_once_and_no_node_beside_itself() -> None:
    vectors = voices(5, 4)
    index = ReferenceIndex(EncoderId("x"))
    index.add(np.arange(1, 21), vectors)
    told: list[int] = []
    graph = neighbor_graph(index, vectors, at_least=0.4, neighbors=3, progress=told.append)
    found = set(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
    assert found == {(a, b) for a in range(20) for b in range(a + 1, 20) if a // 4 == b // 4}
    assert len(graph) == len(found)
    assert told == [20]


def test_a_graph_without_neighbors_or_nodes() -> None:
    with pytest.raises(InvalidRequest, match="neighbors = 0"):
        neighbor_graph(ReferenceIndex(EncoderId("x")), unit_vectors(1), at_least=0.0, neighbors=0)
    empty = np.empty((0, 192), dtype=np.float32)
    graph = neighbor_graph(ReferenceIndex(EncoderId("x")), empty, at_least=0.0)
    assert len(graph) == 0
    assert len(cluster(nodes_of(empty), graph, threshold=0.5)) == 0


def test_utterances_of_one_voice_of_a_recording_are_one_node() -> None:
    one = heard(6, recordings=[1, 1, 1, 1, 2, 2], voices=[0, 0, 1, -1, 0, 0], channels=[-1] * 4 + [0, 1])
    nodes = group(one)
    assert parts(nodes) == {frozenset({0, 1}), frozenset({2}), frozenset({3}), frozenset({4}), frozenset({5})}


def test_a_persons_word_goes_before_the_diarizers() -> None:
    one = heard(5, recordings=[1, 1, 1, 2, 2], voices=[0] * 5, pinned=[7, -1, -1, 7, -1], apart=[[7, 1]])
    nodes = group(one)
    assert parts(nodes) == {frozenset({0, 3}), frozenset({1}), frozenset({2}), frozenset({4})}
    made = make_nodes(one, nodes, np.zeros((4, 192), dtype=np.float32), np.ones(4))
    assert made.apart.tolist() == [sorted([nodes[0], nodes[1]])]
    assert made.fixed.tolist() == [node == nodes[0] for node in range(4)]


def test_voices_of_one_recording_are_apart_but_for_what_a_person_joined() -> None:
    one = heard(4, recordings=[1, 1, 1, 2], voices=[0, 1, 2, 0], pinned=[7, 7, -1, -1])
    nodes = group(one)
    made = make_nodes(one, nodes, np.zeros((3, 192), dtype=np.float32), np.ones(3))
    assert made.apart.tolist() == [sorted([nodes[0], nodes[2]])]


def test_recurring_is_who_is_heard_often_enough_or_was_put_together_by_a_person() -> None:
    one = heard(8, recordings=[1, 2, 3, 3, 4, 5, 6, 7], pinned=[-1] * 6 + [9, -1])
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 4])
    assert recurring(labels, one, ClusterRule(0.5)).tolist() == [True, False, True, True, False]
    assert recurring(labels, one, ClusterRule(0.5, min_recordings=1, min_utterances=1)).all()


def test_a_cluster_goes_on_under_the_name_with_which_it_shares_most() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, -1])
    before = np.array([5, 5, 6, 6, 6, 5, -1, 6])
    nobody = np.full(8, -1)
    assert keep_names(labels, before, nobody, {5: 1, 6: 2}) == {0: 5, 1: 6}
    pinned = nobody.copy()
    pinned[5] = 5
    assert keep_names(labels, before, pinned, {5: 1, 6: 2}) == {2: 5, 1: 6}


def test_a_voice_is_parted_by_its_vectors() -> None:
    rows = voices(2, 5)
    assert halves(rows[[0, 1, 2, 3, 4, 5, 6]]).tolist() == [False] * 5 + [True] * 2
    assert halves(np.repeat(rows[:1], 3, axis=0)).sum() == 1
    many = np.concatenate([voices(1, 2500, seed=1), voices(1, 500, seed=2)])
    assert halves(many).tolist() == [False] * 2500 + [True] * 500
    with pytest.raises(InvalidRequest, match="1 utterance"):
        halves(rows[:1])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"threshold": 0.5, "fpir": 0.01}, "one of them"),
        ({"threshold": 1.5}, "no cosine"),
        ({"fpir": 0.0}, "out of range"),
        ({"min_recordings": 0}, "1 or more"),
    ],
)
def test_a_rule_that_has_no_meaning_is_refused(rule: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ClusterRule(**rule)  # type: ignore[arg-type]


def test_with_a_calibration_the_threshold_rises_with_the_number_of_voices_and_keeps_what_was_asked() -> None:
    [calibration] = [one for one in default_calibrations() if one.encoder_ids == ("0575cb64845e6b9a-speechbrain",)]
    lengths = np.full(3, 5.0)

    def point(voices: int, **rule: float) -> ClusterPoint:
        return cluster_point(
            ClusterRule(**rule),  # type: ignore[arg-type]
            calibration,
            speech_s=lengths,
            voices=voices,
            encoder="ecapa",
            encoder_threshold=0.35,
        )

    assert point(100).threshold < point(1000).threshold < point(100_000).threshold
    assert point(2).threshold == 0.0
    assert point(100).threshold == calibration.llr_at_p_fa(0.01)
    strict = point(100, fpir=0.001)
    assert point(100, fpir=0.1).threshold < strict.threshold
    assert (strict.calibration_id, strict.asked[:12]) == (calibration.id, "at most 0.1 ")
    [at_edge] = strict.evidence(np.array([strict.edge_cosine + 0.1]), lengths[:1], lengths[:1])
    assert at_edge == pytest.approx(strict.threshold)
    # A cosine that is asked for goes before the calibration.
    assert (point(100, threshold=0.5).threshold, point(100, threshold=0.5).calibration_id) == (0.5, None)


def test_without_calibration_the_encoders_cosine_decides_and_the_answer_says_so() -> None:
    lengths = np.full(3, 5.0)
    point = cluster_point(ClusterRule(), None, speech_s=lengths, voices=3, encoder="ecapa", encoder_threshold=0.35)
    assert (point.threshold, point.calibration_id) == (0.35, None)
    assert "uncalibrated" in point.asked
    with pytest.raises(InvalidRequest, match="voxdex calibrate"):
        cluster_point(ClusterRule(fpir=0.01), None, speech_s=lengths, voices=3, encoder="ecapa", encoder_threshold=0.35)
    with pytest.raises(InvalidRequest, match="no default threshold"):
        cluster_point(ClusterRule(), None, speech_s=lengths, voices=3, encoder="ecapa", encoder_threshold=None)
