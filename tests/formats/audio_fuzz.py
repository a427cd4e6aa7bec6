"""Damages one recording of each format in many ways and decodes every one; run as a program, so that a crash is seen.

python -m tests.formats.audio_fuzz FOLDER ROUNDS SEED [KIND ...]
"""

import collections
import faulthandler
import sys
import time
from pathlib import Path

import numpy as np

from indexer.audio.decode import decode
from indexer.errors import VoxdexError
from tests.formats.audio_samples import FORMATS, CannotEncodeError, write_format

SLOW_S = 5.0
_EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")


def mutate(data: bytes, rng: np.random.Generator, way: int) -> bytes:
    """Cut off, flip bytes anywhere or in the header, overwrite or drop a stretch, or set a field to an extreme."""
    changed = bytearray(data)
    size = len(changed)
    at = int(rng.integers(size))
    end = min(size, at + int(rng.integers(1, 2000)))
    match way % 6:
        case 0:
            del changed[max(1, at) :]
        case 1:
            for index in rng.integers(0, size, int(rng.integers(1, 20))):
                changed[index] = int(rng.integers(256))
        case 2:
            for index in rng.integers(0, min(200, size), int(rng.integers(1, 6))):
                changed[index] = int(rng.integers(256))
        case 3:
            changed[at:end] = rng.integers(0, 256, end - at, dtype=np.uint8).tobytes()
        case 4:
            del changed[at:end]
        case _:
            field = int(rng.integers(min(300, size)))
            changed[field : field + 4] = _EXTREMES[int(rng.integers(len(_EXTREMES)))]
    return bytes(changed)


def main(folder: Path, rounds: int, seed: int, kinds: list[str]) -> int:
    """Give 0 when every decoding came to a result or to a VoxdexError soon enough; else the damaged files stay."""
    faulthandler.enable()
    wrong = 0
    for kind in kinds or list(FORMATS):
        try:
            path, _, _ = write_format(kind, folder / kind, 1.0)
        except CannotEncodeError:
            continue
        good = path.read_bytes()
        seen: collections.Counter[str] = collections.Counter()
        last = folder / kind / "last"
        for number in range(rounds):
            data = mutate(good, np.random.default_rng([seed, number]), number)
            last.write_bytes(data)
            started = time.process_time()
            try:
                outcome = "partial" if decode(last if number % 2 else data).issues else "ok"
            except VoxdexError as error:
                outcome = type(error).__name__
            except Exception as error:
                outcome = f"WRONG: {type(error).__name__}: {error}"
            if time.process_time() - started > SLOW_S:
                outcome = "WRONG: slow"
            if outcome.startswith("WRONG"):
                wrong += 1
                last.rename(folder / f"{kind}-{number}")
            seen[outcome] += 1
        sys.stdout.write(f"{kind} {dict(seen)}\n")
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
