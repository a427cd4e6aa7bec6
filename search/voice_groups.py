"""Which windows are of one voice, and how many voices there are."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors
from search.resegmentation import Coverage, Floats, FrameGrid, Labels, best_path

_BLOCK = 2000
"""Most vectors that are compared pair by pair: 16 MB of distances. More are grouped block by block, then the groups."""

_ADDED_UP = 4096
"""Vectors that are weighed and added up at once, for the same reason."""

_ROUNDS = 30

_SPLITS = 3
"""How often voices are parted anew."""

_PARTED = 400
"""Most windows of a voice that tell how it falls into two; of more, as many from all over."""

_LEAST_PARTED = 4
_LEAST_PAIRS, _LEAST_ALIKE = 30, 0.1
"""Fewest pairs of windows that tell what all share, and the quantile of their cosines that does."""

_MOST_COMMON = 0.45
"""Most of a voice's own share that all have in common where there are several: beyond, one voice is all there is, which
would only be parted."""
_CUTS = 12
_HALVING_ROUNDS = 10


@dataclass(frozen=True)
class DiarizationTuning:
    """What depends on the encoder; chosen on conversations of one half of the speakers, measured on the other.

    Attributes
    ----------
    same_voice : float
        `likeness` of two groups from which on they are one voice.
    own_share : float
        Share of the variance of a long window's vector that is the voice's own.
    fine : float
        Mean cosine down to which windows are grouped at first; high, for groups should be pure.
    window_s, hop_s : tuple of float
        Lengths of the windows, longest first, and how far each kind is apart.
    switch_cost : float
        See `best_path`.
    min_voice_s : float
        A voice that is heard for less than this in all is not told from the others.
    halves_unlike : float
        Cosine of the two groups into which the windows of a voice fall best, below which they are tried as two voices;
        of one voice 0.55 and more. 0: they never are.
    strangers : float or None
        Below which cosine one in ten of two windows is in a clear recording, of however many voices. More tell of
        what all windows share, and voices have to be as much more alike. None: nobody measured it.
    """

    same_voice: float = 0.6
    own_share: float = 0.4
    fine: float = 0.5
    window_s: tuple[float, ...] = (1.5, 0.5)
    hop_s: tuple[float, ...] = (0.5, 0.25)
    switch_cost: float = 0.25
    min_voice_s: float = 1.5
    halves_unlike: float = 0.5
    strangers: float | None = -0.02


@dataclass(frozen=True, slots=True)
class Windows:
    """What was heard of a recording.

    Attributes
    ----------
    vectors : (W, D) float32 array
        Unit vectors of the windows, which are all that grows with the recording; no copy of them is made.
    durations_s : (W,) float64 array
        Their lengths.
    grid, coverage
        Frames of the speech, and which windows hear each of them.
    """

    vectors: Vectors
    durations_s: Floats
    grid: FrameGrid
    coverage: Coverage

    def means(self, labels: Labels, groups: int) -> Floats:
        """Return the (K, D) mean directions of groups of windows, each counted by its length."""
        return mean_directions(self.vectors, self.durations_s, labels, groups)


def group_alike(vectors: Vectors, least: float) -> Labels:
    """Group unit vectors so that the mean cosine of two groups is below `least`: (n,) numbers from 0.

    Average linkage on all pairs; where there are many vectors, on those of one stretch after another, and then on the
    mean directions of the groups, so that time and memory grow with their number and not with its square.
    """
    while True:
        blocks = [_link(vectors[first : first + _BLOCK], least) for first in range(0, len(vectors), _BLOCK)]
        offsets = np.cumsum([0] + [int(block.max()) + 1 for block in blocks])
        labels: Labels = np.concatenate([block + offset for block, offset in zip(blocks, offsets, strict=False)])
        if len(blocks) == 1:
            return labels
        means = mean_directions(vectors, np.ones(len(vectors)), labels, int(offsets[-1])).astype(vectors.dtype)
        if len(means) > _BLOCK and len(means) > len(vectors) // 2:
            least -= 0.1  # Hardly anything was alike: look less closely, or this would not end.
        joined: Labels = group_alike(means, least)[labels]
        return joined


def _link(vectors: Vectors, least: float) -> Labels:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(vectors) == 1:
        return np.zeros(1, dtype=np.int64)
    rows = vectors.astype(np.float64)
    distances = np.clip(1.0 - rows @ rows.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), method="average")
    return np.asarray(fcluster(tree, 1.0 - least, criterion="distance"), dtype=np.int64) - 1


def mean_directions(vectors: Vectors, weights: Floats, labels: Labels, groups: int) -> Floats:
    """Mean directions (K, D) of the vectors of each group, zero where it has none; vectors labeled -1 have no part."""
    sums = np.zeros((groups, vectors.shape[1]))
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    for start in range(0, len(order), _ADDED_UP):
        some = order[start : start + _ADDED_UP]
        own = labels[some]
        first = np.flatnonzero(np.concatenate(([True], own[1:] != own[:-1])))
        sums[own[first]] += np.add.reduceat(vectors[some] * weights[some, None], first, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Floats = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return means


def settle_voices(heard: Windows, tuning: DiarizationTuning, speakers: int | None) -> Labels:
    """Give each frame a voice: group, see who speaks when, learn each voice where it is alone, join; until it rests.

    Parameters
    ----------
    speakers
        How many voices there are; None: as many as are not alike.

    Returns
    -------
    (T,) int64 array
        Numbers from 0 without gaps.
    """
    vectors, coverage = heard.vectors, heard.coverage
    long = np.flatnonzero(heard.durations_s >= tuning.window_s[0] - 1e-3)
    if len(long) < 2:
        long = np.arange(len(vectors))
    tuning = _raised(tuning, vectors[long], coverage.first[long], coverage.last[long])
    groups = np.full(len(vectors), -1, dtype=np.int64)
    fine = tuning.fine
    groups[long] = group_alike(vectors[long], fine)
    while speakers is not None and groups.max() + 1 < min(speakers, len(long)) and fine < 1:
        fine += 0.1
        groups[long] = group_alike(vectors[long], fine)
    labels = _settled(heard, groups, tuning, speakers)
    for _ in range(_SPLITS):
        pure = coverage.pure_labels(labels)
        parted = _parted(heard, pure, tuning)
        if np.array_equal(parted, pure):
            break
        again = _settled(heard, parted, tuning, speakers)
        if again.max() < labels.max() or np.array_equal(again, labels):
            break
        labels = again
    return labels


def _raised(tuning: DiarizationTuning, vectors: Vectors, first: Labels, last: Labels) -> DiarizationTuning:
    """Ask voices to be more alike where all of them are, as over a telephone, whose sound is in every vector.

    The least alike windows tell: their cosines hardly depend on how many voices there are.
    """
    some = np.arange(0, len(vectors), -(-len(vectors) // _PARTED))
    apart = first[some][None, :] >= last[some][:, None]
    if tuning.strangers is None or np.count_nonzero(apart) < _LEAST_PAIRS:
        return tuning
    least = float(np.quantile((vectors[some] @ vectors[some].T)[apart], _LEAST_ALIKE))
    common = max(least - tuning.strangers, 0.0) / tuning.own_share
    if common > _MOST_COMMON:
        return tuning
    return replace(
        tuning,
        same_voice=tuning.same_voice + (1 - tuning.same_voice) * common,
        halves_unlike=tuning.halves_unlike + (1 - tuning.halves_unlike) * common,
    )


def _settled(heard: Windows, groups: Labels, tuning: DiarizationTuning, speakers: int | None) -> Labels:
    """Begin with groups of windows; see `settle_voices`."""
    means = heard.means(groups, int(groups.max()) + 1)
    labels = np.full(len(heard.grid), -1, dtype=np.int64)
    for _ in range(_ROUNDS):
        path = best_path(heard.vectors, means, heard.coverage, heard.grid, tuning.switch_cost)
        _, path = np.unique(path, return_inverse=True)
        if np.array_equal(path, labels):
            break
        labels = path
        pure = heard.coverage.pure_labels(labels)
        spoken_s = np.bincount(labels, weights=heard.grid.duration_s).astype(np.float64)
        kept = _join(heard.means(pure, len(spoken_s)), spoken_s, tuning, speakers)
        if kept.max() < 0:
            return np.zeros(len(heard.grid), dtype=np.int64)
        pure = np.where(pure >= 0, kept[np.maximum(pure, 0)], -1)
        means = heard.means(pure, int(kept.max()) + 1)
    return labels


def _parted(heard: Windows, pure: Labels, tuning: DiarizationTuning) -> Labels:
    """Part each group of windows whose halves are too unlike for one voice; `settle_voices` joins what was one.

    Where turns are shorter than the long windows, few of these hear one voice alone, and two voices may begin as one
    group.
    """
    vectors = heard.vectors
    parted = pure.copy()
    for voice in range(int(pure.max()) + 1):
        rows = np.flatnonzero(pure == voice)
        if len(rows) < _LEAST_PARTED:
            continue
        few = rows[:: -(-len(rows) // _PARTED)]
        some = vectors[few] * heard.durations_s[few, None]
        second = halved(some, range(1, len(some), -(-len(some) // _CUTS)))
        sums = np.stack([some[~second].sum(axis=0), some[second].sum(axis=0)])
        lengths = np.linalg.norm(sums, axis=1)
        if lengths.min() > 0 and sums[0] @ sums[1] < tuning.halves_unlike * lengths[0] * lengths[1]:
            apart = sums[1] / lengths[1] - sums[0] / lengths[0]
            nearer = (vectors @ apart.astype(vectors.dtype))[rows] > 0
            parted[rows[nearer]] = parted.max() + 1
    return parted


def halved(rows: Floats, cuts: Iterable[int]) -> NDArray[np.bool_]:
    """Part vectors into two groups whose sums are as long as can be, by k-means from several beginnings.

    Parameters
    ----------
    cuts
        Beginnings beside the second eigenvector: all before the row of this number in the one group, all after it in
        the other.

    Returns
    -------
    (n,) bool array
        Which are in the second group; all or none where nothing parts them.
    """
    beginnings = [np.linalg.eigh(rows @ rows.T)[1][:, -2] > 0, *(np.arange(len(rows)) >= cut for cut in cuts)]
    best, longest = beginnings[0], -1.0
    for second in beginnings:
        for _ in range(_HALVING_ROUNDS):
            if second.all() or not second.any():
                break
            sums = np.stack([rows[~second].sum(axis=0), rows[second].sum(axis=0)])
            nearer = np.diff(rows @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T, axis=1)[:, 0] > 0
            if (nearer == second).all():
                break
            second = nearer
        length = sum(float(np.linalg.norm(rows[second == side].sum(axis=0))) for side in (False, True))
        if length > longest:
            best, longest = second, length
    return best


def likeness(cosines: Floats, a_s: Floats, b_s: Floats, tuning: DiarizationTuning) -> Floats:
    """Correct cosines of two mean directions for how little they are means of: about 1 for one voice, 0 for two.

    Parameters
    ----------
    a_s, b_s
        Seconds of speech of either side. A window's vector is the voice's own, with a share `own_share` of the
        variance, and what differs from window to window; the mean of n windows keeps 1/n of the latter.
    """
    own = tuning.own_share
    lengths = [np.sqrt(own + (1.0 - own) * tuning.window_s[0] / np.maximum(side_s, 1e-3)) for side_s in (a_s, b_s)]
    corrected: Floats = cosines * lengths[0] * lengths[1] / own
    return corrected


def _join(means: Floats, spoken_s: Floats, tuning: DiarizationTuning, speakers: int | None) -> Labels:
    """Say which voice each group becomes, numbered without gaps; -1 for those too weak to be a voice."""
    kept = np.arange(len(means))
    heard: NDArray[np.bool_] = np.linalg.norm(means, axis=1) > 0
    kept[~heard] = -1
    least = speakers or 1
    weak = np.flatnonzero(heard & (spoken_s < tuning.min_voice_s))
    spare = int(heard.sum()) - least
    kept[weak[np.argsort(spoken_s[weak])][: max(spare, 0)]] = -1
    sums, sizes = means * spoken_s[:, None], spoken_s.copy()
    while (alive := np.unique(kept[kept >= 0])).size > least:
        unit = sums[alive] / np.linalg.norm(sums[alive], axis=1, keepdims=True)
        a_s, b_s = sizes[alive][:, None], sizes[alive][None, :]
        alike = likeness(unit @ unit.T, a_s, b_s, tuning)
        np.fill_diagonal(alike, -np.inf)
        if alike.max() < tuning.same_voice:
            if speakers is None:
                break
            # There are fewer than are unlike: what costs least to take for one, by Ward's criterion.
            alike = -(a_s * b_s / (a_s + b_s)) * (1.0 - alike)
            np.fill_diagonal(alike, -np.inf)
        a, b = np.unravel_index(int(alike.argmax()), alike.shape)
        into, gone = alive[min(a, b)], alive[max(a, b)]
        sums[into] += sums[gone]
        sizes[into] += sizes[gone]
        kept[kept == gone] = into
    present = kept >= 0
    kept[present] = np.unique(kept[present], return_inverse=True)[1]
    return kept
