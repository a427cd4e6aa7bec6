"""How fast this machine embeds, beside what its own arithmetic allows: noise, so that it asks for no recordings."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from api.bench.arithmetic import Limit
from api.bench.ingest_bench import IngestFigures, run_ingest_bench
from api.bench.machine import Measured
from api.bench.timing import median_s
from api.cli.output import counted, print_line, print_table
from indexer.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from api.dependencies import Services

_SEED = 20260101
_LEAST_INGESTED_S = 60.0


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One measurement of the encoder; times are medians."""

    utterance_s: float
    batch: int
    times_real_time: float
    share_of_limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport(Measured):
    """Everything that was measured, with what is needed to repeat it.

    Attributes
    ----------
    ingest_times_real_time, ingest_share_of_encoder
        Of noise that is taken for the speech of one voice; the share is of the encoder alone, in turns with ingest.
    """

    encoder_id: str
    threads: int
    seed: int
    limit: Limit
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
    speeds: dict[tuple[float, int], float] = {}
    for utterance_s, batch in ((3.0, 1), (3.0, 8), (10.0, 1), (10.0, 8)):
        waveforms = [_noise(rng, utterance_s) for _ in range(batch)]
        elapsed_s = median_s(partial(loaded.embed, waveforms), budget_s)
        speeds[utterance_s, batch] = utterance_s * batch / elapsed_s

    audio_s = max(_LEAST_INGESTED_S, budget_s * speeds[10.0, 8])
    ingested = _ingest_noise(services, encoder, rng, audio_s=audio_s)
    return BenchReport(
        encoder_id=loaded.id,
        threads=torch.get_num_threads(),
        seed=_SEED,
        limit=ingested.limit,
        encoder=[
            EncoderRow(length_s, batch, speed, speed * ingested.limit.least_s(length_s) / length_s)
            for (length_s, batch), speed in speeds.items()
        ],
        ingest_times_real_time=ingested.audio_times_real_time,
        ingest_share_of_encoder=ingested.share_of_encoder,
    )


def _ingest_noise(
    services: "Services", encoder: str | None, rng: np.random.Generator, *, audio_s: float
) -> IngestFigures:
    """Measure ingest, record and all, of ten-second WAV files in which all that sounds is taken for one voice."""
    import soundfile

    with tempfile.TemporaryDirectory(prefix="voxdex-bench-") as folder:
        count = round(audio_s / 10.0)
        for number in range(count):
            soundfile.write(Path(folder) / f"{number}.wav", _noise(rng, 10.0), SAMPLE_RATE_HZ, subtype="PCM_16")
        return run_ingest_bench(services, [Path(folder)], files=count, encoder=encoder, speakers="one", speech="off")


def _noise(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    # Arithmetic takes as long for noise as for speech.
    return rng.normal(0.0, 0.1, round(seconds * SAMPLE_RATE_HZ)).clip(-1, 1).astype(np.float32)


def print_bench(report: BenchReport) -> None:
    """Print the figures."""
    print_line(report.heading)
    print_line(f"encoder {report.encoder_id}, {counted(report.threads, 'thread')}")
    print_line(f"{report.limit}; seed {report.seed}")
    print_table(
        ["utterance (s)", "batch", "times real time", "share of limit"],
        [
            [f"{row.utterance_s:g}", row.batch, f"{row.times_real_time:.1f}", f"{row.share_of_limit:.0%}"]
            for row in report.encoder
        ],
    )
    print_line(
        f"ingest end to end, of noise taken for one voice: {report.ingest_times_real_time:.1f} times real time, "
        f"{report.ingest_share_of_encoder:.0%} of the encoder alone; `voxdex bench ingest` measures it of recordings"
    )
