"""A manifest as the source of a job."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from indexer.archive import SpeakerRule
from indexer.audio.durations import UNKNOWN_S
from indexer.errors import NotFound, VoxdexError
from indexer.jobs.folders import local_entry
from indexer.jobs.source import Cursor, Listed, SourceEntry, UnusableEntry
from indexer.jobs.uris import absolute_uri, local_path, rule_path
from indexer.manifests import NumberedRow, place, read_rows


@dataclass(frozen=True)
class ManifestSource:
    """The rows of a manifest.

    Attributes
    ----------
    uri
        The manifest's normal URI.
    opened
        Gives the file at hand, fetched if it is elsewhere.
    check
        Raises where a file that a row names may not be read.
    """

    uri: str
    opened: Callable[[], AbstractContextManager[Path]]
    speaker_rule: SpeakerRule
    check: Callable[[str], None]

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        """Step through the rows; a manifest that has changed since `after` is read again from its first row."""
        with self.opened() as path, _opened(path, self.uri) as file:
            for numbered in read_rows(file, self.uri, after):
                yield Listed(self._entry(numbered), numbered.cursor)

    def _entry(self, numbered: NumberedRow) -> SourceEntry | UnusableEntry:
        try:
            return self._described(numbered)
        except VoxdexError as error:
            return UnusableEntry(place(self.uri, numbered.line), type(error)(f"line {numbered.line}: {error}"))

    def _described(self, numbered: NumberedRow) -> SourceEntry:
        row = numbered.row
        if isinstance(row, VoxdexError):
            raise row
        uri = absolute_uri(row.uri, self.uri)
        self.check(uri)
        speaker = self.speaker_rule(rule_path(uri)) or row.speaker
        path = local_path(uri)
        # Asking the server of each file elsewhere for its size would take longer than all the rest of planning.
        entry = SourceEntry(uri, estimated_s=UNKNOWN_S) if path is None else local_entry(path, None)
        if isinstance(entry, UnusableEntry):
            raise entry.error
        return SourceEntry(
            uri=uri,
            speaker=speaker,
            session=row.session,
            recorded_at=row.recorded_at,
            labels=row.labels,
            size_bytes=entry.size_bytes,
            estimated_s=entry.estimated_s,
            line=numbered.line,
        )


def _opened(path: Path, source: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound(f"{source}: cannot be read where the workers run ({reason}); check path and mounts") from error
