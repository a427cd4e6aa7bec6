"""`voxdex bench index`: what the vector index finds, how fast, and at what cost, at several sizes and beside peers."""

import datetime as dt
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from api.bench.advantages import advantages
from api.bench.apart import run_apart
from api.bench.machine import describe_commit, describe_machine, describe_versions
from api.bench.timing import seconds_of
from api.bench.trial import Trial, prepare
from api.bench.vector_sets import VectorSet
from indexer.errors import Unavailable, VoxdexError, one_line

FEWER_ABOVE = 2_000_000
"""Vectors above which fewer probes are compared exhaustively, for that takes as long as all the rest."""

FEW_PROBES = 200


@dataclass(frozen=True)
class Wanted:
    """What is to be measured."""

    sizes: tuple[int, ...]
    engine: str
    seed: int
    probes: int
    """Probes of each kind."""
    budget_s: float = 8.0
    """Time given to each comparison of times."""
    peers: tuple[str, ...] = ()
    peers_up_to: int = 1_000_000
    """Vectors above which no peer is built: graphs take hours there."""
    peer_limit_s: float = 900.0
    enrolled: int = 0
    """Enrolled vectors of the comparison with identification; 0: none."""
    device: str = "cuda"
    """Where engine faiss-gpu scans."""
    device_vectors: tuple[int, ...] = ()
    """Sizes at which the scan of that device is measured alone."""


@dataclass
class IndexReport:
    """Everything that was measured, with what is needed to repeat it."""

    taken_at: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    seed: int
    set: str
    set_is: str
    engine: str
    probes: int
    sizes: list[dict[str, Any]] = field(default_factory=list)
    """By rising number of vectors: `vectors`, `build`, `search`, and `problem` where it failed."""
    peers: list[dict[str, Any]] = field(default_factory=list)
    """`vectors`, `name`, `version`, `build_s`, `memory_bytes`, `answers`; or `problem`."""
    """Each answer says under `wins` at what it beats the index."""
    enrolled: dict[str, Any] | None = None
    device: list[dict[str, Any]] = field(default_factory=list)
    """By rising number of vectors: `vectors`, and figures of `device_scan`; or `problem`."""


def run_index_bench(
    wanted: Wanted, source: VectorSet, folder: Path | None, *, say: Callable[[str], None]
) -> IndexReport:
    """Measure everything that is wanted; what fails is told in the report and ends nothing else.

    Parameters
    ----------
    folder
        Where vectors and indexes are put while they are needed; None: the system's folder for temporary files.
    say
        Hears what is done next.
    """
    report = IndexReport(
        taken_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        commit=describe_commit(),
        machine=describe_machine(),
        versions=describe_versions(),
        seed=wanted.seed,
        set=source.name,
        set_is=source.describe(),
        engine=wanted.engine,
        probes=wanted.probes,
    )
    for count in sorted(wanted.sizes):
        with tempfile.TemporaryDirectory(prefix="voxdex-bench-", dir=folder) as place:
            report.sizes.append(_measure(wanted, source, Path(place), count, report.peers, say))
    for count in sorted(wanted.device_vectors):
        say(f"{count:,} float16 vectors on {wanted.device}")
        scan = partial(
            run_apart, "device_scan", count=count, device=wanted.device, seed=wanted.seed, budget_s=wanted.budget_s
        )
        report.device.append({"vectors": count, **_attempt(scan)})
    if wanted.enrolled:
        say(f"identification among {wanted.enrolled:,} enrolled vectors")
        with tempfile.TemporaryDirectory(prefix="voxdex-bench-", dir=folder) as place:
            report.enrolled = _attempt(
                partial(
                    run_apart,
                    "enrolled",
                    folder=place,
                    count=wanted.enrolled,
                    seed=wanted.seed,
                    budget_s=wanted.budget_s,
                )
            )
    return report


def _measure(
    wanted: Wanted,
    source: VectorSet,
    place: Path,
    count: int,
    peers: list[dict[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    size: dict[str, Any] = {
        "vectors": count,
        "probes": min(wanted.probes, FEW_PROBES) if count > FEWER_ABOVE else wanted.probes,
    }
    made: list[Trial] = []
    try:
        say(f"{count:,} vectors: writing them, and what an exhaustive search finds")
        size["prepare_s"] = seconds_of(
            lambda: made.append(prepare(source, place, count, wanted.seed, probes=size["probes"]))
        )
        trial = made[0].as_arguments()
        say(f"{count:,} vectors: building the index")
        size["build"] = run_apart("build", trial=trial, engine=wanted.engine, device=wanted.device)
        say(f"{count:,} vectors: searching it in a new process")
        size["search"] = run_apart(
            "search", trial=trial, engine=wanted.engine, device=wanted.device, budget_s=wanted.budget_s
        )
    except VoxdexError as error:
        size["problem"] = one_line(error)
    shutil.rmtree(place / "home", ignore_errors=True)
    if not made:
        return size
    for name in wanted.peers:
        entry: dict[str, Any] = {"vectors": count, "name": name}
        if count > wanted.peers_up_to:
            entry["problem"] = f"not built above {wanted.peers_up_to:,} vectors"
        else:
            say(f"{count:,} vectors: {name}")
            entry |= _attempt(
                partial(
                    run_apart,
                    "peer",
                    limit_s=wanted.peer_limit_s,
                    trial=made[0].as_arguments(),
                    name=name,
                    budget_s=wanted.budget_s,
                )
            )
        if "problem" not in size:
            for answer in entry.get("answers", ()):
                answer["wins"] = advantages(size, entry, answer)
        peers.append(entry)
    return size


def _attempt(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return measure()
    except Unavailable as error:
        return {"problem": one_line(error)}
