"""Answers about voices as a person reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.cli.output import counted, outcome_text, print_line, print_notice, print_table, terminal_width
from api.cli.score_bars import CELLS, score_bar
from api.schemas.voices import (
    Candidate,
    CompareAnswer,
    IdentifyAnswer,
    OperatingPoint,
    ProbeHeard,
    SearchAnswer,
    VerifyAnswer,
    VoiceIdentified,
)
from search.evidence import llr_in_words

_UNCALIBRATED = "uncalibrated"
_TURNS_SHOWN = 3

_ROOM_FOR_ALL = 150
"""Width of a terminal under which a table of candidates says less of each, rather than break its lines."""

_ROOM_FOR_BARS = 100
"""Width under which bars are half as long."""

_LIKELY = 5
"""Column of the evidence in that table."""

_WORTH_FOUND = 3
"""The same in a table of recordings."""


def print_identifications(answers: Sequence[tuple[Path, IdentifyAnswer]]) -> None:
    """Print a table of who speaks where, what makes it less sure, and where the decisions were made."""
    rows: list[list[Any]] = []
    room = terminal_width()
    bar = CELLS if room is None or room >= _ROOM_FOR_BARS else CELLS // 2
    for file, answer in answers:
        # Each voice states its own, and where there are several, that the first is meant is not so here.
        _print_notices(str(file), answer, () if answer.voices else answer.warnings)
        for voice in answer.voices:
            _print_voice_notices(file, answer, voice)
        if not answer.voices:
            rows.append([str(file), outcome_text("not enough speech", good=False), "", None, "", "", None, None])
        for voice in answer.voices:
            rows += _rows_of(_label(file, answer, voice), voice, bar)
    scale = f"0{'┃ threshold':^{bar - 2}}1" if bar == CELLS else "0 to 1"
    columns = ["recording", "decision", "candidate", "score", scale, "how likely", "margin", "enrollments"]
    if room is not None and room < _ROOM_FOR_ALL:
        columns[_LIKELY] = "times likelier"
        rows = [[*row[:_LIKELY], _shortened(row[_LIKELY])] for row in rows]
    print_table(columns[: len(rows[0])] if rows else columns, rows)
    for point in dict.fromkeys(point_in_words(answer.operating_point) for _, answer in answers if answer.voices):
        print_line(f"identified at {point}")


def print_verification(file: str, against: str, answer: VerifyAnswer | CompareAnswer) -> None:
    """Print a decision about a claim on one line, with what makes it less sure."""
    if isinstance(answer, VerifyAnswer):
        _print_notices(file, answer, answer.warnings)
    else:
        _print_notices(file, answer.first, answer.warnings)
        _print_notices(against, answer.second, ())
    if answer.score is None:
        print_line(f"not enough speech: {file} against {against}")
        return
    worth = llr_in_words(answer.llr) if answer.llr is not None else _UNCALIBRATED
    print_line(f"{answer.decision}: {file} against {against}: score {answer.score:.3f}, {worth}")
    print_line(f"accepted at {point_in_words(answer.operating_point)}")


def print_occurrences(file: str, gallery: str, answer: SearchAnswer) -> None:
    """Print the recordings in which a voice occurs, and how they were told."""
    _print_notices(file, answer, answer.warnings)
    rows: list[list[Any]] = []
    for recording in answer.recordings:
        stretches = ", ".join(f"{stretch.start_s:.1f}-{stretch.end_s:.1f}" for stretch in recording.stretches)
        stretches += ", ..." if recording.truncated else ""
        worth = _UNCALIBRATED if recording.llr is None else llr_in_words(recording.llr)
        known = ", ".join(recording.speakers)
        rows.append([recording.recording_id, recording.uri, recording.score, worth, stretches, known])
    if rows:
        columns = ["id", "recording", "score", "how likely", "stretches (s)", "known as"]
        room = terminal_width()
        if room is not None and room < _ROOM_FOR_ALL:
            columns[_WORTH_FOUND] = "times likelier"
            rows = [[*row[:_WORTH_FOUND], _shortened(row[_WORTH_FOUND]), *row[_WORTH_FOUND + 1 :]] for row in rows]
        print_table(columns, rows)
    if answer.decision == "not_enough_speech":
        print_line("not enough speech to search with")
        return
    print_line(
        f"{counted(answer.found, 'recording')} with this voice in gallery {gallery}, found at "
        f"{point_in_words(answer.operating_point)}"
    )
    if answer.found < len(answer.recordings):
        print_line("recordings below that are merely the nearest there are")
    if answer.eligible is not None:
        print_line(f"the filter leaves {counted(answer.eligible, 'utterance')}")
    if answer.truncated:
        print_line("there are more: only the best utterances were looked at; raise --threshold or --top-k")


def point_in_words(point: OperatingPoint) -> str:
    """Say where decisions are made and on whose word: "llr 5.10 or more (at most 1 % ...; from the setting)"."""
    if point.llr_threshold is not None:
        edge = f"llr {point.llr_threshold:.2f} or more"
        if point.score_threshold is not None:
            edge += f", here a score of {point.score_threshold:.3f}"
    else:
        edge = f"a score of {point.score_threshold:.3f} or more"
    if point.possible_llr_threshold is not None:
        edge += f"; possible from llr {point.possible_llr_threshold:.2f} on"
    elif point.llr_threshold is None and point.possible_score_threshold is not None:
        edge += f"; possible from {point.possible_score_threshold:.3f} on"
    promise = f"{point.asked}; " if point.llr_threshold is not None else ""
    return f"{edge} ({promise}from the {point.source}{'' if point.calibration_id else '; ' + _UNCALIBRATED})"


def _rows_of(label: str, voice: VoiceIdentified, bar: int) -> list[list[Any]]:
    decided = voice.speaker or voice.decision.replace("_", " ")
    shown = outcome_text(decided, good=voice.decision == "identified")
    if not voice.candidates:
        nobody = "" if voice.decision == "not_enough_speech" else "(nobody to compare with)"
        return [[label, shown, nobody, None, "", "", None, None]]
    point = voice.operating_point
    return [
        [
            label if candidate.rank == 1 else "",
            shown if candidate.rank == 1 else "",
            candidate.speaker,
            candidate.score,
            score_bar(candidate.score, point.score_threshold, point.possible_score_threshold, width=bar),
            _worth(candidate),
            candidate.margin,
            candidate.enrollments,
        ]
        for candidate in voice.candidates
    ]


def _shortened(worth: str) -> str:
    """Say "1,200 times likelier if it is the same person" in a narrow column: "1,200 if the same"."""
    short = worth.replace(" times likelier if it is", " if").replace("the same person", "the same")
    return short.replace("another person", "another")


def _worth(candidate: Candidate) -> str:
    return _UNCALIBRATED if candidate.llr is None else llr_in_words(candidate.llr)


def _name(file: Path, answer: IdentifyAnswer, voice: VoiceIdentified) -> str:
    """Name a recording, and the voice in it where there are several, as `voxdex diarize` and RTTM number them."""
    if len(answer.voices) == 1:
        return str(file) if voice.channel is None else f"{file} (channel {voice.channel})"
    return f"{file}: voice {voice.voice + 1}" + ("" if voice.channel is None else f" of channel {voice.channel}")


def _label(file: Path, answer: IdentifyAnswer, voice: VoiceIdentified) -> str:
    """Name a voice, and where there are several, how much and when it speaks."""
    if len(answer.voices) == 1:
        return _name(file, answer, voice)
    turns = [f"{turn.start_s:.1f}-{turn.end_s:.1f}" for turn in voice.turns[:_TURNS_SHOWN]]
    more = ", ..." if len(voice.turns) > _TURNS_SHOWN else ""
    return f"{_name(file, answer, voice)}, {voice.quality.net_speech_s:.1f} s ({', '.join(turns)}{more} s)"


def _print_voice_notices(file: Path, answer: IdentifyAnswer, voice: VoiceIdentified) -> None:
    for warning in voice.warnings:
        if warning not in answer.issues:  # What is said of the whole recording is said once.
            print_notice(f"{_name(file, answer, voice)}: {warning.removeprefix(f'{file}: ')}")


def _print_notices(file: str, heard: ProbeHeard, warnings: Sequence[str]) -> None:
    for issue in heard.issues:
        print_notice(issue if issue.startswith(file) else f"{file}: {issue}")
    for warning in warnings:
        print_notice(f"{file}: {warning}")
