"""Galleries under several encoders in tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import select

from indexer.archive import ArchiveFile, list_archive, parse_speaker_rule
from indexer.audio.channels import ChannelPolicy
from indexer.db.encoders import Encoders
from indexer.db.models import Embedding, Gallery, Utterance
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.ingest import Ingest, IngestReport
from indexer.reembed import Reembed
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, UtteranceId


def register(database: Database, *encoders: Encoder) -> None:
    with database.session_scope() as session:
        for encoder in encoders:
            row = NewEncoder(encoder.id, encoder.name, "speechbrain", "0" * 64, "spectrum", encoder.dim)
            Encoders(session).register(row)


def reembedding(database: Database, settings: Settings, gallery_id: GalleryId, encoder: Encoder) -> Reembed:
    register(database, encoder)
    return Reembed(database, settings, gallery_id, encoder)


def ingest_files(
    database: Database,
    settings: Settings,
    gallery_id: GalleryId,
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    channels: str = "mix",
    speaker_from: str = "none",
    second: Encoder | None = None,
) -> IngestReport:
    ingest = Ingest(
        database=database,
        gallery_id=gallery_id,
        encoders_for=lambda _: EncoderSet(encoder, second),
        limits=settings.audio,
        channels=ChannelPolicy.parse(channels),
        decode_threads=1,  # so that ids are in the order of the paths
    )
    files: Sequence[ArchiveFile] = list_archive(paths, parse_speaker_rule(speaker_from)).files
    return ingest.run(files, source="in")


def vectors_of(database: Database, encoder_id: EncoderId) -> dict[UtteranceId, np.ndarray]:
    """Every vector under an encoder, by utterance."""
    with database.read_scope() as session:
        rows = session.execute(select(Embedding).where(Embedding.encoder_id == encoder_id)).scalars()
        return {UtteranceId(row.utterance_id): row.vector for row in rows}


def utterances(database: Database) -> list[UtteranceId]:
    with database.read_scope() as session:
        return [UtteranceId(number) for number in session.scalars(select(Utterance.id).order_by(Utterance.id))]


def current_encoder(database: Database, gallery_id: GalleryId) -> EncoderId:
    with database.read_scope() as session:
        gallery = session.get(Gallery, gallery_id)
        assert gallery is not None
        return gallery.encoder_id
