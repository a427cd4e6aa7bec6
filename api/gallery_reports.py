"""What the page shows of a gallery as a whole: how well its voices are told apart, and where they are on a map."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from api.calibration_store import CalibrationStore, Origin
from api.deciding import of_plain_scores
from api.same_voice import MOST_COMPARED, find_two_names
from api.schemas.common import shown_cosine
from api.schemas.jobs import SameVoices, TwoNames
from api.schemas.quality import (
    CalibrationView,
    DetPoint,
    Errors,
    ErrorsNow,
    GalleryMapView,
    GalleryQualityView,
    PlacedSpeaker,
    Shares,
)
from indexer.audio.quality import TELEPHONE_BANDWIDTH_HZ
from indexer.db.embeddings import Embeddings
from indexer.db.enrolled_recordings import EnrolledEmbedding, EnrolledSample
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.speakers import Speakers
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.types import JobId, RecordingId, SpeakerId, Vectors
from search.calibration import Calibration
from search.gallery_quality import EnrolledVoices, Histogram, doubts, gallery_quality, thinned
from search.identification import Rules
from search.speaker_map import speaker_map

if TYPE_CHECKING:
    from api.runtime import Runtime
    from api.voices import Voices
    from indexer.db.session import Database

MOST_SPEAKERS = 200
"""Speakers who are compared; their pairs are a good second of work."""

MOST_RECORDINGS = 4
"""Recordings of one speaker that are compared."""

MOST_PLACED = 400
"""Speakers on a map."""

DET_POINTS = 200

_COMPARING_S = 10.0
"""Longest that speakers of a job are compared with the others, before it is said that these are not all."""

_KEPT = 32

_Report = TypeVar("_Report")


class GalleryReports:
    """Makes reports of galleries, and keeps the last ones: nothing changes them but enrollments and rules."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._kept: OrderedDict[object, object] = OrderedDict()
        self._lock = threading.Lock()

    def quality(self, gallery: str) -> GalleryQualityView:
        """Tell how well a gallery's voices are told apart; raises NotFound."""
        voices = self._runtime.live.get(gallery)
        rules, notes = of_plain_scores(voices.identification_rules())
        return self._remembered("quality", gallery, lambda: self._quality(voices, rules, notes), repr(rules.layers))

    def map(self, gallery: str) -> GalleryMapView:
        """Place a gallery's speakers on a plane; raises NotFound."""
        voices = self._runtime.live.get(gallery)
        return self._remembered("map", gallery, lambda: self._map(voices))

    def same_voices(self, gallery: str, job_id: JobId) -> SameVoices:
        """Tell which speakers of a job sound like others of its gallery.

        Raises
        ------
        NotFound
            If the gallery is gone.
        InvalidRequest
            If nobody says from which score on two voices are one.
        """

        def compare(speakers: Sequence[str]) -> SameVoices:
            voices = self._runtime.live.get(gallery)
            return self._remembered("same-voices", gallery, lambda: two_names_of(voices, speakers), *speakers)

        return same_voices_of_job(self._runtime.database, job_id, compare)

    def _remembered(self, kind: str, gallery: str, make: Callable[[], _Report], *of: object) -> _Report:
        with self._runtime.database.read_scope() as session:
            head = Galleries(session).head(gallery)
        key = (kind, head, *of)
        with self._lock:
            known = self._kept.get(key)
        if known is None:
            known = make()
            with self._lock:
                self._kept[key] = known
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return known  # type: ignore[return-value]  # whatever was kept under this kind

    def _quality(self, voices: "Voices", rules: Rules, notes: Sequence[str]) -> GalleryQualityView:
        sample = _Sample.of(self._runtime, voices, MOST_SPEAKERS)
        enrolled = sample.recordings(MOST_RECORDINGS)
        found = gallery_quality(enrolled, rules)
        curve = thinned(found.det, DET_POINTS) if found.det is not None else None
        calibration = self._calibration(rules.calibration)
        compared = len(np.unique(enrolled.speaker_ids))
        return GalleryQualityView(
            speakers=sample.enrolled,
            recordings=len(enrolled),
            sampled=compared < sample.enrolled,
            same_pairs=found.same_pairs,
            different_pairs=found.different_pairs,
            scores=_shares(found.scores),
            llrs=_shares(found.llrs) if found.llrs is not None else None,
            eer=found.eer,
            det=[
                DetPoint(threshold=threshold, p_fa=p_fa, p_miss=p_miss)
                for threshold, p_fa, p_miss in zip(
                    *(axis.tolist() for axis in (curve.thresholds, curve.p_fa, curve.p_miss)), strict=True
                )
            ]
            if curve is not None
            else [],
            decides_by="llr" if found.by_llr else "score",
            curve=[Errors(threshold=one.threshold, fpir=one.fpir, fnir=one.fnir) for one in found.curve],
            point=ErrorsNow.model_validate(found.point) if found.point is not None else None,
            calibration=calibration,
            warnings=[*notes, *doubts(found, speakers=sample.enrolled, compared=compared)],
        )

    def _map(self, voices: "Voices") -> GalleryMapView:
        sample = _Sample.of(self._runtime, voices, MOST_PLACED)
        prints, rows = sample.voiceprints()
        if not rows:
            return GalleryMapView(method="PCA", speakers=sample.enrolled, points=[])
        places, method = speaker_map(prints)
        alike = prints @ prints.T
        np.fill_diagonal(alike, -np.inf)
        nearest = alike.argmax(axis=1)
        names = [sample.names[speaker_id] for speaker_id, _, _ in rows]
        alone = len(rows) < 2
        return GalleryMapView(
            method=method,
            speakers=sample.enrolled,
            points=[
                PlacedSpeaker(
                    speaker=names[row],
                    x=round(float(places[row, 0]), 4),
                    y=round(float(places[row, 1]), 4),
                    recordings=recordings,
                    enrolled_s=round(enrolled_s, 2),
                    nearest=None if alone else names[nearest[row]],
                    score=None if alone else round(float(np.clip(alike[row, nearest[row]], -1, 1)), 4),
                )
                for row, (_, recordings, enrolled_s) in enumerate(rows)
            ],
        )

    def _calibration(self, used: Calibration | None) -> CalibrationView | None:
        if used is None:
            return None
        stored = {found.id: origin for found, origin in CalibrationStore(self._runtime.database).list()}
        return calibration_view(used, stored.get(used.id, "voxdex"))


