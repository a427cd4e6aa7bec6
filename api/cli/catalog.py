"""The commands about what is stored: speakers, recordings, galleries."""

from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.output import counted, print_fields, print_json, print_line, print_notice, print_table
from api.cli.progress import waiting
from indexer.errors import InvalidRequest

if TYPE_CHECKING:
    from indexer.audio.quality import Quality

speakers = typer.Typer(help="List, show and erase speakers.", no_args_is_help=True)
recordings = typer.Typer(help="List, show and erase recordings.", no_args_is_help=True)
galleries = typer.Typer(help="Make, list, show and erase galleries.", no_args_is_help=True)

_Limit = Annotated[int, typer.Option("--limit", help="Most rows shown.", min=1, max=100_000)]
_After = Annotated[int, typer.Option("--after", help="Go on after this id.", min=0, max=2**63 - 1)]
_RECORDINGS_SHOWN = 10_000
"""Recordings of one speaker that are looked through for strange ones."""

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
    """Show a speaker with every enrolled stretch, and point out recordings that do not sound like the others."""
    import shlex

    from api.dependencies import open_services

    with open_services(home=home) as services:
        speaker, enrollments = services.catalog.speaker(gallery, name)
        with waiting("comparing", quiet=as_json):
            found = services.catalog.enrollments(gallery, name, after=0, limit=_RECORDINGS_SHOWN)
    if as_json:
        rows = [asdict(row) for row in found]
        print_json({**asdict(speaker), "enrolled": [asdict(row) for row in enrollments], "enrollments": rows})
        return
    print_line(
        f"{speaker.name}: {counted(speaker.enrollments, 'enrolled utterance')}, {speaker.enrolled_s:.1f} s in all"
    )
    print_table(
        ["recording", "uri", "channel", "start (s)", "end (s)"],
        [[row.recording_id, row.uri, row.channel, row.start_s, row.end_s] for row in enrollments],
    )
    for row in found:
        if row.likeness is not None and row.likeness.is_outlier:
            print_notice(
                f"recording {row.id} ({row.uri}) does not sound like the others: cosine {row.likeness.cosine:.2f}; "
                f"listen to it, and take it back with `voxdex speakers withdraw {shlex.quote(name)} {row.id}` if it is "
                "somebody else"
            )


