"""Where else in the archive a voice speaks: from a probe to recordings, by single utterances under one encoder."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.encoder_side import EncoderSide
from indexer.db.embeddings import Embeddings
from indexer.db.filters import RowFilter
from indexer.db.rows import GalleryHead, Stretch
from indexer.db.session import Database
from indexer.errors import InvalidRequest
from indexer.index.base import Hit, IdSet
from indexer.types import SpeakerId
from search.identification import (
    MAX_TOP_K,
    ProbeQuality,
    Rules,
    ScoredSpeaker,
    score_at_threshold,
    speaker_llrs,
)
from search.occurrences import Occurrence, ScoredUtterance, group_occurrences
from search.operating_point import OperatingPoint, identification_point

MOST_HITS = 10_000
"""Utterances that one search looks up; a threshold below what strangers score would otherwise give a whole gallery."""


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Where a voice occurs.

    Attributes
    ----------
    recordings
        Best first. Of a search for the `top_k` utterances, some may be below the threshold.
    threshold
        Cosine from which on a recording counts as one with the voice.
    utterances
        How many were searched.
    truncated
        Whether more utterances reach the threshold than were looked at: the best `MOST_HITS`, or `top_k`. They are in
        no recording here.
    eligible
        Utterances that the filter leaves; None where there was none.
    warnings
        What makes the answer less sure than it looks, in plain words.
    """

    recordings: list[Occurrence]
    operating_point: OperatingPoint
    threshold: float
    utterances: int
    truncated: bool
    eligible: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """Recordings in which the voice occurs: those that reach the threshold."""
        return sum(recording.score >= self.threshold for recording in self.recordings)


class VoiceSearch:
    """Searches the utterances of one gallery under one encoder.

    Parameters
    ----------
    utterance_s
        Length of the archive's utterances: what a threshold on the llr is turned into a cosine for.
    """

    def __init__(self, side: EncoderSide, database: Database, *, utterance_s: float) -> None:
        self._side = side
        self._database = database
        self._utterance_s = utterance_s

    def operating_point(self, rules: Rules, utterances: int) -> OperatingPoint:
        """Return the operating point of a search among so many utterances."""
        return identification_point(
            rules.calibration,
            rules.layers,
            gallery_size=utterances,
            rivals=[],
            encoder=rules.encoder,
            compared="utterances",
        )

    def count(self, filter: RowFilter | None, head: GalleryHead) -> int:
        """Count the utterances that a filter leaves; all of them without one."""
        return len(self._side.filtered.rows(filter, head)) if filter else self._side.index.count

    def search(
        self,
        probe: NDArray[np.float32],
        quality: ProbeQuality,
        *,
        rules: Rules,
        head: GalleryHead,
        filter: RowFilter | None,
        top_k: int | None,
        above: bool,
    ) -> Occurrences:
        """Find the recordings in which a voice occurs, best first; see `Voices.search`.

        Parameters
        ----------
        above
            Whether only utterances at or above the threshold are looked at also where `top_k` is given.
        """
        if top_k is not None and not 1 <= top_k <= MAX_TOP_K:
            raise InvalidRequest(f"top_k {top_k} is out of range: ask for 1 to {MAX_TOP_K} utterances")
        allowed = self._side.filtered.rows(filter, head) if filter else None
        utterances = len(allowed) if allowed is not None else self._side.index.count
        point = self.operating_point(rules, utterances)
        threshold = self._threshold(point, rules, quality)
        most = MOST_HITS if top_k is None else top_k
        # One more than is used tells that there are more.
        best = self._best(probe, most + 1, threshold if top_k is None or above else None, allowed)
        return Occurrences(
            group_occurrences(self._scored(best[:most], quality, rules)),
            point,
            threshold,
            utterances,
            truncated=len(best) > most and best[most][0].score >= threshold,
            eligible=utterances if allowed is not None else None,
        )

    def _threshold(self, point: OperatingPoint, rules: Rules, quality: ProbeQuality) -> float:
        """Return the cosine from which on an utterance counts.

        1 where not even that has the llr that is asked for, and -1 where every cosine has it.
        """
        if point.score_threshold is not None:
            return point.score_threshold
        usual = ScoredSpeaker(SpeakerId(0), "", -1.0, enrollments=1, speech_s=self._utterance_s)
        found = score_at_threshold(point, rules.calibration, usual, quality)
        if found is not None:
            return found
        lowest = speaker_llrs([usual], quality, rules.calibration)
        assert lowest is not None
        assert point.llr_threshold is not None
        return -1.0 if lowest[0] >= point.llr_threshold else 1.0

    def _best(
        self, probe: NDArray[np.float32], most: int, least: float | None, allowed: IdSet | None
    ) -> list[tuple[Hit, Stretch]]:
        """Look up the best utterances, best first, those that score `least` or more; all of them if None."""
        asked = most
        while True:
            hits = self._nearest(probe, asked, least, allowed)
            with self._database.read_scope() as session:
                stretches = Embeddings(session).stretches([hit.embedding_id for hit in hits])
            # A hit whose row is gone is never shown.
            present = [(hit, stretches[hit.embedding_id]) for hit in hits if hit.embedding_id in stretches]
            if len(present) >= most or len(hits) < asked:
                return present[:most]
            # Nor does it take the place of another, in the second before the index hears of it.
            asked += 4 * (most - len(present))

    def _nearest(self, probe: NDArray[np.float32], most: int, least: float | None, allowed: IdSet | None) -> list[Hit]:
        rows = probe[None, :]
        if least is None:
            return self._side.index.search(rows, most, allowed=allowed)[0]
        return self._side.index.search_above(rows, least, allowed=allowed, limit=most)[0]

    def _scored(self, best: list[tuple[Hit, Stretch]], quality: ProbeQuality, rules: Rules) -> list[ScoredUtterance]:
        heard = [
            ScoredSpeaker(
                SpeakerId(0),
                "",
                hit.score,
                enrollments=1,
                speech_s=stretch.quality.net_speech_s if stretch.quality else stretch.end_s - stretch.start_s,
                snr_db=stretch.quality.snr_db if stretch.quality else None,
            )
            for hit, stretch in best
        ]
        llrs = speaker_llrs(heard, quality, rules.calibration)
        return [
            ScoredUtterance(
                embedding_id=hit.embedding_id,
                recording_id=stretch.recording_id,
                uri=stretch.uri,
                channel=stretch.channel,
                start_s=stretch.start_s,
                end_s=stretch.end_s,
                score=hit.score,
                speakers=stretch.speakers,
                llr=float(llrs[place]) if llrs is not None else None,
            )
            for place, (hit, stretch) in enumerate(best)
        ]
