"""The use case behind a change of encoder: a gallery's archive is embedded again beside what is there, then switched.

Nothing that is searched changes until every utterance has a vector under the new encoder. Then the gallery goes over in
one transaction, which no ingest under the old encoder can slip past: whoever writes vectors holds the gallery's row and
compares its encoder (`indexer.db.bulk_rows`). The old vectors stay, so that going back is the same thing again.

Any number of processes may work on it at once, and each may be killed: a recording is taken up under a lease, written
in one transaction, and taken up anew where its lease ran out.
"""

import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy.orm import Session

from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.segmentation import Stretch
from indexer.db.changes import Changes
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.leases import clock
from indexer.db.reembeddings import Missing, OpenRecording, Reembedded, Reembeddings
from indexer.db.session import Database
from indexer.db.transactions import in_transaction
from indexer.decoding import Known
from indexer.embedded_files import EmbeddedFile
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import AudioGone, Conflict, CorruptAudio, EncoderMismatch, Unavailable, WorkerLost
from indexer.interrupts import interrupts_deferred
from indexer.jobs.leases import kept_lease
from indexer.jobs.remote import opened_patiently
from indexer.media import MediaStore
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import Settings
from indexer.stretches import place_of, require_same
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId, RecordingId, UtteranceId

logger = logging.getLogger(__name__)

CLAIM_RECORDINGS = 16
"""Recordings that are taken up at once: what a killed process leaves to be looked at one by one."""

BATCH_RECORDINGS = 32
BATCH_S = 2.0
"""A transaction holds this many recordings, or those that were done in this time."""

LATE_AUDIO_S = 60.0
"""Most audio that is embedded while ingest waits for the switch; more is embedded before, in another round."""

_CHANGES_LOOKED_AT = 10_000
_WAIT_S = 0.5


@dataclass(slots=True)
class ReembedTally:
    """Counts of a run so far; `utterances` and `embedded` are of the whole gallery."""

    utterances: int = 0
    embedded: int = 0
    written: int = 0
    """Utterances that this process embedded."""
    recordings: int = 0
    """Recordings that this process was done with."""
    audio_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What came of it.

    Attributes
    ----------
    encoder_before, encoder_id
        What the gallery was searched under when this began, and what it was embedded for.
    switched
        Whether the gallery is searched under `encoder_id` now, alone or beside.
    missing
        Recordings of which utterances have no vector under it.
    voiceless
        Speakers who are enrolled with nothing else: nobody is identified as one of them under it.
    """

    encoder_before: EncoderId
    encoder_id: EncoderId
    switched: bool
    tally: ReembedTally
    missing: tuple[Missing, ...]
    voiceless: tuple[str, ...]


def _nothing() -> None:
    pass


def _unseen(tally: ReembedTally) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be embedded of one recording: utterances of tracks that one policy gives."""

    recording: OpenRecording
    file: ArchiveFile
    channels: ChannelPolicy
    utterances: tuple[tuple[UtteranceId, Stretch], ...]

    @classmethod
    def of(cls, recording: OpenRecording) -> "_Work":
        # The mix first, should a recording have both: what is left then is taken up again.
        some = [one for one in recording.utterances if one.channel is None] or recording.utterances
        numbers = {one.channel for one in some if one.channel is not None}
        first = min(numbers, default=0)
        kind: Literal["mix", "one", "each"] = ("mix", "one")[len(numbers)] if len(numbers) < 2 else "each"
        channels = ChannelPolicy(kind if kind != "one" else str(first), kind, first)
        placed = tuple(
            (one.id, Stretch(one.channel or 0 if kind == "each" else 0, one.start_s, one.end_s)) for one in some
        )
        file = ArchiveFile(Path(recording.uri), None, recording.size_bytes or 0, uri=recording.uri)
        return cls(recording, file, channels, placed)

    @property
    def audio_s(self) -> float:
        return sum(stretch.end_s - stretch.start_s for _, stretch in self.utterances)

    def judge(self, result: EmbeddedFile, encoder_id: EncoderId) -> Reembedded:
        """Tell which utterances got their vectors, and why the others did not."""
        found = {Stretch(one.track, one.start_s, one.end_s): one.vectors[encoder_id] for one in result.utterances}
        error = result.error
        if result.content_sha256 is not None:
            try:
                require_same(self.recording.id, result.content_sha256, self.recording.content_sha256)
            except AudioGone as gone:
                error, found = gone, {}
        done = [(number, found[stretch]) for number, stretch in self.utterances if stretch in found]
        if error is None and len(done) < len(self.utterances):
            end_s = max(stretch.end_s for _, stretch in self.utterances)
            error = CorruptAudio(
                f"{self.recording.uri}: {len(self.utterances) - len(done)} of {len(self.utterances)} utterances, which "
                f"end at {end_s:g} s, cannot be decoded any more; delete recording {self.recording.id} and ingest it "
                "again"
            )
        vectors = np.array([vector for _, vector in done], dtype=np.float32).reshape(-1, EMBEDDING_DIM)
        return Reembedded(self.recording.id, tuple(number for number, _ in done), vectors, error)


