"""One run over the unnamed utterances of a gallery, from the vectors of the record to names in it.

It reads nothing but the record, so any worker can do it, whichever engine searches the gallery. What takes long is
looking up the neighbors of every voice; the clusters, their names and the writing take a fraction of that.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from indexer.db.calibrations import Calibrations
from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import Gallery, Job
from indexer.db.plans import Plans
from indexer.db.session import Database
from indexer.db.transactions import in_transaction
from indexer.db.unknown_voices import UnknownVoices
from indexer.db.voice_runs import KnownVoices, UnnamedRows, VoiceRuns
from indexer.embedding.registry import make_registry
from indexer.errors import LeaseLost, NotFound
from indexer.index.faiss_index import FaissIndex
from indexer.index.feed import settle
from indexer.settings import IndexSettings, Settings
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId, JobId, UnknownVoiceId, Vectors
from search.calibration import Calibration, default_calibration
from search.clustering import NeighborGraph, cluster, neighbor_graph
from search.stored_calibration import stored_calibration
from search.unknown_voices import (
    ClusterPoint,
    ClusterRule,
    Heard,
    cluster_point,
    group,
    keep_names,
    make_nodes,
    recurring,
)

WRITTEN_AT_ONCE = 5000
"""Utterances of one transaction: a fraction of a second, on either database."""

_ADDED_AT_ONCE = 50_000
_TOLD_EVERY_S = 1.0

Numbers = NDArray[np.int64]
Told = Callable[[int, int], None]
"""Told how many voices were looked up, of how many."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What a run found, before names are given.

    Attributes
    ----------
    labels
        Cluster of each utterance; -1 where it is in none that recurs.
    scores
        Cosine of each utterance's voice in its recording to the mean of the cluster.
    """

    labels: Numbers
    scores: NDArray[np.float64]
    point: ClusterPoint


class ClusterRun:
    """One run in one worker's hands."""

    def __init__(
        self, database: Database, settings: Settings, job: Job, token: str, look: Callable[[], None], told: Told
    ) -> None:
        self._database = database
        self._settings = settings
        self._job_id = JobId(job.id)
        self._gallery_id = GalleryId(job.gallery_id)
        self._rule = ClusterRule(**{one.name: job.options[one.name] for one in fields(ClusterRule)})
        self._token = token
        self._look = look
        self._told = told
        self._counted_at = 0.0

    def run(self) -> None:
        """Find the unknown voices and write them down; raises what `look` raises where it is to stop."""
        with self._database.read_scope() as session:
            UnknownVoices(session, self._gallery_id).require_allowed()
            gallery = Galleries(session).get(self._gallery_id)
            encoder_id = gallery.encoder_id
            calibration = _calibration_of(session, gallery, self._settings.decision.calibration)
            rows = VoiceRuns(session, self._gallery_id).unnamed(encoder_id)
            known = VoiceRuns(session, self._gallery_id).known()
        heard = _heard(rows, known)
        nodes = group(heard)
        sums, weights = self._sums(rows, heard, nodes, encoder_id)
        found = self._find(heard, nodes, sums, weights, encoder_id, calibration)
        self._write(rows, known, heard, found, encoder_id)

    def _sums(
        self, rows: UnnamedRows, heard: Heard, nodes: Numbers, encoder_id: EncoderId
    ) -> tuple[Vectors, NDArray[np.float64]]:
        """Sum up the vectors of each node, each weighted by its speech; damaged ones count for nothing."""
        count = int(nodes.max(initial=-1)) + 1
        sums = np.zeros((count, EMBEDDING_DIM), dtype=np.float32)
        weights = np.zeros(count)
        with self._database.read_scope() as session:
            blocks = Embeddings(session).stream(self._gallery_id, encoder_id)
            for ids, vectors, _ in blocks if len(rows) else ():
                self._look()
                places = np.minimum(np.searchsorted(rows.embedding_ids, ids), len(rows) - 1)
                wanted = rows.embedding_ids[places] == ids
                places, vectors = places[wanted], vectors[wanted]
                if not len(places):
                    continue
                order = np.argsort(nodes[places], kind="stable")
                places, vectors = places[order], vectors[order]
                touched, starts = np.unique(nodes[places], return_index=True)
                speech_s = np.maximum(heard.speech_s[places], 0.1)
                sums[touched] += np.add.reduceat(vectors * speech_s[:, None].astype(np.float32), starts, axis=0)
                weights[touched] += np.add.reduceat(speech_s, starts)
        weights[weights == 0] = 1.0  # Without a vector it is like nobody.
        return sums, weights

    def _find(
        self,
        heard: Heard,
        node_of: Numbers,
        sums: Vectors,
        weights: NDArray[np.float64],
        encoder_id: EncoderId,
        calibration: Calibration | None,
    ) -> _Found:
        nodes = make_nodes(heard, node_of, sums, weights)
        said_s = np.bincount(node_of, weights=heard.speech_s, minlength=len(nodes))
        enough = (said_s >= self._rule.min_speech_s) | nodes.fixed
        name, threshold = self._published(encoder_id)
        point = cluster_point(
            self._rule,
            calibration,
            speech_s=heard.speech_s,
            voices=int(enough.sum()),
            encoder=name,
            encoder_threshold=threshold,
        )
        units = nodes.unit()
        graph = near_voices(
            units,
            encoder_id,
            self._settings.index,
            at_least=point.edge_cosine,
            progress=lambda done: self._count(done, len(nodes)),
        )
        clusters = cluster(nodes, graph.between(enough), threshold=point.threshold, evidence=point.evidence)
        self._look()
        labels = clusters[node_of]
        often = recurring(labels, heard, self._rule)
        scores = _scores(units, sums, clusters)[node_of]
        return _Found(np.where(often[labels], labels, -1) if len(labels) else labels, scores, point)

    def _published(self, encoder_id: EncoderId) -> tuple[str, float | None]:
        """Return the encoder's name, and the cosine that decides where there is no calibration."""
        with self._database.read_scope() as session:
            gallery = Galleries(session).get(self._gallery_id)
            name = Encoders(session).get(encoder_id).name
        for given in (gallery.identification_threshold, self._settings.decision.identification_threshold):
            if given is not None:
                return name, given
        try:
            return name, make_registry(self._settings).get(name).identification_threshold
        except NotFound:  # One of the user's own.
            return name, None

    def _count(self, done: int, total: int) -> None:
        """Say how far the run is, and stop it where it is nobody's any more."""
        self._look()
        self._told(done, total)
        if time.monotonic() - self._counted_at < _TOLD_EVERY_S and 0 < done < total:
            return
        self._counted_at = time.monotonic()

        def count(session: Session) -> None:
            if not Plans(session, self._job_id, self._token).count(total, done):
                raise LeaseLost(f"job {self._job_id}: somebody else does it, or it was canceled")

        in_transaction(self._database, count)

    def _write(self, rows: UnnamedRows, known: KnownVoices, heard: Heard, found: _Found, encoder_id: EncoderId) -> None:
        before = _places(known.utterance_ids, known.voice_ids, rows.utterance_ids)
        names = keep_names(
            found.labels, before, heard.pinned, {int(voice): number for voice, number in known.numbers.items()}
        )
        kept = np.full(int(found.labels.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last is for -1
        for label, voice in names.items():
            kept[label] = voice
        target = np.where(found.labels >= 0, kept[found.labels], -1)
        unnamed = set(rows.utterance_ids.tolist())
        left = rows.utterance_ids[(before >= 0) & (before != target) & (heard.pinned < 0)].tolist()
        left += [number for number in known.utterance_ids[~known.pinned].tolist() if number not in unnamed]
        for start in range(0, len(left), WRITTEN_AT_ONCE):
            some = left[start : start + WRITTEN_AT_ONCE]
            self._in_step(partial(self._forget, some))
        new = (found.labels >= 0) & ((target < 0) | (target != before))
        for batch in _batches(found.labels, new):
            self._in_step(partial(self._put, rows, found, names, batch))
        rule = {
            **asdict(self._rule),
            "asked": found.point.asked,
            "point": found.point.threshold,
            "calibration_id": found.point.calibration_id,
        }
        self._in_step(partial(self._finish, encoder_id, len(rows), rule))

    def _forget(self, utterance_ids: list[int], session: Session) -> None:
        VoiceRuns(session, self._gallery_id).forget(utterance_ids)

    def _put(
        self,
        rows: UnnamedRows,
        found: _Found,
        names: Mapping[int, int],
        batch: Mapping[int, Numbers],
        session: Session,
    ) -> None:
        voices = UnknownVoices(session, self._gallery_id)
        fresh = [label for label in batch if label not in names]
        made = dict(zip(fresh, voices.make(len(fresh)), strict=True))
        members: dict[UnknownVoiceId, list[tuple[int, float | None]]] = {}
        for label, places in batch.items():
            voice_id = made[label] if label in made else UnknownVoiceId(names[label])
            members[voice_id] = list(
                zip(rows.utterance_ids[places].tolist(), found.scores[places].tolist(), strict=True)
            )
        VoiceRuns(session, self._gallery_id).add(members)

    def _finish(self, encoder_id: EncoderId, utterances: int, rule: Mapping[str, object], session: Session) -> None:
        VoiceRuns(session, self._gallery_id).finish(encoder_id, utterances, rule)
        if Plans(session, self._job_id, self._token).complete():
            Jobs(session).finish_if_done(self._job_id)

    def _in_step(self, work: Callable[[Session], None]) -> None:
        """Write as whoever holds the job, one at a time with people who change the same voices."""
        self._look()

        def locked(session: Session) -> None:
            if not Plans(session, self._job_id, self._token).renew(self._settings.jobs.lease_s):
                raise LeaseLost(f"job {self._job_id}: somebody else does it, or it was canceled")
            voices = UnknownVoices(session, self._gallery_id)
            voices.lock()
            voices.require_allowed()  # The gallery may require consent by now.
            work(session)

        in_transaction(self._database, locked)


def near_voices(
    units: Vectors,
    encoder_id: EncoderId,
    settings: IndexSettings,
    *,
    at_least: float,
    progress: Callable[[int], None],
) -> NeighborGraph:
    """Look up the neighbors of (m, D) unit vectors among themselves, in an index made for it; see `neighbor_graph`.

    What `progress` raises ends it; it is told of 0 while the index is being made.
    """
    with closing(FaissIndex(encoder_id, settings=settings)) as index:
        for start in range(0, len(units), _ADDED_AT_ONCE):
            progress(0)
            some = units[start : start + _ADDED_AT_ONCE]
            index.add(np.arange(start + 1, start + 1 + len(some)), some)
        settle(index)
        return neighbor_graph(index, units, at_least=at_least, progress=progress)


def _calibration_of(session: Session, gallery: Gallery, shipped: str) -> Calibration | None:
    """Return what turns cosines of a gallery's first encoder into llrs: its own, else the shipped one of that name."""
    if gallery.calibration_id is not None:
        stored = Calibrations(session).find(gallery.calibration_id)
        if stored is not None and tuple(stored.encoder_ids) == (gallery.encoder_id,):
            own = stored_calibration(stored.id, stored.document)
            if own.normalized is None:  # What is compared here are plain cosines.
                return own
    return default_calibration((gallery.encoder_id,), shipped)


def _heard(rows: UnnamedRows, known: KnownVoices) -> Heard:
    order = np.argsort(rows.utterance_ids)
    places = _find_in(rows.utterance_ids[order], known.apart[:, 1])
    there = places >= 0
    apart = np.stack([known.apart[there, 0], order[places[there]]], axis=1).astype(np.int64)
    said = known.pinned
    pinned = _places(known.utterance_ids[said], known.voice_ids[said], rows.utterance_ids)
    return Heard(rows.recording_ids, rows.channels, rows.voices, rows.speech_s, pinned, apart)


def _find_in(rising: Numbers, wanted: Numbers) -> Numbers:
    """Return the place of each wanted number among rising ones; -1 where it is not."""
    if not len(rising):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return np.where(rising[places] == wanted, places, -1)


def _places(rising: Numbers, values: Numbers, wanted: Numbers) -> Numbers:
    """Return the value that stands beside each wanted number; -1 where it is not."""
    places = _find_in(rising, wanted)
    return np.where(places >= 0, values[places], -1) if len(rising) else places


def _scores(units: Vectors, sums: Vectors, clusters: Numbers) -> NDArray[np.float64]:
    """Return the cosine of each node to the mean of its cluster."""
    count = int(clusters.max(initial=-1)) + 1
    order = np.argsort(clusters, kind="stable")
    means = np.zeros((count, sums.shape[1]), dtype=np.float32)
    if count:
        starts = np.searchsorted(clusters[order], np.arange(count))
        means = np.add.reduceat(sums[order], starts, axis=0)
    lengths = np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)
    scores = np.einsum("nd,nd->n", units, (means / lengths)[clusters], dtype=np.float64)
    clipped: NDArray[np.float64] = np.clip(scores, -1.0, 1.0)
    return clipped


def _batches(labels: Numbers, which: NDArray[np.bool_]) -> Iterator[dict[int, Numbers]]:
    """Yield clusters with their utterances, the most frequent first, so many at a time as one transaction writes."""
    places = np.flatnonzero(which)
    if not len(places):
        return
    sizes = np.bincount(labels[labels >= 0])
    ranked = places[np.lexsort((labels[places], -sizes[labels[places]]))]
    starts = np.flatnonzero(np.diff(labels[ranked], prepend=-1))
    batch: dict[int, Numbers] = {}
    size = 0
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(ranked)], strict=True):
        batch[int(labels[ranked[start]])] = ranked[start:stop]
        size += stop - start
        if size >= WRITTEN_AT_ONCE:
            yield batch
            batch, size = {}, 0
    if batch:
        yield batch
