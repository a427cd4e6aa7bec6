"""How well and how fast unknown voices are found.

python -m tests.reports.clusters speech EMBEDDINGS.npz MANIFEST.csv [--encoder ID]
    Quality on labeled recordings, by threshold: vectors of `voxdex embed --output`, speakers of the manifest.
python -m tests.reports.clusters voices COUNT [--alone SHARE] [--threshold T] [--probes N] [--seed N]
    Synthetic voices, ten utterances each beside a share of voices that occur once: quality, time and memory.
python -m tests.reports.clusters record COUNT [--threshold T] [--seed N]
    The same from the rows of a record (SQLite in a temporary folder) to names in it, and once more with names there.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from api.bench.machine import PeakMemory
from api.bench.vector_sets import PER_SPEAKER, ClusteredVoices, blocks_of
from indexer.db.session import open_database
from indexer.settings import IndexSettings, load_settings
from indexer.types import EncoderId, Vectors
from search.calibration import default_calibration
from search.clustering import NeighborGraph, Nodes, cluster, nothing_told
from search.unknown_voices import ClusterPoint, ClusterRule, cluster_point
from tests.cluster_kit import ENCODER, Said, listed, make_gallery, members, record, run
from worker.cluster_run import near_voices

Numbers = NDArray[np.int64]

_LENGTH_S = 5.0
_THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def figures(labels: Numbers, truth: Numbers) -> str:
    """Pairwise and B-cubed precision, recall and F.

    References
    ----------
    Amigo et al., "A comparison of extrinsic clustering evaluation metrics", Information Retrieval 12(4), 2009.
    """
    _, both = np.unique(labels * (int(truth.max()) + 1) + truth, return_inverse=True)
    common, found, true = np.bincount(both), np.bincount(labels), np.bincount(truth)
    pairs = {name: float((sizes * (sizes - 1) / 2).sum()) for name, sizes in (("c", common), ("f", found), ("t", true))}
    pairwise = pairs["c"] / max(pairs["f"], 1.0), pairs["c"] / max(pairs["t"], 1.0)
    bcubed = float((common[both] / found[labels]).mean()), float((common[both] / true[truth]).mean())
    shown = []
    for name, (precision, recall) in (("pairs", pairwise), ("B-cubed", bcubed)):
        f = 2 * precision * recall / max(precision + recall, 1e-12)
        shown.append(f"{name} P {precision:.4f} R {recall:.4f} F {f:.4f}")
    return f"{', '.join(shown)}; {len(found)} clusters of {len(true)} voices, largest {found.max()}"


def nodes_of(vectors: Vectors, speech_s: NDArray[np.float64]) -> Nodes:
    count = len(vectors)
    return Nodes(vectors, np.ones(count), speech_s, np.empty((0, 2), dtype=np.int64), np.zeros(count, dtype=bool))


def on_speech(embeddings: Path, manifest: Path, encoder_id: EncoderId | None) -> None:
    with np.load(embeddings) as archive, manifest.open(encoding="utf-8") as lines:
        listed_rows = [row for row in csv.DictReader(lines) if row["path"] in archive.files]
        vectors = np.stack([archive[row["path"]] for row in listed_rows]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, speakers = np.unique([row["speaker"] for row in listed_rows], return_inverse=True)
    lengths = np.array([float(row["seconds"]) for row in listed_rows])
    sets = np.array([row["set"] for row in listed_rows])
    calibration = None if encoder_id is None else default_calibration((encoder_id,))
    say(f"{len(vectors)} recordings of {speakers.max() + 1} speakers; calibration: {calibration and calibration.id}")
    said_enough = lengths >= ClusterRule().min_speech_s
    groups = {"all": np.ones(len(sets), dtype=bool), f"of {ClusterRule().min_speech_s:g} s or more": said_enough}
    groups |= {name: sets == name for name in dict.fromkeys(sets.tolist())}
    for name, inside in groups.items():
        _, truth = np.unique(speakers[inside], return_inverse=True)
        rules = [ClusterRule(threshold=threshold) for threshold in _THRESHOLDS]
        if calibration is not None:
            rules += [ClusterRule(), ClusterRule(fpir=0.01), ClusterRule(fpir=0.1)]
        for rule in rules:
            point = cluster_point(
                rule,
                calibration,
                speech_s=lengths[inside],
                voices=int(inside.sum()),
                encoder="",
                encoder_threshold=None,
            )
            say(f"{name}, {point.asked}: {figures(_clustered(vectors[inside], lengths[inside], point), truth)}")
        for threshold in _THRESHOLDS:
            say(f"{name}, components at {threshold:g}: {figures(_connected(vectors[inside], threshold), truth)}")


def _clustered(vectors: Vectors, lengths: NDArray[np.float64], point: ClusterPoint) -> Numbers:
    graph = near_voices(vectors, ENCODER, IndexSettings(), at_least=point.edge_cosine, progress=nothing_told)
    return cluster(nodes_of(vectors, lengths), graph, threshold=point.threshold, evidence=point.evidence)


def _connected(vectors: Vectors, threshold: float) -> Numbers:
    """Join whatever a chain of neighbors joins: what average linkage is there to avoid."""
    graph = near_voices(vectors, ENCODER, IndexSettings(), at_least=threshold, progress=nothing_told)
    edges = coo_array((np.ones(len(graph)), (graph.first, graph.second)), shape=(len(vectors), len(vectors)))
    labels: Numbers = connected_components(edges, directed=False)[1].astype(np.int64)
    return labels


def made_up(count: int, alone: float, seed: int) -> tuple[Vectors, Numbers]:
    """Voices of ten utterances, and a share of utterances whose voice occurs once, in an order of no meaning."""
    once = round(count * alone)
    rows = np.concatenate(list(blocks_of(ClusteredVoices(seed), count - once)))
    truth = np.arange(len(rows)) // PER_SPEAKER
    if once:
        rows = np.concatenate([rows, ClusteredVoices(seed).strangers(once)])
        truth = np.concatenate([truth, truth.max(initial=-1) + 1 + np.arange(once)])
    order = np.random.default_rng(seed).permutation(count)
    return rows[order], truth[order]


def on_voices(count: int, alone: float, seed: int, threshold: float, probes: int | None) -> None:
    vectors, truth = made_up(count, alone, seed)
    say(f"{count} utterances, {truth.max() + 1} voices, {os.cpu_count()} cores, threshold {threshold:g}, seed {seed}")
    began, cpu_began = time.perf_counter(), time.process_time()
    looked_up = [(0, began, cpu_began)]

    def progress(done: int) -> None:
        looked_up.append((done, time.perf_counter(), time.process_time()))
        if probes is not None and done >= probes:
            raise _Enough

    with PeakMemory() as memory:
        try:
            graph = near_voices(vectors, ENCODER, IndexSettings(), at_least=threshold - 0.1, progress=progress)
        except _Enough:
            graph = _true_pairs(truth)
        first = next(place for place, (done, _, _) in enumerate(looked_up) if done > 0)
        done, end, cpu_end = looked_up[-1]
        # Until the first batch comes back, the index is being made.
        made_s = looked_up[first][1] - began
        done_rest = done - looked_up[first][0]
        rest_s, rest_cpu_s = end - looked_up[first][1], cpu_end - looked_up[first][2]
        say(f"index made, first batch looked up: {made_s:.1f} s, {looked_up[first][2] - cpu_began:.0f} s of CPU")
        say(
            f"{done_rest} more looked up: {rest_s:.1f} s, {rest_cpu_s:.0f} s of CPU: "
            f"{1e3 * rest_s / max(done_rest, 1):.3f} ms and {1e3 * rest_cpu_s / max(done_rest, 1):.3f} ms of CPU each"
        )
        if probes is not None:
            say("clusters from the pairs that the lookups of all would find: those of one voice")
        began = time.perf_counter()
        labels = cluster(nodes_of(vectors, np.full(count, _LENGTH_S)), graph, threshold=threshold)
        say(f"{len(graph)} edges clustered in {time.perf_counter() - began:.1f} s")
    say(f"peak memory {(memory.peak_bytes or 0) / 1e9:.2f} GB above {vectors.nbytes / 1e9:.2f} GB of vectors")
    say(figures(labels, truth))


class _Enough(Exception):
    """As many were looked up as were asked for."""


def _true_pairs(truth: Numbers) -> NeighborGraph:
    """Return the pairs of one voice, each once."""
    order = np.argsort(truth, kind="stable")
    pairs = [np.stack([order[:-step], order[step:]], axis=1) for step in range(1, PER_SPEAKER)]
    both = np.sort(np.concatenate(pairs), axis=1)
    both = both[truth[both[:, 0]] == truth[both[:, 1]]]
    keys = np.unique(both[:, 0] * len(truth) + both[:, 1])
    return NeighborGraph(keys // len(truth), keys % len(truth))


def on_record(count: int, seed: int, threshold: float) -> None:
    vectors, truth = made_up(count, 0.2, seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(home=Path(folder) / "home", database={})
        with closing(open_database(settings)) as database:
            gallery_id = make_gallery(database)
            began = time.perf_counter()
            ids: list[int] = []
            for start in range(0, count, 5000):
                ids += [
                    one
                    for [one] in record(database, gallery_id, *[[Said(row)] for row in vectors[start : start + 5000]])
                ]
            say(f"{count} utterances recorded in {time.perf_counter() - began:.1f} s")
            for turn in ("first run", "again"):
                began = time.perf_counter()
                with PeakMemory() as memory:
                    run(database, settings, ClusterRule(threshold=threshold))
                say(f"{turn}: {time.perf_counter() - began:.1f} s, peak memory {(memory.peak_bytes or 0) / 1e9:.2f} GB")
            if count <= 20_000:
                _compare(members(database, gallery_id), ids, truth)
            say(f"{len(listed(database, gallery_id))} of the first 1000 unknown voices listed")


def _compare(found: dict[str, set[int]], ids: list[int], truth: Numbers) -> None:
    of = {utterance: number for number, inside in enumerate(found.values()) for utterance in inside}
    labels = np.array([of.get(utterance, len(found) + place) for place, utterance in enumerate(ids)])
    say(figures(np.unique(labels, return_inverse=True)[1], truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    speech = what.add_parser("speech")
    speech.add_argument("embeddings", type=Path)
    speech.add_argument("manifest", type=Path)
    speech.add_argument("--encoder", type=EncoderId)
    for name in ("voices", "record"):
        made = what.add_parser(name)
        made.add_argument("count", type=int)
        made.add_argument("--seed", type=int, default=0)
        made.add_argument("--threshold", type=float, default=0.5)
        if name == "voices":
            made.add_argument("--alone", type=float, default=0.2)
            made.add_argument("--probes", type=int, help="look up so many, for the time that it takes")
    asked = parser.parse_args()
    if asked.what == "speech":
        on_speech(asked.embeddings, asked.manifest, asked.encoder)
    elif asked.what == "voices":
        on_voices(asked.count, asked.alone, asked.seed, asked.threshold, asked.probes)
    else:
        on_record(asked.count, asked.seed, asked.threshold)


if __name__ == "__main__":
    main()
