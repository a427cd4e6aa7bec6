"""The commands about voices: enroll, identify, verify, compare, embed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.output import (
    EXIT_SOME_FAILED,
    counted,
    outcome_text,
    print_error,
    print_json,
    print_line,
    print_notice,
    print_table,
)
from indexer.errors import InvalidAudio, NotFound, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from indexer.probes import Probe
    from search.verification import Verification

Files = Annotated[list[Path], typer.Argument(help="Recordings.", show_default=False, readable=False)]


@dataclass
class _Attempts:
    """Inputs that failed; the others must not suffer for them."""

    failed: list[dict[str, str]] = field(default_factory=list)

    def each(self, files: Iterable[Path], probes_of: Callable[[Path], "list[Probe]"]) -> "Iterable[tuple[Path, Probe]]":
        """Yield every probe of every usable file; report the others and go on."""
        for file in files:
            try:
                probes = probes_of(file)
            except (InvalidAudio, NotFound) as error:
                self.failed.append({"path": str(file), "code": error.code, "message": one_line(error)})
                print_error(error, as_json=False)
                continue
            for probe in probes:
                for issue in probe.issues:
                    print_notice(f"{file}: partial: {issue}")
                yield file, probe

    def finish(self) -> None:
        """Leave with status 1 when an input failed."""
        if self.failed:
            raise typer.Exit(EXIT_SOME_FAILED)


def enroll(
    speaker: Annotated[str, typer.Argument(help="Name of the speaker; made if new.")],
    files: Files,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    consent_reference: Annotated[
        str | None,
        typer.Option(
            "--consent-reference",
            help="Where the person's consent is kept; kept with the speaker. Some galleries enroll nobody without.",
            show_default=False,
        ),
    ] = None,
    channels: options.Channels = None,
    encoder: options.Encoder = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Enroll recordings of one person, who is found by `identify` and checked by `verify` from then on."""
    from api.cli.ingest import print_report
    from api.dependencies import open_services
    from indexer.archive import everybody, list_archive
    from indexer.db.repositories import require_name
    from indexer.db.speaker_records import Consent

    require_name("speaker", speaker)
    with open_services(home=home, channels=channels) as services:
        listing = list_archive(files, everybody(speaker))
        ingest = services.ingest(gallery, encoder)
        if consent_reference is not None:
            services.catalog.record_consent(gallery, speaker, Consent(consent_reference))
        report = ingest.run(listing.files, source="enroll", naming="must", refused=listing.refused)
        services.indexes.bring_into_step(gallery)
    print_report(gallery, report, as_json=as_json)


def identify(
    files: Files,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="Most candidates shown.")] = 5,
    threshold: options.Threshold = None,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell who speaks in each recording, among the enrolled speakers; the answer may be nobody."""
    from api.dependencies import open_services

    attempts, results, rows = _Attempts(), [], []
    with open_services(home=home, channels=channels) as services:
        voices = services.voices(gallery)
        for file, probe in attempts.each(files, voices.probe):
            answer = voices.identify(probe, top_k=top_k, threshold=threshold)
            results.append(
                {
                    **probe_document(file, probe),
                    "outcome": answer.outcome,
                    "speaker": answer.speaker,
                    "threshold": answer.operating_point.score_threshold,
                    "threshold_source": answer.operating_point.source,
                    "candidates": answer.candidates,
                }
            )
            best = outcome_text(answer.speaker or "unknown", good=answer.outcome == "identified")
            for candidate in answer.candidates or (None,):
                first = candidate is None or candidate.rank == 1
                rows.append(
                    [
                        _label(file, probe) if first else "",
                        best if first else "",
                        candidate.speaker if candidate else "(nobody is enrolled)",
                        candidate.score if candidate else None,
                        candidate.enrollments if candidate else None,
                    ]
                )
        encoder_id = voices.encoder.id
    if as_json:
        print_json({"gallery": gallery, "encoder_id": encoder_id, "results": results, "failed": attempts.failed})
    elif results:
        print_table(["recording", "decision", "candidate", "score", "enrollments"], rows)
        point = results[0]
        print_line(f"identified when the best score >= {point['threshold']:.3f} (from the {point['threshold_source']})")
    attempts.finish()


def verify(
    file: Annotated[Path, typer.Argument(help="Recording of the person.", show_default=False, readable=False)],
    speaker: Annotated[str, typer.Option("--speaker", "-s", help="Who they claim to be.", show_default=False)],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    threshold: options.Threshold = None,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether a recording is of the enrolled speaker it claims to be."""
    from api.dependencies import open_services

    with open_services(home=home, channels=channels) as services:
        voices = services.voices(gallery)
        results = []
        for probe in voices.probe(file):
            answer = voices.verify(probe, speaker, threshold=threshold)
            results.append({**probe_document(file, probe), "claimed": speaker, **_verification_document(answer)})
    _print_verifications(results, as_json=as_json, gallery=gallery, against=speaker)


