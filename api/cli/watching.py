"""A job as a person watches it: its progress on one line that moves, and above it the files that failed."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api.cli.job_desk import JobDesk
from api.cli.output import counted, print_line, print_notice
from indexer.errors import VoxdexError, one_line
from voxdex_client.models import Job, JobItem, SameVoices

SHOWN_FAILURES = 20
SHOWN_NOTICES = 20

_LINE_EVERY_S = 30.0
"""How often a log, which nothing moves in, is told how far the job is."""

_INTERRUPTED = 130


def watch(desk: JobDesk, job_id: int, *, again: str, quiet: bool = False) -> Job:
    """Follow a job to its end, and show how far it is on standard error.

    Ctrl-C ends the watching and not the job; the program then leaves with the status of an interrupt.

    Parameters
    ----------
    again
        The command that watches it again.
    quiet
        Whether to show nothing.
    """
    job: Job | None = None
    try:
        with _shown(desk, quiet=quiet) as show:
            for job in desk.follow(job_id):
                show(job)
    except KeyboardInterrupt:
        print_notice(f"job {job_id} goes on without you; watch it with `{again}`")
        # Not as an exit status of the command: what is said of those, that the same command goes on, is untrue here.
        raise SystemExit(_INTERRUPTED) from None
    return job or desk.job(job_id)


def print_summary(job: Job, *, again: str) -> None:
    """Print what a job came to, or how far it is."""
    counts = [f"{job.done} ingested", f"{job.duplicate} already there", f"{job.failed} failed"]
    found = f"{job.found} found" if job.planned else f"{job.found} found so far"
    print_line(f"job {job.id}, gallery {job.gallery}: {job.state.replace('_', ' ')}; {found}: {', '.join(counts)}")
    if job.error:
        print_line(f"the job as a whole failed: {job.error}")
    if job.audio_s:
        print_line(
            f"{job.audio_s / 60:.1f} min of audio, {job.speech_s / 60:.1f} min of it speech, in {job.elapsed_s:.1f} s: "
            f"{job.times_real_time:.1f} times real time"
        )
    if job.failed:
        print_line(f"reasons: `{again}`")


def print_notices(desk: JobDesk, job: Job) -> None:
    """Write what to know of the files of a job that has ended, as that several voices were heard, on standard error."""
    for place, item in enumerate(desk.items(job.id, None, noticed=True)):
        if place == SHOWN_NOTICES:
            print_notice(f"... and more (voxdex jobs items {job.id} --noticed lists all)")
            return
        print_notice(f"{item.uri}: {item.notice}")


def same_voices_found(desk: JobDesk, job: Job) -> SameVoices | None:
    """Tell which speakers of an ended job sound like others of its gallery; None, and a notice, where nobody can.

    Whatever goes wrong here undoes nothing of what was taken in.
    """
    from voxdex_client.errors import VoxdexError as ClientError

    try:
        return desk.same_voices(job.id)
    except (VoxdexError, ClientError) as error:
        print_notice(f"speakers were not compared with the others of gallery {job.gallery}: {one_line(error)}")
        return None


def print_same_voices(desk: JobDesk, job: Job) -> None:
    """Name the speakers of a job that has ended who sound like others of its gallery, on standard error."""
    from api.same_voice import same_voice_said
    from search.same_voice import SameVoice

    found = same_voices_found(desk, job)
    if found is None:
        return
    for two in found.items[:SHOWN_NOTICES]:
        print_notice(f"{two.speaker}: {same_voice_said(SameVoice(two.other, two.score, two.llr))}")
    if len(found.items) > SHOWN_NOTICES:
        print_notice(f"... and {len(found.items) - SHOWN_NOTICES} more who sound like others")
    if not found.complete:
        print_notice(f"only the first {found.compared} speakers of the job were compared with the others")


def failure_document(item: JobItem) -> dict[str, Any]:
    """Describe a failed file as `voxdex ingest --json` does."""
    return {"path": item.uri, "code": item.error_code, "message": item.error_message}


@contextmanager
def _shown(desk: JobDesk, *, quiet: bool) -> "Iterator[_Display]":
    from rich.console import Console

    console = Console(stderr=True)
    failures = _Failures(desk)
    if quiet:
        yield _Display()
    elif console.is_terminal:
        with _bar(console) as bar:
            yield _Live(bar, failures)
    else:
        yield _Log(failures)


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("job {task.fields[number]} {task.fields[state]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )


class _Display:
    """Shows a job; this one shows nothing."""

    def __call__(self, job: Job) -> None:
        """Show how far it is now."""


class _Failures:
    """The first failed files of a job, each told once."""

    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk
        self._told: set[int] = set()
        self._counted = 0

    def tell(self, job: Job) -> None:
        """Write the files that have failed since, a line each."""
        if job.failed == self._counted or len(self._told) > SHOWN_FAILURES:
            return
        self._counted = job.failed
        for item in self._desk.items(job.id, "failed"):
            if item.id in self._told:
                continue
            self._told.add(item.id)
            if len(self._told) > SHOWN_FAILURES:
                print_notice(f"... and more (voxdex jobs items {job.id} --state failed lists all)")
                return
            sys.stderr.write(f"voxdex: {item.error_code}: {' '.join((item.error_message or item.uri).split())}\n")


class _Live(_Display):
    """A line that moves on a terminal."""

    def __init__(self, bar: Any, failures: _Failures) -> None:
        self._bar = bar
        self._failures = failures
        self._task: Any = None

    def __call__(self, job: Job) -> None:
        """Move the line."""
        fields = {
            "total": job.found if job.planned else None,
            "completed": _processed(job),
            "number": job.id,
            "state": job.state,
            "pace": f"{job.times_real_time:.1f}x real time, {job.failed} failed",
            "left": _left(job),
        }
        if self._task is None:
            self._task = self._bar.add_task("", **fields)
        else:
            self._bar.update(self._task, **fields)
        self._failures.tell(job)


class _Log(_Display):
    """A line now and then, where nothing moves."""

    def __init__(self, failures: _Failures) -> None:
        self._failures = failures
        self._state = ""
        self._said_at = 0.0

    def __call__(self, job: Job) -> None:
        """Write a line when the state changed, or when it is time for one."""
        self._failures.tell(job)
        if job.state == self._state and time.monotonic() - self._said_at < _LINE_EVERY_S:
            return
        self._state, self._said_at = job.state, time.monotonic()
        of = f" of {job.found}" if job.planned else ""
        pace = f", {job.times_real_time:.1f}x real time" if job.times_real_time else ""
        left = f", {_left(job)}" if _left(job) else ""
        processed = f"{_processed(job)}{of} files processed ({job.failed} failed)"
        print_notice(f"job {job.id} {job.state}: {processed}{pace}{left}")


def _processed(job: Job) -> int:
    return job.done + job.duplicate + job.failed


def _left(job: Job) -> str:
    if job.eta_s is None:
        return ""
    minutes, seconds = divmod(round(job.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"ETA {hours}:{minutes:02}:{seconds:02}"


def retried(number: int) -> str:
    """Say how many files are tried again."""
    return f"{counted(number, 'failed file')} {'is' if number == 1 else 'are'} tried again"
