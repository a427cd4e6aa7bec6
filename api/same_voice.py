"""What to say of a speaker who was just enrolled and sounds like somebody who is enrolled already."""

import logging
import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.errors import NotFound, VoxdexError
from search.evidence import llr_in_words
from search.same_voice import SameVoice

if TYPE_CHECKING:
    from api.voices import Voices

logger = logging.getLogger(__name__)

MOST_NAMED = 3
"""Other speakers who are named in one warning each."""

MOST_COMPARED = 1000
"""Speakers of one run who are compared: a second or so of work."""


def same_voice_warnings(voices: "Callable[[], Voices]", speaker: str) -> list[str]:
    """Name those who sound like this speaker; nothing that goes wrong here undoes an enrollment that was made."""
    try:
        return [same_voice_said(one) for one in voices().same_voices(speaker)[:MOST_NAMED]]
    except VoxdexError as error:
        logger.warning("an enrolled voice was not compared with the others: %s", error.code, exc_info=error)
        return []


@dataclass(frozen=True, slots=True)
class TwoNames:
    """A speaker, and another one who seems to have the same voice."""

    speaker: str
    other: SameVoice


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing speakers of a run with all others of their gallery."""

    two_names: tuple[TwoNames, ...]
    """Each two once."""
    speakers: int
    """How many were compared, from the first."""


def find_two_names(voices: "Voices", speakers: Sequence[str], *, within_s: float = math.inf) -> Compared:
    """Compare speakers of a run, at most `MOST_COMPARED`, with all others of their gallery.

    Parameters
    ----------
    within_s
        Seconds after which no more are compared: in a gallery of a million, one takes some hundredths of a second.

    Raises
    ------
    VoxdexError
        See `Voices.same_voices`.
    """
    found: list[TwoNames] = []
    told: set[frozenset[str]] = set()
    until = time.monotonic() + within_s
    compared = 0
    for speaker in speakers[:MOST_COMPARED]:
        if compared and time.monotonic() >= until:
            break
        compared += 1
        try:
            others = voices.same_voices(speaker)
        except NotFound:  # Not one recording of theirs could be used, or they have been made one with another.
            continue
        for other in others[:MOST_NAMED]:
            pair = frozenset((speaker, other.speaker))
            if pair not in told:
                told.add(pair)
                found.append(TwoNames(speaker, other))
    return Compared(tuple(found), compared)


def same_voice_notices(voices: "Voices", gallery: str, speakers: Sequence[str]) -> list[str]:
    """Say the same of the speakers of a run at the command line.

    Raises
    ------
    VoxdexError
        See `Voices.same_voices`.
    """
    notices = []
    for two in find_two_names(voices, speakers).two_names:
        command = shlex.join(["voxdex", "speakers", "merge", two.speaker, two.other.speaker, "--gallery", gallery])
        notices.append(f"{two.speaker}: {same_voice_said(two.other)} (`{command}`)")
    if len(speakers) > MOST_COMPARED:
        notices.append(
            f"{MOST_COMPARED} of {len(speakers)} speakers were compared with the others of gallery {gallery}, to find "
            "one voice under two names; enroll fewer at once to have all compared"
        )
    return notices


def same_voice_said(other: SameVoice) -> str:
    """Say who else has a voice, what that is worth, and what to do."""
    worth = "" if other.llr is None else f", {llr_in_words(other.llr)}"
    return (
        f"the voice sounds like {other.speaker!r}, who is enrolled too: cosine {other.score:.2f}{worth}; listen to "
        "both, and merge the two speakers if they are one person, or remove the recording that is under the wrong name"
    )