def compare(
    a: Annotated[Path, typer.Argument(help="A recording.", show_default=False, readable=False)],
    b: Annotated[Path, typer.Argument(help="Another recording.", show_default=False, readable=False)],
    threshold: options.Threshold = None,
    encoder: options.Encoder = None,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether two recordings are of the same voice; needs no gallery."""
    from api.dependencies import open_services

    with open_services(home=home, channels=channels) as services:
        comparison = services.comparison(encoder)
        results = [
            {**probe_document(a, first), "other": probe_document(b, second), **_verification_document(answer)}
            for first in comparison.probe(a)
            for second in comparison.probe(b)
            for answer in [comparison.compare(first, second, threshold=threshold)]
        ]
    _print_verifications(results, as_json=as_json, gallery=None, against=str(b))


def embed(
    files: Annotated[list[str], typer.Argument(help="Recordings.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="NumPy .npz file to write.", show_default=False)],
    encoder: options.Encoder = None,
    front_end: Annotated[
        str | None,
        typer.Option(
            "--front-end", help="legacy or current, for NeMo weights (default: by the file).", show_default=False
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The network's own output instead of unit vectors.")] = False,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Embed recordings into an .npz whose keys are the paths as given (with #N for channel N of `--channels each`)."""
    from api.cli.npz import check_output, save_npz
    from api.dependencies import open_services

    target = check_output(output, map(Path, files))
    attempts = _Attempts()
    vectors: dict[str, NDArray[np.float32]] = {}
    with open_services(home=home, channels=channels) as services:
        comparison = services.comparison(encoder, front_end=front_end)
        for file in dict.fromkeys(files):  # A path writes "./a" as "a"; a key is what was typed.
            for _, probe in attempts.each([Path(file)], lambda path: comparison.probe(path, raw=raw)):
                vectors[file if probe.channel is None else f"{file}#{probe.channel}"] = probe.vector
        encoder_id, dim = comparison.encoder.id, comparison.encoder.dim
    if vectors:
        save_npz(target, vectors)
    if as_json:
        print_json(
            {
                "output": str(output),
                "encoder_id": encoder_id,
                "dim": dim,
                "keys": list(vectors),
                "failed": attempts.failed,
            }
        )
    elif vectors:
        print_line(f"{counted(len(vectors), 'vector')} of {dim} numbers by {encoder_id} in {output}")
    attempts.finish()


def _label(file: Path, probe: "Probe") -> str:
    return str(file) if probe.channel is None else f"{file} (channel {probe.channel})"


def probe_document(file: Path, probe: "Probe") -> dict[str, Any]:
    """Say which recording was asked about, as the first part of an answer in JSON."""
    return {
        "path": str(file),
        "channel": probe.channel,
        "duration_s": round(probe.duration_s, 3),
        "issues": list(probe.issues),
    }


def _verification_document(answer: "Verification") -> dict[str, Any]:
    return {
        "outcome": answer.outcome,
        "score": answer.score,
        "threshold": answer.operating_point.score_threshold,
        "threshold_source": answer.operating_point.source,
    }


def _print_verifications(results: list[dict[str, Any]], *, as_json: bool, gallery: str | None, against: str) -> None:
    if as_json:
        print_json({**({"gallery": gallery} if gallery else {}), "results": results})
        return
    for result in results:
        for issue in result["issues"]:
            print_notice(f"{result['path']}: partial: {issue}")
        channel = "" if result["channel"] is None else f" (channel {result['channel']})"
        comparison = ">=" if result["outcome"] == "accept" else "<"
        print_line(
            f"{result['outcome']}: {result['path']}{channel} against {against}: "
            f"score {result['score']:.3f} {comparison} threshold {result['threshold']:.3f} "
            f"(from the {result['threshold_source']})"
        )
