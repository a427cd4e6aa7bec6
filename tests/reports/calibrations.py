"""Fit the calibrations that come with voxdex: `python -m tests.reports.calibrations FOLDER [--copies FOLDER]`.

FOLDER holds labeled speech (manifest.csv: path, speaker, session, set). Beside its recordings, copies of those speakers
that have several are fitted to: cut to one and two seconds, with noise, in a room, over a telephone. What was heard
before is not heard again. Writes search/calibrations/*.json.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from api.calibrating import CalibrationWanted, calibrate
from api.cli.progress import work_progress
from api.evaluation.cache import HeardCache
from api.evaluation.remembering import RememberingEncoder
from indexer.embedding.registry import make_registry
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import load_settings
from search.calibration import DEFAULTS
from search.trials import LabeledRecording
from tests.reports.copies import make_copies, manifest_of

ENCODERS = ("speechbrain-ecapa-voxceleb", "campplus-zh-en")
COPIED = ("crop-1s", "crop-2s", "noise-5db", "room", "telephone")
MOST_COPY_S = 4.0
DESCRIPTION = (
    "LibriSpeech (read), AN4 (spelled), Speech Commands (one-second words), telephone prompts; copies cut to 1 and 2 "
    "s, with noise at 5 dB, in rooms, over a telephone"
)


def labeled(folder: Path, copies: Path, kinds: Sequence[str]) -> list[LabeledRecording]:
    """Return the recordings of a folder and the copies of them, made where they are not there yet."""
    rows = [row for row in manifest_of(folder) if row["set"] not in ("noise", "rir")]
    of_speaker: dict[str, int] = {}
    for row in rows:
        of_speaker[row["speaker"]] = of_speaker.get(row["speaker"], 0) + 1
    # Words of a second are the short case themselves, and a speaker's only recording makes no target trial.
    copied = [row for row in rows if of_speaker[row["speaker"]] > 1 and row["set"] != "speech_commands"]
    copied = [row for row in copied if row["set"] != "librispeech_251"]
    sets = {row["path"]: row["set"] for row in rows}
    recordings = [
        LabeledRecording(str(folder / row["path"]), row["speaker"], row["set"], row["session"]) for row in rows
    ]
    for row in make_copies(folder, copies, kinds, copied, most_s=MOST_COPY_S):
        path, original = str(copies / row["path"]), row["original"]
        recordings.append(
            LabeledRecording(path, row["speaker"], sets[original], row["session"], original=str(folder / original))
        )
    return recordings


def main() -> None:
    """Fit and write every calibration that comes with voxdex."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=Path, help="keep the copies there (default: a temporary folder)")
    parser.add_argument("--kind", action="append", help=f"kinds of copies (default: {', '.join(COPIED)})")
    parser.add_argument("--only", type=int, help="this many copies at most, for a trial run")
    given = parser.parse_args()
    settings = load_settings()
    in_use = EncodersInUse(make_registry(settings), settings.embedding)
    with tempfile.TemporaryDirectory() as temporary, closing(HeardCache(settings.cache / "evaluation")) as cache:
        folder = given.folder.absolute()
        recordings = labeled(folder, (given.copies or Path(temporary)).absolute(), given.kind or COPIED)
        both = [RememberingEncoder(in_use.load(name, precision="exact")[0], cache) for name in ENCODERS]
        for encoders in ([both[0]], [both[1]], both):
            wanted = CalibrationWanted("default", DESCRIPTION, datetime.now(UTC).date().isoformat())
            made = calibrate(
                recordings, folder, encoders, settings, wanted, cache=cache, progress=lambda *of: work_progress(*of)
            )
            name = "+".join(encoder.name for encoder in encoders)
            document = json.dumps(made.calibration.to_document(), indent=2, allow_nan=False)
            (DEFAULTS / f"{name}.default.json").write_text(document + "\n", encoding="utf-8")
            found = made.calibration
            sys.stdout.write(
                f"{name}: {made.recordings} recordings, refused {dict(made.refused)}, one voice "
                f"{list(made.likely_one_voice)}; Cllr {found.cllr_before:.4f} -> {found.cllr_after:.4f}, at best "
                f"{found.min_cllr:.4f}; {dict(found.weights)}\n"
            )


if __name__ == "__main__":
    main()
