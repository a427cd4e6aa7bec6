"""Write `speechbrain_expected.npz`: what SpeechBrain's own code computes from its published weights.

Run in an environment of its own, which has speechbrain, torch, soundfile and soxr:

    python make_speechbrain_expected.py --weights embedding_model.ckpt --speech DIR [--out speechbrain_expected.npz]

Each file is decoded by soundfile and resampled to 16 kHz by soxr HQ; the test feeds the product the same samples.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization

# Read speech, spelled words, one-word recordings (the short ones) and 8 kHz telephone prompts, 48 kHz Opus.
PER_SET = {
    "librispeech_multi": 3,
    "librispeech_testother": 3,
    "librispeech_251": 3,
    "an4": 3,
    "speech_commands": 5,
    "telephony_8k": 3,
}


def chosen_files(speech: Path) -> list[str]:
    """Return the same 20 paths every time: evenly spaced over each set of the manifest."""
    rows = [line.split(",") for line in (speech / "manifest.csv").read_text(encoding="utf-8").splitlines()[1:]]
    paths = sorted(row[0] for row in rows)
    chosen = []
    for name, count in PER_SET.items():
        members = [path for path in paths if path.startswith(f"{name}/")]
        chosen += [members[index * len(members) // count] for index in range(count)]
    return chosen


def main() -> None:
    """Embed the files one by one and keep the raw vectors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("speechbrain_expected.npz"))
    options = parser.parse_args()
    network = ECAPA_TDNN(
        input_size=80,
        channels=[1024, 1024, 1024, 1024, 3072],
        kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1],
        attention_channels=128,
        lin_neurons=192,
    )
    network.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    network.eval()
    filterbank = Fbank(n_mels=80).eval()
    normalize = InputNormalization(norm_type="sentence", std_norm=False).eval()
    vectors = {}
    for path in chosen_files(options.speech):
        samples, rate = soundfile.read(options.speech / path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        if rate != 16_000:
            mono = soxr.resample(mono, rate, 16_000, quality="HQ")
        waveform = torch.from_numpy(np.ascontiguousarray(mono))[None]
        whole = torch.ones(1)
        with torch.no_grad():
            features = normalize(filterbank(waveform), whole)
            vectors[path] = network(features, whole)[0, 0].numpy()
    np.savez(options.out, **vectors)


if __name__ == "__main__":
    main()
