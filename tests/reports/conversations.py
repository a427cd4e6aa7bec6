"""Conversations whose truth is known: `python -m tests.reports.conversations FOLDER OUT`.

Turns of 0.5 to 8 s of two to six speakers are joined into WAV files, each with its RTTM beside it, with and without
pauses between turns, at equal and unequal levels; `voxdex evaluate diarization OUT` measures what is made of them.
FOLDER holds a manifest.csv (path, speaker, set, ...). The truth is where the pieces themselves are active: frames of
10 ms less than 35 dB below the piece's loud parts and 10 dB above its noise, pauses under 0.3 s bridged. Speakers fall
into halves by the hash of their names, so that parameters chosen on one half can be reported on the other.
"""

import argparse
import csv
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from api.evaluation.copies import CopyMaker
from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.audio.rttm import RttmTurn, format_rttm
from indexer.settings import AudioSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

Span = tuple[float, float]

SETS = ("librispeech_multi", "librispeech_testother", "librispeech_251")
TURN_S = (0.5, 8.0)
PAUSE_S = (0.2, 1.5)
LEVEL_DBFS = -26.0
UNEQUAL_DB = 8.0
"""Speakers of unequal levels lie up to so much above or below the common one."""
FLOOR_DBFS = -75.0
"""Noise under everything: digital silence between turns would be no recording."""
_FRAME_S = 0.01
_ACTIVE_DB, _ABOVE_FLOOR_DB, _QUIETEST_DB = 35.0, 10.0, 20.0
_BRIDGED_S = 0.3
_FADE = round(0.005 * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Recipe:
    """How a conversation is put together.

    Attributes
    ----------
    speakers
        How many talk.
    pauses
        Whether there are pauses of `PAUSE_S` between turns; else one turn begins where the other ends.
    equalized
        Whether every piece is brought to the same level.
    overlap_share
        Share of turns that begin 0.3 to 1 s before the previous one ends.
    most_speaker_s
        Most seconds of one speaker.
    turn_s
        Shortest and longest turn.
    """

    speakers: int
    pauses: bool
    equalized: bool
    overlap_share: float = 0.0
    most_speaker_s: float = 40.0
    turn_s: Span = TURN_S

    @property
    def name(self) -> str:
        """What the recipe is called in file names."""
        gaps = "pauses" if self.pauses else "dense"
        levels = "equal" if self.equalized else "unequal"
        return f"{self.speakers}-{gaps}-{levels}" + ("-overlap" if self.overlap_share else "")


@dataclass(frozen=True)
class Conversation:
    """Samples at 16 kHz, and who speaks when."""

    waveform: Waveform
    turns: list[RttmTurn]


def half_of(speaker: str) -> str:
    """Return "a" or "b", for ever the same for a speaker."""
    return "ab"[zlib.crc32(speaker.encode()) >> 7 & 1]


def read_material(
    folder: Path, *, sets: Sequence[str] = SETS, half: str | None = None, least_s: float = 8.0
) -> dict[str, list[Path]]:
    """List the recordings of each speaker of the sets, or of one half of them, who has `least_s` seconds to say."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["set"] in sets]
    material: dict[str, list[Path]] = {}
    seconds: dict[str, float] = {}
    for row in rows:
        speaker = row["speaker"]
        if half is None or half_of(speaker) == half:
            material.setdefault(speaker, []).append(folder / row["path"])
            seconds[speaker] = seconds.get(speaker, 0.0) + float(row["seconds"])
    return {speaker: sorted(material[speaker]) for speaker in sorted(material) if seconds[speaker] >= least_s}


def decode_mono(path: Path) -> Waveform:
    """Decode a whole recording to mono."""
    limits = AudioSettings()
    with open_audio(path, channels=ChannelPolicy.parse("mix"), limits=limits) as reader:
        return np.concatenate([block[0] for block in reader.blocks()])


def active_spans(waveform: Waveform) -> list[Span]:
    """Find where a clean piece is active, in seconds: by level, with short pauses bridged."""
    size = round(_FRAME_S * SAMPLE_RATE_HZ)
    frames = len(waveform) // size
    power = np.square(waveform[: frames * size].astype(np.float64)).reshape(frames, size).mean(axis=1)
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    level_db = 10 * np.log10(smooth + 1e-12)
    floor_db, loud_db = np.percentile(level_db, [5, 95])
    active = level_db > max(loud_db - _ACTIVE_DB, min(floor_db + _ABOVE_FLOOR_DB, loud_db - _QUIETEST_DB))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    spans: list[Span] = []
    for start, end in zip(edges[::2] * _FRAME_S, edges[1::2] * _FRAME_S, strict=True):
        if spans and start - spans[-1][1] < _BRIDGED_S:
            spans[-1] = (spans[-1][0], float(end))
        elif end - start >= 3 * _FRAME_S:
            spans.append((float(start), float(end)))
    return spans


class _Speaker:
    """The material of one speaker, handed out turn by turn and never twice."""

    def __init__(self, name: str, paths: Sequence[Path], most_s: float, rng: np.random.Generator) -> None:
        self.name = name
        self._paths = [paths[place] for place in rng.permutation(len(paths))]
        self._left_s = most_s
        self._piece: Waveform = np.zeros(0, dtype=np.float32)
        self._spans: list[Span] = []
        self._at = 0.0

    def next_turn(self, wanted_s: float, level_db: float) -> tuple[Waveform, list[Span]] | None:
        """Cut the next `wanted_s` seconds that begin and end in speech; None where the material is used up."""
        while self._left_s >= TURN_S[0]:
            left = [(max(start, self._at), end) for start, end in self._spans if end - self._at > _BRIDGED_S]
            if left and left[-1][1] - left[0][0] >= TURN_S[0]:
                return self._cut(left, wanted_s, level_db)
            if not self._paths:
                return None
            self._piece = decode_mono(self._paths.pop(0))
            self._spans, self._at = active_spans(self._piece), 0.0
        return None

    def _cut(self, left: list[Span], wanted_s: float, level_db: float) -> tuple[Waveform, list[Span]]:
        start = left[0][0]
        stop = min(start + max(wanted_s, TURN_S[0]), left[-1][1])
        spans = [(a - start, min(b, stop) - start) for a, b in left if a < stop - 0.05]
        stop = start + spans[-1][1]
        self._at = stop
        self._left_s -= stop - start
        turn = self._piece[round(start * SAMPLE_RATE_HZ) : round(stop * SAMPLE_RATE_HZ)].copy()
        fade = np.linspace(0, 1, _FADE, dtype=np.float32)
        turn[:_FADE] *= fade
        turn[-_FADE:] *= fade[::-1]
        turn *= 10 ** (level_db / 20) / max(float(np.sqrt(np.mean(np.square(turn)))), 1e-4)
        return turn, spans


def make_conversation(material: dict[str, list[Path]], recipe: Recipe, *, seed: int, name: str) -> Conversation:
    """Join turns of speakers drawn by chance, until only one of them has anything left to say."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(sorted(material), recipe.speakers, replace=False)
    talking = [_Speaker(speaker, material[speaker], recipe.most_speaker_s, rng) for speaker in chosen]
    spread = 0.0 if recipe.equalized else UNEQUAL_DB
    levels = {speaker: LEVEL_DBFS + rng.uniform(-spread, spread) for speaker in chosen}
    placed: list[tuple[float, Waveform]] = []
    turns: list[RttmTurn] = []
    end_s, last = 0.3, None
    while len(talking) > 1 or last is None:
        speaker = rng.choice([one for one in talking if one is not last])  # type: ignore[arg-type]
        turn = speaker.next_turn(rng.uniform(*recipe.turn_s), levels[speaker.name])
        if turn is None:
            talking.remove(speaker)
            continue
        waveform, spans = turn
        start_s = end_s + (rng.uniform(*PAUSE_S) if recipe.pauses else 0.0)
        if last is not None and rng.uniform() < recipe.overlap_share:
            start_s = max(end_s - rng.uniform(0.3, 1.0), 0.0)
        start_s = round(start_s * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        placed.append((start_s, waveform))
        turns += [RttmTurn(name, start_s + a, b - a, speaker.name) for a, b in spans]
        end_s, last = max(end_s, start_s + len(waveform) / SAMPLE_RATE_HZ), speaker
    samples = rng.normal(0.0, 10 ** (FLOOR_DBFS / 20), round((end_s + 0.3) * SAMPLE_RATE_HZ)).astype(np.float32)
    for start_s, waveform in placed:
        first = round(start_s * SAMPLE_RATE_HZ)
        samples[first : first + len(waveform)] += waveform
    return Conversation(np.clip(samples, -1, 1), turns)


def recipes(*, most_speaker_s: float, overlap_share: float, turn_s: Span = TURN_S) -> list[Recipe]:
    """Return every number of speakers, with and without pauses, at equal and unequal levels."""
    return [
        Recipe(speakers, pauses, equalized, overlap_share, most_speaker_s, turn_s)
        for speakers in range(2, 7)
        for pauses in (True, False)
        for equalized in (True, False)
    ]


def write_conversations(
    out: Path,
    material: dict[str, list[Path]],
    wanted: Sequence[Recipe],
    *,
    seed: int,
    rounds: int,
    copies: CopyMaker | None = None,
) -> int:
    """Write every recipe so many times, or a worse copy of each; return how many conversations that are."""
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for _ in range(rounds):
        for recipe in wanted:
            number = seed + written
            name = f"conversation-{number:04}-{recipe.name}"
            conversation = make_conversation(material, recipe, seed=number, name=name)
            soundfile.write(out / f"{name}.wav", conversation.waveform, SAMPLE_RATE_HZ, "PCM_16")
            if copies is not None:
                for condition in copies.conditions:
                    (out / f"{name}.wav").write_bytes(copies.make(out / f"{name}.wav", condition))
            (out / f"{name}.rttm").write_text(format_rttm(conversation.turns), encoding="utf-8")
            written += 1
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Write conversations as the command line asks."""
    parser = argparse.ArgumentParser(description="Make conversations whose truth is known.")
    parser.add_argument("folder", type=Path, help="folder of speech with a manifest.csv")
    parser.add_argument("out", type=Path, help="folder to write WAV and RTTM files to")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="sets of the manifest")
    parser.add_argument("--half", choices=["a", "b"], help="only speakers of this half")
    parser.add_argument("--seed", type=int, default=1, help="of the first conversation; the others follow")
    parser.add_argument("--rounds", type=int, default=1, help="conversations of each recipe")
    parser.add_argument("--most-speaker-s", type=float, default=40.0, help="most seconds of one speaker")
    parser.add_argument("--overlap-share", type=float, default=0.0, help="share of turns that begin too early")
    parser.add_argument("--turn-s", type=float, nargs=2, default=list(TURN_S), help="shortest and longest turn")
    parser.add_argument("--condition", help="telephone, noise10, reverb, ... (noise/ and rir/ are in FOLDER)")
    given = parser.parse_args(arguments)
    material = read_material(given.folder, sets=given.sets, half=given.half)
    wanted = recipes(
        most_speaker_s=given.most_speaker_s,
        overlap_share=given.overlap_share,
        turn_s=(given.turn_s[0], given.turn_s[1]),
    )
    copies = given.condition and CopyMaker(
        [given.condition],
        noise_folder=given.folder / "noise",
        rir_folder=given.folder / "rir",
        seed=given.seed,
        limits=AudioSettings(),
    )
    written = write_conversations(given.out, material, wanted, seed=given.seed, rounds=given.rounds, copies=copies)
    sys.stdout.write(f"{written} conversations in {given.out}\n")


if __name__ == "__main__":
    main()
