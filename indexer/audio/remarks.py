"""What is said of a recording wherever something is said of it: why it is a part, and which of several tracks it is.

The one place of these words: notices of commands and jobs, `warnings` and `issues` of the API, and refusals have them
from here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.audio.decode import AudioInfo


def remarks(info: "AudioInfo | None", issues: Iterable[str]) -> tuple[str, ...]:
    """Say what whoever uses a recording should know of it; nothing where all of its only audio track was read.

    Parameters
    ----------
    info
        What the recording is; None where nobody could tell.
    issues
        Why it was read in part only, as `AudioReader.issues` and the record's `error_message` have it.
    """
    return (*(f"partial: {issue}" for issue in issues), *_of_tracks(info))


def beside(info: "AudioInfo") -> str:
    """Say, behind why a recording is refused, that it has audio that was not read; empty where it has none."""
    return "".join(f"; {said}" for said in _of_tracks(info))


def _of_tracks(info: "AudioInfo | None") -> tuple[str, ...]:
    if info is None or info.audio_tracks == 1:
        return ()
    others = "the other one was" if info.audio_tracks == 2 else "the others were"
    read = f"audio track {info.track} of {info.audio_tracks} was read, {others} not"
    return (f"{read}; to have another one read, save it as a file of its own",)
