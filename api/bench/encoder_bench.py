"""How fast this machine embeds, beside what its own arithmetic allows."""

import platform
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from api.bench.arithmetic import gflop_per_audio_s, matrix_gflop_per_s
from api.bench.timing import median_s
from api.cli.output import print_line, print_table
from indexer.types import SAMPLE_RATE_HZ, precision_of

if TYPE_CHECKING:
    from api.dependencies import Services

_SEED = 20260101


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One measurement of the encoder; times are medians."""

    utterance_s: float
    batch: int
    times_real_time: float
    share_of_matrix_rate: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured, with what is needed to repeat it."""

    machine: dict[str, str]
    seed: int
    gflop_per_audio_s: float
    matrix_gflop_per_s: float
    encoder: list[EncoderRow]
    ingest_times_real_time: float
    ingest_share_of_encoder: float


def run_bench(services: "Services", *, encoder: str | None, budget_s: float) -> BenchReport:
    """Measure the machine's matrix rate, the encoder, and ingest end to end from WAV files, in one run.

    Parameters
    ----------
    budget_s
        Seconds given to each measurement.
    """
    import torch

    loaded, _ = services.encoders.load(encoder)
    rng = np.random.default_rng(_SEED)
    gflop = gflop_per_audio_s(loaded.checkpoint)
    # The rate that bounds it: of the numbers that its large products are made in.
    dtype = torch.bfloat16 if precision_of(loaded.id) == "fast" else torch.float32
    rate = matrix_gflop_per_s(dtype, budget_s)

    rows = []
    for utterance_s, batch in ((3.0, 1), (3.0, 8), (10.0, 1), (10.0, 8)):
        waveforms = [_noise(rng, utterance_s) for _ in range(batch)]
        elapsed_s = median_s(partial(loaded.embed, waveforms), budget_s)
        speed = utterance_s * batch / elapsed_s
        rows.append(EncoderRow(utterance_s, batch, speed, speed * gflop / rate))

    ingest_speed = _ingest_speed(services, encoder, rng, audio_s=max(60.0, budget_s * rows[-1].times_real_time))
    return BenchReport(
        machine={
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": str(torch.get_num_threads()),
            "encoder": loaded.id,
            "voxdex": version("voxdex"),
        },
        seed=_SEED,
        gflop_per_audio_s=gflop,
        matrix_gflop_per_s=rate,
        encoder=rows,
        ingest_times_real_time=ingest_speed,
        ingest_share_of_encoder=ingest_speed / max(row.times_real_time for row in rows if row.utterance_s == 10.0),
    )


def _ingest_speed(services: "Services", encoder: str | None, rng: np.random.Generator, *, audio_s: float) -> float:
    """Measure ingest, in times real time, into a gallery of its own, from ten-second WAV files, record and all."""
    import soundfile

    from api.dependencies import Services
    from indexer.archive import list_archive, nobody

    with tempfile.TemporaryDirectory(prefix="voxdex-bench-") as folder:
        for number in range(max(6, round(audio_s / 10.0))):
            soundfile.write(Path(folder) / f"{number}.wav", _noise(rng, 10.0), SAMPLE_RATE_HZ, subtype="PCM_16")
        settings = services.settings.model_copy(update={"home": Path(folder) / "home"})
        apart = Services(settings)
        try:
            ingest = apart.ingest("bench", encoder)
            listing = list_archive([Path(folder)], nobody)
            return ingest.run(listing.files, source="bench").tally.times_real_time
        finally:
            apart.close()


def _noise(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    # Arithmetic takes as long for noise as for speech.
    return rng.normal(0.0, 0.1, round(seconds * SAMPLE_RATE_HZ)).clip(-1, 1).astype(np.float32)


def print_bench(report: BenchReport) -> None:
    """Print the figures."""
    print_line(", ".join(f"{key} {value}" for key, value in report.machine.items()))
    print_line(
        f"matrix rate {report.matrix_gflop_per_s:.0f} GFLOP/s; a second of audio takes "
        f"{report.gflop_per_audio_s:.2f} GFLOP; seed {report.seed}"
    )
    print_table(
        ["utterance (s)", "batch", "times real time", "share of matrix rate"],
        [
            [row.utterance_s, row.batch, round(row.times_real_time, 1), f"{100 * row.share_of_matrix_rate:.0f} %"]
            for row in report.encoder
        ],
    )
    print_line(
        f"ingest end to end: {report.ingest_times_real_time:.1f} times real time, "
        f"{100 * report.ingest_share_of_encoder:.0f} % of the encoder alone"
    )
