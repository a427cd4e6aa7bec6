"""The commands about what is stored: speakers, recordings, galleries."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from api.cli import options
from api.cli.output import counted, print_json, print_line, print_notice, print_table
from indexer.errors import InvalidRequest

speakers = typer.Typer(help="List, show and erase speakers.", no_args_is_help=True)
recordings = typer.Typer(help="List, show and erase recordings.", no_args_is_help=True)
galleries = typer.Typer(help="List, show and erase galleries.", no_args_is_help=True)

_Limit = Annotated[int, typer.Option("--limit", help="Most rows shown.", min=1, max=100_000)]
_After = Annotated[int, typer.Option("--after", help="Go on after this id.", min=0, max=2**63 - 1)]
_Name = Annotated[str, typer.Argument(help="Name.", show_default=False)]
_RecordingId = Annotated[
    int, typer.Argument(help="Id, as `recordings list` shows it.", show_default=False, min=1, max=2**63 - 1)
]


@speakers.command("list")
def list_speakers(
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    limit: _Limit = 100,
    after: _After = 0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List the speakers of a gallery."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = services.catalog.speakers(gallery, after=after, limit=limit)
    _print_rows(
        found, ["id", "name", "enrollments", "enrolled_s", "created_at"], limit, as_json=as_json, what="speakers"
    )


@speakers.command("show")
def show_speaker(
    name: _Name,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show a speaker with every enrolled stretch."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        speaker, enrollments = services.catalog.speaker(gallery, name)
    if as_json:
        print_json({**asdict(speaker), "enrolled": [asdict(row) for row in enrollments]})
        return
    print_line(f"{speaker.name}: {speaker.enrollments} enrolled utterances, {speaker.enrolled_s:.1f} s in all")
    print_table(
        ["recording", "uri", "channel", "start (s)", "end (s)"],
        [[row.recording_id, row.uri, row.channel, row.start_s, row.end_s] for row in enrollments],
    )


@speakers.command("delete")
def delete_speaker(
    name: _Name,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    keep_recordings: Annotated[
        bool, typer.Option("--keep-recordings", help="Forget the name only; the recordings stay searchable without it.")
    ] = False,
    yes: options.Yes = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Erase a speaker: name, enrollments, and the vectors that were enrolled to nobody else."""
    from api.dependencies import open_services

    extent = "name and enrollments" if keep_recordings else "name, enrollments and enrolled vectors"
    with open_services(home=home) as services:
        speaker, _ = services.catalog.speaker(gallery, name)
        confirm(f"Erase speaker {name} of gallery {gallery} ({extent})?", yes=yes)
        erased = services.catalog.delete_speaker(gallery, name, keep_recordings=keep_recordings)
    _print_erased(erased, as_json=as_json, what=f"speaker {speaker.name}")


@recordings.command("list")
def list_recordings(
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    state: Annotated[
        str | None, typer.Option("--state", help="Only ready, partial or failed ones.", show_default=False)
    ] = None,
    limit: _Limit = 100,
    after: _After = 0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List the recordings of a gallery, the refused ones with their reason."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = services.catalog.recordings(gallery, state=state, after=after, limit=limit)
    columns = ["id", "uri", "state", "duration_s", "utterances", "error_message"]
    _print_rows(found, columns, limit, as_json=as_json, what="recordings")


@recordings.command("show")
def show_recording(
    recording_id: _RecordingId,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show a recording with its utterances and who they are enrolled to."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        recording, utterances = services.catalog.recording(gallery, recording_id)
    if as_json:
        print_json({**asdict(recording), "utterance_rows": [asdict(row) for row in utterances]})
        return
    for key, value in asdict(recording).items():
        if value is not None:
            print_line(f"{key:16} {value}")
    print_table(
        ["utterance", "channel", "start (s)", "end (s)", "speaker"],
        [[row.utterance_id, row.channel, row.start_s, row.end_s, ", ".join(row.speakers)] for row in utterances],
    )


@recordings.command("delete")
def delete_recording(
    recording_id: _RecordingId,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    yes: options.Yes = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Erase a recording: its row, utterances, vectors and enrollments. The audio file itself is yours and stays."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        recording, _ = services.catalog.recording(gallery, recording_id)
        confirm(f"Erase recording {recording_id} ({recording.uri}) from gallery {gallery}?", yes=yes)
        erased = services.catalog.delete_recording(gallery, recording_id)
    _print_erased(erased, as_json=as_json, what=f"recording {recording_id}")


@galleries.command("list")
def list_galleries(home: options.Home = None, as_json: options.Json = False) -> None:
    """List the galleries."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = services.catalog.galleries() if services.exists else []
    columns = ["name", "encoder_name", "speakers", "recordings", "embeddings", "created_at"]
    _print_rows(found, columns, len(found) + 1, as_json=as_json, what="galleries")


@galleries.command("show")
def show_gallery(name: _Name, home: options.Home = None, as_json: options.Json = False) -> None:
    """Show a gallery: encoder, counts, hours of audio."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        gallery = services.catalog.gallery(name)
    if as_json:
        print_json(gallery)
        return
    for key, value in asdict(gallery).items():
        print_line(f"{key:16} {value}")


@galleries.command("delete")
def delete_gallery(
    name: _Name, yes: options.Yes = False, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Erase a gallery: every speaker, recording, vector and index file of it. Audio files stay."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        gallery = services.catalog.gallery(name)
        confirm(f"Erase gallery {name} ({gallery.speakers} speakers, {gallery.recordings} recordings)?", yes=yes)
        erased = services.catalog.delete_gallery(name)
    _print_erased(erased, as_json=as_json, what=f"gallery {name}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is erased for good; where nobody can answer, `--yes` must have been given."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Nobody is there to answer: pass --yes to erase without asking")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def _print_erased(erased: Any, *, as_json: bool, what: str) -> None:
    if as_json:
        print_json({"erased": what, **asdict(erased)})
        return
    counts = ", ".join(counted(count, kind.removesuffix("s")) for kind, count in asdict(erased).items() if count)
    print_line(f"erased {what}" + (f": {counts}" if counts else ""))


def _print_rows(rows: list[Any], columns: list[str], limit: int, *, as_json: bool, what: str) -> None:
    documents = [asdict(row) for row in rows]
    if as_json:
        print_json({what: documents})
        return
    if not rows:
        print_line(f"no {what}")
        return
    print_table(columns, [[_short(row[column]) for column in columns] for row in documents])
    if len(rows) == limit:
        print_notice(f"there may be more: --after {documents[-1]['id']} goes on, --limit shows more at once")


def _short(value: Any) -> Any:
    from datetime import datetime

    return value.strftime("%Y-%m-%d %H:%M") if isinstance(value, datetime) else value
