"""How long a process takes from its start to its first vector, page cache warm, beside what torch alone takes.

`python -m tests.reports.first_vector [--repeats N] [--encoder NAME] [--peers PYTHON]` starts processes, one of each
kind in turn, the first round of which is not counted: a Python that loads the encoder and embeds three seconds of
noise, `voxdex embed` on a file of them, a Python that only imports torch, and with `--peers`, by another Python that
has SpeechBrain, its network on the weights of the default encoder. Prints the least, median and most seconds of the
clock and the median of processor time: of `voxdex embed` until its end, of the others until they have their vector.
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

from indexer.embedding.registry import SPEECHBRAIN_ECAPA, make_registry
from indexer.settings import load_settings
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

_TORCH = """
import os, torch
os._exit(0)
"""

_SPEECHBRAIN = """
import os, sys
import numpy as np
import torch
from speechbrain.inference.speaker import EncoderClassifier
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
network = ECAPA_TDNN(80, channels=[1024] * 4 + [3072], kernel_sizes=[5, 3, 3, 3, 1], dilations=[1, 2, 3, 4, 1],
                     attention_channels=128, lin_neurons=192)
network.load_state_dict(torch.load(sys.argv[1], map_location="cpu", weights_only=True))
modules = {"compute_features": Fbank(n_mels=80), "embedding_model": network.eval(), "classifier": torch.nn.Identity(),
           "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False)}
classifier = EncoderClassifier(modules=modules, hparams={"label_encoder": None}, run_opts={"device": "cpu"}).eval()
noise = np.random.default_rng(0).normal(0.0, 0.1, 48_000).astype(np.float32)
with torch.inference_mode():
    assert classifier.encode_batch(torch.from_numpy(noise)[None]).shape == (1, 1, 192)
os._exit(0)
"""


def measure(commands: dict[str, list[str]], repeats: int) -> None:
    """Run commands in turn, again and again, and print what each took."""
    clock: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats + 1):
        for name, command in commands.items():
            before, started = os.times(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            clock[name].append(time.perf_counter() - started)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            processor[name].append(used)
    for name in commands:
        seconds = clock[name][1:]
        sys.stdout.write(
            f"{name}: {min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f} s "
            f"(least, median, most), {statistics.median(processor[name][1:]):.2f} s of processor time\n"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.reports.first_vector")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--encoder", default="")
    parser.add_argument("--peers", metavar="PYTHON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voxdex-first-") as folder:
        recording = Path(folder) / "noise.wav"
        noise = np.random.default_rng(0).normal(0.0, 0.1, 3 * SAMPLE_RATE_HZ).clip(-1, 1)
        soundfile.write(recording, noise, SAMPLE_RATE_HZ, subtype="PCM_16")
        embed = [str(Path(sys.executable).with_name("voxdex")), "embed", str(recording)]
        commands = {
            "a process of its own": [sys.executable, "-c", _EMBED, asked.encoder],
            "voxdex embed": [*embed, "--output", str(Path(folder) / "vector.npz")],
            "torch alone, imported": [sys.executable, "-c", _TORCH],
        }
        if asked.encoder:
            commands["voxdex embed"] += ["--encoder", asked.encoder]
        if asked.peers:
            registry = make_registry(load_settings())
            commands["SpeechBrain"] = [asked.peers, "-c", _SPEECHBRAIN, str(registry.pull(SPEECHBRAIN_ECAPA))]
        measure(commands, asked.repeats)


if __name__ == "__main__":
    main()
