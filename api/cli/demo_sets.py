"""What the demo runs on: who is enrolled with what, who is probed, who is kept out as an unknown voice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from api.cli.progress import TransferProgress
from indexer.archive import list_archive, nobody, read_speakers
from indexer.audio.rttm import overlap_free_turns, parse_rttm
from indexer.demo_data import fetch_demo_recordings
from indexer.errors import InvalidRequest
from indexer.file_integrity import make_private_dir
from indexer.settings import Settings

MIN_SPEECH_S = 8.0
"""A person needs this much speech of their own: half to enroll, half to probe. Below, it is a matter of luck."""

MIN_STRETCH_S = 1.5
"""Shorter turns are mostly "yeah" and "mm-hmm": little of anybody's voice."""
UNKNOWN_EVERY = 3
"""Every third person is not enrolled, so that the right answer for them is nobody."""

FILES_PER_SPEAKER = 6

_LIBRISPEECH_NAME = re.compile(r"^(?P<speaker>\d+)-\d+-\d+$")


@dataclass(frozen=True, slots=True)
class DemoProbe:
    """A recording whose speaker we know.

    Attributes
    ----------
    enrolled
        Whether the gallery may know them.
    speaks_in
        Recordings of the archive in which they speak for long enough to be found.
    """

    path: Path
    speaker: str
    enrolled: bool
    speaks_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoSet:
    """Everything the demo needs, as files."""

    title: str
    credit: str
    archive: tuple[Path, ...]
    enrollments: dict[str, tuple[Path, ...]]
    probes: tuple[DemoProbe, ...]


def meeting_excerpts(settings: Settings, progress: TransferProgress) -> DemoSet:
    """Cut excerpts of meetings, by their reference transcripts, into recordings of one voice each.

    The first half of a person's overlap-free speech is for enrollment, the second half for the probe.
    """
    folder = fetch_demo_recordings(settings.cache, offline=settings.offline, progress=progress)
    recordings = {path.stem: path for path in sorted(folder.glob("*.wav"))}
    turns = [turn for path in sorted(folder.glob("*.rttm")) for turn in parse_rttm(path)]
    by_speaker: dict[str, list[tuple[Path, float, float]]] = {}
    for turn in overlap_free_turns(turns, MIN_STRETCH_S):
        if turn.recording in recordings:
            stretch = (recordings[turn.recording], turn.start_s, turn.duration_s)
            by_speaker.setdefault(turn.speaker, []).append(stretch)
    spoken = {speaker: sum(duration for _, _, duration in found) for speaker, found in by_speaker.items()}
    people = sorted((speaker for speaker in spoken if spoken[speaker] >= MIN_SPEECH_S), key=lambda s: (-spoken[s], s))
    cut = settings.cache / "demo" / "cut"
    make_private_dir(cut)
    enrollments: dict[str, tuple[Path, ...]] = {}
    probes = []
    for position, speaker in enumerate(people, start=1):
        first, second = _halves(by_speaker[speaker])
        known = position % UNKNOWN_EVERY != 0
        if known:
            enrollments[speaker] = (_write_cut(cut / f"{speaker}-enroll.wav", first),)
        heard = _recordings_with(by_speaker[speaker], MIN_SPEECH_S / 2)
        probes.append(DemoProbe(_write_cut(cut / f"{speaker}-probe.wav", second), speaker, known, heard))
    return DemoSet(
        title=f"{len(recordings)} meeting excerpts; {len(people)} people speak alone for {MIN_SPEECH_S:.0f} s or more",
        credit="AMI Meeting Corpus (CC BY 4.0), excerpts from the test data of pyannote.audio 4.0.7",
        archive=tuple(recordings.values()),
        enrollments=enrollments,
        probes=tuple(probes),
    )


def labeled_recordings(data: Path, most_speakers: int) -> DemoSet:
    """Split labeled recordings: of each person half the files enroll and half probe; every third person is kept out.

    Parameters
    ----------
    data
        A CSV manifest with the columns path and speaker, or a folder with one folder for each speaker (LibriSpeech's
        speaker/chapter/utterance files are recognized by their names).

    Raises
    ------
    InvalidRequest
        If fewer than two speakers have two recordings.
    """
    if data.is_dir():
        labeled = [(file.path, _speaker_of(file.path)) for file in list_archive([data], nobody).files]
    else:
        labeled = [*read_speakers(data)]
    by_speaker: dict[str, list[Path]] = {}
    for path, speaker in labeled:
        if speaker:
            by_speaker.setdefault(speaker, []).append(path)
    usable = {speaker: sorted(files) for speaker, files in sorted(by_speaker.items()) if len(files) >= 2}
    if len(usable) < 2:
        raise InvalidRequest(
            f"{data}: {len(usable)} speakers with two recordings or more; the demo needs two: give a folder with one "
            "folder for each speaker, or a CSV manifest with the columns path and speaker"
        )
    enrollments: dict[str, tuple[Path, ...]] = {}
    probes = []
    for position, (speaker, files) in enumerate(list(usable.items())[:most_speakers], start=1):
        chosen = files[:FILES_PER_SPEAKER]
        known = position % UNKNOWN_EVERY != 0
        half = len(chosen) // 2
        if known:
            enrollments[speaker] = tuple(chosen[:half])
        probes += [DemoProbe(path, speaker, known) for path in chosen[half:]]
    taken = min(len(usable), most_speakers)
    return DemoSet(
        title=f"{data}: {taken} of {len(usable)} speakers with two recordings or more, up to {FILES_PER_SPEAKER} each",
        credit="",
        archive=(),
        enrollments=enrollments,
        probes=tuple(probes),
    )


def _speaker_of(path: Path) -> str:
    match = _LIBRISPEECH_NAME.match(path.stem)
    return match["speaker"] if match else path.parent.name


def _recordings_with(stretches: Sequence[tuple[Path, float, float]], least_s: float) -> tuple[str, ...]:
    """Name the recordings whose stretches last `least_s` or more together."""
    spoken: dict[str, float] = {}
    for path, _, duration_s in stretches:
        spoken[path.name] = spoken.get(path.name, 0.0) + duration_s
    return tuple(sorted(name for name, duration_s in spoken.items() if duration_s >= least_s))


def _halves(
    stretches: Sequence[tuple[Path, float, float]],
) -> tuple[list[tuple[Path, float, float]], list[tuple[Path, float, float]]]:
    """Split stretches in order of time at half of their summed length, cutting one in two where needed."""
    half = sum(duration for _, _, duration in stretches) / 2
    first, second = [], []
    so_far = 0.0
    for path, start_s, duration_s in stretches:
        take = min(duration_s, max(0.0, half - so_far))
        if take > 0:
            first.append((path, start_s, take))
        if take < duration_s:
            second.append((path, start_s + take, duration_s - take))
        so_far += duration_s
    return first, second


def _write_cut(target: Path, stretches: Sequence[tuple[Path, float, float]]) -> Path:
    import soundfile

    pieces = []
    for path, start_s, duration_s in stretches:
        with soundfile.SoundFile(path) as recording:
            recording.seek(round(start_s * recording.samplerate))
            pieces.append(recording.read(round(duration_s * recording.samplerate), dtype="float32", always_2d=True))
            rate = recording.samplerate
    soundfile.write(target, np.concatenate(pieces), rate, subtype="PCM_16")
    return target
