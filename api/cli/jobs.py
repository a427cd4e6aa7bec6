"""`voxdex jobs`: bulk ingest, as a running service or the record of this machine knows it."""

import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from api.cli import options
from api.cli.output import EXIT_SOME_FAILED, print_json, print_line, print_notice, print_table, terminal_width
from api.cli.remote import Key, Url
from indexer.errors import NotFound

if TYPE_CHECKING:
    from api.cli.job_desk import JobDesk

jobs = typer.Typer(
    help="List, watch, stop and retry jobs: those of the service at --url, else those in the record of this machine.",
    no_args_is_help=True,
)

_ROOM_FOR_ALL = 110
"""Width of a terminal under which a list of jobs says less of each, rather than break its words."""

_Number = Annotated[int, typer.Argument(help="The job's number.", min=1, show_default=False)]


class JobStates(StrEnum):
    """States of a job."""

    QUEUED = "queued"
    PLANNING = "planning"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_ERRORS = "succeeded_with_errors"
    FAILED = "failed"
    CANCELED = "canceled"


class ItemStates(StrEnum):
    """States of a file of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DUPLICATE = "duplicate"
    FAILED = "failed"


@jobs.command("list")
def list_jobs(
    gallery: Annotated[
        str | None, typer.Option("--gallery", "-g", help="Only jobs of this gallery.", show_default=False)
    ] = None,
    state: Annotated[
        JobStates | None, typer.Option("--state", help="Only jobs in this state.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Most jobs, the newest first.", min=1)] = 20,
    url: Url = None,
    key: Key = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List jobs, newest first, with what became of their files."""
    from api.cli.job_desk import open_desk
    from voxdex_client.models import JobState

    with open_desk(url, key, home) as desk:
        found = list(itertools.islice(desk.jobs(gallery, cast(JobState | None, state)), limit))
    if as_json:
        print_json({"jobs": [job.model_dump(mode="json") for job in found]})
        return
    columns = ["job", "gallery", "state", "source", "found", "ingested", "already there", "failed", "posted"]
    rows = [
        [
            job.id,
            job.gallery,
            job.state,
            job.source,
            job.found,
            job.done,
            job.duplicate,
            job.failed,
            f"{job.created_at:%Y-%m-%d %H:%M}",
        ]
        for job in found
    ]
    room = terminal_width()
    if room is not None and room < _ROOM_FOR_ALL:
        columns = ["job", "gallery", "state", "source", "files", "failed"]
        rows = [[job.id, job.gallery, job.state.replace("_", " "), job.source, job.found, job.failed] for job in found]
    print_table(columns, rows)


@jobs.command("show")
def show_job(
    job_id: _Number, url: Url = None, key: Key = None, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Show a job: how far it is, how fast, and the first files that failed."""
    from api.cli.job_desk import open_desk
    from api.cli.watching import SHOWN_FAILURES, failure_document, print_summary

    with open_desk(url, key, home) as desk:
        job = desk.job(job_id)
        failures = list(itertools.islice(desk.items(job_id, "failed"), SHOWN_FAILURES)) if job.failed else []
    if as_json:
        print_json({**job.model_dump(mode="json"), "failures": [failure_document(item) for item in failures]})
        return
    for field, value in (
        ("source", job.source),
        ("kind", job.kind),
        ("speakers", job.speaker_from),
        ("duplicates", job.on_duplicate),
        ("posted", f"{job.created_at:%Y-%m-%d %H:%M:%S %Z}"),
    ):
        print_line(f"{field:11} {value}")
    for item in failures:
        print_line(f"failed      {item.error_code}: {item.error_message}")
    print_summary(job, again=f"voxdex jobs items {job_id} --state failed")


@jobs.command("watch")
def watch_job(
    job_id: _Number, url: Url = None, key: Key = None, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Watch a job until it ends; Ctrl-C stops the watching and not the job.

    Exit status 1 says that some files could not be used, or that the job failed or was canceled.
    """
    from api.cli.job_desk import open_desk
    from api.cli.watching import print_notices, print_same_voices, print_summary, watch

    with open_desk(url, key, home) as desk:
        job = watch(desk, job_id, again=f"voxdex jobs watch {job_id}", quiet=as_json)
        if not as_json:
            print_notices(desk, job)
            print_same_voices(desk, job)
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        print_summary(job, again=f"voxdex jobs items {job_id} --state failed")
    if job.state != "succeeded":
        raise typer.Exit(EXIT_SOME_FAILED)


@jobs.command("items")
def list_items(
    job_id: _Number,
    state: Annotated[
        ItemStates | None, typer.Option("--state", help="Only files in this state.", show_default=False)
    ] = None,
    noticed: Annotated[
        bool, typer.Option("--noticed", help="Only files with a notice, as that several voices were heard.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", help="Most files.", min=1)] = 1000,
    url: Url = None,
    key: Key = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List the files of a job with what became of them; those that failed have the reason."""
    from api.cli.job_desk import open_desk
    from voxdex_client.models import JobItemState

    with open_desk(url, key, home) as desk:
        listed = desk.items(job_id, cast(JobItemState | None, state), noticed=noticed)
        found = list(itertools.islice(listed, limit + 1))
    shown = found[:limit]
    if as_json:
        items = [item.model_dump(mode="json") for item in shown]
        print_json({"job_id": job_id, "items": items, "complete": len(found) <= limit})
        return
    print_table(
        ("state", "file", "speaker", "recording", "reason or notice"),
        ((item.state, item.uri, item.speaker, item.recording_id, item.error_message or item.notice) for item in shown),
    )
    if len(found) > limit:
        print_notice(f"there are more than {limit}: give a higher --limit")


@jobs.command("cancel")
def cancel_job(
    job_id: _Number, url: Url = None, key: Key = None, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Stop a job; what it has done stays."""
    from api.cli.job_desk import open_desk

    with open_desk(url, key, home) as desk:
        job = desk.cancel(job_id)
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        print_line(f"job {job_id} is canceled; {job.done} of its files were ingested and stay")


@jobs.command("retry")
def retry_job(
    job_id: _Number,
    items: Annotated[
        list[int] | None,
        typer.Option("--item", help="Only this failed file, by its id; may be given again.", show_default=False, min=1),
    ] = None,
    paths: Annotated[
        list[str] | None,
        typer.Option(
            "--path", help="Only this failed file, as the list of files names it; again too.", show_default=False
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Try the failed files of a job that has ended again, or only those that are named."""
    from api.cli.job_desk import open_desk
    from api.cli.watching import retried

    with open_desk(url, key, home) as desk:
        only = None if items is None and paths is None else [*(items or ()), *_failed_items(desk, job_id, paths or ())]
        number = desk.retry_failed(job_id, only)
    if as_json:
        print_json({"job_id": job_id, "requeued": number})
    else:
        print_line(f"job {job_id}: {retried(number)}")


def _failed_items(desk: "JobDesk", job_id: int, paths: Sequence[str]) -> list[int]:
    """Find the ids of failed files by their names.

    Raises
    ------
    NotFound
        If no file of that name has failed.
    """
    if not paths:
        return []
    failed = {item.uri: item.id for item in desk.items(job_id, "failed")}
    missing = next((path for path in paths if path not in failed), None)
    if missing is not None:
        raise NotFound(
            f"job {job_id}: no file {missing} has failed; `voxdex jobs items {job_id} --state failed` lists them"
        )
    return [failed[path] for path in paths]
