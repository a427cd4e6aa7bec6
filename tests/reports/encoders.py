"""Encoders side by side on labeled speech, whole files by plain cosine.

`python -m tests.reports.encoders FOLDER NPZ...`: FOLDER holds a manifest.csv (path, speaker, set, ...); each NPZ is
what `voxdex embed` made of its files by one encoder (`voxdex embed */*/*.flac --encoder NAME -o NAME.npz`).
Prints the EER of each set over all of its pairs, of each encoder and of the mean of all cosines, and errors at
thresholds. `--speed NAME...` instead: seconds of audio that one CPU core embeds in a second, by CPU time. The figures
in docs/encoders.md come from here.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.types import Precision, precision_of
from search.metrics import equal_error_rate
from search.trials import LabeledRecording, read_manifest

THRESHOLDS = (0.4, 0.45, 0.5, 0.55)
SHORT_SETS = {"speech_commands"}
SPEED = ((1, 8), (3, 8), (10, 4), (60, 1))
"""Seconds of an utterance, and how many of them."""
RUNS = 3


def errors(folder: Path, files: list[Path]) -> None:
    """Print error rates by set, and of everything but one-second words by threshold."""
    vectors = [dict(np.load(file)) for file in files]
    manifest = read_manifest(folder / "manifest.csv")
    known = [one for one in manifest if all(one.path in held for held in vectors)]
    names = [*(file.stem for file in files), "mean of the cosines"]
    for name in dict.fromkeys(one.set for one in known):
        scores, is_target = _pairs([one for one in known if one.set == name], vectors)
        if is_target.any():
            rated = ((who, equal_error_rate(row, is_target)) for who, row in zip(names, scores, strict=True))
            rates = ", ".join(f"{who} {100 * rate:.2f}" for who, rate in rated)
            _say(
                f"{name}: {int(is_target.sum())} pairs of one speaker, {int((~is_target).sum())} of two; EER % {rates}"
            )
    scores, is_target = _pairs([one for one in known if one.set not in SHORT_SETS], vectors)
    for who, row in zip(names, scores, strict=True):
        for threshold in THRESHOLDS:
            p_miss, p_fa = (row[is_target] < threshold).mean(), (row[~is_target] >= threshold).mean()
            _say(f"without one-second words, {who} at {threshold}: p_miss {p_miss:.2%}, p_fa {p_fa:.3%}")


def _pairs(
    some: list[LabeledRecording], vectors: list[dict[str, NDArray[np.float32]]]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    speakers = np.array([one.speaker for one in some])
    first, second = np.triu_indices(len(some), 1)
    scores = []
    for held in vectors:
        matrix = np.stack([held[one.path] for one in some])
        scores.append((matrix @ matrix.T)[first, second])
    return np.stack([*scores, np.mean(scores, axis=0)]), speakers[first] == speakers[second]


def speed(names: list[str]) -> None:
    """Print how fast one core embeds utterances of several lengths."""
    from indexer.embedding.encoder import load_encoder
    from indexer.embedding.registry import make_registry
    from indexer.settings import load_settings
    from indexer.torch_threads import use_threads

    registry = make_registry(load_settings())
    use_threads(1)
    specs = [registry.get(name) for name in names]
    kinds: tuple[Precision, ...] = ("exact", "fast")
    loaded = [
        load_encoder(
            registry.pull(one), name=one.name, family=one.family, device="cpu", precision=precision, or_exact=True
        )
        for one in specs
        for precision in kinds
    ]
    encoders = list({encoder.id: encoder for encoder in loaded}.values())
    dice = np.random.default_rng(0)
    for seconds, count in SPEED:
        waveforms = [(0.1 * dice.standard_normal(seconds * 16_000)).astype(np.float32) for _ in range(count)]
        for encoder in encoders:
            spent = []
            for _ in range(RUNS):
                began = time.process_time()
                encoder.embed_raw(waveforms)
                spent.append(time.process_time() - began)
            _say(
                f"{encoder.name} ({precision_of(encoder.id)}), {count} utterances of {seconds} s: "
                f"{seconds * count / min(spent):.1f} times real time"
            )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--speed", nargs="+", metavar="NAME")
    asked = parser.parse_args()
    if asked.speed:
        speed(asked.speed)
    else:
        errors(asked.folder, asked.files)


if __name__ == "__main__":
    main()
