"""`voxdex reembed`: a gallery goes to another encoder, and back."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import options
from api.cli.catalog import confirm
from api.cli.output import EXIT_SOME_FAILED, counted, print_json, print_line, print_notice
from api.cli.progress import waiting
from indexer.errors import InvalidRequest

if TYPE_CHECKING:
    from api.reembedding import EncoderChange
    from indexer.reembed import ReembedReport, ReembedTally

_SHOWN_MISSING = 20


def reembed(
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Encoder to go to: its name, or path of a .nemo file.", show_default=False),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="With --encoder: keep the gallery's own too, and fuse the scores of both.")
    ] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Search under the gallery's own encoder alone again.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the encoder before.")] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Erase the vectors of every encoder but the present one; no way back.")
    ] = False,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    without_missing: Annotated[
        bool,
        typer.Option(
            "--without-missing", help="Switch although recordings cannot be embedded again; nobody will find these."
        ),
    ] = False,
    yes: options.Yes = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Embed a gallery again for another encoder, from the audio where it was ingested from, then search under it.

    Until every utterance is embedded, searches are answered as before; then the gallery goes over at once. Run it again
    to go on after a break, and several times at once to share the work. Exit status 1 says that recordings cannot be
    embedded again and the gallery stays as it is; each is named with its reason. Old vectors stay until --drop-old.
    """
    if (encoder is not None) + alone + rollback + drop_old != 1:
        raise InvalidRequest("give one of --encoder NAME, --alone, --rollback and --drop-old")
    if beside and encoder is None:
        raise InvalidRequest("--beside needs --encoder NAME: which one to go beside the gallery's own")
    from api.dependencies import open_services
    from api.reembedding import EncoderChange

    with open_services(home=home) as services:
        change = EncoderChange(services, gallery)
        if drop_old:
            _drop(change, gallery, yes=yes, as_json=as_json)
            return
        if alone:
            _leave_second(change, gallery, as_json=as_json)
            return
        with _Progress(quiet=as_json) as progress:
            run = (
                change.back(progress.update) if encoder is None else change.to(encoder, progress.update, beside=beside)
            )
            report = run.run(without_missing=without_missing)
        needs_threshold = report.switched and not beside and change.needs_threshold()
    _print_report(report, gallery, beside=beside, needs_threshold=needs_threshold, as_json=as_json)
    if not report.switched:
        raise typer.Exit(EXIT_SOME_FAILED)


def _leave_second(change: "EncoderChange", gallery: str, *, as_json: bool) -> None:
    with waiting("changing over", quiet=as_json):
        second = change.alone()
    if as_json:
        print_json({"gallery": gallery, "second_encoder_before": second})
    elif second is None:
        print_line(f"gallery {gallery} was searched under one encoder alone")
    else:
        print_line(f"gallery {gallery} is no longer searched under {second}; --drop-old erases its vectors")


def _drop(change: "EncoderChange", gallery: str, *, yes: bool, as_json: bool) -> None:
    others = change.others()
    if others:
        confirm(f"Erase the vectors of gallery {gallery} under {', '.join(others)}? There is no way back.", yes=yes)
    with waiting("erasing", quiet=as_json):
        dropped = change.drop_others()
    if as_json:
        print_json({"gallery": gallery, "dropped": dropped})
        return
    for one in dropped:
        print_line(f"gallery {gallery}: {counted(one.vectors, 'vector')} of encoder {one.encoder_id} erased")
    if not dropped:
        print_line(f"gallery {gallery}: there are no vectors of another encoder")


class _Progress:
    """A live bar on a terminal; nothing where output is not watched."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("reembed"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("utterances {task.fields[speed]}"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, speed="")

    def __enter__(self) -> "_Progress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def update(self, tally: "ReembedTally") -> None:
        """Show the state after some more recordings."""
        speed = f"{tally.audio_s / max(tally.elapsed_s, 0.001):.1f}x real time"
        self._progress.update(self._task, completed=tally.embedded + tally.written, total=tally.utterances, speed=speed)


def _print_report(report: "ReembedReport", gallery: str, *, beside: bool, needs_threshold: bool, as_json: bool) -> None:
    tally = report.tally
    if as_json:
        print_json(
            {
                "gallery": gallery,
                "encoder_before": report.encoder_before,
                "encoder_id": report.encoder_id,
                "beside": beside,
                "switched": report.switched,
                "utterances": tally.utterances,
                "embedded_before": tally.embedded,
                "embedded": tally.written,
                "recordings": tally.recordings,
                "audio_s": round(tally.audio_s, 3),
                "elapsed_s": round(tally.elapsed_s, 3),
                "missing": report.missing,
                "voiceless": report.voiceless,
                "needs_threshold": needs_threshold,
            }
        )
        return
    for one in report.missing[:_SHOWN_MISSING]:
        sys.stderr.write(f"voxdex: {one.code}: {counted(one.utterances, 'utterance')} of {one.uri}: {one.message}\n")
    if len(report.missing) > _SHOWN_MISSING:
        print_notice(f"... and {len(report.missing) - _SHOWN_MISSING} more (--json lists all)")
    if report.voiceless:
        print_notice(
            f"under {report.encoder_id} these speakers have no voice: {', '.join(report.voiceless[:_SHOWN_MISSING])}"
            + (f" and {len(report.voiceless) - _SHOWN_MISSING} more" if len(report.voiceless) > _SHOWN_MISSING else "")
        )
    print_line(
        f"gallery {gallery}: {counted(tally.written, 'utterance')} embedded, {tally.audio_s / 60:.1f} min of audio in "
        f"{tally.elapsed_s:.1f} s"
    )
    if report.switched:
        own = f"{report.encoder_before} and, beside it, " if beside else ""
        print_line(f"gallery {gallery} is searched under encoder {own}{report.encoder_id} now")
        if needs_threshold:
            print_notice(
                "this encoder has no default threshold: identify and search are refused until you give one, by "
                "--threshold, by VOXDEX_DECISION__IDENTIFICATION_THRESHOLD, or to the gallery itself over HTTP"
            )
    else:
        print_line(
            f"gallery {gallery} is still searched under {report.encoder_before}: "
            f"{counted(len(report.missing), 'recording')} cannot be embedded again; --without-missing goes on without"
        )
