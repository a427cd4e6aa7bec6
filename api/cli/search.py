"""The command `voxdex search`."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli import filters, options, voice_options
from api.cli.output import print_json
from api.cli.progress import waiting
from api.cli.voices import document_of


def search(
    file: Annotated[
        Path, typer.Argument(help="Recording of the voice to look for.", show_default=False, readable=False)
    ],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    threshold: voice_options.Threshold = None,
    llr_threshold: voice_options.LlrThreshold = None,
    fpir: Annotated[
        float | None,
        typer.Option(
            "--fpir",
            help="Decide by an error rate: share of absent voices that is found anywhere, as 0.01.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            "-k",
            help="Look at the best so many utterances, whatever they score unless --threshold is given too.",
            min=1,
            max=1000,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            help="Most recordings shown (default: 20, and with --top-k all of them).",
            min=1,
            max=10_000,
            show_default=False,
        ),
    ] = None,
    label: filters.Labels = None,
    speaker: filters.Speakers = None,
    session: filters.Sessions = None,
    recorded_from: filters.From = None,
    recorded_until: filters.Until = None,
    min_duration_s: filters.MinDuration = None,
    min_speech_s: filters.MinSpeech = None,
    min_sample_rate_hz: filters.MinSampleRate = None,
    max_sample_rate_hz: filters.MaxSampleRate = None,
    heard_speakers: options.Speakers = None,
    force: voice_options.Force = False,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Find the recordings of the archive in which a voice occurs, and the stretches where it does.

    Where several voices speak in FILE, whoever speaks most is looked for.
    """
    with waiting("starting", quiet=as_json):  # These imports take seconds.
        from api import voice_answers
        from api.cli.voice_tables import print_occurrences
        from api.dependencies import open_services
        from api.probing import hear

    wanted = filters.row_filter(
        labels=label,
        speakers=speaker,
        sessions=session,
        recorded_from=recorded_from,
        recorded_until=recorded_until,
        min_duration_s=min_duration_s,
        min_speech_s=min_speech_s,
        min_sample_rate_hz=min_sample_rate_hz,
        max_sample_rate_hz=max_sample_rate_hz,
    )
    asked = voice_options.asked(threshold=threshold, llr_threshold=llr_threshold, rate=fpir)
    hearing = voice_options.hearing(channels, heard_speakers, force)
    with waiting("listening", quiet=as_json), open_services(home=home, channels=channels) as services:
        voices = services.voices(gallery)
        heard = hear(voices, file, name=str(file), asked=hearing, speech=services.settings.speech, request=False)
        if heard.dominant is None:
            answer = voice_answers.not_searched(voices, heard, *voices.search_point(asked, wanted))
        else:
            found = voices.search(heard.dominant, asked=asked, filter=wanted, top_k=top_k)
            answer = voice_answers.found(voices, heard, found, limit or (20 if top_k is None else top_k))
    if as_json:
        print_json({"gallery": gallery, "results": [document_of(file, answer)]})
    else:
        print_occurrences(str(file), gallery, answer)
