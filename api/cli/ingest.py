"""`voxdex ingest`: an archive goes into a gallery."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.output import EXIT_SOME_FAILED, counted, print_json, print_line, print_notice
from api.cli.progress import waiting
from api.cli.remote import Key, Url
from indexer.errors import InvalidRequest, VoxdexError, one_line

if TYPE_CHECKING:
    from api.dependencies import Services
    from indexer.archive import ArchiveFile
    from indexer.ingest import IngestReport, Tally

_SHOWN_FAILURES = 20


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, or manifests: CSV or JSON lines (.csv, .tsv, .jsonl, .ndjson) with the columns uri "
            "(or path, or file), speaker, session, recorded_at and labels; only the first is needed. With --remote "
            "also URLs (s3://, gs://, https://), all of it as the workers of the service see it.",
        ),
    ],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    speaker_from: Annotated[
        str | None,
        typer.Option(
            "--speaker-from",
            help="Who speaks: none, parent, parent:N (LibriSpeech: parent:2), regex:PATTERN or csv:FILE. "
            "Named recordings are enrolled. A manifest among PATHS names its own speakers.",
            show_default=False,
        ),
    ] = None,
    channels: options.Channels = None,
    speakers: options.Speakers = None,
    speech: options.Speech = None,
    encoder: options.Encoder = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Have a running service do it (--url), as a job for each of PATHS.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="With --remote: post the jobs and do not wait for them.")
    ] = False,
    url: Url = None,
    key: Key = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Embed recordings into a gallery; run it again to go on or to add what is new.

    A recording is known by its content: nothing is stored twice, and what failed is tried again. Exit status 1 says
    that some files could not be used, or that there was none; the summary names each with its reason. With --remote,
    Ctrl-C leaves the job running.
    """
    if remote:
        from api.cli.remote_ingest import RemoteIngest

        RemoteIngest(
            url,
            key,
            gallery=gallery,
            encoder=encoder,
            speaker_from=speaker_from,
            channels=channels,
            speakers=speakers,
            speech=speech,
        ).run(paths, detach=detach, as_json=as_json)
        return
    options.check_speakers(speakers)
    if detach:
        raise InvalidRequest("--detach is for --remote: without a service, nobody would go on")
    _ingest_here(
        [Path(path) for path in paths],
        gallery=gallery,
        speaker_from=speaker_from,
        channels=channels,
        speakers=speakers,
        speech=speech,
        encoder=encoder,
        home=home,
        as_json=as_json,
    )


