"""Planning: a job's source becomes shards of a few minutes of audio, each file once, whatever happens on the way."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from indexer.db.jobs import RESUMED, Jobs
from indexer.db.models import Job
from indexer.db.names import canonical, require_name, require_text
from indexer.db.plans import NewItem, NewShard, Plans, behind, passed_over, reached, stalls
from indexer.db.retries import RetriedPart, Retries, Retry
from indexer.db.session import Database
from indexer.db.transactions import in_transaction
from indexer.errors import Conflict, InvalidRequest, LeaseLost, Unavailable, VoxdexError, one_line
from indexer.jobs.leases import kept_lease
from indexer.jobs.queue import JobQueue
from indexer.jobs.source import Cursor, Listed, Source, SourceEntry, UnusableEntry
from indexer.jobs.uris import MAX_URI_BYTES, require_short
from indexer.manifests import place
from indexer.settings import JobSettings
from indexer.types import JobId, ShardId

logger = logging.getLogger(__name__)

CALL_S = 45.0
"""How long one call plans before it asks for the next: far inside any visibility timeout.

It counts from the first step behind the place where the last call stopped."""

WRITE_SHARDS = 16
WRITE_S = 1.0
"""Full shards are written once they are so many, or so old: few transactions, and workers that need not wait."""

MAX_STALLS = 10
"""Calls in a row that got nowhere (the source out of reach, the worker killed) before the job is given up."""


class _OutOfReachError(Exception):
    """The source, and not the record, cannot be reached."""

    def __init__(self, reason: Unavailable) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass
class _Cut:
    """Files that were read and not written yet, cut into shards, each with the place that it reaches to."""

    settings: JobSettings
    shards: list[NewShard] = field(default_factory=list)
    reach: list[Cursor] = field(default_factory=list)
    passed: Cursor | None = None
    """The place behind the last step, whether that was a file or not; None before the first one."""
    passed_over: int = 0
    """Files that are no recordings; counted for a source that holds none."""
    since: float = field(default_factory=time.monotonic)

    def step(self, item: NewItem | None, estimated_s: float, cursor: Cursor) -> None:
        """Put a file into the last shard, or begin another; a file longer than a shard gets one of its own."""
        if item is None:
            self.passed_over += 1
            self.passed = behind(cursor, self.passed_over)
            return
        self.passed = cursor
        if not self.shards or not self._has_room(self.shards[-1], estimated_s):
            self.shards.append(NewShard())
            self.reach.append(cursor)
        self.shards[-1].items.append(item)
        self.shards[-1].estimated_s += estimated_s
        self.reach[-1] = cursor

    def _has_room(self, shard: NewShard, estimated_s: float) -> bool:
        fits = shard.estimated_s + estimated_s <= self.settings.shard_audio_s
        return fits and len(shard.items) < self.settings.shard_files

    def take_full(self, within_s: float) -> tuple[list[NewShard], Cursor] | None:
        """Take the shards that are full, once they are many or old; the last one may still grow."""
        full = len(self.shards) - 1
        if full < 1 or (full < WRITE_SHARDS and time.monotonic() - self.since <= within_s):
            return None
        taken = self.shards[:full], self.reach[full - 1]
        self.shards, self.reach, self.since = self.shards[full:], self.reach[full:], time.monotonic()
        return taken


@dataclass(frozen=True)
class Planner:
    """Plans jobs, one call at a time; any number of processes may be asked to plan the same job."""

    database: Database
    settings: JobSettings
    queue: JobQueue
    open_source: Callable[[Job], Source]
    call_s: float = CALL_S
    write_s: float = WRITE_S

    def plan(self, job_id: JobId) -> None:
        """Cut the next part of a job's source into shards, and ask for another call where that was not all of it.

        A call that finds nothing to do (planned, ended, or planned by somebody else just now) returns at once.

        Raises
        ------
        Unavailable
            If the source or the record is out of reach; calling again goes on where the last commit stopped.
        """
        token = Plans.new_token()
        with self.database.session_scope() as session:
            job = Plans(session, job_id, token).claim(self.settings.lease_s)
            if job is not None and stalls(job) > MAX_STALLS:
                reason = f"planning ended {MAX_STALLS} times without a word and without a step forward: its worker was"
                Jobs(session).fail(job_id, f"{reason} killed, or hung; look at its log and memory, then retry the job")
                job = None
        if job is None:
            return
        try:
            with kept_lease(lambda: self._renew(job_id, token), self.settings.lease_s) as lost:
                finished = self._read(job, token, lost)
        except LeaseLost as lost:
            logger.info("planning stops: %s", lost)
        except _OutOfReachError as error:
            self._stall(job, token, error.reason)
            raise error.reason from error.reason.__cause__
        except Unavailable:
            raise  # The record's own failure says nothing about the source; the lease ends by itself.
        except VoxdexError as error:
            in_transaction(self.database, partial(self._fail, job_id, token, _keepable(one_line(error))))
        except Exception as error:
            self._stall(job, token, error)  # Nobody foresaw this: it must not be tried for ever.
            raise
        else:
            self._close(job_id, token, finished)

    def _read(self, job: Job, token: str, lost: threading.Event) -> bool:
        """Read on from the job's cursor; return whether that was the rest."""
        if Retry.of(job.cursor) is not None:
            complete = self._cut_retried(job, token)
            if complete is not None:
                return complete
        deadline: float | None = None
        source, cut = self.open_source(job), _Cut(self.settings, passed_over=passed_over(job))
        with closing(_steps(source, reached(job))) as steps:
            for listed in steps:
                if lost.is_set():
                    raise LeaseLost(f"job {job.id}: its planning could not be kept, another worker goes on with it")
                if isinstance(listed, Unavailable):
                    # What was read before is progress, and counts as such.
                    self._write(job, token, cut.shards, cut.passed)
                    raise _OutOfReachError(listed)
                # To get where the last call stopped may take longer than a call: that is none of its time.
                deadline = deadline or time.monotonic() + self.call_s
                cut.step(*_item(listed.entry, job.source), listed.cursor)
                if time.monotonic() > deadline:
                    self._write(job, token, cut.shards, cut.passed)
                    return False
                if full := cut.take_full(self.write_s):
                    self._write(job, token, *full)
        self._write(job, token, cut.shards, cut.passed)
        return True

    def _cut_retried(self, job: Job, token: str) -> bool | None:
        """Put files that are tried again into shards.

        Returns
        -------
        bool or None
            Whether planning is over, or only this call is; None where the source is to be read on from `job.cursor`.
        """
        deadline = time.monotonic() + self.call_s
        while Retry.of(job.cursor) is not None:
            part = in_transaction(self.database, partial(self._cut_part, job, token))
            if part.shard_ids:
                send(partial(self.queue.send_shards, part.shard_ids))
            job.cursor = part.cursor
            if part.complete:
                return True
            if time.monotonic() > deadline:
                return False
        return None

    def _cut_part(self, job: Job, token: str, session: Session) -> RetriedPart:
        return Retries(session).cut_part(
            job,
            Plans(session, JobId(job.id), token),
            shard_audio_s=self.settings.shard_audio_s,
            shard_files=self.settings.shard_files,
            lease_s=self.settings.lease_s,
        )

    def _write(self, job: Job, token: str, shards: Sequence[NewShard], cursor: Cursor | None) -> None:
        """Commit shards together with the place that they reach to, then send them."""
        if cursor is None:
            return

        def write(session: Session) -> list[ShardId]:
            plans = Plans(session, JobId(job.id), token)
            plans.advance(cursor, self.settings.lease_s)
            if not shards:
                return []
            shard_ids, repeated = plans.add(shards)
            if contradictions := _contradictions(plans, repeated, job):
                plans.add([NewShard(contradictions)])
            return shard_ids

        if shard_ids := in_transaction(self.database, write):
            send(lambda: self.queue.send_shards(shard_ids))

    def _renew(self, job_id: JobId, token: str) -> bool:
        with self.database.session_scope() as session:
            return Plans(session, job_id, token).renew(self.settings.lease_s)

    def _close(self, job_id: JobId, token: str, finished: bool) -> None:
        def close(session: Session) -> bool:
            plans = Plans(session, job_id, token)
            if not finished:
                return plans.pause()
            job = Jobs(session).locked(job_id)
            if not job.found:
                reason = _nothing_found(job)
                # Without a place, for a retry has to see what a mount that is back holds.
                if plans.start_over():
                    Jobs(session).fail(job_id, reason)
            elif plans.complete():
                Jobs(session).finish_if_done(job_id)
            return False

        if in_transaction(self.database, close):
            send(lambda: self.queue.send_planning(job_id))

    def _fail(self, job_id: JobId, token: str, reason: str, session: Session) -> None:
        if Plans(session, job_id, token).renew(self.settings.lease_s):
            Jobs(session).fail(job_id, reason)

    def _stall(self, job: Job, token: str, error: Exception) -> None:
        """Count a call that got nowhere; give the job up where that happens again and again."""

        def stall(session: Session) -> None:
            tries = Plans(session, JobId(job.id), token).stall()
            if tries is not None and tries >= MAX_STALLS:
                reason = f"{one_line(error)} ({tries} tries in a row); retry the job when the source is back"
                Jobs(session).fail(JobId(job.id), _keepable(reason))

        in_transaction(self.database, stall)


