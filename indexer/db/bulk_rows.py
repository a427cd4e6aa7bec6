"""Many new rows at once: COPY on Postgres, inserts elsewhere; the ids are the same kind of ids either way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from indexer.db.models import Base, Embedding, Enrollment, Gallery, Utterance, utc_now
from indexer.db.rows import NewUtterance
from indexer.errors import EncoderChanged
from indexer.types import EmbeddingId, EncoderId, GalleryId, RecordingId, UtteranceId
from indexer.vectors import checksums_of, require_unit_rows

_COPIED: dict[type[Base], dict[str, str]] = {
    Utterance: {
        "id": "int8",
        "recording_id": "int8",
        "channel": "int4",
        "start_s": "float8",
        "end_s": "float8",
        "voice": "int4",
        "net_speech_s": "float8",
        "snr_db": "float8",
        "clipped_share": "float8",
        "bandwidth_hz": "float8",
        "level_dbfs": "float8",
    },
    Embedding: {
        "id": "int8",
        "gallery_id": "int8",
        "utterance_id": "int8",
        "encoder_id": "varchar",
        "vector": "bytea",
        "checksum": "int8",
    },
    Enrollment: {"id": "int8", "speaker_id": "int8", "utterance_id": "int8", "created_at": "timestamptz"},
}
"""Every column of the tables that are copied into, with its Postgres type."""


@dataclass(frozen=True)
class FilledRows:
    """Ids that new utterances were given, in their order; None where an utterance had no vector."""

    utterance_ids: list[UtteranceId]
    embedding_ids: list[EmbeddingId | None]
    beside: dict[EncoderId, list[EmbeddingId]]
    """Of the vectors under a second encoder."""
    enrolled: int


def insert_utterances(
    session: Session,
    gallery_id: GalleryId,
    encoder_id: EncoderId,
    parts: Sequence[tuple[RecordingId, NewUtterance]],
) -> FilledRows:
    """Insert utterances of any number of recordings, with their vectors and enrollments.

    Raises
    ------
    EncoderChanged
        If the gallery is searched under other encoders by now.
    EncoderMismatch, NonFiniteEmbedding, InvalidRequest
        If a vector is not one that the gallery keeps.
    """
    if not parts:
        return FilledRows([], [], {}, 0)
    utterances = [_utterance_row(recording_id, part) for recording_id, part in parts]
    utterance_ids = [UtteranceId(number) for number in _insert(session, Utterance, utterances)]
    given = [place for place, (_, part) in enumerate(parts) if part.vector is not None]
    embedded = [(utterance_ids[place], parts[place][1]) for place in given]
    embeddings = _embedding_rows(session, gallery_id, encoder_id, embedded)
    numbers = [EmbeddingId(number) for number in _insert(session, Embedding, embeddings)]
    embedding_ids: list[EmbeddingId | None] = [None] * len(parts)
    for place, number in zip(given, numbers, strict=False):  # The first encoder's rows are the first.
        embedding_ids[place] = number
    beside: dict[EncoderId, list[EmbeddingId]] = {}
    for row, number in zip(embeddings[len(given) :], numbers[len(given) :], strict=True):
        beside.setdefault(row["encoder_id"], []).append(number)
    enrollments = [
        {"speaker_id": part.speaker_id, "utterance_id": number, "created_at": utc_now()}
        for number, (_, part) in zip(utterance_ids, parts, strict=True)
        if part.speaker_id is not None
    ]
    _insert(session, Enrollment, enrollments)
    return FilledRows(utterance_ids, embedding_ids, beside, len(enrollments))


def _utterance_row(recording_id: RecordingId, part: NewUtterance) -> dict[str, Any]:
    quality = part.quality
    return {
        "recording_id": recording_id,
        "channel": part.channel,
        "start_s": part.start_s,
        "end_s": part.end_s,
        "voice": part.voice,
        "net_speech_s": quality.net_speech_s if quality else None,
        "snr_db": quality.snr_db if quality else None,
        "clipped_share": quality.clipped_share if quality else None,
        "bandwidth_hz": quality.bandwidth_hz if quality else None,
        "level_dbfs": quality.level_dbfs if quality else None,
    }


def _embedding_rows(
    session: Session, gallery_id: GalleryId, encoder_id: EncoderId, parts: Sequence[tuple[UtteranceId, NewUtterance]]
) -> list[dict[str, Any]]:
    """Make the rows of utterances that have a vector: all of the gallery's encoder, then all of its second one."""
    if not parts:
        return []
    # Locked against a change of the encoders until the commit: either its rows are seen by that change, or it by this.
    gallery = select(Gallery.dim, Gallery.encoder_id, Gallery.second_encoder_id).where(Gallery.id == gallery_id)
    dim, *current = session.execute(gallery.with_for_update(read=True, key_share=True)).one()
    wanted = [one for one in current if one is not None]
    for given in {(encoder_id, *part.beside) for _, part in parts}:
        if list(given) != wanted:
            raise EncoderChanged(
                f"gallery {gallery_id} is searched under {' and '.join(wanted)}, and these vectors are of "
                f"{' and '.join(given)}: embed the recordings again"
            )
    rows: list[dict[str, Any]] = []
    for one in wanted:
        vectors = [part.vector if one == encoder_id else part.beside[one] for _, part in parts]
        matrix = require_unit_rows(np.stack([vector for vector in vectors if vector is not None]), dim)
        rows += [
            {
                "gallery_id": gallery_id,
                "utterance_id": number,
                "encoder_id": one,
                "vector": row,
                "checksum": int(checksum),
            }
            for (number, _), row, checksum in zip(parts, matrix, checksums_of(matrix), strict=True)
        ]
    return rows


def _insert(session: Session, table: type[Base], rows: list[dict[str, Any]]) -> list[int]:
    """Insert rows and return their ids in the same order."""
    if not rows:
        return []
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        return _copy(connection, table, rows)
    target = table.__table__
    assert isinstance(target, Table)
    statement = insert(target).returning(target.c.id, sort_by_parameter_order=True)
    return list(session.scalars(statement, rows))


def _copy(connection: Connection, table: type[Base], rows: list[dict[str, Any]]) -> list[int]:
    """Copy rows in under ids that are drawn first; COPY gives none back."""
    name, columns = table.__tablename__, _COPIED[table]
    draw = select(func.nextval(func.pg_get_serial_sequence(name, "id"))).select_from(
        func.generate_series(1, len(rows)).alias("n")
    )
    ids = list(connection.scalars(draw))
    with _driver_errors(connection) as driver, driver.cursor() as cursor:
        statement = f"COPY {name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement) as copy:
            copy.set_types(list(columns.values()))
            for number, row in zip(ids, rows, strict=True):
                values = ({"id": number, **row}[column] for column in columns)
                copy.write_row([value.tobytes() if isinstance(value, np.ndarray) else value for value in values])
    return ids


@contextmanager
def _driver_errors(connection: Connection) -> Iterator[Any]:
    """Lend the psycopg connection below; its errors come out as SQLAlchemy's own do."""
    import psycopg

    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        yield driver
    except psycopg.Error as error:
        raise DBAPIError.instance(
            "COPY", None, error, psycopg.Error, connection_invalidated=driver.closed, dialect=connection.dialect
        ) from error
