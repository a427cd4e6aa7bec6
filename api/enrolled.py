"""Who is enrolled in a gallery, kept in memory between queries and never older than the record says.

A query first reads the gallery's head, where the record counts the changes of speakers and enrollments. While that
count is the one that was loaded, memory answers. When it has moved, the candidates of the query are read anew, so that
nobody who was deleted is named and no voiceprint is made of an erased voice; the whole is loaded again beside.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.embeddings import Embeddings
from indexer.db.repositories import Speakers
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.types import EmbeddingId, EncoderId, GalleryId, SpeakerId
from search.identification import Voiceprint

Ids = NDArray[np.int64]

VOICEPRINTS_KEPT = 100_000
"""Voiceprints kept in memory: 150 MB."""

LABEL_FILTERS_KEPT = 64
"""Combinations of labels whose speakers are kept ready."""

CHANGES_AT_ONCE = 1000
"""Changes after which everybody is loaded anew: as quick as reading each."""

SPEAKERS_AT_ONCE = 5000
"""Changed speakers after which everybody is loaded anew."""

_RELOADING_SHARE = 0.2
"""Most of the time that loading who is enrolled takes while that changes all the time, as in bulk ingest."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Who was enrolled at one moment, among all or among those with some labels."""

    embedding_ids: Ids
    """(n,) rising, each once."""
    pairs: tuple[Ids, Ids]
    """(m,) embedding ids, rising, and whose they are; twice where an utterance is of two speakers."""
    names: Mapping[SpeakerId, str]
    by_speaker: Mapping[SpeakerId, tuple[int, ...]]
    """Each speaker's embedding ids, rising."""


@dataclass(frozen=True, eq=False)
class _Loaded:
    """The gallery as it was when its speakers had changed `seq` times."""

    seq: int
    everyone: Enrolled
    labels: Mapping[str, frozenset[SpeakerId]]
    labeled: "OrderedDict[tuple[str, ...], Enrolled]" = field(default_factory=OrderedDict)


