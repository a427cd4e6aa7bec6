"""Manifests: lists of recordings as CSV or JSON lines, read row by row, where a bad row costs that row only."""

import codecs
import csv
import datetime as dt
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from indexer.db.names import NAME_LIMIT, require_text
from indexer.errors import InvalidRequest

URI_COLUMNS = ("uri", "path", "file")
MAX_LINE_BYTES = 1 << 20
"""Longest line that is read; a longer one is a bad row."""

_JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_CSV_SUFFIXES = frozenset({".csv", ".tsv"})

MANIFEST_SUFFIXES = _CSV_SUFFIXES | _JSON_SUFFIXES

_BLOCK_BYTES = 1 << 20

_ReadRow = tuple[int, int, "ManifestRow | InvalidRequest"]
"""First line, last line, and the row or what is wrong with it."""


def suffix_of(name: str) -> str:
    """Return the suffix of a path or URL, in lower case, without what a URL asks for."""
    return PurePosixPath(name.partition("?")[0] if "://" in name else name).suffix.lower()


def place(manifest: str, line: int) -> str:
    """Name a row of a manifest that names no file."""
    return f"{manifest}:{line}"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What a row says; each value is checked when it is asked for, and InvalidRequest says what is wrong with it."""

    values: Mapping[str, Any]
    """By the names of the columns, in lower case."""

    @property
    def uri(self) -> str:
        """The file, as it is written."""
        for column in URI_COLUMNS:
            if (named := _text(column, self.values.get(column), None)) is not None:
                return named
        raise InvalidRequest("names no file; give a path or URL as uri")

    @property
    def speaker(self) -> str | None:
        """Who speaks."""
        return _text("speaker", self.values.get("speaker"))

    @property
    def session(self) -> str | None:
        """The occasion it was made on."""
        return _text("session", self.values.get("session"))

    @property
    def recorded_at(self) -> dt.datetime | None:
        """When it was made, in UTC."""
        return _instant(self.values.get("recorded_at"))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Words it is known by; None where the manifest does not speak of them."""
        return _labels(self.values.get("labels"))


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A row, or what is wrong with it, and where it stands."""

    line: int
    row: ManifestRow | InvalidRequest
    cursor: dict[str, Any]
    """The place behind it, as JSON: reading goes on there."""


def read_rows(file: BinaryIO, name: str, after: Mapping[str, Any] | None = None) -> Iterator[NumberedRow]:
    """Step through the rows of a manifest.

    The suffix of its name says what it is: `.jsonl` and `.ndjson` are JSON lines, `.csv` and `.tsv` have a header and
    values between commas, semicolons or tabs. Of any other name, a first line that begins with a brace is JSON.

    Parameters
    ----------
    after
        Where reading stopped; a manifest that has changed since is read again from its first row.

    Raises
    ------
    InvalidRequest
        If it is not UTF-8, or a CSV whose header names no file.
    """
    digest = _require_utf8(file, name)
    file.seek(0)
    start = after["line"] if after and after["sha256"] == digest else 0
    for line, last, row in _rows(_Lines(file), name, start):
        yield NumberedRow(line, row, {"line": last, "sha256": digest})


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


def _rows(lines: _Lines, name: str, start: int) -> Iterator[_ReadRow]:
    """Yield rows, beginning behind line `start`."""
    suffix = suffix_of(name)
    first: str | None = "\n"
    while first is not None and first != "" and not first.strip("\ufeff \t\r\n"):
        first = lines.take()
    is_object = first is not None and first.lstrip("\ufeff \t").startswith("{")
    if suffix in _JSON_SUFFIXES or (suffix not in _CSV_SUFFIXES and is_object):
        if first != "":
            lines.put_back([first and first.lstrip("\ufeff")])
        lines.skip_to(start)
        yield from _json_rows(lines)
        return
    # Of two as frequent ones the first is taken: a header with one column holds none.
    delimiter = max("\t,;" if suffix == ".tsv" else ",;\t", key=(first or "").count)
    try:
        values = next(csv.reader([(first or "").lstrip("\ufeff")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise InvalidRequest(f"{name}: the first line is no CSV header ({error})") from error
    header = [column.strip().lower() for column in values]
    if not any(column in header for column in URI_COLUMNS):
        shown = ", ".join(header)[:200]
        raise InvalidRequest(f"{name}: its columns are [{shown}]; one must be named uri (or path, or file)")
    lines.skip_to(start)
    yield from _csv_rows(lines, header, delimiter)


def _json_rows(lines: _Lines) -> Iterator[_ReadRow]:
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
            values = {str(key).strip().lower(): value for key, value in row.items()}
            yield lines.number, lines.number, ManifestRow(values)
        else:
            yield lines.number, lines.number, InvalidRequest("no JSON object; write one object with a uri in each line")


def _csv_rows(lines: _Lines, header: list[str], delimiter: str) -> Iterator[_ReadRow]:
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
        yield first, lines.number, ManifestRow(dict(zip(header, values, strict=False)))


def _overlong() -> InvalidRequest:
    return InvalidRequest(f"longer than {MAX_LINE_BYTES} bytes")


def _text(column: str, value: object, limit: int | None = NAME_LIMIT) -> str | None:
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
    """Read a time; one that names no zone is UTC, as it is in requests."""
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
    given = re.split("[;,]", value) if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise InvalidRequest(f"labels {json.dumps(value)[:80]}; give a list of texts, or text with ; or , between")
    labels = (_require_printable("label", label.strip(), NAME_LIMIT) for label in given if label.strip())
    return tuple(dict.fromkeys(labels))