def send(message: Callable[[], None]) -> None:
    """Hand a message to the broker; where it is out of reach, leave the work to the next sweep."""
    try:
        message()
    except Unavailable as error:
        logger.warning(
            "the broker is out of reach, the next sweep will send what waits: %s", error.code, exc_info=error
        )


def _steps(source: Source, after: Cursor | None) -> Generator[Listed | Unavailable, None, None]:
    """Step through a source; that it is out of reach is its last step, so that it is not taken for another failure."""
    try:
        yield from source.read(after)
    except Unavailable as error:
        yield error


def _item(entry: SourceEntry | UnusableEntry | None, source: str) -> tuple[NewItem | None, float]:
    if entry is None:
        return None, 0.0
    if isinstance(entry, SourceEntry):
        try:
            require_text("path", entry.uri)
            require_short(entry.uri)
            if entry.speaker is not None:
                require_name("speaker", entry.speaker)
        except InvalidRequest as error:
            entry = UnusableEntry(entry.uri if entry.line is None else place(source, entry.line), error)
    if isinstance(entry, UnusableEntry):
        uri, message = _shortened(_keepable(entry.uri)), _keepable(one_line(entry.error))
        return NewItem(uri, error_code=entry.error.code, error_message=message), 0.0
    item = NewItem(
        uri=entry.uri,
        speaker=canonical(entry.speaker) if entry.speaker is not None else None,
        session=entry.session,
        recorded_at=entry.recorded_at,
        labels=entry.labels,
        size_bytes=entry.size_bytes,
        line=entry.line,
    )
    return item, entry.estimated_s


