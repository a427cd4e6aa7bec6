"""A manifest as the source of a job: CSV or JSON lines, read row by row, where a bad row costs that row only."""

import codecs
import csv
import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from indexer.archive import SpeakerRule
from indexer.audio.durations import UNKNOWN_S
from indexer.db.repositories import NAME_LIMIT, require_text
from indexer.errors import InvalidRequest, NotFound, VoxdexError
from indexer.jobs.folders import local_entry
from indexer.jobs.source import Cursor, Listed, SourceEntry, UnusableEntry, place
from indexer.jobs.uris import absolute_uri, local_path, rule_path

URI_COLUMNS = ("uri", "path", "file")
MAX_LINE_BYTES = 1 << 20
"""Longest line that is read; a longer one is a bad row."""

_BLOCK_BYTES = 1 << 20

Row = dict[str, Any]


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
            digest = _require_utf8(file, self.uri)
            file.seek(0)
            start = after["line"] if after and after["sha256"] == digest else 0
            for line, last, row in _rows(_Lines(file), self.uri, start):
                yield Listed(self._entry(line, row), {"line": last, "sha256": digest})

    def _entry(self, line: int, row: Row | VoxdexError) -> SourceEntry | UnusableEntry:
        try:
            if isinstance(row, VoxdexError):
                raise row
            return self._described(line, row)
        except VoxdexError as error:
            return UnusableEntry(place(self.uri, line), type(error)(f"line {line}: {error}"))

    def _described(self, line: int, row: Row) -> SourceEntry | UnusableEntry:
        named = next((text for column in URI_COLUMNS if (text := _text(row, column, None)) is not None), None)
        if named is None:
            raise InvalidRequest("names no file; give a path or URL as uri")
        uri = absolute_uri(named, self.uri)
        self.check(uri)
        speaker = self.speaker_rule(rule_path(uri)) or _text(row, "speaker")
        path = local_path(uri)
        # Asking the server of each file elsewhere for its size would take longer than all the rest of planning.
        entry = SourceEntry(uri, estimated_s=UNKNOWN_S) if path is None else local_entry(path, None)
        if isinstance(entry, UnusableEntry):
            raise entry.error
        return SourceEntry(
            uri=uri,
            speaker=speaker,
            session=_text(row, "session"),
            recorded_at=_instant(row.get("recorded_at")),
            labels=_labels(row.get("labels")),
            size_bytes=entry.size_bytes,
            estimated_s=entry.estimated_s,
            line=line,
        )


