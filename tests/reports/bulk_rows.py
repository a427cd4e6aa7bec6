"""What COPY is worth: the same rows written to a throw-away PostgreSQL by COPY and by plain inserts, in turns.

python -m tests.reports.bulk_rows
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from api.cli.local_servers import LocalPostgres
from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.migrate import upgrade
from indexer.db.models import Embedding, Enrollment, Utterance
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance
from indexer.db.session import Database, make_engine
from indexer.db.speakers import Speakers
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId, SpeakerId
from indexer.vectors import checksums_of

ROUNDS = 15
RECORDINGS = 32
ENCODER = EncoderId("0123456789abcdef-report")


def main() -> None:
    """Print milliseconds a batch, each way."""
    with LocalPostgres() as server:
        url = server.url.format("postgres")
        upgrade(url)
        database = Database(make_engine(url))
        try:
            report(database)
        finally:
            database.close()


def report(database: Database) -> None:
    with database.session_scope() as session:
        encoder = Encoders(session).register(
            NewEncoder(ENCODER, "report", "speechbrain", "0" * 64, "none", EMBEDDING_DIM)
        )
        gallery_id = GalleryId(Galleries(session).get_or_create("report", encoder).id)
        speaker_id = Speakers(session).get_or_create(gallery_id, ["ann"])["ann"]
    random = np.random.default_rng(0)
    for each in (1, 6, 60):
        took: dict[str, list[float]] = {"COPY": [], "INSERT": []}
        for number in range(2 * ROUNDS):
            way = "COPY" if number % 2 else "INSERT"
            batch = make_batch(random, each, speaker_id)
            took[way].append(write(database, gallery_id, batch, copies=way == "COPY"))
        copy_ms, insert_ms = (1000 * statistics.median(took[way]) for way in ("COPY", "INSERT"))
        print(  # noqa: T201 - a report
            f"{RECORDINGS} recordings of {each} utterances: COPY {copy_ms:.1f} ms, INSERT {insert_ms:.1f} ms, "
            f"{insert_ms / copy_ms:.2f} times"
        )


def make_batch(random: np.random.Generator, each: int, speaker_id: SpeakerId) -> list[NewRecording]:
    vectors = random.standard_normal((RECORDINGS, each, EMBEDDING_DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return [
        NewRecording(
            content_sha256=random.bytes(32).hex(),
            uri=f"/archive/{random.integers(1 << 62)}.wav",
            duration_s=10.0 * each,
            utterances=[
                NewUtterance(None, 10.0 * place, 10.0 * place + 10, vector, speaker_id)
                for place, vector in enumerate(inside)
            ],
        )
        for inside in vectors
    ]


def write(database: Database, gallery_id: GalleryId, batch: Sequence[NewRecording], *, copies: bool) -> float:
    started = time.perf_counter()
    with database.session_scope() as session:
        if copies:
            Recordings(session).add_many(gallery_id, ENCODER, batch)
        else:
            insert_plainly(session, gallery_id, batch)
    return time.perf_counter() - started


def insert_plainly(session: Session, gallery_id: GalleryId, batch: Sequence[NewRecording]) -> None:
    """Insert as on SQLite: many rows a statement, the ids by RETURNING."""
    bare = [replace(recording, utterances=()) for recording in batch]
    recordings = Recordings(session).add_many(gallery_id, ENCODER, bare)
    parts = [(ids.recording_id, part) for ids, one in zip(recordings, batch, strict=True) for part in one.utterances]
    utterances = [
        {"recording_id": number, "channel": part.channel, "start_s": part.start_s, "end_s": part.end_s}
        for number, part in parts
    ]
    numbers = session.scalars(insert(Utterance).returning(Utterance.id, sort_by_parameter_order=True), utterances)
    pairs = list(zip(numbers, (part for _, part in parts), strict=True))
    matrix = np.stack([part.vector for _, part in pairs if part.vector is not None])
    embeddings = [
        {"gallery_id": gallery_id, "utterance_id": number, "encoder_id": ENCODER, "vector": row, "checksum": int(sum_)}
        for (number, _), row, sum_ in zip(pairs, matrix, checksums_of(matrix), strict=True)
    ]
    made = session.scalars(insert(Embedding).returning(Embedding.id, sort_by_parameter_order=True), embeddings).all()
    Changes(session).vectors_added(gallery_id, ENCODER, made)
    rows = [{"speaker_id": part.speaker_id, "utterance_id": number} for number, part in pairs]
    session.execute(insert(Enrollment), rows)
    Changes(session).speakers_changed(gallery_id)


if __name__ == "__main__":
    main()