def _nothing_found(job: Job) -> str:
    """Say that there is nothing to do: a mount that is missing must not look like an archive that is done."""
    others = passed_over(job)
    beside = f"only {others} other {'file' if others == 1 else 'files'}" if others else "nothing at all"
    return (
        f"{job.source}: holds no recording, {beside}; check the path and what is mounted there where the workers run, "
        "then retry the job"
    )


def _keepable(text: str) -> str:
    """Write what no database keeps (NUL, lone surrogates) as an escape."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8").replace("\0", "\\0")


def _shortened(uri: str) -> str:
    """Cut a name that the record could not index, so that two of them stay two."""
    content = uri.encode()
    if len(content) <= MAX_URI_BYTES:
        return uri
    return f"{content[: MAX_URI_BYTES // 2].decode(errors='ignore')}...{hashlib.sha256(content).hexdigest()}"


def _contradictions(plans: Plans, repeated: Sequence[NewItem], job: Job) -> list[NewItem]:
    """Make failed items of the rows that name another speaker for a file than an earlier row does."""
    known = plans.speakers_of(sorted({item.uri for item in repeated if item.line is not None and item.speaker}))
    read_again = RESUMED in job.options
    failed = []
    for item in repeated:
        if item.line is None or not item.speaker or item.uri not in known:  # No row that names somebody, or erased.
            continue
        earlier = known[item.uri]
        # Where a job is read again and an earlier row names nobody, that may be because the speaker was erased.
        if item.speaker != earlier and (earlier is not None or not read_again):
            error = Conflict(
                f"line {item.line}: {item.uri} is {item.speaker!r} here and {earlier!r} in an earlier line; "
                "name one speaker a file"
            )
            failed.append(NewItem(place(job.source, item.line), error_code=error.code, error_message=one_line(error)))
    return failed
