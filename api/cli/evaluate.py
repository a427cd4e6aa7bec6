"""`voxdex evaluate`: error rates on recordings whose speakers are known."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import options
from api.cli.output import print_json, print_line, print_table
from indexer.errors import InvalidRequest

if TYPE_CHECKING:
    from api.evaluation.verification import SystemFigures
    from api.evaluation.workbench import Workbench
    from search.trials import LabeledRecording, TrialList

evaluate = typer.Typer(no_args_is_help=True, help="Measure error rates on recordings whose speakers are known.")

AudioRoot = Annotated[
    Path | None,
    typer.Option("--audio-root", readable=False, help="Folder below which paths are (default: the list's own)."),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="Encoder's name; give it several times to put them side by side."),
]
Fusion = Annotated[bool, typer.Option("--fusion", help="Two encoders' scores joined, as one more system.")]
Baseline = Annotated[
    bool, typer.Option("--baseline", help="The default encoder's plain cosine of whole files, as one more system.")
]
Calibrations = Annotated[
    list[Path] | None,
    typer.Option("--calibration", readable=False, help="Calibration to use instead of the one that comes along."),
]
Uncalibrated = Annotated[bool, typer.Option("--uncalibrated", help="Leave calibrated systems out.")]
Sets = Annotated[
    str | None, typer.Option("--sets", help="Only recordings of these sets, with commas between.", show_default=False)
]
Part = Annotated[
    str | None,
    typer.Option("--part", help="Only a part of the speakers, as 1/2; the other half is 2/2.", show_default=False),
]
Draws = Annotated[
    int, typer.Option("--bootstrap", help="Resamples of the speakers for 95 % intervals; 0: none.", min=0, max=10_000)
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn.", min=0)]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Hear every recording again, and remember none.")]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        readable=False,
        help="Folder for plots (PNG) and one self-contained page (HTML).",
        show_default=False,
    ),
]


class Pairs(Enum):
    """Which pairs of a manifest are trials."""

    all = "all"
    sessions = "sessions"


class Within(Enum):
    """Between which recordings pairs are made."""

    set = "set"
    all = "all"


@evaluate.command("verification")
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
    audio_root: AudioRoot = None,
    encoder: Encoders = None,
    fusion: Fusion = False,
    baseline: Baseline = False,
    calibration: Calibrations = None,
    uncalibrated: Uncalibrated = False,
    sets: Sets = None,
    part: Part = None,
    bootstrap: Draws = 200,
    seed: Seed = 20260101,
    no_cache: NoCache = False,
    report: Report = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Measure EER, detection costs and Cllr on pairs of recordings, overall, by set and by net speech."""
    from api.evaluation.recordings import require_files
    from api.evaluation.verification import evaluate_verification, slices_of
    from search.bootstrap import Resampling
    from search.trials import all_pairs, read_trials

    if (trials is None) == (manifest is None):
        raise InvalidRequest("give either a trial list, or --manifest and the pairs that are made of it")
    if trials is not None:
        listed = read_trials(trials)
    else:
        assert manifest is not None
        listed = all_pairs(
            _recordings(manifest, sets, part), within=within.value, across_sessions=pairs is Pairs.sessions
        )
    root = audio_root or (trials or manifest or Path()).parent
    files = require_files(root, (recording.path for recording in listed.recordings))
    with _workbench(encoder, fusion, baseline, calibration, uncalibrated, no_cache, home, quiet=as_json) as bench:
        heard = bench.hear(files)
        systems = bench.systems(heard)
    resampling = Resampling(draws=bootstrap, seed=seed)
    slices = slices_of(listed, systems[-1].net_speech_s)
    figures = [evaluate_verification(system, listed, system.score(listed), slices, resampling) for system in systems]
    if as_json:
        print_json({"trials": len(listed), "seed": seed, "bootstrap": bootstrap, "systems": figures})
    else:
        _print_verification(listed, figures)


def _print_verification(trials: "TrialList", systems: "list[SystemFigures]") -> None:
    rows: list[list[Any]] = []
    for first in systems[0].slices:
        for system in systems:
            one = next((one for one in system.slices if (one.by, one.name) == (first.by, first.name)), None)
            if one is None:
                continue
            figures = one.figures
            rows.append(
                [
                    (first.name if first.by != "net speech" else f"speech {first.name}")
                    if system is systems[0]
                    else "",
                    system.system,
                    f"{one.targets}/{one.nontargets}",
                    one.refused_targets + one.refused_nontargets,
                    _percent(figures.get("eer")),
                    *(
                        _decimal(figures.get(name))
                        for name in ("min_dcf_0.01", "act_dcf_0.01", "min_dcf_0.001", "cllr", "min_cllr")
                    ),
                ]
            )
    print_table(
        ["trials", "system", "tar/non", "refused", "EER %", "minDCF .01", "actDCF .01", "minDCF .001", "Cllr", "min"],
        rows,
    )
    for system in systems:
        print_line(f"{system.system}: {system.scoring}")


def _percent(estimate: Any) -> str:
    if estimate is None:
        return ""
    if estimate.low is None:
        return f"{100 * estimate.value:.2f}"
    return f"{100 * estimate.value:.2f} ({100 * estimate.low:.2f}-{100 * estimate.high:.2f})"


def _decimal(estimate: Any) -> str:
    return "" if estimate is None else f"{estimate.value:.3f}"


def _recordings(manifest: Path, sets: str | None, part: str | None) -> "list[LabeledRecording]":
    from search.trials import part_of, read_manifest

    recordings = read_manifest(manifest)
    if sets is not None:
        names = {name.strip() for name in sets.split(",")}
        if unknown := names - {recording.set for recording in recordings}:
            known = ", ".join(sorted({recording.set for recording in recordings}))
            raise InvalidRequest(f"--sets {', '.join(sorted(unknown))}: the manifest has {known}")
        recordings = [recording for recording in recordings if recording.set in names]
    if part is not None:
        first, _, second = part.partition("/")
        if not (first.isdecimal() and second.isdecimal()):
            raise InvalidRequest(f"--part {part!r}: give it as 1/2")
        recordings = part_of(recordings, int(first), int(second))
    return recordings


@contextmanager
def _workbench(
    encoders: list[str] | None,
    fusion: bool,
    baseline: bool,
    calibrations: list[Path] | None,
    uncalibrated: bool,
    no_cache: bool,
    home: Path | None,
    *,
    quiet: bool,
) -> "Iterator[Workbench]":
    from api.cli.progress import work_progress
    from api.dependencies import open_services
    from api.evaluation.cache import HeardCache
    from api.evaluation.workbench import Wanted, Workbench
    from search.calibration import read_calibration

    wanted = Wanted(
        encoders=tuple(encoders or ()),
        fusion=fusion,
        baseline=baseline,
        calibrations=tuple(map(read_calibration, calibrations or ())),
        calibrated=not uncalibrated,
    )
    with open_services(home=home) as services:
        opened = nullcontext() if no_cache else closing(HeardCache(services.settings.cache / "evaluation"))
        with opened as cache:
            yield Workbench(
                wanted,
                services.settings,
                lambda name: services.encoders.load(name)[0],
                cache=cache,
                progress=lambda label, total: work_progress(label, total, quiet=quiet),
            )
