"""The figures of `voxdex bench index` as tables: what was asked of the index, how figures grow, peers beside it."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from api.bench.enrolled_report import MIB, judged_enrolled, print_enrolled
from api.bench.index_bench import IndexReport
from api.bench.trial import KINDS
from api.cli.output import print_line, print_table

MILLION = 1_000_000


@dataclass(frozen=True)
class Figure:
    """One line of the table over sizes."""

    label: str
    read: Callable[[dict[str, Any]], float]
    form: str = "{:.3f}"
    grows: bool = True
    """Whether how it grows with the number of vectors means anything."""


def _ms(*path: str) -> Callable[[dict[str, Any]], float]:
    return lambda size: 1000 * float(_at(size, path))


def _mib(*path: str) -> Callable[[dict[str, Any]], float]:
    return lambda size: float(_at(size, path)) / MIB


def _plain(*path: str) -> Callable[[dict[str, Any]], float]:
    return lambda size: float(_at(size, path))


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


def _filtered(share: float, *path: str, times: float = 1.0) -> Callable[[dict[str, Any]], float]:
    def read(size: dict[str, Any]) -> float:
        (found,) = (entry for entry in size["search"]["filters"] if entry["share"] == share)
        return times * float(_at(found, path))

    return read


FIGURES = (
    Figure("recall@10, known voices", _plain("search", "recall", "known"), "{:.4f}", grows=False),
    Figure("recall@10, strangers", _plain("search", "recall", "strangers"), "{:.4f}", grows=False),
    Figure("largest error of a score", _plain("search", "largest_score_error"), "{:.1e}", grows=False),
    Figure("one query, known (ms)", _ms("search", "single_s", "known")),
    Figure("one query, stranger (ms)", _ms("search", "single_s", "strangers")),
    Figure("one query, FAISS flat (ms)", _ms("search", "flat_single_s")),
    Figure("times faster, known", _plain("search", "single_times_faster", "known"), "{:.1f}", grows=False),
    Figure("times faster, stranger", _plain("search", "single_times_faster", "strangers"), "{:.1f}", grows=False),
    Figure("batch of 256, known (ms/query)", _ms("search", "batch_s", "known")),
    Figure("batch of 256, strangers (ms/query)", _ms("search", "batch_s", "strangers")),
    Figure("batch of 256, FAISS flat (ms/query)", _ms("search", "flat_batch_s")),
    Figure("times faster in batches, known", _plain("search", "batch_times_faster", "known"), "{:.1f}", grows=False),
    Figure(
        "times faster in batches, strangers", _plain("search", "batch_times_faster", "strangers"), "{:.1f}", grows=False
    ),
    Figure("vectors added a second, trained", _plain("build", "adds_per_s"), "{:,.0f}", grows=False),
    Figure("build, all of it (s)", _plain("build", "build_s"), "{:.1f}"),
    Figure("snapshot written (s)", _plain("build", "snapshot_s"), "{:.2f}"),
    Figure("snapshot (MiB)", _mib("build", "snapshot_bytes"), "{:,.0f}"),
    Figure("load to first answer (s)", _plain("search", "ready_s"), "{:.2f}"),
    Figure("resident, loaded, without mapped files (MiB)", _mib("search", "memory_bytes"), "{:,.0f}"),
    Figure("resident, most while building (MiB)", _mib("build", "memory_peak_bytes"), "{:,.0f}"),
    *(
        figure
        for share in (0.01, 0.10, 0.50)
        for figure in (
            Figure(
                f"recall@10, filter keeps {100 * share:g} %, known",
                _filtered(share, "recall", "known"),
                "{:.4f}",
                grows=False,
            ),
            Figure(
                f"recall@10, filter keeps {100 * share:g} %, strangers",
                _filtered(share, "recall", "strangers"),
                "{:.4f}",
                grows=False,
            ),
            Figure(
                f"first query of a filter that keeps {100 * share:g} % (ms)", _filtered(share, "first_s", times=1000)
            ),
            Figure(
                f"one query, filter keeps {100 * share:g} % (ms)", _filtered(share, "single_s", "known", times=1000)
            ),
        )
    ),
    Figure("removed a second", _plain("search", "deleted", "removes_per_s"), "{:,.0f}", grows=False),
    Figure(
        "recall@10 after 30 % deleted, known",
        _plain("search", "deleted", "at_once", "recall", "known"),
        "{:.4f}",
        grows=False,
    ),
    Figure(
        "recall@10 after 30 % deleted, strangers",
        _plain("search", "deleted", "at_once", "recall", "strangers"),
        "{:.4f}",
        grows=False,
    ),
    Figure("one query after 30 % deleted, known (ms)", _ms("search", "deleted", "at_once", "single_s", "known")),
    Figure("one query after that, settled, known (ms)", _ms("search", "deleted", "settled", "single_s", "known")),
)


@dataclass(frozen=True)
class Target:
    """What the index must reach at one size."""

    vectors: int
    label: str
    read: Callable[[dict[str, Any]], float]
    limit: float
    at_least: bool
    form: str = "{:.4g}"


TARGETS = (
    Target(MILLION, "recall@10, known voices", _plain("search", "recall", "known"), 0.999, True),
    Target(MILLION, "recall@10, strangers", _plain("search", "recall", "strangers"), 0.999, True),
    Target(
        MILLION, "one query, times faster than flat, known", _plain("search", "single_times_faster", "known"), 30, True
    ),
    Target(
        MILLION,
        "one query, times faster than flat, stranger",
        _plain("search", "single_times_faster", "strangers"),
        30,
        True,
    ),
    Target(
        MILLION,
        "batch of 256, times faster than flat, known",
        _plain("search", "batch_times_faster", "known"),
        15,
        True,
    ),
    Target(
        MILLION,
        "batch of 256, times faster than flat, strangers",
        _plain("search", "batch_times_faster", "strangers"),
        15,
        True,
    ),
    Target(MILLION, "vectors added a second, trained", _plain("build", "adds_per_s"), 150_000, True, "{:,.0f}"),
    Target(
        MILLION, "resident without mapped files (MB)", lambda size: size["search"]["memory_bytes"] / 1e6, 150, False
    ),
    Target(10 * MILLION, "recall@10, known voices", _plain("search", "recall", "known"), 0.995, True),
    Target(10 * MILLION, "recall@10, strangers", _plain("search", "recall", "strangers"), 0.995, True),
    Target(10 * MILLION, "load to first answer (s)", _plain("search", "ready_s"), 10, False),
)


def judged(report: IndexReport) -> Iterator[dict[str, Any]]:
    """Yield what was asked of the index at the sizes that were measured, and whether it was reached."""
    for target in TARGETS:
        for size in report.sizes:
            if size["vectors"] == target.vectors and "problem" not in size:
                value = target.read(size)
                met = value >= target.limit if target.at_least else value <= target.limit
                yield {
                    "vectors": target.vectors,
                    "what": target.label,
                    "asked": f"{'>=' if target.at_least else '<='} {target.form.format(target.limit)}",
                    "measured": target.form.format(value),
                    "met": met,
                }
    if report.enrolled is not None and "problem" not in report.enrolled:
        yield from judged_enrolled(report.enrolled)


def growth(report: IndexReport) -> list[dict[str, Any]]:
    """Say by which power of the number of vectors each figure grew from one size to the next."""
    whole = [size for size in report.sizes if "problem" not in size]
    found = []
    for figure in FIGURES:
        if not figure.grows or len(whole) < 2:
            continue
        powers = []
        for smaller, larger in itertools.pairwise(whole):
            low, high = figure.read(smaller), figure.read(larger)
            times = larger["vectors"] / smaller["vectors"]
            powers.append(round(math.log(high / low, times), 2) if low > 0 and high > 0 and times > 1 else None)
        found.append({"figure": figure.label, "powers": powers})
    return found


def print_report(report: IndexReport) -> None:
    """Print the figures."""
    print_line(", ".join(f"{key} {value}" for key, value in report.machine.items()))
    print_line(", ".join(f"{key} {value}" for key, value in report.versions.items()))
    print_line(f"commit {report.commit}, {report.taken_at}, seed {report.seed}, engine {report.engine}")
    print_line(f"{report.set} vectors: {report.set_is}; {report.probes} probes of each kind")
    for size in report.sizes:
        if "problem" in size:
            print_line(f"{size['vectors']:,} vectors: {size['problem']}")
    _print_sizes(report)
    if verdicts := list(judged(report)):
        print_table(
            ["vectors", "what", "asked", "measured", "met"],
            [
                [f"{v['vectors']:,}", v["what"], v["asked"], v["measured"], "yes" if v["met"] else "NO"]
                for v in verdicts
            ],
            title="asked and measured",
        )
    if report.enrolled is not None:
        print_enrolled(report.enrolled)
    if report.device:
        _print_device(report.device)
    if report.peers:
        _print_peers(report)


def _print_sizes(report: IndexReport) -> None:
    whole = [size for size in report.sizes if "problem" not in size]
    if not whole:
        return
    powers = {entry["figure"]: entry["powers"] for entry in growth(report)}
    rows = []
    for figure in FIGURES:
        values = [figure.form.format(figure.read(size)) for size in whole]
        grows = ["" if power is None else f"n^{power:.2f}" for power in powers.get(figure.label, [])]
        rows.append([figure.label, *values, " ".join(grows)])
    print_table(["", *(f"{size['vectors']:,}" for size in whole), "grows as"], rows, title="the index by size")
    for size in whole:
        details = ", ".join(f"{key} {value}" for key, value in size["search"]["details"].items())
        print_line(f"{size['vectors']:,}: {size['search']['kind']}; {details}")


def _print_device(measured: list[dict[str, Any]]) -> None:
    rows: list[list[Any]] = []
    for entry in measured:
        if "problem" in entry:
            rows.append([f"{entry['vectors']:,}", entry["problem"], *[""] * 7])
            continue
        rows += [
            [
                f"{entry['vectors']:,}",
                entry["device"],
                f"{entry['device_bytes'] / MIB:,.0f}",
                f"{entry['filled_s']:.1f}",
                f"{entry['recall']:.4f}",
                batch["batch"],
                f"{batch['queries_per_s']:,.1f}",
                f"{batch['limit_queries_per_s']:,.1f}",
                f"{batch['share_of_limit']:.0%}",
            ]
            for batch in entry["batches"]
        ]
    print_table(
        [
            "vectors",
            "device",
            "on it (MiB)",
            "filled (s)",
            "recall",
            "batch",
            "queries/s",
            "limit of its memory",
            "share",
        ],
        rows,
        title="the scan alone, float16",
    )
    for entry in measured:
        if "problem" not in entry:
            print_line(
                f"{entry['vectors']:,}: the memory of the device copies {entry['copy_bytes_per_s'] / 1e9:,.1f} GB/s"
            )


def _print_peers(report: IndexReport) -> None:
    rows: list[list[Any]] = []
    for size in report.sizes:
        if "problem" in size:
            continue
        found, built = size["search"], size["build"]
        rows.append(
            _peer_row(
                size["vectors"],
                f"voxdex ({found['kind']})",
                {"recall": found["recall"], "single_s": found["single_s"], "batch_s": found["batch_s"]},
                built["build_s"],
                found["memory_bytes"],
            )
        )
        for entry in (entry for entry in report.peers if entry["vectors"] == size["vectors"]):
            if "problem" in entry:
                rows.append([f"{size['vectors']:,}", entry["name"], entry["problem"], *[""] * 8])
                continue
            for answer in entry["answers"]:
                name = f"{entry['name']} {entry['version']}".strip()
                name += f", {answer['effort']}" if answer["effort"] else ""
                rows.append(_peer_row(size["vectors"], name, answer, entry["build_s"], entry["memory_bytes"]))
    print_table(
        [
            "vectors",
            "engine, effort",
            "recall known",
            "strangers",
            "query known (ms)",
            "stranger",
            "in 256, known",
            "strangers",
            "build (s)",
            "resident (MiB)",
            "it wins at",
        ],
        rows,
        title="peers, the same vectors and probes",
    )


def _peer_row(vectors: int, name: str, answer: dict[str, Any], build_s: float, memory: int) -> list[Any]:
    return [
        f"{vectors:,}",
        name,
        *(f"{answer['recall'][kind]:.4f}" for kind in KINDS),
        *(f"{1000 * answer['single_s'][kind]:.2f}" for kind in KINDS),
        *(f"{1000 * answer['batch_s'][kind]:.3f}" for kind in KINDS),
        f"{build_s:.1f}",
        f"{memory / MIB:,.0f}",
        "; ".join(answer.get("wins", ())),
    ]
