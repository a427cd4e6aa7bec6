"""What a user points at -> the recordings to ingest, with the speaker each one names."""

import csv
import datetime as dt
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from indexer.audio.sniff import looks_like_audio
from indexer.errors import InvalidRequest, NotFound, one_line
from indexer.folder_walk import UnreadableFolder, walk

MANIFEST_SUFFIX = ".csv"
_PATH_COLUMNS = ("path", "uri", "file")

SEARCH_S = 0.1
"""Longest that a speaker's pattern may search one path: some patterns would take for ever."""

SLOW_SEARCHES = 20
"""Searches given up before a pattern is not tried any more: an archive of a million files must not cost a day."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file to ingest; `speaker` is None where nobody says who speaks."""

    path: Path
    speaker: str | None
    size_bytes: int
    uri: str | None = None
    """What the record calls it where that is not its path: a place elsewhere, the name of an upload."""
    session: str | None = None
    """The occasion it was made on."""
    recorded_at: dt.datetime | None = None
    labels: tuple[str, ...] = ()
    media_key: str | None = None
    """Place below the media folder, of an upload that is kept there."""

    @property
    def recorded_uri(self) -> str:
        """What the record calls it."""
        return self.uri if self.uri is not None else uri_of(self.path)


def uri_of(path: Path) -> str:
    r"""Name a file as text that every database and JSON reader keeps; bytes that are no text are written as \xNN."""
    return as_text(str(path))


