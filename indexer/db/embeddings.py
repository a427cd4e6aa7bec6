"""Named queries about vectors: what an index must hold, whose they are, and where they were heard."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, LargeBinary, bindparam, cast, func, select, type_coerce
from sqlalchemy.orm import Session

from indexer.db.models import Embedding, Enrollment, Recording, Speaker, Utterance
from indexer.db.prepared import Prepared
from indexer.db.rows import QUALITY, EnrolledRows, Stretch, quality_of
from indexer.db.session import Database
from indexer.db.statements import batches
from indexer.errors import CorruptArtifact, NotFound
from indexer.types import EMBEDDING_DIM, EmbeddingId, EncoderId, GalleryId, RecordingId, UtteranceId, Vectors
from indexer.vectors import FINGERPRINT_MODULUS, Fingerprint

Ids = NDArray[np.int64]

STREAM_ROWS = 4096
"""Rows held in memory while a gallery streams by: 3 MiB of vectors."""

_NO_SNR_DB = -1000.0
"""Stands for a ratio that nobody measured where numbers are read in bulk."""

_ENROLLED_AT_ONCE = 10_000
"""Rows of enrollments taken from the database at a time."""

# Statements that every answer needs are made once: to put one together takes longer than to run it.

# From the speakers on, every step is answered by an index that covers it; from the embeddings on, SQLite would read
# each vector's page.
_ENROLLMENTS = (
    select(
        Enrollment.speaker_id,
        Embedding.id,
        # What somebody enrolled though no speech was found in it counts by its length, for a weight must be.
        func.coalesce(func.nullif(Utterance.net_speech_s, 0.0), Utterance.end_s - Utterance.start_s),
        func.coalesce(Utterance.snr_db, _NO_SNR_DB),
        func.coalesce(Utterance.bandwidth_hz, 0.0),
    )
    .join(Speaker, Speaker.id == Enrollment.speaker_id)
    .join(Embedding, Embedding.utterance_id == Enrollment.utterance_id)
    .join(Utterance, Utterance.id == Enrollment.utterance_id)
    .where(Embedding.encoder_id == bindparam("encoder"))
    .execution_options(yield_per=_ENROLLED_AT_ONCE)
)
_ENROLLED = _ENROLLMENTS.where(Speaker.gallery_id == bindparam("gallery"))
# The sum keeps SQLite from going through the index of all speakers of the gallery for those who are named: among
# 100,000 that took 18 ms for ten of them, where this takes 0.5.
_ENROLLED_OF = Prepared(
    _ENROLLMENTS.where(
        Speaker.gallery_id + 0 == bindparam("gallery"), Speaker.id.in_(bindparam("speakers", expanding=True))
    )
)

_STRETCHES = Prepared(
    select(
        Embedding.id,
        Utterance.id.label("utterance_id"),
        Utterance.recording_id,
        Recording.uri,
        Utterance.channel,
        Utterance.start_s,
        Utterance.end_s,
        *QUALITY,
    )
    .join(Utterance, Utterance.id == Embedding.utterance_id)
    .join(Recording, Recording.id == Utterance.recording_id)
    .where(Embedding.id.in_(bindparam("of", expanding=True)))
    .order_by(Embedding.id)
)


def enrolled_of(
    database: Database, gallery_id: GalleryId, encoder_id: EncoderId, speaker_ids: Sequence[int]
) -> EnrolledRows:
    """Read which embeddings these speakers have; see `Embeddings.enrolled`."""
    blocks = [
        _ENROLLED_OF.rows(database, gallery=gallery_id, encoder=encoder_id, speakers=some)
        for some in batches(speaker_ids)
    ]
    return _as_enrolled([_flat(block) for block in blocks])


def stretches_of(database: Database, embedding_ids: Iterable[int]) -> dict[EmbeddingId, Stretch]:
    """Read where each embedding was heard, and not whose it is; see `Embeddings.stretches`."""
    return {
        EmbeddingId(row.id): _as_stretch(row)
        for some in batches(sorted(set(map(int, embedding_ids))))
        for row in _STRETCHES.rows(database, of=some)
    }


def _flat(rows: Sequence[Any]) -> NDArray[np.float64]:
    # Ids stay below 2**53, up to where float64 counts every integer.
    return np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=5 * len(rows)).reshape(-1, 5)


def _as_enrolled(blocks: Sequence[NDArray[np.float64]]) -> EnrolledRows:
    table = np.concatenate([np.empty((0, 5)), *blocks])
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    speakers, embeddings = table[:, :2].astype(np.int64).T
    return EnrolledRows(
        speaker_ids=np.ascontiguousarray(speakers),
        embedding_ids=np.ascontiguousarray(embeddings),
        durations_s=table[:, 2].copy(),
        snr_db=np.where(table[:, 3] == _NO_SNR_DB, np.nan, table[:, 3]),
        bandwidth_hz=np.where(table[:, 4] > 0, table[:, 4], np.nan),
    )


def _as_stretch(row: Any, speakers: tuple[str, ...] = ()) -> Stretch:
    return Stretch(
        EmbeddingId(row.id),
        UtteranceId(row.utterance_id),
        RecordingId(row.recording_id),
        row.uri,
        row.channel,
        row.start_s,
        row.end_s,
        speakers,
        quality_of(row),
    )


def is_sound(checksum: int, stored: bytes) -> bool:
    """Whether stored bytes are the vector that the checksum was made of."""
    # A length test of its own: CRC-32 alone lets bytes of another length through once in 2**32.
    return len(stored) == 4 * EMBEDDING_DIM and zlib.crc32(stored) == checksum


class Embeddings:
    """The vectors of galleries."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def fingerprint(self, gallery_id: GalleryId, encoder_id: EncoderId, up_to: int | None = None) -> Fingerprint:
        """Sum up what an index of this gallery must hold (ids not above `up_to`), from the table's index alone."""
        residues = (Embedding.id % FINGERPRINT_MODULUS) * (Embedding.checksum % FINGERPRINT_MODULUS)
        query = select(
            func.count(Embedding.id),
            func.coalesce(func.sum(cast(Embedding.id, BigInteger)), 0),
            func.coalesce(func.sum(Embedding.checksum), 0),
            func.coalesce(func.sum(residues), 0),
        ).where(Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id)
        if up_to is not None:
            query = query.where(Embedding.id <= up_to)
        count, ids, checksums, products = self._session.execute(query).one()
        return Fingerprint(int(count), int(ids), int(checksums), int(products))  # Postgres sums are Decimal

    def last_id(self, gallery_id: GalleryId, encoder_id: EncoderId) -> int:
        """Return the highest id of a gallery's embeddings; 0 where there are none."""
        query = select(func.max(Embedding.id))
        return (
            self._session.scalar(query.where(Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id))
            or 0
        )

    def raw_stream(
        self, gallery_id: GalleryId, encoder_id: EncoderId, after: int = 0, rows: int = STREAM_ROWS
    ) -> Iterator[tuple[Ids, Ids, Sequence[bytes]]]:
        """Yield blocks of (ids, checksums, stored bytes) in id order above `after`, whatever the bytes are worth.

        Each block is a query of its own, so memory is bounded on every database, whatever the gallery's size.
        """
        while True:
            query = (
                select(Embedding.id, Embedding.checksum, type_coerce(Embedding.vector, LargeBinary))
                .where(Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id, Embedding.id > after)
                .order_by(Embedding.id)
                .limit(rows)
            )
            found = self._session.execute(query).all()
            if found:
                ids, checksums, stored = zip(*found, strict=True)
                yield np.array(ids, dtype=np.int64), np.array(checksums, dtype=np.int64), stored
                after = ids[-1]
            if len(found) < rows:
                return

    def stream(
        self, gallery_id: GalleryId, encoder_id: EncoderId, after: int = 0, rows: int = STREAM_ROWS
    ) -> Iterator[tuple[Ids, Vectors, Ids]]:
        """Yield blocks of (ids, (n, D) vectors, ids of rows that are damaged) in id order, in bounded memory.

        Damaged is what does not match its checksum; it is not among the first.
        """
        for ids, checksums, stored in self.raw_stream(gallery_id, encoder_id, after, rows):
            sound = np.array([is_sound(*row) for row in zip(checksums.tolist(), stored, strict=True)], dtype=bool)
            vectors = np.frombuffer(b"".join(compress(stored, sound)), dtype="<f4").reshape(-1, EMBEDDING_DIM)
            yield ids[sound], vectors, ids[~sound]

    def _decode(self, ids: Ids, checksums: Ids, stored: Sequence[bytes]) -> Vectors:
        sound = np.array([is_sound(*row) for row in zip(checksums, stored, strict=True)], dtype=bool)
        if not sound.all():
            number = int(ids[np.argmin(sound)])
            query = select(Utterance.recording_id).join(Embedding, Embedding.utterance_id == Utterance.id)
            recording_id = self._session.scalars(query.where(Embedding.id == number)).one()
            raise CorruptArtifact(
                f"the stored vector of embedding {number} does not match its checksum: "
                f"delete recording {recording_id} and ingest it again"
            )
        return np.frombuffer(b"".join(stored), dtype="<f4").reshape(-1, EMBEDDING_DIM)

    def checksums(self, gallery_id: GalleryId, encoder_id: EncoderId) -> tuple[Ids, Ids]:
        """Return every (id, checksum) in id order, 16 bytes a row, without reading a vector."""
        query = (
            select(Embedding.id, Embedding.checksum)
            .where(Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id)
            .order_by(Embedding.id)
            .execution_options(yield_per=100_000)
        )
        blocks = [
            np.array(list(map(tuple, block)), dtype=np.int64) for block in self._session.execute(query).partitions()
        ]
        table = np.concatenate(blocks) if blocks else np.empty((0, 2), dtype=np.int64)
        return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])

    def vectors(self, embedding_ids: Sequence[int]) -> Vectors:
        """Return the vectors of these ids as (n, D), in the order asked for.

        Raises
        ------
        NotFound
            If an id is gone; the message names the first.
        CorruptArtifact
            If a vector is not the one its checksum was made of.
        """
        wanted = [int(number) for number in embedding_ids]
        found: dict[int, NDArray[np.float32]] = {}
        for some in batches(sorted(set(wanted))):
            query = select(Embedding.id, Embedding.checksum, type_coerce(Embedding.vector, LargeBinary)).where(
                Embedding.id.in_(some)
            )
            rows = self._session.execute(query).all()
            if rows:
                ids, checksums, stored = zip(*rows, strict=True)
                found.update(zip(ids, self._decode(np.array(ids), np.array(checksums), stored), strict=True))
        missing = [number for number in wanted if number not in found]
        if missing:
            raise NotFound(f"no embedding with id {missing[0]} ({len(missing)} of {len(wanted)} are gone)")
        if not wanted:
            return np.empty((0, EMBEDDING_DIM), dtype=np.float32)
        return np.stack([found[number] for number in wanted])

    def present(self, gallery_id: GalleryId, encoder_id: EncoderId, embedding_ids: Ids) -> tuple[Ids, Vectors, Ids]:
        """Return those of these ids that are there, rising, with their (n, D) vectors, and those that are damaged.

        Damaged is what does not match its checksum; it is not among the first.
        """
        rows: list[tuple[int, bytes]] = []
        damaged: list[int] = []
        for some in batches(np.unique(embedding_ids).tolist()):
            query = (
                select(Embedding.id, Embedding.checksum, type_coerce(Embedding.vector, LargeBinary))
                .where(Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id, Embedding.id.in_(some))
                .order_by(Embedding.id)
            )
            for number, checksum, stored in self._session.execute(query):
                if is_sound(checksum, stored):
                    rows.append((number, stored))
                else:
                    damaged.append(number)
        ids = np.array([number for number, _ in rows], dtype=np.int64)
        vectors = np.frombuffer(b"".join(stored for _, stored in rows), dtype="<f4").reshape(-1, EMBEDDING_DIM)
        return ids, vectors, np.array(damaged, dtype=np.int64)

    def existing(self, gallery_id: GalleryId, encoder_id: EncoderId, embedding_ids: Ids) -> Ids:
        """Return those of these ids that are there, rising, without reading a vector."""
        found: list[int] = []
        for some in batches(np.unique(embedding_ids).tolist()):
            query = select(Embedding.id).where(
                Embedding.gallery_id == gallery_id, Embedding.encoder_id == encoder_id, Embedding.id.in_(some)
            )
            found += self._session.scalars(query.order_by(Embedding.id))
        return np.array(found, dtype=np.int64)

    def enrolled(
        self, gallery_id: GalleryId, encoder_id: EncoderId, speaker_ids: Sequence[int] | None = None
    ) -> EnrolledRows:
        """Return which embedding is whose, and how much speech is in it, by speaker and then embedding.

        An utterance enrolled to two speakers appears twice. Where speakers are named, only theirs are returned.
        """
        of = {"gallery": gallery_id, "encoder": encoder_id}
        asked: list[dict[str, object]] = [of]
        if speaker_ids is not None:
            asked = [{**of, "speakers": some} for some in batches(speaker_ids)]
        query = _ENROLLED if speaker_ids is None else _ENROLLED_OF.statement
        blocks = []
        for one in asked:
            # By the connection: through the session, which looks for objects in each row, a million take twice as long.
            blocks += [_flat(block) for block in self._session.connection().execute(query, one).partitions()]
        return _as_enrolled(blocks)

    def stretches(self, embedding_ids: Iterable[int]) -> dict[EmbeddingId, Stretch]:
        """Return where each embedding was heard, and to whom it is enrolled.

        Ids whose row is gone are absent, so a stale hit cannot be shown.
        """
        found: dict[EmbeddingId, Stretch] = {}
        for some in batches(sorted(set(map(int, embedding_ids)))):
            rows: Sequence[Any] = self._session.connection().execute(_STRETCHES.statement, {"of": some}).all()
            speakers = self._speakers_of([row.utterance_id for row in rows])
            for row in rows:
                found[EmbeddingId(row.id)] = _as_stretch(row, speakers.get(row.utterance_id, ()))
        return found

    def _speakers_of(self, utterance_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        query = (
            select(Enrollment.utterance_id, Speaker.name)
            .join(Speaker, Speaker.id == Enrollment.speaker_id)
            .where(Enrollment.utterance_id.in_(utterance_ids))
            .order_by(Enrollment.utterance_id, Speaker.name)
        )
        names: dict[int, tuple[str, ...]] = {}
        for utterance_id, name in self._session.execute(query):
            names[utterance_id] = (*names.get(utterance_id, ()), name)
        return names
