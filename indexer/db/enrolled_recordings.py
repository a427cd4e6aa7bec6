"""Named queries about a sample of who is enrolled: which recordings, and the vectors of what is enrolled in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from indexer.db.models import Embedding, Enrollment, Speaker, Utterance
from indexer.db.statements import batches
from indexer.types import EmbeddingId, EncoderId, GalleryId, RecordingId, SpeakerId, UtteranceId

_SCATTER = 2_654_435_761
"""Knuth's multiplier: ids in the order of their products modulo 2**32 are a sample that is the same every time."""

_IDS_LOOKED_AT = 100_000
"""Speakers among whom a sample is drawn: the first so many."""


@dataclass(frozen=True, slots=True)
class EnrolledEmbedding:
    """One enrolled utterance under one encoder."""

    speaker_id: SpeakerId
    recording_id: RecordingId
    utterance_id: UtteranceId
    embedding_id: EmbeddingId
    speech_s: float
    snr_db: float | None
    bandwidth_hz: float | None


class EnrolledSample:
    """Some of who is enrolled in a gallery, and with what."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def speakers(self, most: int) -> list[SpeakerId]:
        """Return at most so many enrolled speakers, rising; those with several recordings first."""
        query = (
            select(Speaker.id, func.count(Utterance.recording_id.distinct()))
            .join(Enrollment, Enrollment.speaker_id == Speaker.id)
            .join(Utterance, Utterance.id == Enrollment.utterance_id)
            .where(Speaker.gallery_id == self._gallery_id)
            .group_by(Speaker.id)
            .order_by(Speaker.id)
            .limit(_IDS_LOOKED_AT)
        )
        rows: Sequence[Any] = self._session.execute(query).all()
        chosen = sorted(rows, key=lambda row: (row[1] < 2, row[0] * _SCATTER % 2**32))[:most]
        return sorted(SpeakerId(row[0]) for row in chosen)

    def embeddings(self, encoder_id: EncoderId, speaker_ids: Sequence[SpeakerId]) -> list[EnrolledEmbedding]:
        """Return what these speakers are enrolled with under an encoder, by speaker, recording and embedding."""
        found: list[EnrolledEmbedding] = []
        for some in batches(speaker_ids):
            query = (
                select(
                    Enrollment.speaker_id,
                    Utterance.recording_id,
                    Utterance.id,
                    Embedding.id,
                    func.coalesce(func.nullif(Utterance.net_speech_s, 0.0), Utterance.end_s - Utterance.start_s),
                    Utterance.snr_db,
                    Utterance.bandwidth_hz,
                )
                .join(Utterance, Utterance.id == Enrollment.utterance_id)
                .join(Embedding, (Embedding.utterance_id == Utterance.id) & (Embedding.encoder_id == encoder_id))
                .where(Enrollment.speaker_id.in_(some))
            )
            found += [EnrolledEmbedding(*row) for row in self._session.execute(query)]
        return sorted(found, key=lambda one: (one.speaker_id, one.recording_id, one.embedding_id))
