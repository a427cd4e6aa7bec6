"""Named queries of a run over unknown voices: what is to be grouped, what is known before, and what came of it.

Each writing transaction locks by `UnknownVoices.lock` first, and looks anew at what people said meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.orm import Session

from indexer.db.models import (
    Clustering,
    Embedding,
    Recording,
    UnknownVoice,
    UnknownVoiceApart,
    UnknownVoiceMember,
    Utterance,
    utc_now,
)
from indexer.db.statements import batches, insert_if_absent
from indexer.db.unknown_voices import is_enrolled
from indexer.types import EncoderId, GalleryId, UnknownVoiceId, UtteranceId

_STREAM_ROWS = 50_000

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UnnamedRows:
    """Utterances of a gallery that are nobody's: parallel (n,) arrays, rising by embedding."""

    embedding_ids: Ids
    utterance_ids: Ids
    recording_ids: Ids
    channels: Ids
    """-1: the mix of all."""
    voices: Ids
    """Number of the voice within the recording; -1: nobody looked who speaks when."""
    speech_s: NDArray[np.float64]
    """Net speech; the length of the utterance where nobody measured it."""

    def __len__(self) -> int:
        return len(self.embedding_ids)


@dataclass(frozen=True, eq=False)
class KnownVoices:
    """What is said of a gallery's unknown voices before a run.

    Attributes
    ----------
    numbers
        Number of each voice.
    utterance_ids, voice_ids, pinned
        Parallel (m,) arrays of members, rising by utterance.
    apart
        (p, 2): voice, and an utterance that a person said is not of it.
    """

    numbers: Mapping[UnknownVoiceId, int]
    utterance_ids: Ids
    voice_ids: Ids
    pinned: NDArray[np.bool_]
    apart: Ids


