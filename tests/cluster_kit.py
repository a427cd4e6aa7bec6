"""Galleries of unnamed voices with known answers, made without any audio."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.unknown_voices import UnknownVoices, UnknownVoiceSummary
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, JobId, UtteranceId, Vectors
from search.unknown_voices import ClusterRule
from tests.job_kit import ListQueue
from worker.clustering import Clusterings

ENCODER = EncoderId("0123456789abcdef-spectrum")

RULE = ClusterRule(threshold=0.4)


@dataclass(frozen=True)
class Said:
    """One utterance to be recorded: whose direction it has, and who spoke within the recording as far as it is told."""

    vector: np.ndarray
    voice: int | None = None
    length_s: float = 5.0


def make_gallery(database: Database, name: str = "archive") -> GalleryId:
    """Make an empty gallery."""
    with database.session_scope() as session:
        row = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "speechbrain", "0" * 64, "spectrum", 192))
        return GalleryId(Galleries(session).get_or_create(name, row).id)


def record(database: Database, gallery_id: GalleryId, *recordings: Sequence[Said]) -> list[list[UtteranceId]]:
    """Add recordings of these utterances; return the ids of each one's."""
    ids = []
    with database.session_scope() as session:
        for said in recordings:
            content = hashlib.sha256(b"".join(one.vector.tobytes() for one in said)).hexdigest()
            ends = np.cumsum([one.length_s for one in said]).tolist()
            utterances = [
                NewUtterance(None, end - one.length_s, end, one.vector, voice=one.voice)
                for one, end in zip(said, ends, strict=True)
            ]
            new = NewRecording(content_sha256=content, uri=f"/archive/{content[:8]}.wav", utterances=utterances)
            ids.append(list(Recordings(session).add(gallery_id, ENCODER, new).utterance_ids))
    return ids


def singly(vectors: Vectors) -> list[list[Said]]:
    """One recording for each vector."""
    return [[Said(row)] for row in vectors]


def clusterings(database: Database, settings: Settings) -> Clusterings:
    return Clusterings(database, settings, queue=ListQueue())


def run(database: Database, settings: Settings, rule: ClusterRule = RULE, gallery: str = "archive") -> JobId:
    """Find the unknown voices, here and now."""
    runs = clusterings(database, settings)
    job_id = runs.submit(gallery, rule)
    runs.perform(job_id)
    return job_id


def listed(database: Database, gallery_id: GalleryId) -> list[UnknownVoiceSummary]:
    with database.read_scope() as session:
        return UnknownVoices(session, gallery_id).page(limit=1000)


def members(database: Database, gallery_id: GalleryId) -> dict[str, set[int]]:
    """Utterances by the name of the voice that they are of."""
    with database.read_scope() as session:
        voices = UnknownVoices(session, gallery_id)
        return {one.name: set(voices.utterances(one.id)) for one in voices.page(limit=1000)}


def every_utterance(database: Database) -> list[int]:
    with database.read_scope() as session:
        return list(session.scalars(select(Utterance.id).order_by(Utterance.id)))
