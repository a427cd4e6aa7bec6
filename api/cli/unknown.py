"""`voxdex cluster` and `voxdex unknown`: who is heard again and again without a name."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import options
from api.cli.catalog import confirm
from api.cli.output import counted, print_json, print_line, print_notice, print_table
from api.cli.progress import share_progress, waiting
from indexer.errors import LeaseLost, VoxdexError

if TYPE_CHECKING:
    from api.dependencies import Services
    from indexer.db.unknown_voices import UnknownVoiceSummary
    from indexer.types import JobId

unknown = typer.Typer(
    help="List, listen to, put right and name the unknown voices that cluster found.", no_args_is_help=True
)

_Voice = Annotated[str, typer.Argument(help="The unknown voice, as in Unknown-17.", show_default=False)]
_Utterances = Annotated[list[int], typer.Argument(help="Utterances, as `unknown show` lists them.", min=1)]
_SHOWN = 20


def cluster(
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", help="Mean cosine from which on two groups are one voice.", min=-1, max=1, show_default=False
        ),
    ] = None,
    fpir: Annotated[
        float | None,
        typer.Option(
            "--fpir",
            help="Instead: share of voices heard once that may be taken for another one (default: the calibration's "
            "llr that at most one stranger of a voice reaches).",
            show_default=False,
        ),
    ] = None,
    min_utterances: Annotated[
        int, typer.Option("--min-utterances", help="Utterances that a voice must have.", min=1)
    ] = 2,
    min_recordings: Annotated[
        int, typer.Option("--min-recordings", help="Recordings that a voice must be heard in.", min=1)
    ] = 2,
    min_speech_s: Annotated[
        float,
        typer.Option("--min-speech-s", help="Speech of one voice in a recording below which it is left alone.", min=0),
    ] = 2.0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Group the utterances that are enrolled as nobody into unknown voices that recur, named Unknown-1 and so on.

    Run it again after more was ingested: voices keep their names, and what you merged, split or took out stays so. Off
    for galleries that require consent.
    """
    from api.dependencies import open_services
    from search.unknown_voices import ClusterRule

    rule = ClusterRule(threshold, fpir, min_utterances, min_recordings, min_speech_s)
    with open_services(home=home) as services:
        services.record()
        job_id = services.clusterings.submit(gallery, rule, send_it=False)
        with share_progress("voices", quiet=as_json) as told:
            try:
                services.clusterings.perform(job_id, told)
            except BaseException:
                _cancel(services, job_id)
                raise
        _report(services, gallery, job_id, as_json=as_json)


def _cancel(services: "Services", job_id: "JobId") -> None:
    """End a run that was broken off, so that no worker takes it up."""
    try:
        services.bulk.cancel(job_id)
    except VoxdexError as error:
        print_notice(f"job {job_id} could not be canceled: {error.code}")


def _report(services: "Services", gallery: str, job_id: "JobId", *, as_json: bool) -> None:
    from indexer.db.jobs import Jobs
    from indexer.db.models import JobState
    from indexer.errors import InvalidRequest

    with services.record().read_scope() as session:
        job = Jobs(session).get(job_id)
    if job.state is JobState.CANCELED:
        raise LeaseLost(f"job {job_id} was canceled by somebody else; what it had found is not kept")
    if job.state is not JobState.SUCCEEDED:
        raise InvalidRequest(job.error or f"job {job_id} is {job.state.value}: see `voxdex jobs show {job_id}`")
    run = services.unknown.last_run(gallery)
    assert run is not None  # It has just ended.
    voices = _every_voice(services, gallery)
    inside = sum(voice.utterances for voice in voices)
    if as_json:
        print_json(
            {
                "gallery": gallery,
                "job_id": job_id,
                "encoder_id": run.encoder_id,
                "utterances": run.utterances,
                "grouped": inside,
                "rule": dict(run.rule),
                "voices": [_document(voice) for voice in voices],
            }
        )
        return
    _print_voices(sorted(voices, key=lambda voice: -voice.utterances)[:_SHOWN])
    if len(voices) > _SHOWN:
        print_notice(f"... and {len(voices) - _SHOWN} more: `voxdex unknown list`")
    print_line(
        f"gallery {gallery}: {counted(len(voices), 'unknown voice')} in {inside} of "
        f"{counted(run.utterances, 'unnamed utterance')} ({run.rule['asked']})"
    )


def _every_voice(services: "Services", gallery: str) -> list["UnknownVoiceSummary"]:
    found: list[UnknownVoiceSummary] = []
    while some := services.unknown.page(gallery, after=found[-1].id if found else 0, limit=1000):
        found += some
    return found


