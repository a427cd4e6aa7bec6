"""How long a process takes from its start to its first vector, page cache warm.

`python -m tests.reports.first_vector [--repeats N] [--encoder NAME]` starts processes one after another, first one that
is not counted: a Python that loads the encoder and embeds three seconds of noise, and `voxdex embed` on a file of them.
Prints for both the least, median and most seconds of the clock and the median of processor time: of the first until it
has its vector, of the second until its end.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from indexer.types import SAMPLE_RATE_HZ

_EMBED = """
import os, sys
from indexer.openmp import share_cores
share_cores()
import numpy as np
from indexer.embedding.registry import make_registry
from indexer.settings import load_settings
from indexer.encoders_in_use import EncodersInUse
settings = load_settings()
encoder, _ = EncodersInUse(make_registry(settings), settings.embedding).load(sys.argv[1] or None)
noise = np.random.default_rng(0).normal(0.0, 0.1, 48_000).astype(np.float32)
assert encoder.embed([noise]).shape == (1, encoder.dim)
os._exit(0)
"""


def measure(command: list[str], repeats: int) -> str:
    """Run a command again and again; describe what it took."""
    clock, processor = [], []
    for _ in range(repeats + 1):
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        clock.append(time.perf_counter() - started)
        after = os.times()
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    clock, processor = clock[1:], processor[1:]
    return (
        f"{min(clock):.2f} / {statistics.median(clock):.2f} / {max(clock):.2f} s (least, median, most), "
        f"{statistics.median(processor):.2f} s of processor time"
    )


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.reports.first_vector")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--encoder", default="")
    asked = parser.parse_args()
    sys.stdout.write(f"a process of its own: {measure([sys.executable, '-c', _EMBED, asked.encoder], asked.repeats)}\n")
    with tempfile.TemporaryDirectory(prefix="voxdex-first-") as folder:
        recording = Path(folder) / "noise.wav"
        noise = np.random.default_rng(0).normal(0.0, 0.1, 3 * SAMPLE_RATE_HZ).clip(-1, 1)
        soundfile.write(recording, noise, SAMPLE_RATE_HZ, subtype="PCM_16")
        voxdex = str(Path(sys.executable).with_name("voxdex"))
        command = [voxdex, "embed", str(recording), "--output", str(Path(folder) / "vector.npz")]
        if asked.encoder:
            command += ["--encoder", asked.encoder]
        sys.stdout.write(f"voxdex embed: {measure(command, asked.repeats)}\n")


if __name__ == "__main__":
    main()
