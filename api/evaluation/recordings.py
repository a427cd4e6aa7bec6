"""The recordings of an evaluation, heard one after the other, each once ever."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from api.evaluation.cache import HeardCache
from api.evaluation.hearing import HeardRecording, Hearing, refused_or
from indexer.errors import AlreadyExists, InvalidAudio, InvalidRequest, NotFound, one_line
from search.trials import LabeledRecording

if TYPE_CHECKING:
    from api.evaluation.copies import CopyMaker

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
        content = content_hash(file) if cache is not None else ""
        heard.append(_known(hearing, content, cache, partial(hearing.hear, file, str(file))))
        advance()
    return heard


def hear_copies(
    hearing: Hearing,
    files: Sequence[Path],
    condition: str,
    maker: "CopyMaker",
    cache: HeardCache | None,
    advance: Advance,
) -> list[HeardRecording]:
    """Hear a copy of each recording under a condition; what the cache knows is neither made nor heard again."""
    heard = []
    for file in files:
        key = maker.key(content_hash(file), condition)
        heard.append(_known(hearing, key, cache, partial(_hear_copy, hearing, file, condition, maker)))
        advance()
    return heard


def _hear_copy(hearing: Hearing, file: Path, condition: str, maker: "CopyMaker") -> HeardRecording:
    return refused_or(lambda: hearing.hear(maker.make(file, condition), f"{file} ({condition})"))


def write_copies(
    folder: Path,
    recordings: Sequence[LabeledRecording],
    files: Sequence[Path],
    maker: "CopyMaker",
    advance: Advance,
) -> tuple[Path, list[str]]:
    """Write a copy of each recording under each condition, and a manifest of them.

    Returns
    -------
    Path, list of str
        The manifest, and why which recordings were left out.

    Raises
    ------
    AlreadyExists
        If the folder holds anything already.
    InvalidRequest
        If a recording's path leads out of the audio root, and its copy would out of the folder.
    """
    for recording in recordings:
        if Path(recording.path).is_absolute() or ".." in Path(recording.path).parts:
            raise InvalidRequest(f"{recording.path} is not below the audio root: write paths from --audio-root down")
    if folder.exists() and any(folder.iterdir()):
        raise AlreadyExists(f"{folder} is not empty; name a new folder for the copies")
    folder.mkdir(parents=True, exist_ok=True)
    refused: list[str] = []
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["path", "speaker", "session", "set", "role", "condition", "original"])
        for condition in maker.conditions:
            for recording, file in zip(recordings, files, strict=True):
                path = Path(condition) / f"{recording.path}.wav"
                try:
                    made = maker.make(file, condition)
                except InvalidAudio as error:
                    refused.append(one_line(error))
                else:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(made)
                    known = [recording.speaker, recording.session, recording.set, recording.role or ""]
                    rows.writerow([path.as_posix(), *known, condition, recording.path])
                advance()
    return manifest, refused


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _known(
    hearing: Hearing, content: str, cache: HeardCache | None, hear: Callable[[], HeardRecording]
) -> HeardRecording:
    if cache is None:
        return hear()
    encoders = [encoder.id for encoder in hearing.encoders]
    known = cache.find(content, hearing.id, encoders)
    if known is None:
        known = hear()
        cache.keep(content, hearing.id, encoders, known)
    return known