@unknown.command("list")
def list_voices(
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    limit: Annotated[int, typer.Option("--limit", help="Most rows shown.", min=1, max=100_000)] = 100,
    after: Annotated[int, typer.Option("--after", help="Go on after this id.", min=0, max=2**63 - 1)] = 0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """List the unknown voices of a gallery, of one run the most frequent first."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        found = services.unknown.page(gallery, after=after, limit=limit)
        run = services.unknown.last_run(gallery)
    if as_json:
        print_json([{"id": voice.id, **_document(voice)} for voice in found])
        return
    if run is None:
        print_notice(f"nobody has looked for unknown voices in gallery {gallery} yet: `voxdex cluster`")
    _print_voices(found)
    if len(found) == limit:
        print_notice(f"there may be more: --after {found[-1].id}")


@unknown.command("show")
def show_voice(
    voice: _Voice,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show an unknown voice with every stretch to listen to."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        row = services.unknown.show(gallery, voice)
        stretches = services.unknown.stretches(gallery, voice, after=0, limit=row.utterances)
    if as_json:
        print_json({**_document(row), "utterance_rows": [asdict(one) for one in stretches]})
        return
    print_line(
        f"{row.name}: {counted(row.utterances, 'utterance')} in {counted(row.recordings, 'recording')}, "
        f"{row.speech_s:.1f} s of speech"
    )
    print_table(
        ["utterance", "recording", "uri", "channel", "start (s)", "end (s)", "score"],
        [
            [
                one.id,
                one.recording_id,
                one.uri,
                one.channel,
                one.start_s,
                one.end_s,
                None if one.score is None else round(one.score, 3),
            ]
            for one in stretches
        ],
    )


@unknown.command("promote")
def promote_voice(
    voice: _Voice,
    speaker: Annotated[str, typer.Argument(help="Who it is; added if new.", show_default=False)],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    consent_reference: Annotated[
        str | None,
        typer.Option(
            "--consent", help="Where the person's consent is kept; some galleries need it.", show_default=False
        ),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Enroll all that an unknown voice says as a speaker."""
    from api.dependencies import open_services
    from indexer.db.speaker_records import Consent

    with open_services(home=home) as services:
        consent = Consent(consent_reference) if consent_reference is not None else None
        with waiting("enrolling", quiet=as_json):
            named = services.unknown.promote(gallery, voice, speaker, consent)
    if as_json:
        print_json(asdict(named))
        return
    print_line(
        f"{voice} is {named.name} now: {counted(named.enrollments, 'enrolled utterance')}, {named.enrolled_s:.1f} s"
    )


@unknown.command("merge")
def merge_voices(
    voice: _Voice,
    into: Annotated[str, typer.Argument(help="The unknown voice whose name stays.", show_default=False)],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make two unknown voices one; no run parts them again."""
    from api.dependencies import open_services

    with open_services(home=home) as services, waiting("merging", quiet=as_json):
        merged = services.unknown.merge(gallery, voice, into)
    if as_json:
        print_json(_document(merged))
        return
    print_line(f"{voice} is {merged.name} now, with {counted(merged.utterances, 'utterance')}")


@unknown.command("split")
def split_voice(
    voice: _Voice,
    utterances: Annotated[
        list[int] | None,
        typer.Argument(help="Utterances of the other voice (default: found by the vectors).", show_default=False),
    ] = None,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make two of an unknown voice; no run joins them again."""
    from api.dependencies import open_services

    with open_services(home=home) as services, waiting("parting", quiet=as_json):
        kept, made = services.unknown.split(gallery, voice, utterances or None)
    if as_json:
        print_json({"kept": _document(kept), "made": _document(made)})
        return
    print_line(
        f"{kept.name} has {counted(kept.utterances, 'utterance')} left, {made.name} has "
        f"{counted(made.utterances, 'utterance')}"
    )


@unknown.command("remove")
def remove_utterances(
    voice: _Voice,
    utterances: _Utterances,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """State that utterances are not of an unknown voice; no run puts them back."""
    from api.dependencies import open_services

    with open_services(home=home) as services:
        left = services.unknown.take_out(gallery, voice, utterances)
    if as_json:
        print_json(_document(left))
        return
    print_line(f"{left.name} has {counted(left.utterances, 'utterance')} left")


@unknown.command("delete")
def delete_voice(
    voice: Annotated[str | None, typer.Argument(help="The unknown voice.", show_default=False)] = None,
    all_voices: Annotated[bool, typer.Option("--all", help="Every unknown voice of the gallery.")] = False,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    yes: options.Yes = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Forget an unknown voice and what was said of it; the utterances stay, and the next run may find it again."""
    from api.dependencies import open_services
    from indexer.errors import InvalidRequest

    if (voice is None) != all_voices:
        raise InvalidRequest("name one unknown voice, or give --all")
    with open_services(home=home) as services:
        if voice is None:
            confirm(f"Forget every unknown voice of gallery {gallery}?", yes=yes)
            with waiting("forgetting", quiet=as_json):
                voices = services.unknown.delete_all(gallery)
            document, line = {"voices": voices}, f"{counted(voices, 'unknown voice')} forgotten"
        else:
            confirm(f"Forget {voice} of gallery {gallery}?", yes=yes)
            utterances = services.unknown.delete(gallery, voice)
            document, line = {"utterances": utterances}, f"{voice} forgotten: {counted(utterances, 'utterance')}"
    if as_json:
        print_json(document)
    else:
        print_line(line)


def _document(voice: "UnknownVoiceSummary") -> dict[str, object]:
    return {
        "name": voice.name,
        "utterances": voice.utterances,
        "recordings": voice.recordings,
        "speech_s": round(voice.speech_s, 3),
        "edited": voice.pinned,
        "created_at": voice.created_at,
    }


def _print_voices(voices: list["UnknownVoiceSummary"]) -> None:
    print_table(
        ["name", "utterances", "recordings", "speech (s)", "edited"],
        [
            [voice.name, voice.utterances, voice.recordings, round(voice.speech_s, 1), "yes" if voice.pinned else ""]
            for voice in voices
        ],
    )
