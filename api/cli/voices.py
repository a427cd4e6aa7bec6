"""The commands about voices: enroll, identify, verify, compare, embed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options, voice_options
from api.cli.output import EXIT_SOME_FAILED, counted, print_error, print_json, print_line, print_notice
from api.cli.progress import waiting
from indexer.errors import InvalidAudio, NotFound, VoxdexError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from api.dependencies import Services
    from api.probing import Heard, HearingAsked
    from api.schemas.common import View
    from api.voices import Voices
    from indexer.probes import Probe

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
                self._report(file, error)
                continue
            for probe in probes:
                for issue in probe.issues:
                    print_notice(f"{file}: {issue}")
                yield file, probe

    def heard(
        self, files: Iterable[Path], voices: "Voices", asked: "HearingAsked", services: "Services"
    ) -> "Iterable[tuple[Path, Heard]]":
        """Yield what is heard in every usable file; report the others and go on."""
        from api.probing import hear

        for file in files:
            try:
                heard = hear(voices, file, name=str(file), asked=asked, speech=services.settings.speech, request=False)
            except (InvalidAudio, NotFound) as error:
                self._report(file, error)
                continue
            yield file, heard

    def _report(self, file: Path, error: VoxdexError) -> None:
        self.failed.append({"path": str(file), "code": error.code, "message": one_line(error)})
        print_error(error, as_json=False)

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
    speakers: options.Speakers = None,
    speech: options.Speech = None,
    encoder: options.Encoder = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Enroll recordings of one person, who is found by `identify` and checked by `verify` from then on.

    Of a recording in which several voices are heard, only the one that speaks most is enrolled, and a notice says so.
    Another says what to listen to where a recording that was taken for one voice may hold a second.
    """
    from api.cli.ingest import IngestProgress, print_report, with_same_voices
    from api.dependencies import open_services
    from indexer.archive import everybody, list_archive
    from indexer.db.names import require_name
    from indexer.db.speaker_records import Consent

    require_name("speaker", speaker)
    options.check_speakers(speakers)
    with open_services(home=home, channels=channels) as services:
        listing = list_archive(files, everybody(speaker))
        with waiting("loading", quiet=as_json):
            ingest = services.ingest(gallery, encoder, speakers=speakers, speech=speech)
        if consent_reference is not None:
            services.catalog.record_consent(gallery, speaker, Consent(consent_reference))
        with IngestProgress("enroll", len(listing.files) + len(listing.refused), quiet=as_json) as progress:
            report = ingest.run(
                listing.files, source="enroll", naming="must", refused=listing.refused, on_file=progress.update
            )
        with waiting("indexing", quiet=as_json):
            services.indexes.bring_into_step(gallery)
        report = with_same_voices(services, gallery, listing.files, report)
    print_report(gallery, report, as_json=as_json)


def identify(
    files: Files,
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="Most candidates shown.")] = 5,
    threshold: voice_options.Threshold = None,
    llr_threshold: voice_options.LlrThreshold = None,
    fpir: voice_options.Fpir = None,
    p_target: voice_options.PTarget = None,
    c_miss: voice_options.CMiss = None,
    c_fa: voice_options.CFa = None,
    possible_threshold: Annotated[
        float | None,
        typer.Option(
            "--possible-threshold",
            help="Lower edge of the band `possible`, where the score decides.",
            show_default=False,
        ),
    ] = None,
    possible_llr_threshold: Annotated[
        float | None,
        typer.Option(
            "--possible-llr-threshold",
            help="Lower edge of the band `possible`, where the llr decides.",
            show_default=False,
        ),
    ] = None,
    possible_fpir: Annotated[
        float | None,
        typer.Option(
            "--possible-fpir",
            help="The same as a share of unknown voices that may be named or called possible.",
            show_default=False,
        ),
    ] = None,
    prior: voice_options.Prior = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Only speakers with this label; repeat it for several.", show_default=False),
    ] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="No two voices of a recording may be the same person.")
    ] = False,
    best_enrollments: voice_options.BestEnrollments = 3,
    speakers: options.Speakers = None,
    force: voice_options.Force = False,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell who speaks in each recording, among the enrolled speakers; the answer may be nobody.

    Where several voices speak in a recording, each has an answer of its own.
    """
    with waiting("starting", quiet=as_json):  # These imports take seconds.
        from api import voice_answers
        from api.cli.voice_tables import print_identifications
        from api.dependencies import open_services
        from search.identification import proposals

    asked = voice_options.asked(
        threshold=threshold,
        llr_threshold=llr_threshold,
        rate=fpir,
        p_target=p_target,
        c_miss=c_miss,
        c_fa=c_fa,
        prior=prior,
        possible_threshold=possible_threshold,
        possible_llr_threshold=possible_llr_threshold,
        possible_rate=possible_fpir,
    )
    proposals(top_k)  # Refuses what is out of range.
    listening = voice_options.hearing(channels, speakers, force)
    attempts, answers = _Attempts(), []
    with (
        waiting("listening", total=len(files), quiet=as_json) as advance,
        open_services(home=home, channels=channels) as services,
    ):
        voices = services.voices(gallery)
        for file, heard in attempts.heard(files, voices, listening, services):
            found = voices.identify_each(
                heard, top_k=top_k, asked=asked, labels=label, exclusive=exclusive, best_enrollments=best_enrollments
            )
            point = partial(voices.identification_point, asked, label)
            answers.append((file, voice_answers.identified(voices, heard, found, point)))
            advance()
        encoder_id = voices.encoder.id
    if as_json:
        results = [document_of(file, answer) for file, answer in answers]
        print_json({"gallery": gallery, "encoder_id": encoder_id, "results": results, "failed": attempts.failed})
    elif answers:
        print_identifications(answers)
    attempts.finish()


def verify(
    file: Annotated[Path, typer.Argument(help="Recording of the person.", show_default=False, readable=False)],
    speaker: Annotated[str, typer.Option("--speaker", "-s", help="Who they claim to be.", show_default=False)],
    gallery: options.Gallery = options.DEFAULT_GALLERY,
    threshold: voice_options.Threshold = None,
    llr_threshold: voice_options.LlrThreshold = None,
    p_fa: voice_options.PFa = None,
    p_target: voice_options.PTarget = None,
    c_miss: voice_options.CMiss = None,
    c_fa: voice_options.CFa = None,
    prior: voice_options.Prior = None,
    best_enrollments: voice_options.BestEnrollments = 3,
    speakers: options.Speakers = None,
    force: voice_options.Force = False,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether a recording is of the enrolled speaker it claims to be.

    Where several voices speak, whoever speaks most is compared.
    """
    with waiting("starting", quiet=as_json):  # These imports take seconds.
        from api import voice_answers
        from api.cli.voice_tables import print_verification
        from api.dependencies import open_services
        from api.probing import hear

    asked = voice_options.asked(
        threshold=threshold,
        llr_threshold=llr_threshold,
        rate=p_fa,
        p_target=p_target,
        c_miss=c_miss,
        c_fa=c_fa,
        prior=prior,
    )
    listening = voice_options.hearing(channels, speakers, force)
    with waiting("listening", quiet=as_json), open_services(home=home, channels=channels) as services:
        voices = services.voices(gallery)
        heard = hear(voices, file, name=str(file), asked=listening, speech=services.settings.speech, request=False)
        found = None
        if heard.dominant is not None:
            found = voices.verify(heard.dominant, speaker, asked=asked, best_enrollments=best_enrollments)
        answer = voice_answers.verified(voices, heard, speaker, found, partial(voices.verification_point, asked))
    if as_json:
        print_json({"gallery": gallery, "results": [document_of(file, answer)]})
    else:
        print_verification(str(file), speaker, answer)


