"""From unnamed utterances to unknown voices: what is one beforehand, what never is, who recurs, who keeps a name."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from search.calibration import Calibration
from search.clustering import EDGE_MARGIN, Evidence, Nodes, cosine_itself

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]

_SPEECH_QUANTILES = (0.1, 0.5, 0.9)

_PARTED_AT_MOST = 2000
"""Vectors that a tree is made of where a voice is parted: 2 million distances."""


@dataclass(frozen=True, slots=True)
class ClusterRule:
    """What is asked of a run.

    Attributes
    ----------
    threshold
        Mean cosine from which on two groups are one voice.
    fpir
        Instead: share of voices heard once that may be taken for another one; needs a calibration. With neither, the
        calibration says from which llr on each voice has no more than one stranger that near.
    min_utterances, min_recordings
        What a voice must be heard in to be kept as recurring.
    min_speech_s
        Net speech below which what one voice says in a recording is left alone: a single word fits many voices.

    Raises
    ------
    InvalidRequest
        If a value is out of range, or both a threshold and a rate are given.
    """

    threshold: float | None = None
    fpir: float | None = None
    min_utterances: int = 2
    min_recordings: int = 2
    min_speech_s: float = 2.0

    def __post_init__(self) -> None:
        if self.threshold is not None and self.fpir is not None:
            raise InvalidRequest("threshold and fpir are two ways to say the same: give one of them")
        if self.threshold is not None and not -1.0 < self.threshold <= 1.0:
            raise InvalidRequest(f"threshold {self.threshold} is no cosine: give a number above -1 and up to 1")
        if self.fpir is not None and not 0.0 < self.fpir < 1.0:
            raise InvalidRequest(f"fpir {self.fpir} is out of range: give a share between 0 and 1, as in 0.01")
        if self.min_utterances < 1 or self.min_recordings < 1:
            raise InvalidRequest(
                f"min_utterances {self.min_utterances} and min_recordings {self.min_recordings}: give 1 or more"
            )
        if not 0.0 <= self.min_speech_s < float("inf"):
            raise InvalidRequest(f"min_speech_s {self.min_speech_s} is out of range: give seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class ClusterPoint:
    """How pairs are judged in a run.

    Attributes
    ----------
    threshold
        Least evidence for one voice: a cosine, or an llr where `calibration_id` says by which calibration.
    edge_cosine
        Cosine below which neighbors are not looked at.
    asked
        What the threshold is to achieve, in words.
    """

    threshold: float
    evidence: Evidence
    edge_cosine: float
    calibration_id: str | None
    asked: str


def cluster_point(
    rule: ClusterRule,
    calibration: Calibration | None,
    *,
    speech_s: Floats,
    voices: int,
    encoder: str,
    encoder_threshold: float | None,
) -> ClusterPoint:
    """Choose the threshold of a run.

    Parameters
    ----------
    calibration
        Of the gallery's encoder; None: the cosine decides.
    speech_s : (m,) array
        Net speech of the utterances.
    voices
        How many voices are compared with each other: among more strangers the best scores higher.
    encoder
        Name for messages.
    encoder_threshold
        Cosine that the encoder is published with, for galleries without calibration.

    Raises
    ------
    InvalidRequest
        If a rate is asked for and there is no calibration, or nobody gives a threshold.
    """
    if rule.threshold is not None:
        return _by_cosine(rule.threshold, f"mean cosine of {rule.threshold:g} or more")
    if calibration is not None and (rule.fpir is None or calibration.open_set is not None):
        llr, asked = _llr_threshold(rule, calibration, max(voices, 2))
        lengths = np.quantile(speech_s, _SPEECH_QUANTILES) if len(speech_s) else np.ones(1)
        lowest = min(
            calibration.score_at(llr, enrolled_speech_s=one, probe_speech_s=other)
            for one in lengths.tolist()
            for other in lengths.tolist()
        )
        return ClusterPoint(
            llr,
            _llr_of(calibration),
            lowest - EDGE_MARGIN,
            calibration.id,
            asked,
        )
    if rule.fpir is not None:
        raise InvalidRequest(
            f"encoder {encoder} has no calibration that promises an error rate: fit one with `voxdex calibrate`, or "
            "give a threshold"
        )
    if encoder_threshold is None:
        raise InvalidRequest(
            f"encoder {encoder} has no calibration and no default threshold: give one with --threshold"
        )
    return _by_cosine(encoder_threshold, f"mean cosine of {encoder_threshold:g} or more (uncalibrated)")


def _llr_threshold(rule: ClusterRule, calibration: Calibration, voices: int) -> tuple[float, str]:
    if rule.fpir is not None:
        assert calibration.open_set is not None
        llr = calibration.open_set.threshold(rule.fpir, gallery_size=voices, rivals=np.empty(0))
        return llr, f"at most {100 * rule.fpir:g} % of voices heard once taken for another, {voices} compared"
    # Below 0 the scores speak for two voices, however few there are to be mistaken for.
    llr = max(0.0, calibration.llr_at_p_fa(1.0 / voices))
    return llr, f"mean llr of {llr:.2f} or more: a voice has at most one stranger that near, {voices} compared"


def _by_cosine(threshold: float, asked: str) -> ClusterPoint:
    return ClusterPoint(threshold, cosine_itself, threshold - EDGE_MARGIN, None, asked)


def _llr_of(calibration: Calibration) -> Evidence:
    def llr(cosines: Floats, first_s: Floats, second_s: Floats) -> Floats:
        return calibration.llr(cosines, enrolled_speech_s=first_s, probe_speech_s=second_s)

    return llr


@dataclass(frozen=True, eq=False)
class Heard:
    """Unnamed utterances and what is known of them: parallel (n,) arrays, -1 where nothing is.

    Attributes
    ----------
    recordings
        Recording of each.
    channels, voices
        Track and voice within the recording, as who speaks when was told.
    speech_s
        Net speech in seconds.
    pinned
        Unknown voice that a person put it to.
    apart : (p, 2) int64 array
        Unknown voice, and place of an utterance that a person said is not of it.
    """

    recordings: Numbers
    channels: Numbers
    voices: Numbers
    speech_s: Floats
    pinned: Numbers
    apart: Numbers

    def __len__(self) -> int:
        return len(self.recordings)


def group(heard: Heard) -> Numbers:
    """Return the node of each utterance, (n,) from 0: what a person or the diarizer called one voice is one node.

    A person's word goes first: an utterance that somebody pinned or took out follows nothing else.
    """
    count = len(heard)
    said = heard.pinned >= 0
    touched = said.copy()
    touched[heard.apart[:, 1]] = True
    told = (heard.voices >= 0) & ~touched
    keys = np.full((count, 4), -1, dtype=np.int64)
    keys[:, 0] = 2  # a node of its own
    keys[:, 1] = np.arange(count)
    keys[told, 0] = 1
    keys[told, 1:] = np.stack([heard.recordings, heard.channels, heard.voices], axis=1)[told]
    keys[said, 0] = 0
    keys[said, 1] = heard.pinned[said]
    _, nodes = np.unique(keys, axis=0, return_inverse=True)
    return nodes.reshape(-1).astype(np.int64)


def make_nodes(heard: Heard, nodes: Numbers, sums: NDArray[np.float32], weights: Floats) -> Nodes:
    """Complete nodes by how much is said in them and by what must stay apart.

    Parameters
    ----------
    nodes : (n,) int64 array
        Node of each utterance: see `group`.
    sums, weights
        Of each node: see `Nodes`.
    """
    count = len(weights)
    utterances = np.maximum(np.bincount(nodes, minlength=count), 1)
    speech_s = np.bincount(nodes, weights=heard.speech_s, minlength=count) / utterances
    fixed = np.zeros(count, dtype=bool)
    fixed[nodes[heard.pinned >= 0]] = True
    apart = np.concatenate([_voices_apart(heard, nodes), _said_apart(heard, nodes)])
    return Nodes(sums, weights, speech_s, np.unique(apart[apart[:, 0] != apart[:, 1]], axis=0), fixed)


def _voices_apart(heard: Heard, nodes: Numbers) -> Numbers:
    """Pair the nodes of one recording that share no voice of it."""
    told = heard.voices >= 0
    rows = np.unique(np.stack([heard.recordings, heard.voices, nodes], axis=1)[told], axis=0)
    _, starts, sizes = np.unique(rows[:, 0], return_index=True, return_counts=True)
    several = rows[starts, 1] != rows[starts + sizes - 1, 1]
    pairs: list[Numbers] = [np.empty((0, 2), dtype=np.int64)]
    for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
        some = rows[start : start + size]
        first, second = np.triu_indices(len(some), 1)
        differ = some[first, 1] != some[second, 1]
        both = np.sort(np.stack([some[first, 2], some[second, 2]], axis=1), axis=1)
        shared = {tuple(pair) for pair in both[~differ].tolist()}
        listed = [pair for pair in both[differ].tolist() if tuple(pair) not in shared]
        pairs.append(np.array(listed, dtype=np.int64).reshape(-1, 2))
    return np.concatenate(pairs)


def _said_apart(heard: Heard, nodes: Numbers) -> Numbers:
    said = heard.pinned >= 0
    held = dict(zip(heard.pinned[said].tolist(), nodes[said].tolist(), strict=True))
    pairs = [(held[voice], int(nodes[place])) for voice, place in heard.apart.tolist() if voice in held]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def recurring(labels: Numbers, heard: Heard, rule: ClusterRule) -> NDArray[np.bool_]:
    """Tell of each cluster whether it is heard often enough to be called recurring, or a person put it together.

    Parameters
    ----------
    labels : (n,) int64 array
        Cluster of each utterance, from 0.
    """
    count = int(labels.max(initial=-1)) + 1
    inside = np.unique(np.stack([labels, heard.recordings], axis=1), axis=0)[:, 0]
    often = np.bincount(labels, minlength=count) >= rule.min_utterances
    often &= np.bincount(inside, minlength=count) >= rule.min_recordings
    often[labels[heard.pinned >= 0]] = True
    return often


def keep_names(labels: Numbers, before: Numbers, pinned: Numbers, numbers: Mapping[int, int]) -> dict[int, int]:
    """Tell which clusters go on under the name of a voice that was there before.

    A cluster that holds what a person pinned is that voice. The others are matched by most utterances in common, the
    largest overlap first and the lower number where two are equal; each voice goes on at most once.

    Parameters
    ----------
    labels : (n,) int64 array
        Cluster of each utterance; negative where it is in none.
    before, pinned : (n,) int64 arrays
        Voice that each utterance was in, and to which it is pinned; -1: none.
    numbers
        Number of each voice.

    Returns
    -------
    dict
        Voice by cluster.
    """
    kept: dict[int, int] = {}
    said = (pinned >= 0) & (labels >= 0)
    for label, voice in np.unique(np.stack([labels, pinned], axis=1)[said], axis=0).tolist():
        kept.setdefault(label, voice)
    taken = set(kept.values())
    both = (before >= 0) & (labels >= 0)
    pairs, common = np.unique(np.stack([labels, before], axis=1)[both], axis=0, return_counts=True)
    ranked = sorted(
        zip(common.tolist(), pairs.tolist(), strict=True), key=lambda one: (-one[0], numbers.get(one[1][1], 0), one[1])
    )
    for _, (label, voice) in ranked:
        if label not in kept and voice not in taken and voice in numbers:
            kept[label] = voice
            taken.add(voice)
    return kept


def halves(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Part (n, D) unit vectors into two voices: average linkage down to two clusters; True marks the smaller one.

    Raises
    ------
    InvalidRequest
        If there are fewer than two vectors.
    """
    if len(vectors) < 2:
        raise InvalidRequest(f"{len(vectors)} utterance with a vector: two are needed to part a voice")
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _PARTED_AT_MOST)).astype(np.int64)]
    first = _parted(some)
    if len(some) < len(vectors):
        # The rest goes to the nearer mean.
        first = vectors @ some[first].mean(axis=0) >= vectors @ some[~first].mean(axis=0)
    smaller: NDArray[np.bool_] = ~first if (~first).sum() <= first.sum() else first
    return smaller


def _parted(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    from scipy.cluster.hierarchy import fcluster, linkage

    rows = vectors.astype(np.float64)
    distances = np.maximum(0.0, 1.0 - rows @ rows.T)[np.triu_indices(len(rows), 1)]
    labels = fcluster(linkage(distances, method="average"), 2, criterion="maxclust")
    first: NDArray[np.bool_] = labels == labels[0]
    if first.all():  # equal vectors: no level of the tree parts them
        first = np.arange(len(vectors)) < (len(vectors) + 1) // 2
    return first
