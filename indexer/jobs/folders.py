"""A folder, or one file, as the source of a job."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from indexer.archive import SpeakerRule, uri_of
from indexer.audio.durations import estimate_duration_s
from indexer.audio.sniff import looks_like_audio
from indexer.errors import InvalidAudio, InvalidRequest, NotFound, VoxdexError
from indexer.folder_walk import UnreadableFolder, walk
from indexer.jobs.source import Cursor, Listed, SourceEntry, UnusableEntry
from indexer.jobs.uris import resolved


@dataclass(frozen=True)
class FolderSource:
    """Every recording below a folder, by the rules of `indexer.archive`; a file that is named is taken as it is.

    Attributes
    ----------
    check
        Raises where a link leads to what may not be read; None: links may lead anywhere.
    """

    root: Path
    speaker_rule: SpeakerRule
    check: Callable[[str], object] | None = None

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        """Step through the files in the order of the parts of their paths."""
        try:
            is_file, there = self.root.is_file(), self.root.exists()
        except OSError as error:
            raise InvalidRequest(f"{self.root}: cannot be read where the workers run ({error.strerror})") from error
        if not there:
            raise NotFound(f"{self.root}: no such file or folder where the workers run; check path and mounts")
        if is_file:
            if after is None:
                yield Listed(self._entry(self.root), {"path": ""})
            return
        root = resolved(self.root)
        parts = _parts(after["path"]) if after else ()
        for found in walk(root, after=parts):
            cursor: Cursor = {"path": _text(found.path.relative_to(root))}
            if isinstance(found, UnreadableFolder):
                if found.path == root:
                    raise InvalidRequest(str(found))
                yield Listed(UnusableEntry(uri_of(found.path), InvalidAudio(str(found))), cursor)
            elif looks_like_audio(found.path):
                yield Listed(self._entry(found.path, is_link=found.is_link), cursor)
            else:
                yield Listed(None, cursor)

    def _entry(self, path: Path, *, is_link: bool = False) -> SourceEntry | UnusableEntry:
        try:
            if is_link and self.check is not None:
                self.check(str(path))
            return local_entry(path, self.speaker_rule(path))
        except VoxdexError as error:
            return UnusableEntry(uri_of(path), error)


def local_entry(path: Path, speaker: str | None) -> SourceEntry | UnusableEntry:
    """Describe a local file; its name must be text, because that is all a worker gets to find it by."""
    uri = str(path)
    if uri != uri_of(path):
        error = InvalidRequest(f"{uri_of(path)}: the name holds bytes that are not text; rename the file")
        return UnusableEntry(uri_of(path), error)
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # Decoding will say what is wrong with it.
    return SourceEntry(uri, speaker, size_bytes=size, estimated_s=estimate_duration_s(path, size))


def _text(path: Path) -> str:
    """Write a path as text that keeps every byte of it, however it was encoded."""
    return quote_from_bytes(os.fsencode(path))


def _parts(text: str) -> tuple[str, ...]:
    return Path(os.fsdecode(unquote_to_bytes(text))).parts