class _Lines:
    """Lines of a file with their numbers; some can be put back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._returned: list[str | None] = []
        self.number = 0
        """Of the last line that was taken."""

    def skip_to(self, number: int) -> None:
        """Pass over the lines up to this one."""
        while self.number < number and self.take() != "":
            pass

    def take(self) -> str | None:
        """Return the next line, None for one that is too long, and nothing at the end."""
        line = self._returned.pop() if self._returned else self._read()
        if line != "":
            self.number += 1
        return line

    def put_back(self, lines: list[str | None]) -> None:
        """Have lines that were just taken, in their order, be taken again."""
        self._returned.extend(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> str | None:
        raw = self._file.readline(MAX_LINE_BYTES)
        if len(raw) < MAX_LINE_BYTES or raw.endswith(b"\n"):
            return raw.decode("utf-8")
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(MAX_LINE_BYTES)
        return None


def _opened(path: Path, source: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound(f"{source}: cannot be read where the workers run ({reason}); check path and mounts") from error


def _require_utf8(file: BinaryIO, source: str) -> str:
    """Read a manifest once through; return its SHA-256, and refuse it as a whole where it is no text."""
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    try:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{source}: not UTF-8 ({error.reason}); save it as CSV or JSON lines in UTF-8") from error
    return digest.hexdigest()


def _rows(lines: _Lines, source: str, start: int) -> Iterator[tuple[int, int, Row | VoxdexError]]:
    """Yield (first line, last line, row or what is wrong with it), beginning behind line `start`."""
    first: str | None = "\n"
    while first is not None and first != "" and not first.strip("\ufeff \t\r\n"):
        first = lines.take()
    if first is not None and first.lstrip("\ufeff \t").startswith("{"):
        lines.put_back([first.lstrip("\ufeff")])
        lines.skip_to(start)
        yield from _json_rows(lines)
        return
    delimiter = max(",;\t", key=(first or "").count)
    try:
        values = next(csv.reader([(first or "").lstrip("\ufeff")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise InvalidRequest(f"{source}: the first line is no CSV header ({error})") from error
    header = [name.strip().lower() for name in values]
    if not any(column in header for column in URI_COLUMNS):
        shown = ", ".join(header)[:200]
        raise InvalidRequest(f"{source}: its columns are [{shown}]; one must be named uri (or path, or file)")
    lines.skip_to(start)
    yield from _csv_rows(lines, header, delimiter)


def _json_rows(lines: _Lines) -> Iterator[tuple[int, int, Row | VoxdexError]]:
    while (line := lines.take()) != "":
        if line is None:
            yield lines.number, lines.number, _overlong()
            continue
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield lines.number, lines.number, InvalidRequest(f"no JSON ({error})")
            continue
        if isinstance(row, dict):
            yield lines.number, lines.number, {str(key).strip().lower(): value for key, value in row.items()}
        else:
            yield lines.number, lines.number, InvalidRequest("no JSON object; write one object with a uri in each line")


def _csv_rows(lines: _Lines, header: list[str], delimiter: str) -> Iterator[tuple[int, int, Row | VoxdexError]]:
    taken: list[str | None] = []

    def feed() -> Iterator[str]:
        while (line := lines.take()) != "":
            taken.append(line)
            if line is None:
                raise _overlong()
            yield line

    for _ in itertools.count():
        first = lines.number + 1
        taken.clear()
        try:
            values = next(csv.reader(feed(), delimiter=delimiter, strict=True), None)
        except (csv.Error, InvalidRequest) as error:
            # A quote that is never closed swallows the rows behind it: only its own line is bad.
            lines.put_back(taken[1:])
            refusal = error if isinstance(error, InvalidRequest) else InvalidRequest(f"no CSV row ({error})")
            yield first, lines.number, refusal
            continue
        if values is None:
            return
        if not any(value.strip() for value in values):
            continue
        if len(values) > len(header) and any(value.strip() for value in values[len(header) :]):
            refusal = InvalidRequest(
                f"{len(values)} values for {len(header)} columns; quote values that hold {delimiter!r}"
            )
            yield first, lines.number, refusal
            continue
        yield first, lines.number, dict(zip(header, values, strict=False))


def _overlong() -> InvalidRequest:
    return InvalidRequest(f"longer than {MAX_LINE_BYTES} bytes")


def _text(row: Row, column: str, limit: int | None = NAME_LIMIT) -> str | None:
    value = row.get(column)
    if isinstance(value, int) and not isinstance(value, bool):  # Numbered speakers and sessions.
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{column} is {json.dumps(value)[:80]}; give text")
    return _require_printable(column, value.strip(), limit)


def _require_printable(what: str, value: str, limit: int | None) -> str:
    require_text(what, value)
    if limit is not None and (len(value) > limit or not value.isprintable()):
        raise InvalidRequest(f"{what} {value[:80]!r} ({len(value)} characters) must be at most {limit} printable ones")
    return value


def _instant(value: object) -> dt.datetime | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if not isinstance(value, str):
            raise ValueError("not text")
        instant = dt.datetime.fromisoformat(value.strip())
        return (instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"recorded_at {value!r} is no ISO 8601 time; write 2026-03-01T09:30:00+01:00") from error


def _labels(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    given = value.split(";") if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise InvalidRequest(f"labels {json.dumps(value)[:80]}; give a list of texts, or texts separated by ;")
    labels = (_require_printable("label", label.strip(), NAME_LIMIT) for label in given if label.strip())
    return tuple(dict.fromkeys(labels))
