"""`voxdex evaluate`: error rates on recordings whose speakers are known."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from api.cli import options
from api.cli.evaluation_options import (
    Asked,
    AudioRoot,
    Noise,
    Pairs,
    Rir,
    ScoresAsked,
    Seed,
    Sets,
    SpeakerCount,
    Speech,
    Within,
    open_workbench,
    print_tables,
    read_recordings,
    require_report,
    save_report,
)
from api.cli.output import print_json, print_line, print_notice
from api.cli.progress import waiting
from api.cli.shared_options import takes
from indexer.errors import InvalidRequest

evaluate = typer.Typer(no_args_is_help=True, help="Measure error rates on recordings whose speakers are known.")


@evaluate.command("verification")
@takes(ScoresAsked)
def verification(
    trials: Annotated[
        Path | None,
        typer.Argument(
            help="Trial list: lines of `1 a.wav b.wav`, or a CSV with enroll, probe and target.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", readable=False, help="CSV with path and speaker, of which pairs are made."),
    ] = None,
    pairs: Annotated[
        Pairs, typer.Option("--pairs", help="Of a manifest: all, or without target pairs of one session (sessions).")
    ] = Pairs.all,
    within: Annotated[Within, typer.Option("--within", help="Pair recordings of one set, or of all.")] = Within.set,
    *,
    asked: ScoresAsked,
) -> None:
    """Measure EER, detection costs and Cllr on pairs of recordings, overall, by set and by net speech."""
    from api.evaluation.recordings import require_files
    from api.evaluation.tables import verification_tables
    from api.evaluation.verification import evaluate_verification, slices_of, under_conditions
    from search.bootstrap import Resampling
    from search.trials import all_pairs, read_trials

    require_report(asked.report)
    if (trials is None) == (manifest is None):
        raise InvalidRequest("give either a trial list, or --manifest and the pairs that are made of it")
    if trials is not None:
        listed = read_trials(trials)
    else:
        assert manifest is not None
        listed = all_pairs(asked.recordings(manifest), within=within.value, across_sessions=pairs is Pairs.sessions)
    root = asked.audio_root or (trials or manifest or Path()).parent
    files = require_files(root, (recording.path for recording in listed.recordings))
    with open_workbench(asked) as bench:
        maker = asked.copy_maker(bench)
        systems = bench.systems(bench.hear(files, maker))
    resampling = Resampling(draws=asked.bootstrap, seed=asked.seed)
    conditioned = under_conditions(listed, maker.conditions if maker else ())
    slices = slices_of(conditioned, systems[-1].net_speech_s)
    with waiting("scoring", total=2 * len(systems), quiet=asked.as_json) as advance:
        scored, figures = [], []
        for system in systems:
            scored.append((system, system.score(conditioned.trials)))
            advance()
        for system, scores in scored:
            figures.append(evaluate_verification(system, conditioned.trials, scores, slices, resampling))
            advance()
    if asked.as_json:
        print_json({"trials": len(listed), "seed": asked.seed, "bootstrap": asked.bootstrap, "systems": figures})
    else:
        print_tables(verification_tables(figures), [f"{one.system}: {one.scoring}" for one in figures])
    if asked.report is not None:
        from api.evaluation.pages import verification_page

        drawn = partial(verification_page, figures, scored, conditioned.trials, slices[0])
        save_report(asked.report, drawn, quiet=asked.as_json)


@evaluate.command("identification")
@takes(ScoresAsked)
def identification(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="CSV with path and speaker, and role (enroll or probe).", show_default=False, readable=False
        ),
    ],
    enroll_sets: Annotated[
        str | None,
        typer.Option(
            "--enroll-sets", help="Enroll speakers of these sets only, with commas between.", show_default=False
        ),
    ] = None,
    enroll_per_speaker: Annotated[
        int | None,
        typer.Option(
            "--enroll-per-speaker",
            help="Enroll the first so many recordings of each speaker, look all others up (default: by role).",
            show_default=False,
        ),
    ] = None,
    gallery_sizes: Annotated[
        str | None,
        typer.Option(
            "--gallery-sizes",
            help="Draw galleries of these sizes, with commas between, each speaker once in and once out of one "
            "(default: everybody enrolled is one gallery).",
            show_default=False,
        ),
    ] = None,
    gallery_draws: Annotated[
        int, typer.Option("--gallery-draws", help="Galleries drawn of each size.", min=1, max=1000)
    ] = 3,
    made_up: Annotated[
        int,
        typer.Option(
            "--made-up",
            help="Fill up each gallery with so many voices, made up of the speakers with a single recording, who are "
            "then left out.",
            min=0,
            max=1_000_000,
        ),
    ] = 0,
    override_gates: Annotated[
        bool, typer.Option("--override-gates", help="Decide about probes with too little speech as well.")
    ] = False,
    *,
    asked: ScoresAsked,
) -> None:
    """Measure who is found, who is missed and which strangers are named, by gallery size and net speech."""
    from api.evaluation.identification import evaluate_identification
    from api.evaluation.made_up import set_aside
    from api.evaluation.protocols import by_count, by_roles, drawn_galleries, fixed_gallery
    from api.evaluation.recordings import require_files
    from api.evaluation.tables import identification_tables
    from search.bootstrap import Resampling
    from search.normalization import MIN_COHORT

    require_report(asked.report)
    recordings = asked.recordings(manifest)
    if enroll_per_speaker is None:
        protocol = by_roles(recordings)
    else:
        protocol = by_count(recordings, set(enroll_sets.split(",")) if enroll_sets else None, enroll_per_speaker)
    crowd = None
    if made_up:
        if asked.as_norm:
            raise InvalidRequest("--made-up and --as-norm: made-up voices are no cohort; give one of them")
        protocol, crowd = set_aside(protocol, made_up, asked.seed)
    if gallery_sizes is None:
        galleries = [[fixed_gallery(protocol)]]
    else:
        galleries = [list(drawn_galleries(protocol, size, gallery_draws, asked.seed)) for size in _sizes(gallery_sizes)]
    for drawn in galleries:
        drawn[0].require_both()  # Before everything is embedded for nothing; other draws have the same probes.
    files = require_files(asked.audio_root or manifest.parent, (recording.path for recording in recordings))
    with open_workbench(asked) as bench:
        maker = asked.copy_maker(bench)
        systems = bench.systems(bench.hear(files, maker))
        least_speech_s = 0.0 if override_gates else bench.least_speech_s
    names = ("", *(maker.conditions if maker else ()))
    labels = [recording.speaker or recording.path for recording in recordings] * len(names)
    places = [(name, number * len(recordings)) for number, name in enumerate(names)]
    resampling = Resampling(draws=asked.bootstrap, seed=asked.seed)
    scored = [
        (system, drawn, condition)
        for drawn in galleries
        for condition in places
        for system in systems
        if not system.as_norm or drawn[0].size >= MIN_COHORT
    ]
    figures = []
    with waiting("scoring", total=len(scored), quiet=asked.as_json) as advance:
        for system, drawn, condition in scored:
            figures.append(
                evaluate_identification(system, protocol, drawn, labels, resampling, least_speech_s, condition, crowd)
            )
            advance()
    if asked.as_norm and any(drawn[0].size < MIN_COHORT for drawn in galleries):
        print_notice(f"no normalized scores in galleries of fewer than {MIN_COHORT} speakers: they are no cohort")
    if asked.as_json:
        print_json(
            {"seed": asked.seed, "bootstrap": asked.bootstrap, "least_speech_s": least_speech_s, "systems": figures}
        )
    else:
        scorings = {one.system: one.scoring for one in figures}
        print_tables(identification_tables(figures), [f"{system}: {scoring}" for system, scoring in scorings.items()])
    if asked.report is not None:
        from api.evaluation.pages import identification_page

        save_report(asked.report, partial(identification_page, figures), quiet=asked.as_json)


def _sizes(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise InvalidRequest(f"--gallery-sizes {text!r}: give numbers with commas between, as in 50,200") from error


@evaluate.command("diarization")
@takes(Asked)
def diarization(
    reference: Annotated[
        Path, typer.Argument(help="RTTM file, or a folder of them.", show_default=False, readable=False)
    ],
    speech: Annotated[
        Speech, typer.Option("--speech", help="given: the reference tells where anybody speaks; auto: it is found.")
    ] = Speech.auto,
    speakers: Annotated[
        SpeakerCount, typer.Option("--speakers", help="known: the reference tells how many speak; auto: it is found.")
    ] = SpeakerCount.auto,
    collar_s: Annotated[
        float,
        typer.Option("--collar-s", help="Seconds on either side of a true boundary that are not scored.", min=0, max=5),
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Leave out where several people speak at once.")
    ] = False,
    *,
    asked: Asked,
) -> None:
    """Measure the diarization error rate with its parts, and how often the number of voices is right."""
    from api.cli.progress import work_progress
    from api.evaluation.diarization import Conditions, evaluate_diarization, find_references
    from api.evaluation.pages import conditions_text, diarization_page
    from api.evaluation.tables import diarization_tables
    from indexer.audio.speech_files import read_speech_files
    from search.bootstrap import Resampling

    require_report(asked.report)
    root = asked.audio_root or (reference if reference.is_dir() else reference.parent)
    references = find_references(read_speech_files(reference), root)
    conditions = Conditions(speech is Speech.given, speakers is SpeakerCount.known, collar_s, skip_overlap)
    with open_workbench(asked) as bench:
        figures = []
        for one in bench.encoders:
            with work_progress(one.name, len(references), quiet=asked.as_json) as advance:
                figures.append(
                    evaluate_diarization(
                        references,
                        one,
                        bench.listening,
                        conditions,
                        bench.settings.audio,
                        Resampling(draws=asked.bootstrap, seed=asked.seed),
                        advance,
                    )
                )
    if asked.as_json:
        print_json({"seed": asked.seed, "bootstrap": asked.bootstrap, "systems": figures})
    else:
        print_tables(diarization_tables(figures), [conditions_text(figures[0], len(references))])
    if asked.report is not None:
        save_report(asked.report, partial(diarization_page, figures, len(references)), quiet=asked.as_json)


@evaluate.command("copies")
def copies(
    manifest: Annotated[Path, typer.Argument(help="CSV with path and speaker.", show_default=False, readable=False)],
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions",
            help="noise10, noise5 (dB), reverb, telephone, crop2s, with commas between.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", readable=False, help="New folder for WAV files.", show_default=False)
    ],
    noise: Noise = None,
    rir: Rir = None,
    audio_root: AudioRoot = None,
    sets: Sets = None,
    seed: Seed = 20260101,
    as_json: options.Json = False,
) -> None:
    """Write the copies that `--conditions` measures, with a manifest of them: to listen to, or to calibrate with."""
    from api.cli.progress import work_progress
    from api.evaluation.copies import CopyMaker
    from api.evaluation.recordings import require_files, write_copies
    from indexer.settings import load_settings

    recordings = read_recordings(manifest, sets, None)
    files = require_files(audio_root or manifest.parent, (recording.path for recording in recordings))
    names = [name.strip() for name in conditions.split(",")]
    maker = CopyMaker(names, noise_folder=noise, rir_folder=rir, seed=seed, limits=load_settings().audio)
    with work_progress("copies", len(names) * len(files), quiet=as_json) as advance:
        listed, refused = write_copies(output, recordings, files, maker, advance)
    if as_json:
        print_json({"manifest": listed, "seed": seed, "refused": refused})
    else:
        print_line(f"{len(names) * len(files) - len(refused)} copies, listed in {listed}")
        for problem in refused:
            print_notice(f"left out: {problem}")
