"""Whether one voice is taken for one and two for two: `python -m tests.reports.one_or_two FOLDER`.

A random part of the speech in FOLDER, which holds a manifest.csv (path, speaker, set, ...), with 3 s or more: single
recordings, pairs of one speaker's, copies in noise at 5 dB, in a room and over a telephone; and the beginnings of two
speakers of one set, in equal shares of up to 8 s or four fifths and one. Prints how many of each kind the screen sends
on, how many of these its closer look clears, what the diarizer finds in the others, and which were heard wrongly.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from api.dependencies import Services
from api.evaluation.copies import Sounds, add_noise, as_wav, reverberate, through_telephone
from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region, speech_s
from indexer.errors import InvalidAudio
from indexer.hearing import hear_tracks
from indexer.listening import Listening, Suspicion, VoiceTurn
from indexer.settings import AudioSettings, load_settings
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Vectors, Waveform
from search.diarization import ClusteringDiarizer
from search.screening import OneVoiceScreen
from tests.reports.conversations import decode_mono

SETS = ("librispeech_multi", "librispeech_testother", "librispeech_251", "an4", "telephony_8k")
_LEAST_S = 3.0
_TOLD_S = 1.5
"""Net speech from which on a second voice is to be found."""


@dataclass(frozen=True)
class Made:
    """A recording whose number of voices is known.

    Attributes
    ----------
    second_s
        Net speech of the second voice; 0 where there is none.
    """

    name: str
    waveform: Waveform
    second_s: float = 0.0


class WatchedScreen(OneVoiceScreen):
    """Remembers what it said last."""

    said = "too little speech"

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        suspicion = super().suspect(windows, vectors, encoder_id)
        self.said = "one" if suspicion is None else "sent on"
        return suspicion

    def least_voices(self, vectors: Vectors, encoder_id: EncoderId) -> int | None:
        voices = super().least_voices(vectors, encoder_id)
        self.said = {1: "cleared", 2: "taken for two"}.get(voices or 0, "looked at and sent on")
        return voices


class WatchedDiarizer(ClusteringDiarizer):
    """Counts how much it asks for."""

    embedded_s = 0.0

    def for_encoder(self, encoder_id: EncoderId) -> "WatchedDiarizer":
        own = super().for_encoder(encoder_id)
        own.__class__ = WatchedDiarizer
        return own  # type: ignore[return-value]

    def turns(
        self, regions: Sequence[Region], windows: Sequence[Region], vectors: Vectors, *, speakers: int | None = None
    ) -> list[VoiceTurn]:
        WatchedDiarizer.embedded_s += speech_s(windows)
        return super().turns(regions, windows, vectors, speakers=speakers)


def make(
    folder: Path, listening: Listening, *, seed: int, ones: int, doubles: int, copies: int, twos: int
) -> Iterator[Made]:
    """Draw recordings of one voice and of two."""
    rng, limits = np.random.default_rng(seed), AudioSettings()
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        listed = [row for row in csv.DictReader(stream) if row["set"] in SETS and float(row["seconds"]) >= _LEAST_S]
    rows = [row for row in listed if _sounds(folder / row["path"])]
    by_speaker: dict[tuple[str, str], list[Path]] = {}
    for row in rows:
        by_speaker.setdefault((row["set"], row["speaker"]), []).append(folder / row["path"])

    def beginning(path: Path, seconds: float) -> Waveform:
        return decode_mono(path)[: round(seconds * SAMPLE_RATE_HZ)]

    for place in rng.choice(len(rows), min(ones, len(rows)), replace=False):
        yield Made(f"one {rows[place]['path']}", beginning(folder / rows[place]["path"], 20))
    several = [own for own in by_speaker.values() if len(own) > 1]
    for place in rng.integers(len(several), size=doubles):
        first, second = rng.choice(len(several[place]), 2, replace=False)
        pair = [several[place][number] for number in (first, second)]
        yield Made(f"double {pair[0].name} {pair[1].name}", np.concatenate([beginning(path, 8) for path in pair]))
    noises, rooms = Sounds.read(folder / "noise", limits).waveforms, Sounds.read(folder / "rir", limits).waveforms
    for number, place in enumerate(rng.choice(len(rows), min(copies, len(rows)), replace=False)):
        waveform = beginning(folder / rows[place]["path"], 12)
        if number % 3 == 0:
            waveform = add_noise(waveform, noises[rng.integers(len(noises))], 5.0, rng)
        elif number % 3 == 1:
            waveform = reverberate(waveform, rooms[rng.integers(len(rooms))])
        else:
            waveform = through_telephone(waveform)
        yield Made(f"{('noise', 'room', 'telephone')[number % 3]} {rows[place]['path']}", waveform.astype(np.float32))
    sets = sorted({name for name, _ in by_speaker})
    for number in range(twos):
        of_set = sets[rng.integers(len(sets))]
        speakers = sorted(speaker for name, speaker in by_speaker if name == of_set)
        chosen = [by_speaker[of_set, speaker] for speaker in rng.choice(speakers, 2, replace=False)]
        first, second = (beginning(own[rng.integers(len(own))], 8) for own in chosen)
        size = min(len(first), len(second)) if number % 2 == 0 else len(first)
        second = second[:size] if number % 2 == 0 else second[: size // 4]
        name = f"two, {'equal' if number % 2 == 0 else 'a fifth'}, {of_set} {number}"
        yield Made(name, np.concatenate([first[:size], second]), speech_s(listening.detector.regions(second)))


def _sounds(path: Path) -> bool:
    try:
        decode_mono(path)
    except InvalidAudio:
        return False
    return True


def main() -> None:
    """Hear them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of speech with a manifest.csv")
    parser.add_argument("--encoder", help="name of an encoder; default: the default one")
    parser.add_argument("--seed", type=int, default=7)
    for kind, count in (("ones", 143), ("doubles", 22), ("copies", 27), ("twos", 52)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    asked = parser.parse_args()
    services = Services(load_settings())
    encoder = services.comparison(asked.encoder).encoder
    screen = WatchedScreen()
    listening = replace(services.listening, screen=screen, diarizer=WatchedDiarizer())
    said: dict[str, Counter[str]] = {}
    audio_s = 0.0
    counts = {kind: getattr(asked, kind) for kind in ("ones", "doubles", "copies", "twos")}
    for made in make(asked.folder, listening, seed=asked.seed, **counts):
        audio_s += len(made.waveform) / SAMPLE_RATE_HZ
        screen.said = WatchedScreen.said
        try:
            take = Take(as_wav(made.waveform), channels=ChannelPolicy.parse("mix"), limits=services.settings.audio)
            tracks = hear_tracks(
                take, listening, encoder, name=made.name, utterance_s=services.settings.audio.utterance_s
            )
        except InvalidAudio:
            continue
        voices = max(len(track.voices) for track in tracks)
        told = made.second_s >= _TOLD_S
        kind = "one voice" if not made.second_s else "two voices" if told else f"second voice under {_TOLD_S:g} s"
        said.setdefault(kind, Counter()).update([screen.said, f"{voices} found", "all"])
        if (kind == "one voice" and (voices > 1 or screen.said != "one")) or (told and voices == 1):
            sys.stdout.write(f"{made.name} ({made.second_s:.1f} s): {screen.said}, {voices} found\n")
            sys.stdout.flush()
    sys.stdout.write(f"encoder {encoder.id}, seed {asked.seed}, {audio_s:.0f} s; ")
    sys.stdout.write(f"the diarizer embedded {WatchedDiarizer.embedded_s:.0f} s of windows\n")
    for kind, counter in said.items():
        sys.stdout.write(f"{kind}: {dict(sorted(counter.items()))}\n")
    services.close()


if __name__ == "__main__":
    main()
