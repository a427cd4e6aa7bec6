"""Questions about voices, answered from the record, the index and the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from indexer.audio.decode import ChannelPolicy
from indexer.db.embeddings import Embeddings
from indexer.db.filters import RowFilter
from indexer.db.repositories import Galleries, Speakers
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.embedding.registry import EncoderSpec
from indexer.errors import EncoderChanged, InvalidRequest, NotFound
from indexer.index.base import Hit, IdSet, VectorIndex
from indexer.probes import Probe, embed_probes
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, SpeakerId
from search.identification import MAX_TOP_K, Identification, identify
from search.occurrences import Occurrence, ScoredUtterance, group_occurrences
from search.operating_point import OperatingPoint, choose_operating_point
from search.verification import Verification, verify

MOST_HITS = 10_000
"""Utterances that one search looks up; a threshold below what strangers score would otherwise give a whole gallery."""


class Comparison:
    """What an encoder can answer without a gallery."""

    def __init__(self, encoder: Encoder, spec: EncoderSpec, settings: Settings) -> None:
        self.encoder = encoder
        self._spec = spec
        self._settings = settings

    def probe(self, file: Path, *, raw: bool = False) -> list[Probe]:
        """Embed a recording, once for each track of the channel policy; see `embed_probes` for the errors."""
        channels = ChannelPolicy.parse(self._settings.audio.channels)
        return embed_probes(self.encoder, file, channels=channels, limits=self._settings.audio, raw=raw)

    def compare(self, first: Probe, second: Probe, *, threshold: float | None) -> Verification:
        """Tell whether two recordings are of the same voice."""
        return verify(first.vector, second.vector, operating_point=self.verification_point(threshold))

    def verification_point(self, threshold: float | None) -> OperatingPoint:
        """Threshold of a 1:1 decision."""
        return self._verification_point(threshold, gallery=None)

    def identification_point(self, threshold: float | None) -> OperatingPoint:
        """Threshold of a decision against a whole gallery."""
        return self._identification_point(threshold, gallery=None)

    def _verification_point(self, threshold: float | None, *, gallery: float | None) -> OperatingPoint:
        setting = self._settings.decision.verification_threshold
        return self._point(threshold, gallery, setting, self._spec.verification_threshold)

    def _identification_point(self, threshold: float | None, *, gallery: float | None) -> OperatingPoint:
        setting = self._settings.decision.identification_threshold
        return self._point(threshold, gallery, setting, self._spec.identification_threshold)

    def _point(
        self, requested: float | None, gallery: float | None, setting: float | None, default: float | None
    ) -> OperatingPoint:
        return choose_operating_point(
            requested=requested,
            gallery=gallery,
            setting=setting,
            encoder_default=default,
            encoder=self._spec.name,
            default_source="family" if self._spec.local_path else "encoder",
        )


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Where a voice occurs.

    Attributes
    ----------
    recordings
        Best first. Of a search for the `top_k` utterances, some may be below the threshold.
    truncated
        Whether more utterances reach the threshold than were looked at: the best `MOST_HITS`, or `top_k`. They are in
        no recording here.
    eligible
        Utterances that the filter leaves; None where there was none.
    """

    recordings: list[Occurrence]
    operating_point: OperatingPoint
    truncated: bool
    eligible: int | None = None

    @property
    def found(self) -> int:
        """Recordings in which the voice occurs: those that reach the threshold."""
        least = self.operating_point.score_threshold
        return sum(recording.score >= least for recording in self.recordings)