def same_voices_of_job(
    database: "Database", job_id: JobId, compare: Callable[[Sequence[str]], SameVoices]
) -> SameVoices:
    """Have the speakers of a job compared, one more than are ever compared; nobody is asked where it has none."""
    with database.read_scope() as session:
        speakers = Jobs(session).speakers(job_id, limit=MOST_COMPARED + 1)
    return compare(speakers) if speakers else SameVoices(items=[], compared=0, complete=True)


def two_names_of(voices: "Voices", speakers: Sequence[str]) -> SameVoices:
    """Compare speakers of a job with all others of its gallery, as many as somebody waits for."""
    found = find_two_names(voices, speakers, within_s=_COMPARING_S)
    items = [
        TwoNames(
            speaker=two.speaker, other=two.other.speaker, score=shown_cosine(two.other.score), llr=_llr(two.other.llr)
        )
        for two in found.two_names
    ]
    return SameVoices(items=items, compared=found.speakers, complete=found.speakers == len(speakers))


def _llr(llr: float | None) -> float | None:
    return None if llr is None else round(llr, 3)


def calibration_view(calibration: Calibration, origin: Origin) -> CalibrationView:
    """Show a calibration."""
    data = calibration.data
    return CalibrationView(
        id=calibration.id,
        name=calibration.name,
        origin=origin,
        encoder_ids=list(calibration.encoder_ids),
        description=data.description,
        speakers=data.speakers,
        recordings=data.recordings,
        fitted_at=data.fitted_at,
        cllr_before=calibration.cllr_before,
        cllr_after=calibration.cllr_after,
        min_cllr=calibration.min_cllr,
    )


