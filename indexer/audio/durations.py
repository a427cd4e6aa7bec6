"""Guesses how much audio a file holds without decoding it: good enough to cut work into even pieces, and no more."""

from pathlib import Path

from indexer.audio.headers import read_claim
from indexer.audio.sniff import HEAD_BYTES, extension_of, sniff_container

# Bytes a second of mono speech as it is usually archived. Where formats are written at many rates, the lower ones are
# meant: a piece of work that turns out too short costs nothing, one that is far too long does.
_BYTES_PER_S = {
    "wav": 16_000,
    "wave": 16_000,
    "flac": 14_000,
    "mp3": 8_000,
    "m4a": 8_000,
    "aac": 8_000,
    "mp4": 16_000,
    "ogg": 6_000,
    "oga": 6_000,
    "opus": 3_000,
    "webm": 6_000,
    "amr": 1_000,
    "awb": 1_500,
    "3gp": 1_000,
    "au": 8_000,
    "snd": 8_000,
    "voc": 8_000,
    "wma": 8_000,
}
_USUAL_BYTES_PER_S = 16_000

UNKNOWN_S = 30.0
"""What is taken for the length of a file whose size is not known either."""

# Containers whose length is in the first bytes; Ogg's and Matroska's is found at the end, or nowhere.
_TOLD_AT_THE_START = frozenset({"wav", "flac", "nist", "tta"})


def guess_duration_s(name: str, size_bytes: int | None) -> float:
    """Guess the seconds of audio in a file from its name and size."""
    if size_bytes is None:
        return UNKNOWN_S
    return size_bytes / _BYTES_PER_S.get(extension_of(name), _USUAL_BYTES_PER_S)


def estimate_duration_s(path: Path, size_bytes: int) -> float:
    """Read the seconds of audio from a local file's header where one read tells, or guess them."""
    guess = guess_duration_s(path.name, size_bytes)
    if path.suffix.lower() not in (".wav", ".wave", ".flac", ".sph", ".tta"):
        return guess
    try:
        with path.open("rb", buffering=0) as file:
            container = sniff_container(file.read(HEAD_BYTES))
            claim = read_claim(file, size_bytes, container if container in _TOLD_AT_THE_START else None)
    except (OSError, ValueError):
        return guess  # Whoever opens it next will say what is wrong with it.
    if not claim.sample_rate_hz:
        return guess
    if claim.frames is not None:
        return claim.frames / claim.sample_rate_hz
    if claim.data_bytes is not None and claim.block_bytes and claim.present_bytes is not None:
        # A block of a compressed codec holds many samples; then the bytes of the file are the better guess.
        seconds = claim.present_bytes / claim.block_bytes / claim.sample_rate_hz
        return seconds if claim.format_tag in (1, 3, 6, 7) else max(seconds, guess)
    return guess
