"""Fit the calibrations that come with voxdex: `python -m tests.reports.calibrations FOLDER [--copies FOLDER]`.

FOLDER holds labeled speech (manifest.csv: path, speaker, session, set; folders noise and rir). Beside its recordings,
copies of those speakers that have several are fitted to, the same copies that `voxdex evaluate copies` makes: cut to
one and two seconds, with noise at 5 dB, in a room, over a telephone. Of single words, only copies over a telephone are
fitted to: with the others, more of the words of enrolled people are missed (decision 20). What was heard before is not
heard again. Writes search/calibrations/*.json, or says with --check whether they are what would be written.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import soundfile

from api.calibrating import Calibrated, CalibrationWanted, calibrate
from api.cli.progress import work_progress
from api.evaluation.cache import HeardCache
from api.evaluation.copies import CopyMaker
from api.evaluation.recordings import require_files, write_copies
from indexer.embedding.registry import make_registry
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import Settings, load_settings
from search.calibration import DEFAULTS, read_calibration
from search.trials import LabeledRecording, read_manifest

ENCODERS = ("speechbrain-ecapa-voxceleb", "campplus-zh-en")
COPIED = ("crop1s", "crop2s", "noise5", "reverb", "telephone")
MUCH_LONGER = 1.2
LONGEST_WORD_S = 1.2
"""Recordings up to so long are words, of which no copies but those over a telephone are fitted to."""
SEED = 20260101
DESCRIPTION = (
    "LibriSpeech (read), AN4 (spelled), Speech Commands (one-second words), telephone prompts; copies cut to 1 and 2 "
    "s, with noise at 5 dB, in rooms, over a telephone"
)


def labeled(folder: Path, copies: Path, kinds: Sequence[str], settings: Settings) -> list[LabeledRecording]:
    """Return the recordings of a folder and the copies of them, made where the other folder has none yet."""
    recordings = read_manifest(folder / "manifest.csv")
    of_speaker = Counter(one.speaker for one in recordings)
    # A speaker's only recording makes no target trial, nor does a copy of it.
    copied = [one for one in recordings if of_speaker[one.speaker] > 1]
    manifest = copies / "manifest.csv"
    if not manifest.is_file():
        maker = CopyMaker(
            kinds, noise_folder=folder / "noise", rir_folder=folder / "rir", seed=SEED, limits=settings.audio
        )
        with work_progress("copies", len(kinds) * len(copied)) as advance:
            write_copies(copies, copied, require_files(folder, [one.path for one in copied]), maker, advance)
    absolute = [replace(one, path=str(folder / one.path)) for one in recordings]
    return absolute + [
        replace(one, path=str(copies / one.path), original=str(folder / one.original))
        for one in read_manifest(manifest)
        if _is_fitted_to(copies, copies / one.path, folder / one.original)
    ]


def _is_fitted_to(copies: Path, copy: Path, original: Path) -> bool:
    """Tell whether a copy is fitted to: of a word over a telephone; of more any, and a cut where it is much shorter."""
    original_s = float(soundfile.info(original).duration)
    kind = copy.relative_to(copies).parts[0]
    if original_s <= LONGEST_WORD_S:
        return kind == "telephone"
    return not kind.startswith("crop") or original_s > MUCH_LONGER * float(soundfile.info(copy).duration)


def main() -> None:
    """Fit and write every calibration that comes with voxdex."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=Path, help="keep the copies there (default: a temporary folder)")
    parser.add_argument("--kind", action="append", help=f"kinds of copies (default: {', '.join(COPIED)})")
    parser.add_argument("--check", action="store_true", help="write nothing, and compare with what is there")
    given = parser.parse_args()
    settings = load_settings()
    in_use = EncodersInUse(make_registry(settings), settings.embedding)
    same = True
    with tempfile.TemporaryDirectory() as temporary, closing(HeardCache(settings.cache / "evaluation")) as cache:
        folder = given.folder.absolute()
        copies = (given.copies or Path(temporary, "copies")).absolute()
        recordings = labeled(folder, copies, given.kind or COPIED, settings)
        both = [in_use.load(name)[0] for name in ENCODERS]
        for encoders in ([both[0]], [both[1]], both):
            file = DEFAULTS / f"{'+'.join(encoder.name for encoder in encoders)}.default.json"
            today = read_calibration(file).data.fitted_at if given.check else datetime.now(UTC).date().isoformat()
            wanted = CalibrationWanted("default", DESCRIPTION, today)
            made = calibrate(
                recordings, folder, encoders, settings, wanted, cache=cache, progress=lambda *of: work_progress(*of)
            )
            document = json.dumps(made.calibration.to_document(), indent=2, allow_nan=False) + "\n"
            if given.check:
                same &= document == file.read_text(encoding="utf-8")
            else:
                file.write_text(document, encoding="utf-8")
            sys.stdout.write(_line(file.stem, made))
    if given.check and not same:
        sys.exit("search/calibrations/*.json are not what was fitted")


def _line(name: str, made: Calibrated) -> str:
    found = made.calibration
    return (
        f"{name}: {made.recordings} recordings, refused {dict(made.refused)}, one voice {list(made.likely_one_voice)}; "
        f"Cllr {found.cllr_before:.4f} -> {found.cllr_after:.4f}, at best {found.min_cllr:.4f}; {dict(found.weights)}\n"
    )


if __name__ == "__main__":
    main()
