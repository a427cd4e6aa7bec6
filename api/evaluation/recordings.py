"""The recordings of an evaluation, heard one after the other, each once ever."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from api.evaluation.cache import HeardCache
from api.evaluation.hearing import HeardRecording, Hearing
from indexer.errors import NotFound

_BLOCK_BYTES = 1 << 20

Advance = Callable[[], None]


def require_files(root: Path, paths: Iterable[str]) -> list[Path]:
    """Return where the recordings are.

    Raises
    ------
    NotFound
        If any is missing; the message counts them and names the first.
    """
    files = [root / path for path in paths]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise NotFound(
            f"{missing[0]}: no such recording, and {len(missing) - 1} more of {len(files)} are missing; "
            "check --audio-root"
        )
    return files


def hear_files(
    hearing: Hearing, files: Sequence[Path], cache: HeardCache | None, advance: Advance
) -> list[HeardRecording]:
    """Hear recordings, in their order; what the cache knows is not heard again."""
    heard = []
    for file in files:
        heard.append(_hear(hearing, file, cache))
        advance()
    return heard


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _hear(hearing: Hearing, file: Path, cache: HeardCache | None) -> HeardRecording:
    if cache is None:
        return hearing.hear(file, str(file))
    encoders = [encoder.id for encoder in hearing.encoders]
    content = content_hash(file)
    known = cache.find(content, hearing.id, encoders)
    if known is None:
        known = hearing.hear(file, str(file))
        cache.keep(content, hearing.id, encoders, known)
    return known
