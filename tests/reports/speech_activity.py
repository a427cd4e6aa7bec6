"""What the speech detector finds, loses and costs, and how well noise behind speech is measured, on real recordings.

python -m tests.reports.speech_activity FOLDER   (a folder of labeled speech with a manifest.csv, noise/ and rir/)
"""

import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.audio.quality import measure_quality
from indexer.audio.regions import Region, speech_s
from indexer.audio.speech import SileroDetector
from indexer.embedding.encoder import SpeakerEncoder, load_encoder
from indexer.embedding.registry import EncoderRegistry
from indexer.errors import SilentAudio
from indexer.settings import AudioSettings, SpeechSettings, load_settings
from indexer.torch_threads import use_threads
from indexer.types import SAMPLE_RATE_HZ, Waveform

STEADY = ("Rain", "Helicopter")
CHANGING = ("Sea_waves", "Chainsaw", "Fire_crackling")
ADDED_DB = (0.0, 5.0, 10.0, 20.0)
TIMED_S = 120.0


def main(folder: Path) -> None:
    """Print all figures; takes a minute or two on two cores."""
    detector = SileroDetector(SpeechSettings())
    recordings: dict[str, list[tuple[str, Waveform]]] = defaultdict(list)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                recordings[row["set"]].append((row["path"], read(folder / row["path"])))
            except SilentAudio:
                sys.stdout.write(f"{row['path']}: silent\n")
    for line in (
        *activity(detector, recordings),
        *robustness(detector, recordings),
        *noise(detector, recordings),
        *cost(detector, recordings),
    ):
        sys.stdout.write(f"{line}\n")


def read(path: Path) -> Waveform:
    """Decode a recording whole."""
    with open_audio(path, channels=ChannelPolicy.parse("mix"), limits=AudioSettings()) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)[0].astype(np.float32)


def activity(detector: SileroDetector, recordings: dict[str, list[tuple[str, Waveform]]]) -> Iterator[str]:
    """Share of speech, recordings without any, and which bandwidth each set has."""
    for name, own in recordings.items():
        heard = [(waveform, detector.regions(waveform)) for _, waveform in own]
        spoken = np.array([speech_s(regions) for _, regions in heard])
        total = sum(len(waveform) for waveform, _ in heard) / SAMPLE_RATE_HZ
        telephone = sum(measure_quality(waveform, regions).is_telephone for waveform, regions in heard)
        yield (
            f"{name}: {spoken.sum():.1f} of {total:.1f} s are speech; none in {np.sum(spoken == 0)} of {len(own)} "
            f"recordings; {telephone} are telephone"
        )
    seconds = [
        waveform[start:end]
        for _, waveform in (*recordings["noise"], *recordings["rir"])
        for start, end in pairwise(range(0, len(waveform), SAMPLE_RATE_HZ))
    ]
    taken = sum(bool(detector.regions(second)) for second in seconds)
    yield f"noise and rir cut to one second each: {taken} of {len(seconds)} are taken for speech"


def robustness(detector: SileroDetector, recordings: dict[str, list[tuple[str, Waveform]]]) -> Iterator[str]:
    """How much of the speech is still found when it is very quiet, or in noise."""
    sounds = [waveform for _, waveform in recordings["noise"]]
    for name in ("librispeech_testother", "an4", "speech_commands", "telephony_8k"):
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for _, waveform in recordings[name][::6]:
            mask = _mask(len(waveform), detector.regions(waveform))
            if not mask.any():
                continue
            power = float(np.mean(np.square(waveform[mask], dtype=np.float64)))
            copies = {f"at {dbfs:g} dBFS": waveform * 10 ** (dbfs / 20) / np.sqrt(power) for dbfs in (-50.0, -60.0)}
            for added_db in (10.0, 0.0):
                behind = np.resize(sounds[len(waveform) % len(sounds)], len(waveform))
                scale = np.sqrt(power / np.mean(np.square(behind))) * 10 ** (-added_db / 20)
                copies[f"in noise {added_db:g} dB below"] = waveform + scale * behind
            for kind, copy in copies.items():
                stepped = (np.round(copy * 32768) / 32768).astype(np.float32)  # as 16-bit audio
                heard = _mask(len(waveform), detector.regions(stepped))
                found[kind][0] += int(np.sum(mask & heard))
                found[kind][1] += int(np.sum(mask))
        shares = ", ".join(f"{kind} {both / own:.1%}" for kind, (both, own) in found.items())
        yield f"{name}: of its speech is found {shares}"