class EnrolledGallery:
    """The enrolled speakers of one gallery, for queries of many threads."""

    def __init__(self, database: Database, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._database = database
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()
        self._loaded_at = 0.0
        self._load_s = 0.0
        self._guard = threading.Lock()
        self._voiceprints: OrderedDict[SpeakerId, tuple[tuple[int, ...], NDArray[np.float32]]] = OrderedDict()

    def as_of(self, head: GalleryHead, labels: Sequence[str] | None = None) -> "EnrolledView":
        """Return who is enrolled, as the record had it when `head` was read, with every one of these labels.

        The first query of a process loads them; a later one never waits for it.
        """
        loaded = self._loaded or self.load()
        wanted = tuple(sorted(set(labels or ())))
        return EnrolledView(self, self._with_labels(loaded, wanted), wanted, fresh=loaded.seq >= head.position.speakers)

    def outdated(self, head: GalleryHead) -> bool:
        """Tell whether to load again: the record has moved, and so much else was done since that there is time."""
        loaded = self._loaded
        if loaded is None or loaded.seq == head.position.speakers:
            return False
        return time.monotonic() - self._loaded_at >= self._load_s / _RELOADING_SHARE

    def refresh(self) -> None:
        """Load again."""
        self.load(newer_than=self._loaded)

    def require(self, head: GalleryHead) -> None:
        """Load again unless what is loaded is as new as `head`."""
        loaded = self._loaded
        if loaded is None or loaded.seq < head.position.speakers:
            self.load(newer_than=loaded)

    def load(self, newer_than: _Loaded | None = None) -> _Loaded:
        """Read from the record who is enrolled; threads that ask at the same time share one reading."""
        with self._loading:
            if self._loaded is not None and self._loaded is not newer_than:
                return self._loaded
            started = time.monotonic()
            with self._database.read_scope() as session:
                loaded = self._changed(session, self._loaded) or self._whole(session)
            with self._guard:  # A voiceprint must not outlive its person in memory.
                self._loaded = loaded
                for gone in self._voiceprints.keys() - loaded.everyone.by_speaker.keys():
                    del self._voiceprints[gone]
            self._loaded_at = time.monotonic()
            self._load_s = self._loaded_at - started
            return self._loaded

    def _whole(self, session: Session) -> _Loaded:
        """Read everybody."""
        seq = Changes(session).position(self._gallery_id).speakers
        ids, owners = Embeddings(session).enrolled(self._gallery_id, self._encoder_id)
        names, labels = Speakers(session).directory(self._gallery_id)
        return _Loaded(seq, _enrolled(ids, owners, names), labels)

    def _changed(self, session: Session, before: _Loaded | None) -> _Loaded | None:
        """Read only who changed since; None where the record does not tell, or where it is a good part of everybody."""
        if before is None:
            return None
        changes = Changes(session)
        seq = changes.position(self._gallery_id).speakers
        changed = changes.speakers_since(self._gallery_id, before.seq, seq, limit=CHANGES_AT_ONCE)
        if changed is None or len(changed) > SPEAKERS_AT_ONCE:
            return None
        numbers = [SpeakerId(number) for number in changed.tolist()]
        speakers = Speakers(session)
        ids, owners = Embeddings(session).enrolled(self._gallery_id, self._encoder_id, numbers)
        old_ids, old_owners = before.everyone.pairs
        same = ~np.isin(old_owners, changed)
        gone = frozenset(numbers)
        names = {number: name for number, name in before.everyone.names.items() if number not in gone}
        names.update(speakers.names(numbers))
        by_speaker = {number: theirs for number, theirs in before.everyone.by_speaker.items() if number not in gone}
        by_speaker.update(_enrolled(ids, owners, names).by_speaker)
        ids, owners = np.concatenate([old_ids[same], ids]), np.concatenate([old_owners[same], owners])
        order = np.lexsort((owners, ids))
        labels = {label: has - gone for label, has in before.labels.items()}
        for number, theirs in speakers.labels(numbers).items():
            for label in theirs:
                labels[label] = labels.get(label, frozenset()) | {SpeakerId(number)}
        everyone = Enrolled(np.unique(ids), (ids[order], owners[order]), names, by_speaker)
        return _Loaded(seq, everyone, {label: has for label, has in labels.items() if has})

    def voices(self, wanted: Mapping[SpeakerId, tuple[int, ...]], names: Mapping[SpeakerId, str]) -> list[Voiceprint]:
        """Aggregate the voiceprints of speakers whose enrolled embeddings are given, from memory where they are."""
        found: dict[SpeakerId, tuple[tuple[int, ...], NDArray[np.float32]]] = {}
        with self._guard:
            loaded = self._loaded
            for speaker_id, ids in wanted.items():
                kept = self._voiceprints.get(speaker_id)
                if kept is not None and kept[0] == ids:
                    self._voiceprints.move_to_end(speaker_id)
                    found[speaker_id] = kept
        missing = [speaker_id for speaker_id in wanted if speaker_id not in found]
        if missing:
            found.update(made := self._aggregate(missing))
            with self._guard:
                if self._loaded is loaded or self._loaded is None:
                    self._voiceprints.update(made)
                else:  # Somebody may have been erased between.
                    still = self._loaded.everyone.by_speaker.keys()
                    self._voiceprints.update({number: voice for number, voice in made.items() if number in still})
                while len(self._voiceprints) > VOICEPRINTS_KEPT:
                    self._voiceprints.popitem(last=False)
        return [
            Voiceprint(speaker_id, names[speaker_id], vector, enrollments=len(ids))
            for speaker_id, (ids, vector) in found.items()
        ]

    def now(self, speaker_ids: Collection[SpeakerId], labels: Sequence[str]) -> Enrolled:
        """Read from the record what is enrolled of these speakers, of those that have every one of these labels."""
        with self._database.read_scope() as session:
            speakers = Speakers(session)
            names = speakers.names(speaker_ids)
            if labels:
                has = speakers.labels(names)
                names = {number: name for number, name in names.items() if set(labels) <= set(has.get(number, ()))}
            ids, owners = Embeddings(session).enrolled(self._gallery_id, self._encoder_id, list(names))
        return _enrolled(ids, owners, names)

    def _aggregate(
        self, speaker_ids: Collection[SpeakerId]
    ) -> dict[SpeakerId, tuple[tuple[int, ...], NDArray[np.float32]]]:
        """Make voiceprints, weighted by the length of each enrolled utterance."""
        with self._database.read_scope() as session:
            voices = Embeddings(session).of_speakers(self._encoder_id, speaker_ids)
        return {
            speaker_id: (voice.embedding_ids, aggregate_embeddings(voice.vectors, voice.durations_s))
            for speaker_id, voice in voices.items()
        }

    def _with_labels(self, loaded: _Loaded, labels: tuple[str, ...]) -> Enrolled:
        if not labels:
            return loaded.everyone
        with self._guard:
            known = loaded.labeled.get(labels)
        if known is not None:
            return known
        chosen = frozenset.intersection(*(loaded.labels.get(label, frozenset()) for label in labels))
        ids, owners = loaded.everyone.pairs
        inside = np.isin(owners, np.array(sorted(chosen), dtype=np.int64))
        some = _enrolled(ids[inside], owners[inside], loaded.everyone.names)
        with self._guard:
            loaded.labeled[labels] = some
            while len(loaded.labeled) > LABEL_FILTERS_KEPT:
                loaded.labeled.popitem(last=False)
        return some


class EnrolledView:
    """Who may be named in the answer to one query."""

    def __init__(self, gallery: EnrolledGallery, known: Enrolled, labels: tuple[str, ...], *, fresh: bool) -> None:
        self._gallery = gallery
        self._known = known
        self._labels = labels
        self._fresh = fresh

    def embedding_ids(self) -> Ids:
        """Ids of every enrolled embedding, ascending."""
        return self._known.embedding_ids

    def speakers_of(self, embedding_ids: Collection[EmbeddingId]) -> Mapping[EmbeddingId, Collection[SpeakerId]]:
        """Map enrolled embeddings to their speakers."""
        ids, owners = self._known.pairs
        numbers = np.fromiter(embedding_ids, dtype=np.int64, count=len(embedding_ids))
        first = np.searchsorted(ids, numbers, side="left")
        times = np.searchsorted(ids, numbers, side="right") - first
        one = times == 1
        found: dict[EmbeddingId, Collection[SpeakerId]] = dict(
            zip(numbers[one].tolist(), zip(owners[first[one]].tolist(), strict=True), strict=True)
        )
        for place in np.flatnonzero(times > 1).tolist():  # utterances of several speakers
            start = int(first[place])
            found[EmbeddingId(int(numbers[place]))] = tuple(owners[start : start + int(times[place])].tolist())
        return found

    def voiceprints(self, speaker_ids: Collection[SpeakerId]) -> Sequence[Voiceprint]:
        """Aggregate the voiceprints of those of these speakers who are enrolled, as the record has them."""
        known = self._known if self._fresh else self._gallery.now(speaker_ids, self._labels)
        wanted = {
            speaker_id: known.by_speaker[speaker_id] for speaker_id in speaker_ids if speaker_id in known.by_speaker
        }
        return self._gallery.voices(wanted, known.names)


def _enrolled(ids: Ids, owners: Ids, names: Mapping[SpeakerId, str]) -> Enrolled:
    order = np.argsort(owners, kind="stable")
    by_owner, starts = np.unique(owners[order], return_index=True)
    grouped = np.split(ids[order], starts[1:]) if len(by_owner) else []
    return Enrolled(
        embedding_ids=np.unique(ids),
        pairs=(ids, owners),
        names=names,
        by_speaker={
            SpeakerId(owner): tuple(some.tolist())
            for owner, some in zip(by_owner.tolist(), grouped, strict=True)
            if owner in names
        },
    )
