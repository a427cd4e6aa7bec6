"""Have a service take an archive in, watch it, and look for a voice in it.

python docs/examples/find_in_archive.py http://127.0.0.1:8080 /archive voice.wav
"""

import os
import sys
from contextlib import suppress

from voxdex_client import Client, errors

GALLERY = "archive"


def main(url: str, source: str, voice: str) -> None:
    """Print the recordings in which the voice speaks, with the seconds."""
    with Client(url, key=os.environ.get("VOXDEX_API_KEY")) as voxdex:
        with suppress(errors.Conflict):  # it is there from the last time
            voxdex.galleries.create(GALLERY)
        job = voxdex.jobs.create(GALLERY, source)
        for now in voxdex.jobs.events(job.id):  # until it ends; a broken connection is taken up again
            print(f"{now.state}: {now.done + now.duplicate + now.failed} of {now.found} files")
        for item in voxdex.jobs.items(job.id, state="failed"):
            print(f"  not used: {item.error_message}")

        for recording in voxdex.search(GALLERY, voice).recordings:
            stretches = ", ".join(f"{one.start_s:.1f}-{one.end_s:.1f} s" for one in recording.stretches)
            print(f"{recording.uri}: score {recording.score:.3f} at {stretches}")


if __name__ == "__main__":
    main(*sys.argv[1:])
