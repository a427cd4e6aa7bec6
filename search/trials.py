"""What is to be compared with what, and who speaks: trial lists, labeled manifests, and the pairs they make."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest

Role = Literal["enroll", "probe"]

MOST_PAIRS = 200_000_000
"""Pairs that are held at once, about 2 GB; more speakers than that are drawn from, not listed."""

_ENROLL = ("enroll", "enrollment", "enrolled", "reference", "file1", "path1", "a")
_PROBE = ("probe", "test", "file2", "path2", "b")
_LABEL = ("target", "label", "is_target", "same", "key")
_TRUE = frozenset({"1", "true", "target", "tgt", "same", "yes"})
_FALSE = frozenset({"0", "false", "nontarget", "non-target", "imp", "imposter", "impostor", "different", "no"})
_PATH = ("path", "file", "uri")


@dataclass(frozen=True, slots=True)
class LabeledRecording:
    """A recording of which it is known who speaks.

    Attributes
    ----------
    path
        As it is written, below the audio root.
    speaker
        None where a trial list does not tell.
    set
        The part of the data it belongs to; pairs and figures are made within it.
    session
        The occasion; recordings of one speaker and one session sound alike.
    role
        Whether it is enrolled or looked up; None where the protocol decides.
    original
        What it is a copy of (a cut, with noise, over a telephone); empty where it is none. Copies of one recording
        are no trial.
    """

    path: str
    speaker: str | None = None
    set: str = ""
    session: str = ""
    role: Role | None = None
    original: str = ""


@dataclass(frozen=True, slots=True)
class TrialList:
    """Pairs of recordings, and whether both are of one speaker.

    Attributes
    ----------
    recordings
        Each of them once; their speakers are known.
    enroll, probe
        (n,) int64 places in `recordings`.
    is_target
        (n,) bool.
    """

    recordings: tuple[LabeledRecording, ...]
    enroll: NDArray[np.int64]
    probe: NDArray[np.int64]
    is_target: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.is_target)

    def take(self, rows: NDArray[np.bool_]) -> "TrialList":
        """Return some of the trials, of the same recordings."""
        return TrialList(self.recordings, self.enroll[rows], self.probe[rows], self.is_target[rows])

    @property
    def speakers(self) -> tuple[list[str], list[str]]:
        """Who is heard on either side of each trial."""
        names = [recording.speaker or recording.path for recording in self.recordings]
        return [names[place] for place in self.enroll], [names[place] for place in self.probe]

    @property
    def sets(self) -> NDArray[np.str_]:
        """(n,) the set of each trial: that of its probe."""
        return np.array([recording.set for recording in self.recordings], dtype=np.str_)[self.probe]


def read_manifest(path: Path) -> list[LabeledRecording]:
    """Read a CSV (or TSV) with a header: path, speaker; where known role (enroll or probe), set, session, original.

    Rows that name no speaker are left out.

    Raises
    ------
    InvalidRequest
        If a column is missing, a row lacks its path, a role is neither, or a path comes twice; the message
        names the file and the line.
    """
    recordings: list[LabeledRecording] = []
    lines: dict[str, int] = {}
    for line, row in _table(path, (_PATH, ("speaker",))):
        file, speaker = _first(row, _PATH), _first(row, ("speaker",))
        if not speaker:  # Noises and the like: of no use here.
            continue
        if not file:
            raise InvalidRequest(f"{path}:{line}: speaker {speaker} and no path; name the recording")
        role = _first(row, ("role",)).lower()
        if role not in ("", "enroll", "probe"):
            raise InvalidRequest(f"{path}:{line}: role {role!r}; give enroll or probe, or leave it empty")
        if file in lines:
            raise InvalidRequest(f"{path}:{line}: {file} is in line {lines[file]} already; name each recording once")
        lines[file] = line
        known: dict[str, Role | None] = {"enroll": "enroll", "probe": "probe", "": None}
        recordings.append(
            LabeledRecording(
                file,
                speaker,
                _first(row, ("set",)),
                _first(row, ("session",)),
                known[role],
                _first(row, ("original",)),
            )
        )
    if not recordings:
        raise InvalidRequest(f"{path}: no recordings whose speaker is named; a row is a path and a speaker")
    return recordings


def read_trials(path: Path) -> TrialList:
    """Read a trial list: lines of `1 a.wav b.wav` (VoxCeleb), or a CSV with enroll, probe and target columns.

    Labels are 1 and 0, or target and nontarget. Speakers are taken from who is said to be one with whom: recordings
    that target trials join are of one speaker.

    Raises
    ------
    InvalidRequest
        If a line is no trial, or nontarget trials contradict what target trials join; the message names the file and
        the line.
    """
    places: dict[str, int] = {}
    sets: list[str] = []
    trials: list[tuple[int, int, bool, int]] = []
    for line, enroll, probe, target, group in _trials_of(path):
        numbers = []
        for name in (enroll, probe):
            if name not in places:
                sets.append(group)
            numbers.append(places.setdefault(name, len(places)))
        trials.append((numbers[0], numbers[1], target, line))
    if not trials:
        raise InvalidRequest(f"{path}: no trials; a line is a label and two recordings, as in `1 a.wav b.wav`")
    speakers = _joined(len(places), ((first, second) for first, second, target, _ in trials if target))
    for first, second, target, line in trials:
        if not target and speakers[first] == speakers[second]:
            raise InvalidRequest(
                f"{path}:{line}: a nontarget trial of two recordings that target trials say are of one speaker; "
                "correct its label"
            )
    names = list(places)
    recordings = tuple(LabeledRecording(name, names[speakers[number]], sets[number]) for name, number in places.items())
    columns = np.array([trial[:2] for trial in trials], dtype=np.int64)
    return TrialList(recordings, columns[:, 0], columns[:, 1], np.array([trial[2] for trial in trials], dtype=bool))


def all_pairs(
    recordings: Sequence[LabeledRecording], *, within: Literal["set", "all"] = "set", across_sessions: bool = False
) -> TrialList:
    """Pair every recording with every later one.

    Parameters
    ----------
    within
        "set": only pairs of one set.
    across_sessions
        Leave out target pairs of one session, which are easier than what is asked in practice.

    Raises
    ------
    InvalidRequest
        If that is more than `MOST_PAIRS`.
    """
    groups: dict[str, list[int]] = {}
    for number, recording in enumerate(recordings):
        groups.setdefault(recording.set if within == "set" else "", []).append(number)
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    if pairs > MOST_PAIRS:
        raise InvalidRequest(f"{pairs:,} pairs, at most {MOST_PAIRS:,} are compared: name fewer recordings, or trials")
    enroll, probe = [], []
    for group in groups.values():
        first, second = np.triu_indices(len(group), 1)
        enroll.append(np.array(group, dtype=np.int64)[first])
        probe.append(np.array(group, dtype=np.int64)[second])
    a, b = np.concatenate(enroll), np.concatenate(probe)
    speakers = _numbers(recording.speaker or recording.path for recording in recordings)
    same = speakers[a] == speakers[b]
    trials = TrialList(tuple(recordings), a, b, same)
    if not across_sessions:
        return trials
    sessions = _numbers((recording.speaker, recording.session) for recording in recordings)
    return trials.take(~(same & (sessions[a] == sessions[b])))


def part_of(recordings: Iterable[LabeledRecording], part: int, parts: int) -> list[LabeledRecording]:
    """Keep the recordings of every so manyth speaker, told apart by a hash of the name: the same in every run.

    Raises
    ------
    InvalidRequest
        If there is no such part.
    """
    if not 1 <= part <= parts:
        raise InvalidRequest(f"part {part} of {parts}: give a number from 1 to {parts}")
    return [recording for recording in recordings if _hash(recording.speaker or recording.path) % parts == part - 1]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _numbers(labels: Iterable[object]) -> NDArray[np.int64]:
    known: dict[object, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.int64)


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the lowest number of those each one is joined with, directly or through others."""
    root = list(range(count))

    def top(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    for first, second in pairs:
        a, b = top(first), top(second)
        root[max(a, b)] = min(a, b)
    return [top(number) for number in range(count)]


def _trials_of(path: Path) -> Iterator[tuple[int, str, str, bool, str]]:
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    words = first.split()
    if len(words) == 3 and words[0].lower() in _TRUE | _FALSE:
        for line, content in enumerate(text.splitlines(), start=1):
            words = content.split()
            if not words:
                continue
            if len(words) != 3:
                raise InvalidRequest(f"{path}:{line}: {len(words)} words; a trial is a label and two recordings")
            yield line, words[1], words[2], _label(path, line, words[0]), ""
        return
    for line, row in _table(path, (_ENROLL, _PROBE, _LABEL)):
        enroll, probe = _first(row, _ENROLL), _first(row, _PROBE)
        if not enroll or not probe:
            raise InvalidRequest(f"{path}:{line}: no {'probe' if enroll else 'enroll'}; a trial has two recordings")
        yield line, enroll, probe, _label(path, line, _first(row, _LABEL)), _first(row, ("set",))


def _label(path: Path, line: int, word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise InvalidRequest(f"{path}:{line}: label {word!r}; give 1 or target, 0 or nontarget")


def _table(path: Path, needed: Sequence[Sequence[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV by lower-case column, with their lines; one column of each needed kind must be there."""
    text = _text(path)
    header = text.splitlines()[0] if text else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    columns = [(column or "").strip().lower() for column in reader.fieldnames or []]
    for names in needed:
        if not set(names) & set(columns):
            other = "; or give lines of `1 a.wav b.wav` (1: one speaker, 0: two)" if "enroll" in names else ""
            raise InvalidRequest(f"{path}:1: columns [{', '.join(columns)}]; one must be named {names[0]}{other}")
    reader.fieldnames = columns
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InvalidRequest(f"{path}:{reader.reader.line_num}: no CSV row ({error})") from error
        if row is None:
            return
        if None in row:
            raise InvalidRequest(f"{path}:{reader.line_num}: more values than the {len(columns)} columns")
        yield reader.line_num, {name: (value or "").strip() for name, value in row.items()}


def _first(row: dict[str, str], names: Sequence[str]) -> str:
    return next((row[name] for name in names if row.get(name)), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidRequest(f"{path}: no such file; check the path") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
