"""The command `voxdex search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import filters, options
from api.cli.output import counted, print_json, print_line, print_table
from api.cli.voices import probe_document

if TYPE_CHECKING:
    from api.voices import Occurrences
    from search.occurrences import Occurrence


def search(
    file: Annotated[
        Path, typer.Argument(help="Recording of the voice to look for.", show_default=False, readable=False)
    ],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    threshold: options.Threshold = None,
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
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Find the recordings of the archive in which a voice occurs, and the stretches where it does."""
    from api.dependencies import open_services

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
    shown = limit or (20 if top_k is None else top_k)
    results: list[dict[str, Any]] = []
    with open_services(home=home, channels=channels) as services:
        voices = services.voices(gallery)
        for probe in voices.probe(file):
            found = voices.search(probe, threshold=threshold, filter=wanted, top_k=top_k)
            results.append(
                {
                    **probe_document(file, probe),
                    "threshold": found.operating_point.score_threshold,
                    "threshold_source": found.operating_point.source,
                    "found": found.found,
                    "truncated": found.truncated,
                    "eligible": found.eligible,
                    "recordings": found.recordings[:shown],
                }
            )
            if not as_json:
                _print_occurrences(found.recordings[:shown])
                _print_found(found, gallery, probe.channel)
    if as_json:
        print_json({"gallery": gallery, "results": results})


def _print_occurrences(occurrences: "list[Occurrence]") -> None:
    rows = []
    for occurrence in occurrences:
        stretches = ", ".join(f"{stretch.start_s:.1f}-{stretch.end_s:.1f}" for stretch in occurrence.stretches)
        stretches += ", ..." if occurrence.truncated else ""
        speakers = ", ".join(occurrence.speakers)
        rows.append([occurrence.recording_id, occurrence.uri, occurrence.score, stretches, speakers])
    if rows:
        print_table(["id", "recording", "score", "stretches (s)", "known as"], rows)


def _print_found(found: "Occurrences", gallery: str, channel: int | None) -> None:
    voice = "this voice" if channel is None else f"the voice of channel {channel}"
    point = found.operating_point
    print_line(
        f"{counted(found.found, 'recording')} with {voice} in gallery {gallery} "
        f"(score >= {point.score_threshold:.3f}, from the {point.source})"
    )
    if found.found < len(found.recordings):
        print_line("recordings below that are merely the nearest there are")
    if found.eligible is not None:
        print_line(f"the filter leaves {counted(found.eligible, 'utterance')}")
    if found.truncated:
        print_line("there are more: only the best utterances were looked at; raise --threshold or --top-k")
