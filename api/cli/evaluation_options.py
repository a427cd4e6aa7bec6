"""Options that the commands of `voxdex evaluate` share, and what they mean."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import options
from api.cli.files import check_folder
from api.cli.output import print_line, print_notice, print_table
from indexer.errors import InvalidRequest

if TYPE_CHECKING:
    from api.evaluation.copies import CopyMaker
    from api.evaluation.html_report import Page, Table
    from api.evaluation.workbench import Wanted, Workbench
    from search.trials import LabeledRecording

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
AsNorm = Annotated[
    bool,
    typer.Option(
        "--as-norm", help="Scores normalized by other enrolled speakers as well: turn that on only where it helps."
    ),
]
Uncalibrated = Annotated[bool, typer.Option("--uncalibrated", help="Leave calibrated systems out.")]
Sets = Annotated[
    str | None, typer.Option("--sets", help="Only recordings of these sets, with commas between.", show_default=False)
]
Without = Annotated[
    str | None,
    typer.Option(
        "--without", help="Leave these speakers out, with commas between: labels known to be wrong.", show_default=False
    ),
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


ConditionNames = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        help="Measure copies of the probes too: noise10, noise5 (dB), reverb, telephone, crop2s, with commas between.",
        show_default=False,
    ),
]
Noise = Annotated[
    Path | None,
    typer.Option("--noise", readable=False, help="Folder of background sounds for copies.", show_default=False),
]
Rir = Annotated[
    Path | None,
    typer.Option("--rir", readable=False, help="Folder of room impulse responses for copies.", show_default=False),
]


class Pairs(Enum):
    """Which pairs of a manifest are trials."""

    all = "all"
    sessions = "sessions"


class Within(Enum):
    """Between which recordings pairs are made."""

    set = "set"
    all = "all"


class Speech(Enum):
    """Where speech is known from."""

    given = "given"
    auto = "auto"


class SpeakerCount(Enum):
    """Where the number of speakers is known from."""

    known = "known"
    auto = "auto"


@dataclass(frozen=True)
class Asked:
    """What every evaluation may be asked for; each field is an option of the commands that take it."""

    audio_root: AudioRoot = None
    encoder: Encoders = None
    bootstrap: Draws = 200
    seed: Seed = 20260101
    no_cache: NoCache = False
    report: Report = None
    home: options.Home = None
    as_json: options.Json = False

    def wanted(self) -> "Wanted":
        """Return what is put side by side."""
        from api.evaluation.workbench import Wanted

        return Wanted(encoders=tuple(self.encoder or ()), calibrated=False)


@dataclass(frozen=True)
class ScoresAsked(Asked):
    """What evaluations of scores may be asked for as well."""

    fusion: Fusion = False
    baseline: Baseline = False
    calibration: Calibrations = None
    uncalibrated: Uncalibrated = False
    as_norm: AsNorm = False
    sets: Sets = None
    part: Part = None
    without: Without = None
    conditions: ConditionNames = None
    noise: Noise = None
    rir: Rir = None

    def wanted(self) -> "Wanted":
        """Return what is put side by side."""
        from api.evaluation.workbench import Wanted
        from search.calibration import read_calibration

        return Wanted(
            encoders=tuple(self.encoder or ()),
            fusion=self.fusion,
            baseline=self.baseline,
            calibrations=tuple(map(read_calibration, self.calibration or ())),
            calibrated=not self.uncalibrated,
            as_norm=self.as_norm,
        )

    def recordings(self, manifest: Path) -> "list[LabeledRecording]":
        """Read a manifest, as far as it is asked for."""
        return read_recordings(manifest, self.sets, self.part, self.without)

    def copy_maker(self, bench: "Workbench") -> "CopyMaker | None":
        """Return what makes the copies that are asked for; None where none are."""
        from api.evaluation.copies import CopyMaker

        if self.conditions is None:
            return None
        names = [name.strip() for name in self.conditions.split(",")]
        limits = bench.settings.audio
        return CopyMaker(names, noise_folder=self.noise, rir_folder=self.rir, seed=self.seed, limits=limits)


def print_tables(tables: "Sequence[Table]", notes: "Sequence[str]") -> None:
    """Print tables, and what is to be said of them."""
    for table in tables:
        print_table(table.columns, table.rows, title=table.caption)
    for note in notes:
        print_line(note)


def require_report(folder: Path | None) -> None:
    """Refuse a folder for a report that cannot be made, before any work is done."""
    if folder is not None:
        check_folder(folder)


def save_report(folder: Path, drawn: "Callable[[], Page]", *, quiet: bool) -> None:
    """Draw a report and write it, and say where."""
    from api.cli.progress import waiting
    from api.evaluation.html_report import write_report

    with waiting("drawing the report", quiet=quiet):
        written = write_report(folder, drawn())
    print_notice(f"report: {written}")


def read_recordings(
    manifest: Path, sets: str | None, part: str | None, without: str | None = None
) -> "list[LabeledRecording]":
    """Read a manifest, as far as it is asked for."""
    from search.trials import part_of, read_manifest

    recordings = read_manifest(manifest)
    if sets is not None:
        names = {name.strip() for name in sets.split(",")}
        if unknown := names - {recording.set for recording in recordings}:
            known = ", ".join(sorted({recording.set for recording in recordings}))
            raise InvalidRequest(f"--sets {', '.join(sorted(unknown))}: the manifest has {known}")
        recordings = [recording for recording in recordings if recording.set in names]
    if without is not None:
        left_out = {name.strip() for name in without.split(",")}
        if unknown := left_out - {recording.speaker for recording in recordings}:
            raise InvalidRequest(f"--without {', '.join(sorted(unknown))}: no such speaker among the recordings")
        recordings = [recording for recording in recordings if recording.speaker not in left_out]
    if part is not None:
        first, _, second = part.partition("/")
        if not (first.isdecimal() and second.isdecimal()):
            raise InvalidRequest(f"--part {part!r}: give it as 1/2")
        recordings = part_of(recordings, int(first), int(second))
    return recordings


@contextmanager
def open_workbench(asked: Asked) -> "Iterator[Workbench]":
    """Open what evaluates; what it opens is closed behind it."""
    from api.cli.progress import waiting, work_progress
    from api.dependencies import open_services
    from api.evaluation.cache import HeardCache
    from api.evaluation.workbench import Workbench

    quiet, wanted = asked.as_json, asked.wanted()
    with open_services(home=asked.home) as services:
        opened = nullcontext() if asked.no_cache else closing(HeardCache(services.settings.cache / "evaluation"))
        with opened as cache:
            with waiting("loading", quiet=quiet):
                bench = Workbench(
                    wanted,
                    services.settings,
                    lambda name: services.encoders.load(name)[0],
                    cache=cache,
                    progress=lambda label, total: work_progress(label, total, quiet=quiet),
                )
            yield bench
