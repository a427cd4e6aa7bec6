"""How fast the encoder is by engine, precision, batch and length, beside peers and beside the machine's own limit."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from api.bench.arithmetic import BFLOAT16, BYTES, FLOAT32, Limit, gflop_per_audio_s, limit_of, matrix_rates
from api.bench.beginnings import beginnings
from api.bench.encoder_apart import EXACT, FAST, IN_BFLOAT16, PUBLISHED, EngineApart
from api.bench.machine import Measured
from api.cli.output import counted, print_line, print_table
from indexer.errors import InvalidRequest, Unavailable
from indexer.types import SAMPLE_RATE_HZ, Waveform

if TYPE_CHECKING:
    from api.dependencies import Services

_SEED = 20260101
_LEAST_TURNS = 3


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine on utterances of one length.

    Attributes
    ----------
    times_real_time
        Seconds of audio by the median seconds of a pass over a batch, from waveforms to vectors.
    share_of_limit
        Of what the machine's own matrix rate in float32 allows, with as many threads, or in bfloat16 and in bytes for
        the products of which the engine multiplies such.
    least_cosine
        To the vectors of the network as it was published, in float32, over all utterances of this length.
    """

    engine: str
    precision: str
    utterance_s: float
    batch: int
    times_real_time: float
    share_of_limit: float
    least_cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport(Measured):
    """All rows of one run, with what is needed to repeat it.

    Attributes
    ----------
    gflop_per_audio_s, matrix_gflop_per_s
        See `Limit`; the work is that of our fastest engine.
    """

    encoder: str
    threads: int
    utterances: dict[str, int]
    gflop_per_audio_s: dict[str, float]
    matrix_gflop_per_s: dict[str, float]
    rows: list[EngineRow]
    missing: dict[str, str]


def run_engine_bench(
    services: "Services",
    *,
    encoder: str | None,
    speech: Sequence[Path],
    lengths_s: Sequence[float],
    batches: Sequence[int],
    utterances: int,
    peers: Sequence[str],
    budget_s: float,
) -> EngineReport:
    """Measure every engine in a process of its own and in turns, so that whatever else the machine does meets all.

    Parameters
    ----------
    speech
        Recordings whose beginnings are embedded; noise where there are none, which takes as long.
    utterances
        Most of them that cosines are compared on, but no fewer than the largest batch.
    budget_s
        Seconds given to each length and batch, all engines together.

    Raises
    ------
    InvalidRequest
        If there are recordings, but too few of them are long enough for a whole batch.
    """
    import torch

    from indexer.embedding.checkpoints import read_checkpoint
    from indexer.embedding.encoder import choose_device
    from indexer.embedding.engines import multiplies_bytes, runs_fast

    own = services.settings.embedding
    spec = services.registry.get(encoder or own.encoder)
    checkpoint = read_checkpoint(services.registry.pull(spec), spec.family, spec.front_end)
    cuts = {seconds: _utterances(services, speech, seconds, utterances, least=max(batches)) for seconds in lengths_s}
    threads = own.threads or torch.get_num_threads()
    device = choose_device(own.device)
    fast = runs_fast(checkpoint.network, device)
    names = [name for name in (PUBLISHED, EXACT, *IN_BFLOAT16) if fast or name not in IN_BFLOAT16]

    def work_of(name: str) -> dict[str, float]:
        return gflop_per_audio_s(checkpoint, _precision(name), in_bytes=name == FAST and multiplies_bytes(device))

    torch.set_num_threads(threads)  # so that the machine has as many for its own rate
    # What is not multiplied in hardware is emulated, at seconds a product, and bounds nothing.
    used = {kind for name in (*names, *peers) for kind in work_of(name)}
    rates = matrix_rates([kind for kind in (FLOAT32, BFLOAT16, BYTES) if kind in used], budget_s / 4)
    rows: list[EngineRow] = []
    missing = {
        name: "bfloat16 is not multiplied in hardware here, or this network has no engine in it: fast is exact"
        for name in IN_BFLOAT16
        if name not in names
    }
    with ExitStack() as running:
        engines: list[EngineApart] = []
        for name in (*names, *peers):
            try:
                engines.append(running.enter_context(EngineApart(name, services.settings, encoder, threads)))
            except Unavailable as error:
                missing[name] = str(error)
        limits = {one.name: limit_of([work_of(one.name)], rates) for one in engines}
        for seconds, cut in cuts.items():
            cosines = _least_cosines(engines, cut)
            for batch in batches:
                for engine in engines:
                    engine.take(cut[:batch])  # engines make what they need for a new length
                taken = _medians_s(engines, budget_s)
                for engine, elapsed_s, cosine in zip(engines, taken, cosines, strict=True):
                    speed = seconds * batch / elapsed_s
                    share = batch * limits[engine.name].least_s(seconds) / elapsed_s
                    precision = _precision(engine.name)
                    rows.append(EngineRow(engine.name, precision, seconds, batch, speed, share, cosine))
    return EngineReport(
        encoder=spec.name,
        threads=threads,
        utterances={f"{seconds:g} s": len(cut) for seconds, cut in cuts.items()},
        gflop_per_audio_s=limits[FAST if FAST in limits else EXACT].gflop_per_audio_s,
        matrix_gflop_per_s=rates,
        rows=rows,
        missing=missing,
    )