@dataclass
class Reembed:
    """Embeds a gallery for another encoder.

    Attributes
    ----------
    encoder
        The one that the gallery goes to; must be in the record.
    beside
        Whether the gallery is to be searched under it beside the one that it has, instead of under it alone.
    prepare_index
        Called once when everything is embedded and before the switch: makes the index that searches will use.
    on_progress
        Called after every transaction.
    """

    database: Database
    settings: Settings
    gallery_id: GalleryId
    encoder: Encoder
    beside: bool = False
    prepare_index: Callable[[], None] = _nothing
    on_progress: Callable[[ReembedTally], None] = _unseen
    _token: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _works: dict[int, _Work] = field(default_factory=dict, init=False)
    """What is under way, by the identity of its file."""
    _lost: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self, *, without_missing: bool = False) -> ReembedReport:
        """Embed what has no vector under the encoder yet, then switch the gallery to it, or have it search under both.

        Parameters
        ----------
        without_missing
            Whether to switch where utterances cannot be embedded any more: nobody will find these.

        Raises
        ------
        NotFound
            If the gallery is gone.
        Conflict
            If the encoder is to go beside itself.
        EncoderMismatch
            If the encoder's vectors do not fit a gallery.
        Unavailable
            If the record or the encoder is out of reach; what was written stays, and running it again goes on.
        """
        if self.encoder.dim != EMBEDDING_DIM:
            raise EncoderMismatch(
                f"encoder {self.encoder.id} makes vectors of dimension {self.encoder.dim} and galleries keep "
                f"{EMBEDDING_DIM}: choose another encoder"
            )
        before, since, tally = in_transaction(self.database, self._begin)
        try:
            with kept_lease(self._renew, self.settings.jobs.lease_s, lost=self._lost):
                switched = self._embed_and_switch(since, tally, without_missing)
        finally:
            with interrupts_deferred():
                self._release()
        with self.database.read_scope() as session:
            missing = self._progress(session).missing()
            voiceless = self._progress(session).voiceless() if missing else []
        return ReembedReport(before, self.encoder.id, switched, tally, tuple(missing), tuple(voiceless))

    def _begin(self, session: Session) -> tuple[EncoderId, dt.datetime, ReembedTally]:
        current = Galleries(session).get(self.gallery_id).encoder_id
        if self.beside and current == self.encoder.id:
            raise Conflict(f"the gallery is searched under {current} already: name another encoder to go beside it")
        GalleryEncoders(session, self.gallery_id).begin(self.encoder.id)
        return current, clock(session), ReembedTally(*self._progress(session).counts())

    def _embed_and_switch(self, since: dt.datetime, tally: ReembedTally, without_missing: bool) -> bool:
        """Embed until nothing is left that can be, and switch; False where something is missing that must not be."""
        prepared, late_s = False, LATE_AUDIO_S
        while True:
            self._embed_all(since, tally)
            seq = self._when_nothing_left(since)
            if seq is None:
                continue
            with self.database.read_scope() as session:
                if not without_missing and self._progress(session).missing():
                    return False
            if not prepared:
                self.prepare_index()
                prepared = True
                continue  # That may have taken long, and ingest goes on.
            if in_transaction(self.database, partial(self._switch, seq, without_missing, late_s)):
                return True
            late_s *= 2  # Where ingest never rests, it has to wait in the end.

    def _embed_all(self, since: dt.datetime, tally: ReembedTally) -> None:
        """Embed what nobody else works on."""
        claimed = self._claimed(since)
        first = next(claimed, None)
        if first is None:
            return
        files = (self._under_way(recording) for recording in chain((first,), claimed))
        with closing(self._pipeline().run_batches(files, most=BATCH_RECORDINGS, within_s=BATCH_S)) as done:
            for batch in done:
                results = [self._works.pop(id(result.file)).judge(result, self.encoder.id) for result in batch]
                with interrupts_deferred():
                    tally.written += in_transaction(self.database, partial(self._write, results))
                tally.recordings += len(results)
                tally.audio_s += sum(result.speech_s for result in batch)
                self.on_progress(tally)

    def _claimed(self, since: dt.datetime) -> Iterator[OpenRecording]:
        """Take recordings up as they are needed; last those on which work was broken off, one by one.

        Runs in decoding threads, one at a time.
        """
        after = 0
        while numbers := self._open(since, after=after, limit=CLAIM_RECORDINGS, broken_off=False):
            after = numbers[-1][0]
            yield from self._claim([number for number, _ in numbers])
        after = 0
        while numbers := self._open(since, after=after, limit=1, broken_off=True):
            ((after, attempts),) = numbers
            if attempts > self.settings.jobs.tries:
                in_transaction(self.database, partial(self._give_up, after, attempts))
            else:
                yield from self._claim([after])

    def _open(self, since: dt.datetime, **which: Any) -> list[tuple[RecordingId, int]]:
        if self._lost.is_set():
            return []
        with self.database.read_scope() as session:
            return self._progress(session).open(since=since, **which)

    def _claim(self, numbers: Sequence[RecordingId]) -> list[OpenRecording]:
        lease_s = self.settings.jobs.lease_s
        return in_transaction(
            self.database, lambda session: self._progress(session).claim(numbers, self._token, lease_s=lease_s)
        )

    def _give_up(self, number: RecordingId, attempts: int, session: Session) -> None:
        error = WorkerLost(
            f"recording {number}: {attempts} processes died while they worked on it, the limit is "
            f"{self.settings.jobs.tries}; it may need more memory than they have, or crash a codec"
        )
        self._progress(session).refuse(number, error)

    def _when_nothing_left(self, since: dt.datetime) -> int | None:
        """Return how far the feed was when nothing was left to embed; None where something is, after a while."""
        if self._lost.is_set():
            raise Unavailable("the record was out of reach for too long; run the same command again to go on")
        began = time.monotonic()
        with self.database.read_scope() as session:
            if not self._progress(session).open(since=since, leased=True):
                return Changes(session).position(self.gallery_id).vectors
        if not self._open(since):  # Somebody else is at it, or was killed: then it is ours once the lease is over.
            self._lost.wait(max(_WAIT_S, time.monotonic() - began))
        return None

    def _switch(self, seq: int, without_missing: bool, late_s: float, session: Session) -> bool:
        """Switch the gallery if nothing is missing that came after the feed's number `seq`, or is embedded soon."""
        encoders, progress = GalleryEncoders(session, self.gallery_id), self._progress(session)
        if encoders.is_searched_under(self.encoder.id, second=self.beside):
            return True
        came = progress.came_since(seq, most=_CHANGES_LOOKED_AT)
        if came is None:
            return False
        late = progress.recordings(came)
        if sum(_Work.of(recording).audio_s for recording in late) > late_s:
            return False
        if late:
            with closing(self._pipeline().run(self._under_way(recording) for recording in late)) as done:
                results = [self._works.pop(id(result.file)).judge(result, self.encoder.id) for result in done]
            progress.write(results, None)
            impossible = {result.recording_id for result in results if result.error is not None}
            left = {recording.id for recording in progress.recordings(came)}
            if not left <= impossible or (left and not without_missing):
                return False
        if self.beside:
            encoders.set_second(self.encoder.id)
        else:
            encoders.switch(self.encoder.id)
        return True

    def _pipeline(self) -> EmbeddingPipeline:
        return EmbeddingPipeline(
            EncoderSet(self.encoder),
            channels=ChannelPolicy.parse("mix"),
            limits=self.settings.audio,
            decode_threads=self.settings.ingest.decode_threads,
            is_known=lambda content: False,
            fetch=self._placed,
            known=self._known,
            stopping=self._lost.is_set,
        )

    def _under_way(self, recording: OpenRecording) -> ArchiveFile:
        work = _Work.of(recording)
        self._works[id(work.file)] = work
        return work.file

    def _placed(self, file: ArchiveFile) -> AbstractContextManager[Path]:
        recording, media = self._works[id(file)].recording, MediaStore(self.settings.media_path)
        return opened_patiently(lambda: place_of(recording, media, self.settings), self._lost.wait)

    def _known(self, file: ArchiveFile) -> Known:
        work = self._works[id(file)]
        return Known(work.channels, [stretch for _, stretch in work.utterances], work.recording.audio_track)

    def _write(self, results: Sequence[Reembedded], session: Session) -> int:
        return self._progress(session).write(results, self._token)

    def _renew(self) -> bool:
        lease_s = self.settings.jobs.lease_s
        in_transaction(self.database, lambda session: self._progress(session).renew(self._token, lease_s=lease_s))
        return True

    def _release(self) -> None:
        """Give back what is under way; where the record is out of reach, the leases end by themselves."""
        try:
            in_transaction(self.database, lambda session: self._progress(session).release(self._token))
        except Unavailable as error:
            logger.warning("recordings were not given back: %s", error.code, exc_info=error)

    def _progress(self, session: Session) -> Reembeddings:
        return Reembeddings(session, self.gallery_id, self.encoder.id)


def drop_encoder(database: Database, gallery_id: GalleryId, encoder_id: EncoderId) -> int:
    """Erase a gallery's vectors under an encoder that it is not searched under; return how many went.

    Index files are the caller's to remove. Where this is broken off, running it again goes on.

    Raises
    ------
    Conflict
        If the gallery is searched under it, or somebody embeds for it now.
    NotFound
        If the gallery is gone.
    """

    def of(session: Session) -> GalleryEncoders:
        return GalleryEncoders(session, gallery_id)

    in_transaction(database, lambda session: of(session).close_way_back(encoder_id), refusals=True)
    dropped = 0
    while some := in_transaction(database, lambda session: of(session).drop_some(encoder_id), refusals=True):
        dropped += some
    in_transaction(database, lambda session: of(session).forget(encoder_id))
    return dropped