@speakers.command("withdraw")
def withdraw_enrollment(
    name: _Name,
    recording_id: _RecordingId,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    erase: Annotated[
        bool, typer.Option("--erase", help="Erase the recording too: its row, utterances and vectors.")
    ] = False,
    yes: options.Yes = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Take back that a recording is a speaker's voice; the speaker's other enrollments stay."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        if erase:
            confirm(f"Erase recording {recording_id} of speaker {name} from gallery {gallery}?", yes=yes)
        with waiting("erasing" if erase else "withdrawing", quiet=as_json):
            erased = services.catalog.delete_enrollment(gallery, name, recording_id, erase=erase)
    _print_erased(erased, as_json=as_json, what=f"enrollment {recording_id} of {name}")


@speakers.command("merge")
def merge_speakers(
    name: Annotated[str, typer.Argument(help="Name that goes.", show_default=False)],
    into: Annotated[str, typer.Argument(help="Name that stays.", show_default=False)],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make two speakers one person: enrollments and labels of the first go over to the second."""
    from api.dependencies import open_services

    with open_services(home=home) as services, waiting("merging", quiet=as_json):
        merged = services.catalog.merge_speakers(gallery, name, into)
    if as_json:
        print_json(merged)
        return
    print_line(f"{name} is {merged.name} now, with {counted(merged.enrollments, 'enrolled utterance')}")


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
        with waiting("erasing", quiet=as_json):
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
    """Show a recording with its utterances: whose voice, how good, and whom they are enrolled as."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        recording, utterances = services.catalog.recording(gallery, recording_id)
    if as_json:
        print_json({**asdict(recording), "utterance_rows": [asdict(row) for row in utterances]})
        return
    print_fields(asdict(recording))
    print_table(
        ["utterance", "channel", "voice", "start (s)", "end (s)", "speech (s)", "SNR (dB)", "band (Hz)", "speaker"],
        [
            [
                row.utterance_id,
                row.channel,
                None if row.voice is None else row.voice + 1,  # As `voxdex diarize` and RTTM number them.
                f"{row.start_s:.2f}",
                f"{row.end_s:.2f}",
                *_quality_cells(row.quality),
                ", ".join(row.speakers),
            ]
            for row in utterances
        ],
    )


def _quality_cells(quality: "Quality | None") -> list[str]:
    if quality is None:
        return ["", "", ""]
    snr = "" if quality.snr_db is None else f"{quality.snr_db:.0f}"
    return [f"{quality.net_speech_s:.2f}", snr, f"{quality.bandwidth_hz:.0f}"]


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
        with waiting("erasing", quiet=as_json):
            erased = services.catalog.delete_recording(gallery, recording_id)
    _print_erased(erased, as_json=as_json, what=f"recording {recording_id}")


@galleries.command("create")
def create_gallery(
    name: _Name,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Encoder that it is of, by name (default: the setting's).", show_default=False),
    ] = None,
    second_encoder: Annotated[
        str | None,
        typer.Option(
            "--second-encoder",
            help="Another one to embed everything by as well: the scores of both are fused.",
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make an empty gallery; ingest and enroll make one of a single encoder by themselves."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        with waiting("loading", quiet=as_json):
            services.create_gallery(name, encoder, second_encoder=second_encoder)
        gallery = services.catalog.gallery(name)
    if as_json:
        print_json(gallery)
        return
    beside = f" and {gallery.second_encoder_id}" if gallery.second_encoder_id else ""
    print_line(f"gallery {gallery.name} is searched under encoder {gallery.encoder_id}{beside}")


_RULE = "{} (`none` takes it back)."


class OnOff(Enum):
    """Whether something is done."""

    on = "on"
    off = "off"


@galleries.command("change")
def change_gallery(
    name: _Name,
    identification_threshold: Annotated[
        str | None,
        typer.Option(help=_RULE.format("Cosine from which on a voice is identified"), show_default=False),
    ] = None,
    verification_threshold: Annotated[
        str | None, typer.Option(help=_RULE.format("Cosine from which on a claim is accepted"), show_default=False)
    ] = None,
    possible_threshold: Annotated[
        str | None, typer.Option(help=_RULE.format("Cosine from which on a voice is possible"), show_default=False)
    ] = None,
    target_fpir: Annotated[
        str | None,
        typer.Option(help=_RULE.format("Largest share of unknown voices that is named, as 0.01"), show_default=False),
    ] = None,
    possible_fpir: Annotated[
        str | None,
        typer.Option(
            help=_RULE.format("Largest share of unknown voices that is named or called possible"), show_default=False
        ),
    ] = None,
    target_p_fa: Annotated[
        str | None,
        typer.Option(help=_RULE.format("Largest share of false claims that is accepted, as 0.001"), show_default=False),
    ] = None,
    score_normalization: Annotated[
        OnOff | None,
        typer.Option(
            help="Whether scores are normalized by other people of the gallery; needs `voxdex calibrate --as-norm`.",
            show_default=False,
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Change where decisions are made in a gallery; what is not given stays.

    `voxdex calibrations use` sets its calibration.
    """
    from api.dependencies import open_services

    given = {
        "identification_threshold": identification_threshold,
        "verification_threshold": verification_threshold,
        "possible_threshold": possible_threshold,
        "target_fpir": target_fpir,
        "possible_fpir": possible_fpir,
        "target_p_fa": target_p_fa,
    }
    rules: dict[str, float | bool | None] = {
        rule: _number_or_none(rule, value) for rule, value in given.items() if value is not None
    }
    if score_normalization is not None:
        rules["score_normalization"] = score_normalization is OnOff.on
    if not rules:
        raise InvalidRequest("nothing to change: give an option, as in --target-fpir 0.01")
    with open_services(home=home) as services:
        gallery = services.catalog.change_gallery(name, **rules)
    if as_json:
        print_json(gallery)
        return
    for rule in rules:
        value = getattr(gallery, rule)
        if isinstance(value, bool):
            print_line(f"{rule:24} {'on' if value else 'off'}")
        else:
            print_line(f"{rule:24} {'none: as the settings say' if value is None else format(value, 'g')}")


def _number_or_none(rule: str, value: str) -> float | None:
    if value.lower() == "none":
        return None
    try:
        return float(value)
    except ValueError as error:
        raise InvalidRequest(f"--{rule.replace('_', '-')} {value!r}: give a number, or none") from error


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
    print_fields(asdict(gallery))


@galleries.command("delete")
def delete_gallery(
    name: _Name, yes: options.Yes = False, home: options.Home = None, as_json: options.Json = False
) -> None:
    """Erase a gallery: every speaker, recording, vector and index file of it. Audio files stay."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        gallery = services.catalog.gallery(name)
        confirm(f"Erase gallery {name} ({gallery.speakers} speakers, {gallery.recordings} recordings)?", yes=yes)
        with waiting("erasing", quiet=as_json):
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
