"""`fast` beside `exact` on labeled speech: how near the vectors are, and whether voices are told apart as well.

`python -m tests.reports.precisions FOLDER [--encoder NAME] [--sets NAME...] [--pieces SECONDS]`: FOLDER holds a
manifest.csv (path, speaker, set, ...). Whole files are embedded on the CPU in both precisions and compared by plain
cosine. Prints for each set the least cosine between the two vectors of a file, the EER of both over all pairs of the
set, and their difference; silent files are left out. Many sets of whole files have no errors to compare: `--pieces`
cuts each file into six pieces at most, with noise 10 dB below them. The tables in docs/performance.md come from here.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.embedding.encoder import SpeakerEncoder, load_encoder
from indexer.embedding.registry import make_registry
from indexer.errors import SilentAudio
from indexer.settings import load_settings
from indexer.types import SAMPLE_RATE_HZ, Precision, Waveform
from search.metrics import equal_error_rate
from search.trials import LabeledRecording, read_manifest
from tests.reports.speech_activity import read

KINDS: tuple[Precision, ...] = ("exact", "fast")
AT_ONCE = 16
"""Recordings handed over together."""

MOST_PIECES = 6
NOISE_DB = -10.0
QUIETEST_DBFS = -46.0
"""Pieces below are taken for pauses."""


def compare(
    name: str, recordings: list[LabeledRecording], folder: Path, encoders: list[SpeakerEncoder], pieces_s: float | None
) -> str:
    """Describe what both precisions make of a set, as a row of a table."""
    heard = [(one, waveform) for one in recordings if (waveform := _read(folder / one.path)) is not None]
    if pieces_s is not None:
        heard = [
            (one, piece) for one, waveform in heard for piece in _pieces(waveform, round(pieces_s * SAMPLE_RATE_HZ))
        ]
    recordings, waveforms = [one for one, _ in heard], [waveform for _, waveform in heard]
    exact, fast = (_embed(encoder, waveforms) for encoder in encoders)
    cosines = (exact * fast).sum(axis=1)
    row = f"| {name} | {len(recordings)} | {cosines.min():.5f} |"
    speakers = np.array([one.speaker for one in recordings])
    first, second = np.triu_indices(len(recordings), 1)
    is_target = speakers[first] == speakers[second]
    if not is_target.any() or is_target.all():
        return f"{row} | | |"
    rates = [100 * equal_error_rate((made @ made.T)[first, second], is_target) for made in (exact, fast)]
    return f"{row} {rates[0]:.3f} | {rates[1]:.3f} | {rates[1] - rates[0]:+.3f} |"


def _read(path: Path) -> Waveform | None:
    try:
        return read(path)
    except SilentAudio:
        return None


def _pieces(waveform: Waveform, samples: int) -> list[Waveform]:
    rng = np.random.default_rng(len(waveform))
    count = min(MOST_PIECES, len(waveform) // samples)
    found = []
    for piece in waveform[: count * samples].reshape(count, samples):
        level = float(np.sqrt(np.mean(np.square(piece, dtype=np.float64))))
        if level > 10 ** (QUIETEST_DBFS / 20):
            noise = rng.standard_normal(samples) * (level * 10 ** (NOISE_DB / 20))
            found.append((piece + noise).astype(np.float32))
    return found


def _embed(encoder: SpeakerEncoder, waveforms: list[Waveform]) -> NDArray[np.float32]:
    parts = [encoder.embed(waveforms[start : start + AT_ONCE]) for start in range(0, len(waveforms), AT_ONCE)]
    return np.concatenate(parts)


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--sets", nargs="+", metavar="NAME")
    parser.add_argument("--pieces", type=float, metavar="SECONDS")
    asked = parser.parse_args()
    settings = load_settings()
    registry = make_registry(settings)
    spec = registry.get(asked.encoder or settings.embedding.encoder)
    weights = registry.pull(spec)
    encoders = [
        load_encoder(weights, name=spec.name, family=spec.family, device="cpu", precision=kind) for kind in KINDS
    ]
    manifest = [one for one in read_manifest(asked.folder / "manifest.csv") if one.speaker]
    what = "files" if asked.pieces is None else "pieces"
    sys.stdout.write(
        f"| set | {what} | least cosine | EER exact % | EER fast % | difference |\n|---|---|---|---|---|---|\n"
    )
    for name in asked.sets or dict.fromkeys(one.set for one in manifest):
        recordings = [one for one in manifest if one.set == name]
        sys.stdout.write(compare(name, recordings, asked.folder, encoders, asked.pieces) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