def _precision(engine: str) -> str:
    """Return what an engine multiplies in, by its name."""
    return BFLOAT16 if engine in IN_BFLOAT16 or "bfloat16" in engine else FLOAT32


def _medians_s(engines: Sequence[EngineApart], budget_s: float) -> list[float]:
    """Median seconds of a pass by engine, in turns: whatever else the machine does meets all of them."""
    taken: list[list[float]] = [[] for _ in engines]
    end = time.perf_counter() + budget_s
    turns = 0
    while turns < _LEAST_TURNS or time.perf_counter() < end:
        for engine, times in zip(engines, taken, strict=True):
            times += engine.turn()
        turns += 1
    return [statistics.median(times) for times in taken]


def _utterances(
    services: "Services", speech: Sequence[Path], seconds: float, most: int, *, least: int
) -> list[Waveform]:
    """Return utterances of one length: the beginnings of recordings, or noise."""
    samples = round(seconds * SAMPLE_RATE_HZ)
    if not speech:
        rng = np.random.default_rng(_SEED)
        return [rng.normal(0.0, 0.1, samples).clip(-1, 1).astype(np.float32) for _ in range(least)]
    found = list(islice(beginnings(speech, seconds, services.settings.audio), max(most, least)))
    if len(found) < least:
        raise InvalidRequest(
            f"{counted(len(found), 'recording')} of {seconds:g} s or more, and {least} are needed for a whole batch: "
            "give more of them, smaller --batches, shorter --lengths, or no recordings (noise takes as long)"
        )
    return found


def _least_cosines(engines: Sequence[EngineApart], utterances: Sequence[Waveform]) -> list[float]:
    """Least cosine of each to the first over all utterances, embedded one at a time."""
    vectors = []
    for engine in engines:
        raw = engine.embed(utterances).astype(np.float64)
        vectors.append(raw / np.linalg.norm(raw, axis=1, keepdims=True))
    return [float((vectors[0] * own).sum(axis=1).min()) for own in vectors]


def print_engine_bench(report: EngineReport) -> None:
    """Print the figures, and what each precision gains on each peer."""
    print_line(report.heading)
    print_line(f"encoder {report.encoder}, {counted(report.threads, 'thread')}")
    print_line(
        f"{Limit(report.gflop_per_audio_s, report.matrix_gflop_per_s)}; least cosines over "
        + ", ".join(f"{counted(count, 'utterance')} of {length}" for length, count in report.utterances.items())
    )
    for name, why in report.missing.items():
        print_line(f"{name}: {why}")
    cases = list(dict.fromkeys((row.utterance_s, row.batch) for row in report.rows))
    for seconds, batch in cases:
        rows = [row for row in report.rows if (row.utterance_s, row.batch) == (seconds, batch)]
        ours = [row for row in rows if row.engine.startswith("voxdex")]
        print_line(f"\n{seconds:g} s, batches of {batch}")
        print_table(
            ["engine", "times real time", "share of limit", "least cosine", *(f"{row.engine} is" for row in ours)],
            [
                [
                    row.engine,
                    f"{row.times_real_time:.1f}",
                    f"{row.share_of_limit:.0%}",
                    f"{row.least_cosine:.6f}",
                    *(f"{own.times_real_time / row.times_real_time:.2f} x" for own in ours),
                ]
                for row in rows
            ],
        )