def compare(
    a: Annotated[Path, typer.Argument(help="A recording.", show_default=False, readable=False)],
    b: Annotated[Path, typer.Argument(help="Another recording.", show_default=False, readable=False)],
    threshold: voice_options.Threshold = None,
    llr_threshold: voice_options.LlrThreshold = None,
    p_fa: voice_options.PFa = None,
    p_target: voice_options.PTarget = None,
    c_miss: voice_options.CMiss = None,
    c_fa: voice_options.CFa = None,
    prior: voice_options.Prior = None,
    encoder: options.Encoder = None,
    speakers: options.Speakers = None,
    force: voice_options.Force = False,
    channels: options.Channels = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether two recordings are of the same voice; needs no gallery.

    Where several voices speak in a recording, whoever speaks most is compared.
    """
    with waiting("starting", quiet=as_json):  # These imports take seconds.
        from api import voice_answers
        from api.cli.voice_tables import print_verification
        from api.dependencies import open_services
        from api.probing import hear

    asked = voice_options.asked(
        threshold=threshold,
        llr_threshold=llr_threshold,
        rate=p_fa,
        p_target=p_target,
        c_miss=c_miss,
        c_fa=c_fa,
        prior=prior,
    )
    listening = voice_options.hearing(channels, speakers, force)
    with waiting("listening", quiet=as_json), open_services(home=home, channels=channels) as services:
        comparison = services.comparison(encoder)
        first, second = (
            hear(comparison, file, name=str(file), asked=listening, speech=services.settings.speech, request=False)
            for file in (a, b)
        )
        found = None
        if first.dominant is not None and second.dominant is not None:
            found = comparison.compare(first.dominant, second.dominant, asked)
        answer = voice_answers.compared(comparison, first, second, found, partial(comparison.verification_point, asked))
    if as_json:
        print_json({"results": [{**document_of(a, answer), "other": str(b)}]})
    else:
        print_verification(str(a), str(b), answer)


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
    from api.cli.files import check_output
    from api.cli.npz import save_npz
    from api.dependencies import open_services

    target = check_output(output, map(Path, files))
    attempts = _Attempts()
    vectors: dict[str, NDArray[np.float32]] = {}
    with (
        waiting("embedding", total=len(files), quiet=as_json) as advance,
        open_services(home=home, channels=channels) as services,
    ):
        comparison = services.comparison(encoder, front_end=front_end)
        for file in dict.fromkeys(files):  # A path writes "./a" as "a"; a key is what was typed.
            for _, probe in attempts.each([Path(file)], lambda path: comparison.probe(path, raw=raw)):
                vectors[file if probe.channel is None else f"{file}#{probe.channel}"] = probe.vector
            advance()
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


def document_of(file: Path, answer: "View") -> dict[str, Any]:
    """Return an answer as JSON, as over HTTP, beginning with the recording that it is about."""
    return {"path": str(file), **answer.model_dump(mode="json")}