def as_text(text: str) -> str:
    r"""Write the bytes of a file name that are no text as \xNN, so that the rest can be kept and shown."""
    return os.fsencode(text).decode("utf-8", errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """The files found, in a stable order, how many others lay beside them, and the folders that could not be listed."""

    files: tuple[ArchiveFile, ...]
    ignored: int
    unreadable: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Size of all files found."""
        return sum(file.size_bytes for file in self.files)


SpeakerRule = Callable[[Path], str | None]
"""How a path tells its speaker; InvalidRequest where it cannot be told."""


def nobody(path: Path) -> str | None:
    """Leave every recording unnamed."""
    return None


def everybody(speaker: str) -> SpeakerRule:
    """Give every recording the same speaker."""
    return lambda path: speaker


def parse_speaker_rule(text: str, *, roots: Sequence[Path] = ()) -> SpeakerRule:
    """Read a `--speaker-from` value: how a path tells its speaker.

    `none`; `parent` or `parent:N` (the N-th folder above the file; LibriSpeech is parent:2); `regex:PATTERN`
    (the group named speaker, else the first group, searched in the absolute path with forward slashes; no match
    leaves the recording unnamed, and a search longer than `SEARCH_S` makes it unusable); `csv:FILE` (columns path and
    speaker).

    Parameters
    ----------
    roots
        Folders that are searched; relative paths of a CSV are also looked for there.

    Raises
    ------
    InvalidRequest
        If the text is none of these, the pattern is no regular expression or has no group, or the CSV is unusable.
    NotFound
        If the CSV does not exist.
    """
    kind, _, argument = text.partition(":")
    if kind == "none" and not argument:
        return nobody
    if kind == "parent":
        counted = argument.isascii() and argument.isdigit() and len(argument) < 4
        levels = int(argument) if counted else 1 if not argument else 0
        if levels < 1:
            raise InvalidRequest(f"--speaker-from {text}: give the number of folders above the file, as in parent:2")
        return lambda path: path.parents[levels - 1].name or None if len(path.parents) >= levels else None
    if kind == "regex" and argument:
        return _regex_rule(argument)
    if kind == "csv" and argument:
        return _csv_rule(Path(argument), roots)
    raise InvalidRequest(f"--speaker-from {text!r}: give none, parent, parent:N, regex:PATTERN or csv:FILE")


def _csv_rule(manifest: Path, roots: Sequence[Path]) -> SpeakerRule:
    named: dict[Path, str] = {}
    for path, speaker in read_manifest(manifest, roots=roots, needs_speaker=True):
        if speaker is None:
            continue
        if named.setdefault(path, speaker) != speaker:
            raise InvalidRequest(f"{manifest}: {path} is both {named[path]!r} and {speaker!r}; name one speaker a file")
    return lambda path: named.get(path.resolve())


def _regex_rule(pattern: str) -> SpeakerRule:
    try:
        # Not kept by the library, for patterns arrive with requests.
        compiled = regex.compile(pattern, flags=regex.VERSION0, cache_pattern=False)
    except Exception as error:  # Its parser also raises what it does not document, of depth or of numbers too large.
        reason = one_line(error)
        raise InvalidRequest(f"--speaker-from regex:{pattern}: no regular expression ({reason})") from error
    if not compiled.groups:
        raise InvalidRequest(f"--speaker-from regex:{pattern}: put the speaker in a group, as in regex:/(\\w+)_call")
    return _RegexRule(compiled, "speaker" if "speaker" in compiled.groupindex else 1)


@dataclass
class _RegexRule:
    """A pattern of somebody who may mean no good: each search ends in time, and lets other threads run meanwhile."""

    pattern: "regex.Pattern[str]"
    group: str | int
    given_up: int = 0

    def __call__(self, path: Path) -> str | None:
        if self.given_up >= SLOW_SEARCHES:
            raise self._too_slow(path, f"was given up on {SLOW_SEARCHES} files before this one")
        try:
            match = self.pattern.search(path.as_posix(), timeout=SEARCH_S, concurrent=True)
            return match[self.group] or None if match else None
        except TimeoutError as error:
            self.given_up += 1
            raise self._too_slow(path, f"searches longer than {SEARCH_S:g} s") from error
        except MemoryError as error:
            self.given_up += 1
            raise self._too_slow(path, "needs more memory than there is") from error

    def _too_slow(self, path: Path, how: str) -> InvalidRequest:
        shown = as_text(path.as_posix())
        return InvalidRequest(
            f"{shown}: --speaker-from regex:{self.pattern.pattern} {how}; write it without repeats inside repeats"
        )


def read_manifest(
    manifest: Path, *, roots: Sequence[Path] = (), needs_speaker: bool = False
) -> list[tuple[Path, str | None]]:
    """Read (absolute path, speaker or None) rows of a CSV with a header; commas, semicolons or tabs.

    A relative path starts at the folder of the CSV; where nothing is there, at the working folder, then at `roots`.

    Raises
    ------
    NotFound
        If there is no such file.
    InvalidRequest
        If it is not UTF-8 CSV, or lacks a column: path (or uri, file), and speaker where that is needed.
    """
    if not manifest.is_file():
        raise NotFound(f"{manifest}: no such manifest; give a CSV file with the columns path and speaker")
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            column = next((name for name in _PATH_COLUMNS if name in header), None)
            if column is None:
                raise InvalidRequest(f"{manifest}: columns {header}; one must be named path (or uri, or file)")
            if needs_speaker and "speaker" not in header:
                raise InvalidRequest(f"{manifest}: columns {header}; one must be named speaker")
            bases = [manifest.absolute().parent, Path.cwd(), *(root for root in roots if root.is_dir())]
            return [
                (_find(row[column].strip(), bases), (row.get("speaker") or "").strip() or None)
                for row in reader
                if row[column] and row[column].strip()
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{manifest}: not UTF-8 CSV ({error}); save it as comma-separated UTF-8") from error


def _find(path: str, bases: Sequence[Path]) -> Path:
    """Resolve a path at the first base where it exists, else at the first base."""
    places = ((base / path) for base in bases)
    return next((place for place in places if place.exists()), bases[0] / path).resolve()


def list_archive(paths: Iterable[Path], rule: SpeakerRule) -> ArchiveListing:
    """List every recording under the given paths once, in sorted order.

    A folder is walked and only what looks like audio is taken (by extension or first bytes; hidden names are
    passed over). A file that is named is always taken, so that its error is seen. A `.csv` manifest stands for the
    files it lists, with the speakers it names where the rule names none.

    Raises
    ------
    NotFound
        If a given path does not exist.
    InvalidRequest
        If a manifest is unusable, or the rule cannot tell the speaker of a file.
    """
    found: dict[Path, str | None] = {}
    ignored = 0
    unreadable: list[str] = []
    for path in paths:
        if path.is_dir():
            for step in walk(path.resolve()):
                if isinstance(step, UnreadableFolder):
                    unreadable.append(str(step))
                elif looks_like_audio(step.path):
                    found.setdefault(step.path, None)
                else:
                    ignored += 1
        elif path.suffix.lower() == MANIFEST_SUFFIX:
            for file, speaker in read_manifest(path):
                if speaker and found.get(file) not in (None, speaker):
                    raise InvalidRequest(
                        f"{path}: {file} is both {found[file]!r} and {speaker!r}; name one speaker a file"
                    )
                found[file] = found.get(file) or speaker
        elif path.exists() or path.is_symlink():
            found.setdefault(path.absolute(), None)
        else:
            raise NotFound(f"{path}: no such file or folder; check the spelling, relative paths start at {Path.cwd()}")
    files = (ArchiveFile(path, rule(path) or speaker, _size(path)) for path, speaker in found.items())
    return ArchiveListing(tuple(files), ignored, tuple(unreadable))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # Decoding will say what is wrong with it.
