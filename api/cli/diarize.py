"""The command `voxdex diarize`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.output import (
    EXIT_SOME_FAILED,
    counted,
    print_error,
    print_json,
    print_line,
    print_notice,
    print_table,
)
from api.cli.progress import waiting
from indexer.errors import InvalidAudio, InvalidRequest, NotFound, one_line

if TYPE_CHECKING:
    from api.conversations import Conversation, SpokenVoice
    from indexer.listening import Listening


def diarize(
    files: Annotated[list[Path], typer.Argument(help="Recordings.", show_default=False, readable=False)],
    speakers: options.Speakers = None,
    speech: options.Speech = None,
    rttm: Annotated[bool, typer.Option("--rttm", help="Print RTTM lines instead of tables.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="RTTM file to write the turns of all recordings to.", show_default=False),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", "-g", help="Name the voices who are enrolled in this gallery.", show_default=False),
    ] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="With --gallery: no two voices may be the same person.")
    ] = False,
    encoder: options.Encoder = None,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell who speaks when: voice 1, voice 2, ... of each recording, and their turns.

    Voices of two recordings have nothing to do with each other; with --gallery, those who are enrolled in it have their
    names, and `voxdex identify` tells more of each. Where two people speak at once in a channel, the one who is heard
    better has the time.
    """
    with waiting("starting", quiet=as_json):  # These imports take seconds.
        from api.cli.files import check_output
        from api.conversations import diarize as find_turns
        from api.conversations import diarize_and_identify
        from api.deciding import NOTHING
        from api.dependencies import open_services
        from indexer.audio.channels import ChannelPolicy
        from indexer.audio.rttm import format_rttm
        from indexer.listening_choices import listening_as_asked

    if rttm and as_json:
        raise InvalidRequest("give --rttm or --json: both would print on standard output")
    if gallery is None and exclusive:
        raise InvalidRequest("--exclusive is about who the voices are: give --gallery with it")
    if gallery is not None and encoder is not None:
        raise InvalidRequest(f"gallery {gallery} has its encoder: leave out --encoder or --gallery")
    _require_own_names(files, needed=rttm or output is not None)
    target = None if output is None else check_output(output, files)
    options.check_speakers(speakers)
    found: list[tuple[Path, Conversation]] = []
    failed: list[dict[str, str]] = []
    with (
        waiting("listening", total=len(files), quiet=as_json) as advance,
        open_services(home=home, channels=channels) as services,
    ):
        settings = services.settings
        listening = _only_speech(
            listening_as_asked(services.listening, settings.speech, speakers=speakers, speech=speech)
        )
        voices = services.voices(gallery) if gallery is not None else None
        loaded = voices.encoder if voices is not None else services.encoders.load(encoder)[0]
        policy = ChannelPolicy.parse(settings.audio.channels)
        for file in files:
            try:
                if voices is None:
                    heard = find_turns(loaded, file, listening, channels=policy, limits=settings.audio, name=str(file))
                else:
                    heard = diarize_and_identify(
                        voices,
                        file,
                        listening,
                        channels=settings.audio.channels,
                        name=str(file),
                        speech=settings.speech,
                        asked=NOTHING,
                        exclusive=exclusive,
                    )
            except (InvalidAudio, NotFound) as error:
                failed.append({"path": str(file), "code": error.code, "message": one_line(error)})
                print_error(error, as_json=False)
                continue
            for issue in heard.issues:
                print_notice(f"{file}: {issue}")
            found.append((file, heard))
            if rttm:
                print_line(format_rttm(heard.as_rttm()).rstrip("\n"))
            elif not as_json:
                _print_turns(file, heard)
            advance()
    if target is not None:
        target.write_text(format_rttm(turn for _, heard in found for turn in heard.as_rttm()), encoding="utf-8")
    if as_json:
        results = [_document(file, heard) for file, heard in found]
        print_json({"encoder_id": loaded.id, "results": results, "failed": failed})
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _require_own_names(files: list[Path], *, needed: bool) -> None:
    """RTTM knows a recording by its name without folder and extension."""
    if needed and len({file.stem for file in files}) < len(files):
        raise InvalidRequest("two of the recordings have one name, by which RTTM knows them: give them one by one")


def _only_speech(listening: "Listening") -> "Listening":
    """Take of marked speech where it is and not whose it is, which is what is to be found."""
    if listening.given is None:
        return listening
    unnamed = {name: [replace(turn, speaker="speech") for turn in turns] for name, turns in listening.given.items()}
    return replace(listening, given=unnamed)


def _print_turns(file: Path, heard: "Conversation") -> None:
    apart = any(turn.channel is not None for turn in heard.turns)
    columns = ["start (s)", "end (s)", "voice", *(["channel"] if apart else [])]
    rows = [
        [f"{turn.start_s:.2f}", f"{turn.end_s:.2f}", heard.labels[turn.voice], *([turn.channel] if apart else [])]
        for turn in heard.turns
    ]
    print_line(str(file))
    print_table(columns, rows)
    shares = ", ".join(f"{one.label} {one.speech_s:.1f} s{_unsure(one)}" for one in heard.voices)
    print_line(f"{counted(len(heard.voices), 'voice')} in {heard.duration_s:.1f} s: {shares}")


def _unsure(voice: "SpokenVoice") -> str:
    told = voice.decision in (None, "identified")
    return "" if told else f" ({(voice.decision or '').replace('_', ' ')})"


def _document(file: Path, heard: "Conversation") -> dict[str, Any]:
    return {
        "path": str(file),
        "duration_s": round(heard.duration_s, 3),
        "voices": heard.voices,
        "turns": heard.turns,
        "issues": list(heard.issues),
    }
