"""Who speaks when: RTTM files, and the stretches in which one speaker is heard alone."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import CorruptArtifact


@dataclass(frozen=True)
class RttmTurn:
    """One stretch of one speaker's speech; turns of several speakers may overlap.

    Attributes
    ----------
    recording : str
        The recording's name without its extension.
    start_s, duration_s : float
        Place in the recording, in seconds.
    speaker : str
        The speaker's label.
    """

    recording: str
    start_s: float
    duration_s: float
    speaker: str

    @property
    def end_s(self) -> float:
        """Where the turn ends, in seconds."""
        return self.start_s + self.duration_s


def parse_rttm(path: Path) -> list[RttmTurn]:
    """Read the SPEAKER lines of an RTTM file, in file order.

    Raises
    ------
    CorruptArtifact
        If a SPEAKER line has fewer than eight fields, or a time that is not a number of seconds.

    References
    ----------
    NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A: type, file, channel,
    onset, duration, orthography, subtype, name, confidence, look-ahead.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path} is not UTF-8 text (byte {error.start}); an RTTM file is") from error
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":  # comments start with ;;, other types describe words and noises
            continue
        if len(fields) < 8:
            raise CorruptArtifact(f"{path}, line {number}: {len(fields)} fields, a SPEAKER line has at least 8")
        start_s, duration_s = (_seconds(field, path, number) for field in fields[3:5])
        turns.append(RttmTurn(fields[1], start_s, duration_s, fields[7]))
    return turns


def format_rttm(turns: Iterable[RttmTurn]) -> str:
    """Write turns as SPEAKER lines, in the order given, times to the millisecond; `parse_rttm` reads them back.

    Fields are parted by spaces, so that spaces in names become underscores.
    """
    return "".join(
        f"SPEAKER {_name(turn.recording)} 1 {turn.start_s:.3f} {turn.duration_s:.3f} "
        f"<NA> <NA> {_name(turn.speaker)} <NA> <NA>\n"
        for turn in turns
    )


def _name(text: str) -> str:
    return "_".join(text.split()) or "<NA>"


def _seconds(field: str, path: Path, number: int) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise CorruptArtifact(f"{path}, line {number}: {field!r} is not a number of seconds from 0 up")
    return value


def overlap_free_turns(turns: Iterable[RttmTurn], min_s: float = 0.0) -> list[RttmTurn]:
    """Cut turns down to the stretches in which exactly one speaker is talking.

    Turns of one speaker that touch or overlap become one stretch.

    Parameters
    ----------
    turns : iterable of RttmTurn
        Of any number of recordings, in any order.
    min_s : float
        Shorter stretches are left out.

    Returns
    -------
    list of RttmTurn
        Sorted by recording, then start. No two of a recording overlap, and none overlaps a turn of another speaker.
    """
    by_recording: dict[str, list[RttmTurn]] = defaultdict(list)
    for turn in turns:
        if turn.duration_s > 0:
            by_recording[turn.recording].append(turn)
    alone = []
    for recording in sorted(by_recording):
        alone += [turn for turn in _alone(recording, by_recording[recording]) if turn.duration_s >= min_s]
    return alone


def _alone(recording: str, turns: list[RttmTurn]) -> list[RttmTurn]:
    """Sweep over the times at which somebody starts or stops."""
    events = sorted({time for turn in turns for time in (turn.start_s, turn.end_s)})
    changes: dict[float, list[tuple[str, int]]] = defaultdict(list)
    for turn in turns:
        changes[turn.start_s].append((turn.speaker, 1))
        changes[turn.end_s].append((turn.speaker, -1))
    talking: dict[str, int] = defaultdict(int)
    stretches: list[RttmTurn] = []
    speaker: str | None = None
    since = 0.0
    for time in events:
        for name, change in changes[time]:
            talking[name] += change
            if talking[name] == 0:
                del talking[name]
        sole = next(iter(talking)) if len(talking) == 1 else None
        if sole != speaker:
            if speaker is not None:
                stretches.append(RttmTurn(recording, since, time - since, speaker))
            speaker, since = sole, time
    return stretches