def _shares(histogram: Histogram) -> Shares:
    return Shares(edges=histogram.edges.tolist(), same=histogram.same.tolist(), different=histogram.different.tolist())


@dataclass(frozen=True, eq=False)
class _Sample:
    """Some of who is enrolled, with their vectors.

    Attributes
    ----------
    enrolled
        How many are.
    rows
        By speaker, recording and embedding, under the first encoder; those that are embedded under all.
    vectors : (E, n, D) float32 array
        Of the rows.
    """

    enrolled: int
    names: dict[SpeakerId, str]
    rows: Sequence[EnrolledEmbedding]
    vectors: Vectors

    @classmethod
    def of(cls, runtime: "Runtime", voices: "Voices", most: int) -> "_Sample":
        """Read a sample of at most so many speakers."""
        with runtime.database.read_scope() as session:
            found = EnrolledSample(session, voices.gallery_id)
            chosen = found.speakers(most)
            rows, *beside = (
                {(row.speaker_id, row.utterance_id): row for row in found.embeddings(encoder_id, chosen)}
                for encoder_id in voices.encoders.ids
            )
            both = [key for key in rows if all(key in one for one in beside)]
            embeddings = Embeddings(session)
            vectors = [embeddings.vectors([one[key].embedding_id for key in both]) for one in (rows, *beside)]
            return cls(
                Speakers(session).count_enrolled(voices.gallery_id),
                Speakers(session).names(chosen),
                [rows[key] for key in both],
                np.stack(vectors),
            )

    def recordings(self, most: int) -> EnrolledVoices:
        """Make one vector of each recording, of at most so many of each speaker."""
        kept: dict[SpeakerId, int] = {}
        groups: list[list[int]] = []
        for (speaker_id, _), places in groupby(range(len(self.rows)), key=self._recording_of):
            kept[speaker_id] = kept.get(speaker_id, 0) + 1
            if kept[speaker_id] <= most:
                groups.append(list(places))
        made = [self._voice(group) for group in groups]
        count, width = len(groups), self.vectors.shape[-1]
        return EnrolledVoices(
            vectors=np.stack(made, axis=1) if made else np.empty((len(self.vectors), 0, width), dtype=np.float32),
            speaker_ids=np.fromiter((self.rows[group[0]].speaker_id for group in groups), np.int64, count),
            speech_s=np.fromiter((sum(self.rows[place].speech_s for place in group) for group in groups), float, count),
            snr_db=np.fromiter((self._mean(group, lambda row: row.snr_db) for group in groups), float, count),
            telephone=np.fromiter((self._mean(group, _telephone) for group in groups), float, count),
        )

    def voiceprints(self) -> tuple[Vectors, list[tuple[SpeakerId, int, float]]]:
        """Make one vector of each speaker under the first encoder, and tell recordings and seconds of each."""
        made, said = [], []
        for speaker_id, places in groupby(range(len(self.rows)), key=lambda place: self.rows[place].speaker_id):
            group = list(places)
            made.append(self._voice(group)[0])
            recordings = len({self.rows[place].recording_id for place in group})
            said.append((speaker_id, recordings, sum(self.rows[place].speech_s for place in group)))
        return np.array(made, dtype=np.float32), said

    def _recording_of(self, place: int) -> tuple[SpeakerId, RecordingId]:
        return self.rows[place].speaker_id, self.rows[place].recording_id

    def _voice(self, group: Sequence[int]) -> Vectors:
        weights = [self.rows[place].speech_s for place in group]
        return np.stack([aggregate_embeddings(vectors[list(group)], weights) for vectors in self.vectors])

    def _mean(self, group: Sequence[int], measure: Callable[[EnrolledEmbedding], float | None]) -> float:
        known = [(self.rows[place].speech_s, measure(self.rows[place])) for place in group]
        pairs = [(weight, value) for weight, value in known if value is not None]
        return float(np.average([v for _, v in pairs], weights=[w for w, _ in pairs])) if pairs else float("nan")


def _telephone(row: EnrolledEmbedding) -> float | None:
    return None if not row.bandwidth_hz else float(row.bandwidth_hz <= TELEPHONE_BANDWIDTH_HZ)
