"""Enroll a folder for each person, then say who speaks in other recordings, by a running service.

python docs/examples/who_is_it.py http://127.0.0.1:8080 people/ unknown1.wav unknown2.wav
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from voxdex_client import Client, errors

GALLERY = "who-is-it"


def main(url: str, people: str, *unknown: str) -> None:
    """Print a line for each recording."""
    with Client(url, key=os.environ.get("VOXDEX_API_KEY")) as voxdex:
        with suppress(errors.Conflict):  # it is there from the last time
            voxdex.galleries.create(GALLERY)
        for recording in sorted(Path(people).glob("*/*")):
            try:
                voxdex.enrollments.create(GALLERY, recording.parent.name, recording)
            except errors.InvalidAudio as error:
                print(f"{recording}: not enrolled: {error.detail}")

        for path in unknown:
            answer = voxdex.identify(GALLERY, path, top_k=3)
            print(f"{path}: {answer.speaker or answer.decision}")
            for candidate in answer.candidates:
                print(f"  {candidate.rank}. {candidate.speaker}: score {candidate.score:.3f}, llr {candidate.llr}")


if __name__ == "__main__":
    main(*sys.argv[1:])