class Voices(Comparison):
    """What a gallery can answer about a voice; for any number of threads, as long as the process lives.

    Each question reads the gallery's head from the record first, so that an answer is as fresh as the record: its
    thresholds, who is enrolled, and that the gallery is still there.

    Parameters
    ----------
    gallery : str
        Its name, for messages.
    index : VectorIndex
        The gallery's vectors; whoever made this keeps it in step.
    enrolled : EnrolledGallery
        The gallery's speakers.
    filtered : FilteredGallery
        What each filter leaves of the gallery.

    Raises
    ------
    EncoderChanged
        If encoder and index are not of one encoder, as while the gallery goes to another one; every question raises it
        once the gallery has gone.
    """

    def __init__(
        self,
        encoder: Encoder,
        spec: EncoderSpec,
        settings: Settings,
        *,
        database: Database,
        gallery: str,
        gallery_id: GalleryId,
        index: VectorIndex,
        enrolled: EnrolledGallery,
        filtered: FilteredGallery,
    ) -> None:
        super().__init__(encoder, spec, settings)
        self._require_encoder(gallery, index.encoder_id)
        self._database = database
        self._gallery = gallery
        self._gallery_id = gallery_id
        self._index = index
        self._enrolled = enrolled
        self._filtered = filtered

    @property
    def gallery_id(self) -> GalleryId:
        """The gallery that is asked."""
        return self._gallery_id

    def verification_point(self, threshold: float | None) -> OperatingPoint:
        """Threshold of a 1:1 decision in this gallery."""
        return self._verification_point(threshold, gallery=self._head().verification_threshold)

    def identification_point(self, threshold: float | None) -> OperatingPoint:
        """Threshold of a decision against this whole gallery."""
        return self._identification_point(threshold, gallery=self._head().identification_threshold)

    def identify(
        self, probe: Probe, *, top_k: int, threshold: float | None, labels: Sequence[str] | None = None
    ) -> Identification:
        """Tell who this is among the enrolled, or that it is nobody of them.

        Parameters
        ----------
        labels
            Only speakers with every one of these labels are considered; None or none: all of them.

        Raises
        ------
        NotFound
            If the gallery is gone.
        InvalidRequest
            If `top_k` or the threshold is out of range.
        """
        head = self._head()
        return identify(
            probe.vector,
            enrolled=self._enrolled.as_of(head, labels),
            top_k=top_k,
            operating_point=self._identification_point(threshold, gallery=head.identification_threshold),
        )

    def verify(self, probe: Probe, speaker: str, *, threshold: float | None) -> Verification:
        """Tell whether this is the enrolled speaker of that name.

        Raises
        ------
        NotFound
            If the gallery has no such speaker, or the speaker has no enrollment.
        """
        with self._database.read_scope() as session:
            head = self._head_in(session)
            row = Speakers(session).find(self._gallery_id, speaker)
        if row is None:
            raise NotFound(
                f"no speaker {speaker!r} in gallery {self._gallery}; "
                f"`voxdex speakers list --gallery {self._gallery}` shows who is enrolled"
            )
        voiceprint = self._enrolled.as_of(head).voiceprint(SpeakerId(row.id))
        if voiceprint is None:
            raise NotFound(f"speaker {speaker!r} has no enrollment; add one: `voxdex enroll {speaker!r} FILE`")
        point = self._verification_point(threshold, gallery=head.verification_threshold)
        return verify(probe.vector, voiceprint.vector, operating_point=point)

    def search(
        self,
        probe: Probe,
        *,
        threshold: float | None = None,
        filter: RowFilter | None = None,
        top_k: int | None = None,
    ) -> Occurrences:
        """Find the recordings in which the voice occurs, best first.

        Parameters
        ----------
        threshold
            None: the gallery's, the setting's or the encoder's.
        filter
            What an utterance must be to be found. It acts inside the scan: what it leaves out takes no place.
        top_k
            Look at the best so many utterances, 1 to 1000, whatever they score, unless a threshold is given too; so
            many are found whenever the filter leaves so many. None: look at every one that reaches the threshold.

        Raises
        ------
        NotFound
            If the gallery is gone, or the filter names a speaker whom it does not know.
        InvalidRequest
            If `top_k` or the threshold is out of range, or the index's engine cannot apply the filter.
        """
        if top_k is not None and not 1 <= top_k <= MAX_TOP_K:
            raise InvalidRequest(f"top_k {top_k} is out of range: ask for 1 to {MAX_TOP_K} utterances")
        head = self._head()
        point = self._identification_point(threshold, gallery=head.identification_threshold)
        allowed = self._filtered.rows(filter, head) if filter else None
        most = MOST_HITS if top_k is None else top_k
        least = point.score_threshold if top_k is None or threshold is not None else None
        # One more than is used tells that there are more.
        best = self._best(probe, most + 1, least, allowed)
        return Occurrences(
            group_occurrences(best[:most]),
            point,
            truncated=len(best) > most and best[most].score >= point.score_threshold,
            eligible=len(allowed) if allowed is not None else None,
        )

    def eligible(self, wanted: RowFilter) -> int | None:
        """Count the utterances that a filter leaves; None where it asks for nothing. Errors as in `search`."""
        return len(self._filtered.rows(wanted, self._head())) if wanted else None

    def _best(self, probe: Probe, most: int, least: float | None, allowed: IdSet | None) -> list[ScoredUtterance]:
        """Look up the best utterances, best first, those that score `least` or more; all of them if None."""
        asked = most
        while True:
            hits = self._nearest(probe, asked, least, allowed)
            with self._database.read_scope() as session:
                stretches = Embeddings(session).stretches([hit.embedding_id for hit in hits])
            # A hit whose row is gone is never shown.
            present = [(hit, stretches[hit.embedding_id]) for hit in hits if hit.embedding_id in stretches]
            if len(present) >= most or len(hits) < asked:
                break
            # Nor does it take the place of another, in the second before the index hears of it.
            asked += 4 * (most - len(present))
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
            )
            for hit, stretch in present[:most]
        ]

    def _nearest(self, probe: Probe, most: int, least: float | None, allowed: IdSet | None) -> list[Hit]:
        rows = probe.vector[None, :]
        if least is None:
            return self._index.search(rows, most, allowed=allowed)[0]
        return self._index.search_above(rows, least, allowed=allowed, limit=most)[0]

    def close(self) -> None:
        """Close the index and who is enrolled, where nobody else uses them."""
        self._index.close()
        self._enrolled.close()

    def _head(self) -> GalleryHead:
        with self._database.read_scope() as session:
            return self._head_in(session)

    def _head_in(self, session: Session) -> GalleryHead:
        head = Galleries(session).heads([self._gallery_id]).get(self._gallery_id)
        if head is None:
            raise NotFound(f"gallery {self._gallery!r} was deleted: see `voxdex galleries list`")
        self._require_encoder(head.name, head.encoder_id)
        return head

    def _require_encoder(self, gallery: str, encoder_id: EncoderId) -> None:
        """Never compare a probe with vectors, or with thresholds, of another encoder."""
        if encoder_id != self.encoder.id:
            raise EncoderChanged(
                f"gallery {gallery} went to encoder {encoder_id} while it was asked under {self.encoder.id}: ask again"
            )