class VoiceRuns:
    """Runs over the unknown voices of one gallery."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def unnamed(self, encoder_id: EncoderId) -> UnnamedRows:
        """Return the utterances that are enrolled as nobody and have a vector under this encoder."""
        query = (
            select(
                Embedding.id,
                Utterance.id,
                Utterance.recording_id,
                func.coalesce(Utterance.channel, -1),
                func.coalesce(Utterance.voice, -1),
                func.coalesce(Utterance.net_speech_s, Utterance.end_s - Utterance.start_s),
            )
            .select_from(Recording)
            .join(Utterance, Utterance.recording_id == Recording.id)
            .join(Embedding, (Embedding.utterance_id == Utterance.id) & (Embedding.encoder_id == encoder_id))
            .where(Recording.gallery_id == self._gallery_id, ~is_enrolled(Utterance.id))
            .execution_options(yield_per=_STREAM_ROWS)
        )
        table = self._table(query, 6)
        table = table[np.argsort(table[:, 0])]
        embeddings, utterances, recordings, channels, voices = np.ascontiguousarray(table[:, :5].astype(np.int64).T)
        return UnnamedRows(embeddings, utterances, recordings, channels, voices, table[:, 5].copy())

    def known(self) -> KnownVoices:
        """Return the voices with their members, and what people said of them."""
        numbers = select(UnknownVoice.id, UnknownVoice.number).where(UnknownVoice.gallery_id == self._gallery_id)
        members = (
            select(UnknownVoiceMember.utterance_id, UnknownVoiceMember.voice_id, UnknownVoiceMember.pinned)
            .join(UnknownVoice, UnknownVoice.id == UnknownVoiceMember.voice_id)
            .where(UnknownVoice.gallery_id == self._gallery_id)
            .execution_options(yield_per=_STREAM_ROWS)
        )
        table = self._table(members, 3)
        table = table[np.argsort(table[:, 0])].astype(np.int64)
        return KnownVoices(
            {UnknownVoiceId(number): shown for number, shown in self._session.execute(numbers)},
            np.ascontiguousarray(table[:, 0]),
            np.ascontiguousarray(table[:, 1]),
            table[:, 2] != 0,
            self._apart_pairs(),
        )

    def _apart_pairs(self) -> Ids:
        query = (
            select(UnknownVoiceApart.voice_id, UnknownVoiceApart.utterance_id)
            .join(UnknownVoice, UnknownVoice.id == UnknownVoiceApart.voice_id)
            .where(UnknownVoice.gallery_id == self._gallery_id)
            .execution_options(yield_per=_STREAM_ROWS)
        )
        return self._table(query, 2).astype(np.int64)

    def _table(self, query: Select[*tuple[Any, ...]], columns: int) -> NDArray[np.float64]:
        """Return the rows of a query as (n, columns); ids stay below 2**53, up to where float64 counts every integer.

        By the connection: through the session, which looks for objects in each row, a million take twice as long.
        """
        blocks = [np.empty((0, columns))]
        for block in self._session.connection().execute(query).partitions():
            flat = np.fromiter(chain.from_iterable(block), dtype=np.float64, count=columns * len(block))
            blocks.append(flat.reshape(-1, columns))
        return np.concatenate(blocks)

    def vectors_of(self, utterance_ids: Sequence[int], encoder_id: EncoderId) -> list[tuple[UtteranceId, int]]:
        """Return (utterance, embedding) of those of these utterances that have a vector under an encoder."""
        found: list[tuple[UtteranceId, int]] = []
        for some in batches(utterance_ids):
            query = select(Embedding.utterance_id, Embedding.id).where(
                Embedding.utterance_id.in_(some), Embedding.encoder_id == encoder_id
            )
            found += [(UtteranceId(row[0]), row[1]) for row in self._session.execute(query)]
        return sorted(found)

    def forget(self, utterance_ids: Sequence[int]) -> None:
        """Take utterances out of their voices, but for those that are pinned by now."""
        for some in batches(utterance_ids):
            gone = delete(UnknownVoiceMember).where(
                UnknownVoiceMember.utterance_id.in_(some), UnknownVoiceMember.pinned.is_(False)
            )
            self._session.execute(gone.execution_options(synchronize_session=False))

    def add(self, members: Mapping[UnknownVoiceId, Sequence[tuple[int, float | None]]]) -> None:
        """Put utterances with their scores into voices.

        Passed over are voices that are gone, utterances that are erased or enrolled by now or in another voice, and
        those that a person meanwhile said are not of the voice.
        """
        there = self._present(members)
        rows = [
            {"utterance_id": utterance_id, "voice_id": voice_id, "score": score}
            for voice_id, some in members.items()
            if voice_id in there
            for utterance_id, score in some
        ]
        for part in batches(rows, 5000):
            numbers = [row["utterance_id"] for row in part]
            free = set(
                self._session.scalars(select(Utterance.id).where(Utterance.id.in_(numbers), ~is_enrolled(Utterance.id)))
            )
            apart = {
                (row.voice_id, row.utterance_id)
                for row in self._session.execute(
                    select(UnknownVoiceApart.voice_id, UnknownVoiceApart.utterance_id).where(
                        UnknownVoiceApart.utterance_id.in_(numbers)
                    )
                )
            }
            wanted = [
                row
                for row in part
                if row["utterance_id"] in free and (row["voice_id"], row["utterance_id"]) not in apart
            ]
            if wanted:
                self._session.execute(insert_if_absent(self._session, UnknownVoiceMember), wanted)

    def finish(self, encoder_id: EncoderId, utterances: int, rule: Mapping[str, Any]) -> None:
        """Delete the voices of which nothing is left, and note what the run was."""
        left = exists().where(UnknownVoiceMember.voice_id == UnknownVoice.id)
        self._session.execute(
            delete(UnknownVoice)
            .where(UnknownVoice.gallery_id == self._gallery_id, ~left)
            .execution_options(synchronize_session=False)
        )
        values = {
            "encoder_id": encoder_id,
            "utterances": utterances,
            "rule": dict(rule),
            "finished_at": utc_now(),
        }
        self._session.execute(update(Clustering).where(Clustering.gallery_id == self._gallery_id).values(**values))

    def _present(self, voice_ids: Iterable[int]) -> set[UnknownVoiceId]:
        found: set[UnknownVoiceId] = set()
        for some in batches(sorted(voice_ids)):
            query = select(UnknownVoice.id).where(UnknownVoice.id.in_(some))
            found.update(UnknownVoiceId(number) for number in self._session.scalars(query))
        return found
