"""Speech that somebody marked before: RTTM, the labels of Audacity, or CSV."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from indexer.audio.regions import Region
from indexer.audio.rttm import RttmTurn, parse_rttm
from indexer.errors import CorruptArtifact, NotFound, UnsupportedFormat

LABEL_SUFFIXES = {".rttm", ".csv", ".txt", ".lab", ".tsv"}
"""Files that are read from a folder."""

_NOBODY = "speech"
"""Speaker of a mark that names none."""


def read_speech_files(path: Path) -> dict[str, list[RttmTurn]]:
    """Read where somebody speaks, by the name of the recording without its extension.

    An RTTM file may speak of many recordings and names them. A file of labels or a CSV is about the recording that is
    called like it. Of a folder, every such file is read, however deep.

    Raises
    ------
    NotFound
        If there is no such file or folder, or a folder holds none.
    CorruptArtifact
        If a file is damaged; the message names file and line.
    UnsupportedFormat
        If it is of another kind, by its extension.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in LABEL_SUFFIXES and file.is_file())
    elif path.is_file():
        files = [path]
    else:
        raise NotFound(f"{path}: no such file or folder; give one of {', '.join(sorted(LABEL_SUFFIXES))}")
    if not files:
        raise NotFound(f"{path}: no file of {', '.join(sorted(LABEL_SUFFIXES))} in it")
    turns: dict[str, list[RttmTurn]] = defaultdict(list)
    for file in files:
        found = _read(file)
        if file.suffix.lower() != ".rttm":
            turns[file.stem] += []  # a file without a mark says that nobody speaks
        for turn in found:
            turns[turn.recording].append(turn)
    return {name: sorted(marked, key=lambda turn: (turn.start_s, turn.end_s)) for name, marked in turns.items()}


def turn_regions(turns: Iterable[RttmTurn]) -> list[Region]:
    """Return where anybody speaks; turns of one recording that touch or overlap are one region."""
    regions: list[Region] = []
    for start_s, end_s in sorted((turn.start_s, turn.end_s) for turn in turns if turn.duration_s > 0):
        if regions and start_s <= regions[-1].end_s:
            regions[-1] = Region(regions[-1].start_s, max(end_s, regions[-1].end_s))
        else:
            regions.append(Region(start_s, end_s))
    return regions


def _read(path: Path) -> list[RttmTurn]:
    suffix = path.suffix.lower()
    if suffix == ".rttm":
        return parse_rttm(path)
    if suffix not in LABEL_SUFFIXES:
        raise UnsupportedFormat(f"{path}: give speech as one of {', '.join(sorted(LABEL_SUFFIXES))}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    rows = [(number, _fields(line, by_comma=suffix == ".csv")) for number, line in lines]
    if suffix == ".csv" and rows and rows[0][1][0].strip().lower() in {"start", "start_s"}:
        rows = rows[1:]
    # Audacity follows a label with a line of frequencies, which begins with a backslash.
    return [_turn(path, number, fields) for number, fields in rows if not fields[0].startswith("\\")]


def _fields(line: str, *, by_comma: bool) -> list[str]:
    if by_comma:
        return next(csv.reader([line]))
    return line.split("\t") if "\t" in line else line.split(None, 2)


def _turn(path: Path, number: int, fields: list[str]) -> RttmTurn:
    if len(fields) < 2:
        raise CorruptArtifact(
            f"{path}, line {number}: {len(fields)} field; a mark is start, end and, if known, speaker"
        )
    start_s, end_s = (_seconds(path, number, field) for field in fields[:2])
    if end_s < start_s:
        raise CorruptArtifact(f"{path}, line {number}: ends at {end_s:g} s, before it begins at {start_s:g} s")
    speaker = fields[2].strip() if len(fields) > 2 else ""
    return RttmTurn(path.stem, start_s, end_s - start_s, speaker or _NOBODY)


def _seconds(path: Path, number: int, field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise CorruptArtifact(f"{path}, line {number}: {field.strip()!r} is not a number of seconds from 0 up")
    return value