def _ingest_here(
    paths: Sequence[Path],
    *,
    gallery: str,
    speaker_from: str | None,
    channels: str | None,
    speakers: str | None,
    speech: str | None,
    encoder: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    from api.dependencies import open_services
    from indexer.archive import list_archive, parse_speaker_rule

    with open_services(home=home, channels=channels) as services:
        listing = list_archive(paths, parse_speaker_rule("none" if speaker_from is None else speaker_from, roots=paths))
        unnamed = sum(file.speaker is None for file in listing.files)
        if speaker_from and speaker_from != "none" and unnamed:
            print_notice(
                f"{unnamed} of {len(listing.files)} recordings have no speaker by {speaker_from}: "
                "they are searched and not enrolled"
            )
        source = ", ".join(str(path) for path in paths)
        if not listing.files and not listing.refused:
            others = f"; {counted(listing.ignored, 'file')} there: none looks like audio, name one to try it"
            print_notice(f"no recordings in {source}" + (others if listing.ignored else "; check path and mounts"))
        for folder in listing.unreadable:
            print_notice(folder)
        with IngestProgress("ingest", len(listing.files) + len(listing.refused), quiet=as_json) as progress:
            report = services.ingest(gallery, encoder, speakers=speakers, speech=speech).run(
                listing.files, source=source, refused=listing.refused, on_file=progress.update
            )
        with waiting("indexing", quiet=as_json):
            services.indexes.bring_into_step(gallery)
        report = with_same_voices(services, gallery, listing.files, report)
    print_report(gallery, report, as_json=as_json, ignored=listing.ignored, unreadable=listing.unreadable)


def with_same_voices(
    services: "Services", gallery: str, files: "Sequence[ArchiveFile]", report: "IngestReport"
) -> "IngestReport":
    """Add notices about speakers of these files who sound like others of the gallery."""
    from api.same_voice import same_voice_notices

    names = sorted({file.speaker for file in files if file.speaker is not None})
    if not names or not report.tally.enrolled:
        return report
    try:
        found = same_voice_notices(services.voices(gallery), gallery, names)
    except VoxdexError as error:  # What was ingested is in the record all the same.
        found = [f"speakers were not compared with the others of gallery {gallery}: {one_line(error)}"]
    return replace(report, notices=(*report.notices, *found))


def print_report(
    gallery: str, report: "IngestReport", *, as_json: bool, ignored: int = 0, unreadable: Sequence[str] = ()
) -> None:
    """Print what became of the files, and leave with status 1 when one could not be used, or none was found."""
    if as_json:
        print_json({"gallery": gallery, "ignored": ignored, "unreadable": list(unreadable), **_document(report)})
    else:
        _print_summary(gallery, ignored, report)
    if report.tally.failed or unreadable or not report.tally.found:
        raise typer.Exit(EXIT_SOME_FAILED)


class IngestProgress:
    """A live bar on a terminal; nothing where output is not watched."""

    def __init__(self, label: str, files: int, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=files, speed="")

    def __enter__(self) -> "IngestProgress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def update(self, tally: "Tally") -> None:
        """Show the state after one more file."""
        speed = f"{tally.files_per_s:.1f} files/s, {tally.times_real_time:.1f}x real time, {tally.failed} failed"
        self._progress.update(self._task, completed=tally.processed, speed=speed)


def _document(report: "IngestReport") -> dict[str, Any]:
    tally = report.tally
    return {
        "job_id": report.job_id,
        "found": tally.found,
        "ingested": tally.ingested,
        "partial": tally.partial,
        "duplicate": tally.duplicate,
        "failed": tally.failed,
        "utterances": tally.utterances,
        "enrolled": tally.enrolled,
        "audio_s": round(tally.audio_s, 3),
        "speech_s": round(tally.speech_s, 3),
        "elapsed_s": round(tally.elapsed_s, 3),
        "files_per_s": round(tally.files_per_s, 3),
        "times_real_time": round(tally.times_real_time, 2),
        "failures": [{"path": f.path, "code": f.code, "message": f.message} for f in report.failures],
        "notices": list(report.notices),
    }


def _print_summary(gallery: str, ignored: int, report: "IngestReport") -> None:
    tally = report.tally
    for failure in report.failures[:_SHOWN_FAILURES]:
        sys.stderr.write(f"voxdex: {failure.code}: {failure.message}\n")
    if len(report.failures) > _SHOWN_FAILURES:
        print_notice(f"... and {len(report.failures) - _SHOWN_FAILURES} more (--json lists all)")
    for notice in report.notices[:_SHOWN_FAILURES]:
        print_notice(notice)
    if len(report.notices) > _SHOWN_FAILURES:
        print_notice(f"... and {len(report.notices) - _SHOWN_FAILURES} more notices (--json lists all)")
    parts = [f"{tally.ingested} ingested" + (f" ({tally.partial} of them partly readable)" if tally.partial else "")]
    parts += [f"{tally.duplicate} already there", f"{tally.failed} failed"]
    if ignored:
        parts.append(f"{ignored} passed over as not audio")
    print_line(f"gallery {gallery}: {tally.found} found: " + ", ".join(parts))
    if tally.ingested:
        print_line(
            f"{counted(tally.utterances, 'utterance')} ({tally.enrolled} enrolled), "
            f"{tally.speech_s / 60:.1f} min of speech in {tally.audio_s / 60:.1f} min of audio, "
            f"in {tally.elapsed_s:.1f} s: {tally.files_per_s:.1f} files/s, {tally.times_real_time:.1f} times real time"
        )
