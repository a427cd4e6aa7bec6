"""Questions about voices, answered from the record, the index and the encoder."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.audio.decode import ChannelPolicy
from indexer.db.embeddings import Embeddings
from indexer.db.repositories import Speakers
from indexer.db.session import Database
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.embedding.encoder import Encoder
from indexer.embedding.registry import EncoderSpec
from indexer.errors import NotFound
from indexer.index.base import VectorIndex
from indexer.probes import Probe, embed_probes
from indexer.settings import Settings
from indexer.types import EmbeddingId, EncoderId, GalleryId, SpeakerId
from search.identification import Identification, Voiceprint, identify
from search.occurrences import Occurrence, ScoredUtterance, group_occurrences
from search.operating_point import OperatingPoint, choose_operating_point
from search.verification import Verification, verify


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
        decision = self._settings.decision
        return self._point(threshold, decision.verification_threshold, self._spec.verification_threshold)

    def identification_point(self, threshold: float | None) -> OperatingPoint:
        """Threshold of a decision against a whole gallery."""
        decision = self._settings.decision
        return self._point(threshold, decision.identification_threshold, self._spec.identification_threshold)

    def _point(self, requested: float | None, setting: float | None, default: float | None) -> OperatingPoint:
        return choose_operating_point(
            requested=requested,
            setting=setting,
            encoder_default=default,
            encoder=self._spec.name,
            default_source="family" if self._spec.local_path else "encoder",
        )


class Voices(Comparison):
    """What a gallery can answer about a voice."""

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
    ) -> None:
        super().__init__(encoder, spec, settings)
        self._database = database
        self._gallery = gallery
        self._gallery_id = gallery_id
        self._index = index
        self._enrolled = RecordedSpeakers(database, gallery_id, encoder.id)

    def identify(self, probe: Probe, *, top_k: int, threshold: float | None) -> Identification:
        """Tell who this is among the enrolled, or that it is nobody of them."""
        return identify(
            probe.vector,
            index=self._index,
            enrolled=self._enrolled,
            top_k=top_k,
            operating_point=self.identification_point(threshold),
        )

    def verify(self, probe: Probe, speaker: str, *, threshold: float | None) -> Verification:
        """Tell whether this is the enrolled speaker of that name.

        Raises
        ------
        NotFound
            If the gallery has no such speaker, or the speaker has no enrollment.
        """
        with self._database.read_scope() as session:
            row = Speakers(session).find(self._gallery_id, speaker)
            if row is None:
                raise NotFound(
                    f"no speaker {speaker!r} in gallery {self._gallery}; "
                    f"`voxdex speakers list --gallery {self._gallery}` shows who is enrolled"
                )
            speaker_id = SpeakerId(row.id)
        voiceprints = self._enrolled.voiceprints([speaker_id])
        if not voiceprints:
            raise NotFound(f"speaker {speaker!r} has no enrollment; add one: voxdex enroll {speaker!r} FILE")
        return verify(probe.vector, voiceprints[0].vector, operating_point=self.verification_point(threshold))

    def search(self, probe: Probe, *, threshold: float | None) -> tuple[list[Occurrence], OperatingPoint]:
        """Find every recording in which the voice occurs, best first."""
        point = self.identification_point(threshold)
        hits = self._index.search_above(probe.vector[None, :], point.score_threshold)[0]
        with self._database.read_scope() as session:
            stretches = Embeddings(session).stretches([hit.embedding_id for hit in hits])
        found = [
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
            for hit in hits
            # A hit whose row is gone is never shown.
            if (stretch := stretches.get(hit.embedding_id)) is not None
        ]
        return group_occurrences(found), point


class RecordedSpeakers:
    """The enrolled speakers of one gallery, as the record has them."""

    def __init__(self, database: Database, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._database = database
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._pairs: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def _owners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._pairs is None:
            with self._database.read_scope() as session:
                self._pairs = Embeddings(session).enrolled(self._gallery_id, self._encoder_id)
        return self._pairs

    def embedding_ids(self) -> NDArray[np.int64]:
        """Ids of every enrolled embedding, ascending."""
        return np.unique(self._owners()[0])

    def speakers_of(self, embedding_ids: Collection[EmbeddingId]) -> Mapping[EmbeddingId, Collection[SpeakerId]]:
        """Map enrolled embeddings to their speakers."""
        ids, speakers = self._owners()
        found: dict[EmbeddingId, list[SpeakerId]] = {}
        for embedding_id in embedding_ids:
            first, last = np.searchsorted(ids, [embedding_id, embedding_id + 1])
            if last > first:
                found[embedding_id] = [SpeakerId(int(speaker)) for speaker in speakers[first:last]]
        return found

    def voiceprints(self, speaker_ids: Collection[SpeakerId]) -> Sequence[Voiceprint]:
        """Aggregate voiceprints, weighted by the length of each enrolled utterance."""
        with self._database.read_scope() as session:
            voices = Embeddings(session).of_speakers(self._encoder_id, speaker_ids)
            names = Speakers(session).names(voices)
        return [
            Voiceprint(
                speaker_id=speaker_id,
                speaker=names[speaker_id],
                vector=aggregate_embeddings(voice.vectors, voice.durations_s),
                enrollments=len(voice.vectors),
            )
            for speaker_id, voice in voices.items()
            if speaker_id in names
        ]
