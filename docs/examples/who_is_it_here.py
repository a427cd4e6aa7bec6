"""Enroll a folder for each person and say who speaks in other recordings, in this process: no service.

python docs/examples/who_is_it_here.py people/ unknown1.wav unknown2.wav
"""

import sys
from pathlib import Path

from api.dependencies import open_services
from api.probing import HearingAsked, hear
from indexer.archive import list_archive, parse_speaker_rule

GALLERY = "who-is-it-here"


def main(people: str, *unknown: str) -> None:
    """Print a line for each voice of each recording."""
    with open_services() as services:
        listing = list_archive([Path(people)], parse_speaker_rule("parent"))
        report = services.ingest(GALLERY, None).run(listing.files, source="example", refused=listing.refused)
        services.indexes.bring_into_step(GALLERY)
        for failure in report.failures:
            print(f"not used: {failure.message}")

        voices = services.voices(GALLERY)
        for path in unknown:
            heard = hear(
                voices, Path(path), name=path, asked=HearingAsked(), speech=services.settings.speech, request=False
            )
            for number, answer in enumerate(voices.identify_each(heard, top_k=1), start=1):
                said = "not enough speech" if answer is None else answer.answer.speaker or answer.answer.outcome
                print(f"{path}, voice {number}: {said}")


if __name__ == "__main__":
    main(*sys.argv[1:])