def noise(detector: SileroDetector, recordings: dict[str, list[tuple[str, Waveform]]]) -> Iterator[str]:
    """How far the estimated ratio is from that at which noise was added."""
    sounds = {path.split("_-_")[1].removesuffix(".flac"): waveform for path, waveform in recordings["noise"]}
    speech = [own for name in ("librispeech_testother", "an4") for own in recordings[name][::6]]
    for kind, names in (("steady", STEADY), ("changing", CHANGING)):
        for added_db in ADDED_DB:
            errors = []
            for _, waveform in speech:
                regions = detector.regions(waveform)
                for name in names:
                    errors.append(_errors(waveform, regions, sounds[name], added_db))
            around, inside = np.abs(np.array(errors)).mean(axis=0)
            yield (
                f"{kind} noise at {added_db:g} dB: off by {around:.1f} dB with pauses to measure it in, "
                f"{inside:.1f} dB without"
            )


def _errors(waveform: Waveform, regions: list[Region], sound: Waveform, added_db: float) -> tuple[float, float]:
    mask = _mask(len(waveform), regions)
    power = float(np.mean(np.square(waveform[mask], dtype=np.float64)))
    behind = np.resize(sound, len(waveform)).astype(np.float64)
    behind *= np.sqrt(power / np.mean(np.square(behind))) * 10 ** (-added_db / 20)
    truth = 10 * np.log10(power / np.mean(np.square(behind[mask])))
    noisy = (waveform + behind).astype(np.float32)
    whole = [Region(0.0, len(waveform) / SAMPLE_RATE_HZ)]
    found = [measure_quality(noisy, given).snr_db for given in (regions, whole)]
    assert found[0] is not None
    assert found[1] is not None
    return found[0] - truth, found[1] - truth


def _mask(samples: int, regions: list[Region]) -> NDArray[np.bool_]:
    mask = np.zeros(samples, dtype=np.bool_)
    for start_s, end_s in regions:
        mask[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)] = True
    return mask


def cost(detector: SileroDetector, recordings: dict[str, list[tuple[str, Waveform]]]) -> Iterator[str]:
    """Time of detector and quality beside that of the default encoder on the same audio, on one thread."""
    use_threads(1)
    settings = load_settings()
    registry = EncoderRegistry(settings.home, settings.cache, offline=settings.offline)
    spec = registry.get(settings.embedding.encoder)
    encoder = load_encoder(registry.pull(spec), name=spec.name, family=spec.family, device="cpu")
    speech = [waveform for name in ("librispeech_multi", "an4", "speech_commands") for _, waveform in recordings[name]]
    chosen = list(_some(speech))
    for round_name in ("first (compiles kernels)", "second"):
        yield f"{round_name}: {_ratios(detector, encoder, chosen)}"


def _some(waveforms: list[Waveform]) -> Iterator[Waveform]:
    """Recordings from all over, cut to half seconds as utterances are."""
    left = TIMED_S * SAMPLE_RATE_HZ
    for waveform in waveforms[:: max(1, len(waveforms) // 40)]:
        half = SAMPLE_RATE_HZ // 2
        cut = waveform[: len(waveform) // half * half]
        if len(cut) <= left:
            left -= len(cut)
            yield cut


def _ratios(detector: SileroDetector, encoder: SpeakerEncoder, waveforms: list[Waveform]) -> str:
    spent = [0.0, 0.0, 0.0]
    for waveform in waveforms:  # in turns, so that what else the machine does is spread over all three
        started = time.process_time()
        regions = detector.regions(waveform)
        heard = time.process_time()
        measure_quality(waveform, regions)
        measured = time.process_time()
        encoder.embed([waveform])
        for place, (begin, end) in enumerate(pairwise((started, heard, measured, time.process_time()))):
            spent[place] += end - begin
    audio_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    detecting, measuring, embedding = (1000 * seconds / audio_s for seconds in spent)
    return (
        f"{audio_s:.0f} s of audio, CPU milliseconds a second: speech {detecting:.2f} "
        f"({detecting / embedding:.1%} of embedding), quality {measuring:.2f} ({measuring / embedding:.1%}), "
        f"embedding {embedding:.1f}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
