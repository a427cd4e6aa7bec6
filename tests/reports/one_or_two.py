"""Whether one voice is taken for one and two for two: `python -m tests.reports.one_or_two FOLDER`.

A random part of the speech in FOLDER, which holds a manifest.csv (path, speaker, set, ...), with 3 s or more: single
recordings, pairs of one speaker's, copies in noise at 5 dB, in a room and over a telephone; and the beginnings of two
speakers of one set, in equal shares of up to 8 s or four fifths and one. `--harder N` adds as many of each of the
harder kinds of `tests.reports.made_voices.make_harder`, `--long N` of those of `make_long`. Prints of each kind how
many are taken for several voices, of how many more somebody would be asked to listen, what the screen said of them, and
which were heard wrongly.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from api.dependencies import Services
from api.evaluation.copies import as_wav
from indexer.audio.channels import ChannelPolicy
from indexer.audio.regions import Region, speech_s
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import InvalidAudio
from indexer.hearing import hear_tracks
from indexer.listening import Doubt, Suspicion, VoiceTurn
from indexer.settings import load_settings
from indexer.takes import Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Vectors
from indexer.window_vectors import embed_windows
from search.diarization import ClusteringDiarizer
from search.screening import OneVoiceScreen
from search.second_voice import UnlikeStretchFinder
from tests.reports.made_voices import Made, Speech, make, make_harder, make_long

TOLD_S = 1.5
"""Net speech from which on a second voice is to be found."""


class WatchedScreen(OneVoiceScreen):
    """Remembers what it said last, and what is in doubt all the same."""

    said = "too little speech"
    doubt: Doubt | None = None

    def suspect(self, windows: Sequence[Region], vectors: Vectors, encoder_id: EncoderId) -> Suspicion | None:
        suspicion = super().suspect(windows, vectors, encoder_id)
        self.said = "one" if suspicion is None else "sent on"
        self.doubt = UnlikeStretchFinder().doubt(windows, vectors, encoder_id)
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


@dataclass
class Tally:
    """What became of recordings of one kind."""

    said: Counter[str] = field(default_factory=Counter)
    all: int = 0
    sure: int = 0
    possible: int = 0

    def __str__(self) -> str:
        """Say it on one line."""
        share = 100 * (self.sure + self.possible) / self.all
        said = f"{self.sure} taken for several, {self.possible} more to be listened to: {share:.1f} % of {self.all}"
        return f"{said} {dict(sorted(self.said.items()))}"


def kind_of(made: Made) -> str:
    """Return what a recording is counted as."""
    if made.second_s is None:
        return "one voice"
    return "two voices" if made.second_s >= TOLD_S else f"second voice under {TOLD_S:g} s"


def main() -> None:
    """Hear them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of speech with a manifest.csv")
    parser.add_argument("--encoder", help="name of an encoder; default: the default one")
    parser.add_argument("--second-encoder", help="what a gallery has beside it; default: nothing")
    parser.add_argument("--seed", type=int, default=7)
    for kind, count in (("ones", 143), ("doubles", 22), ("copies", 27), ("twos", 52), ("harder", 0), ("long", 0)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    asked = parser.parse_args()
    services = Services(load_settings())
    encoder = services.comparison(asked.encoder).encoder
    second = None if asked.second_encoder is None else services.comparison(asked.second_encoder).encoder
    finder = UnlikeStretchFinder()
    encoders = EncoderSet(encoder, second)
    best = finder.tells_best(encoders.ids)
    closer = next(own for own in encoders if own.id == best)
    screen = WatchedScreen()
    listening = replace(services.listening, screen=screen, diarizer=WatchedDiarizer())
    tallies: dict[str, Tally] = {}
    audio_s = looked_s = 0.0
    counts = {kind: getattr(asked, kind) for kind in ("ones", "doubles", "copies", "twos")}
    speech = Speech.read(asked.folder)
    usual = make(speech, listening.detector, seed=asked.seed, **counts)
    harder = make_harder(speech, listening.detector, seed=asked.seed, each=asked.harder) if asked.harder else ()
    long = make_long(speech, listening.detector, seed=asked.seed, each=asked.long) if asked.long else ()
    for made in chain(usual, harder, long):
        audio_s += len(made.waveform) / SAMPLE_RATE_HZ
        screen.said, screen.doubt = WatchedScreen.said, None
        try:
            take = Take(as_wav(made.waveform), channels=ChannelPolicy.parse("mix"), limits=services.settings.audio)
            tracks = hear_tracks(
                take, listening, encoder, name=made.name, utterance_s=services.settings.audio.utterance_s
            )
        except InvalidAudio:
            continue
        voices = max(len(track.voices) for track in tracks)
        kind = kind_of(made)
        unlike = None
        if voices == 1 and screen.doubt is not None:
            ((_, vectors),) = embed_windows(take, [screen.doubt.windows], closer)
            unlike = finder.find(screen.doubt, vectors, closer.id)
            looked_s += speech_s(screen.doubt.windows)
        asks = unlike is not None
        for name in (kind, f"{kind}: {made.kind}"):
            tally = tallies.setdefault(name, Tally())
            tally.all += 1
            tally.sure += voices > 1
            tally.possible += asks
            tally.said.update([screen.said])
        if (kind == "one voice" and (voices > 1 or asks)) or (kind == "two voices" and voices == 1):
            listened = f", listen to {unlike.start_s:.1f} to {unlike.end_s:.1f} s" if unlike else ""
            sys.stdout.write(f"{made.name} ({made.second_s or 0:.1f} s): {screen.said}, {voices} found{listened}\n")
            sys.stdout.flush()
    sys.stdout.write(f"encoder {encoder.id}, seed {asked.seed}, {audio_s:.0f} s; ")
    sys.stdout.write(f"the diarizer embedded {WatchedDiarizer.embedded_s:.0f} s of windows, ")
    sys.stdout.write(f"a closer look for a second voice {looked_s:.0f} s\n")
    for kind, tally in sorted(tallies.items()):
        sys.stdout.write(f"{kind}: {tally}\n")
    services.close()


if __name__ == "__main__":
    main()
