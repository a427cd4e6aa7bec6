"""What a user points at -> the recordings to ingest, with the speaker each one names."""

import datetime as dt
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from indexer.audio.sniff import looks_like_audio
from indexer.errors import Conflict, InvalidRequest, NotFound, VoxdexError, about, one_line
from indexer.folder_walk import UnreadableFolder, walk
from indexer.jobs.uris import local_path, normal_uri, require_short, scheme_of
from indexer.manifests import MANIFEST_SUFFIXES, ManifestRow, NumberedRow, place, read_rows

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

    def __post_init__(self) -> None:
        if self.speaker is not None:  # Folders of some systems write one `ü` as two characters; the record as one.
            object.__setattr__(self, "speaker", unicodedata.normalize("NFC", self.speaker))

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
class RefusedRow:
    """A row of a manifest of which nothing can be made."""

    place: str
    """The manifest and the number of the line."""
    error: VoxdexError


@dataclass(frozen=True, slots=True)
class ArchiveListing:
    """The files found, in a stable order, how many others lay beside them, and what could not be read."""

    files: tuple[ArchiveFile, ...]
    ignored: int
    unreadable: tuple[str, ...] = ()
    """Folders that could not be listed."""
    refused: tuple[RefusedRow, ...] = ()


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
    leaves the recording unnamed, and a search longer than `SEARCH_S` makes it unusable); `csv:FILE` (a manifest with
    the columns path and speaker).

    Parameters
    ----------
    roots
        Folders that are searched; relative paths of a CSV are also looked for there.

    Raises
    ------
    InvalidRequest
        If the text is none of these, the pattern is no regular expression or has no group, or any row of the CSV is
        unusable.
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
    for path, speaker in read_speakers(manifest, roots=roots):
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


def read_speakers(manifest: Path, *, roots: Sequence[Path] = ()) -> list[tuple[Path, str]]:
    """Read (absolute path, speaker) of every row of a manifest that names a speaker.

    A relative path starts at the folder of the manifest; where nothing is there, at the working folder, then at
    `roots`.

    Raises
    ------
    NotFound
        If there is no such file.
    InvalidRequest
        If it is no manifest, a row is unusable, or none names a speaker.
    """
    bases = _bases(manifest, roots)
    named = []
    for numbered in _rows_of(manifest):
        try:
            row = _usable(numbered)
            speaker = row.speaker
            if speaker is not None:
                named.append((_local(row.uri, bases), speaker))
        except InvalidRequest as error:
            raise InvalidRequest(f"{manifest}: line {numbered.line}: {error}") from error
    if not named:
        raise InvalidRequest(f"{manifest}: no row names a speaker; one column must be named speaker")
    return named


def _rows_of(manifest: Path) -> Iterator[NumberedRow]:
    try:
        file = manifest.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotFound(
            f"{manifest}: no such manifest ({reason}); give a CSV file with the columns path and speaker"
        ) from error
    with file:
        yield from read_rows(file, str(manifest))


def _usable(numbered: NumberedRow) -> ManifestRow:
    if isinstance(numbered.row, VoxdexError):
        raise numbered.row
    return numbered.row


def _bases(manifest: Path, roots: Sequence[Path] = ()) -> list[Path]:
    return [manifest.absolute().parent, Path.cwd(), *(root for root in roots if root.is_dir())]


def _local(named: str, bases: Sequence[Path]) -> Path:
    """Resolve what a row names at the first base where it exists, else at the first base."""
    if scheme_of(named):
        path = local_path(normal_uri(named))
        if path is None:
            raise InvalidRequest(f"{named}: is not on this machine; ingest the manifest with --remote")
        return path.resolve()
    require_short(named)
    places = [base / named for base in bases]
    try:
        return next((path for path in places if path.exists()), places[0]).resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError is what Python 3.11 says of links that go in a circle.
        raise InvalidRequest(f"{named!r} cannot be followed to a file ({one_line(error)})") from error


def list_archive(paths: Iterable[Path], rule: SpeakerRule) -> ArchiveListing:
    """List every recording under the given paths once, in sorted order.

    A folder is walked and only what looks like audio is taken (by extension or first bytes; hidden names are
    passed over). A file that is named is always taken, so that its error is seen. A manifest (`.csv`, `.tsv`,
    `.jsonl`, `.ndjson`) stands for the files it lists, with what it says of them; a speaker counts where the rule
    names none, and a bad row costs that row only.

    Raises
    ------
    NotFound
        If a given path does not exist.
    InvalidRequest
        If a manifest as a whole is unusable, or the rule cannot tell the speaker of a file that no manifest lists.
    """
    found: dict[Path, ArchiveFile | None] = {}
    refused: dict[str, VoxdexError] = {}
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
        elif not (path.exists() or path.is_symlink()):
            raise NotFound(f"{path}: no such file or folder; check the spelling, relative paths start at {Path.cwd()}")
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            for numbered in _rows_of(path):
                try:
                    _add_row(found, _described(_usable(numbered), rule, _bases(path)))
                except VoxdexError as error:
                    refused[place(str(path), numbered.line)] = about(f"{path}: line {numbered.line}", error)
        else:
            found.setdefault(path.absolute(), None)
    files = (file or ArchiveFile(path, rule(path), _size(path)) for path, file in found.items())
    rows = (RefusedRow(where, error) for where, error in refused.items())
    return ArchiveListing(tuple(files), ignored, tuple(unreadable), tuple(rows))


def _described(row: ManifestRow, rule: SpeakerRule, bases: Sequence[Path]) -> ArchiveFile:
    path = _local(row.uri, bases)
    return ArchiveFile(
        path,
        rule(path) or row.speaker,
        _size(path),
        session=row.session,
        recorded_at=row.recorded_at,
        labels=row.labels or (),
    )


def _add_row(found: dict[Path, ArchiveFile | None], file: ArchiveFile) -> None:
    """Add a file once; as in a job, the first row that lists it counts, and one that contradicts it is refused."""
    known = found.get(file.path)
    if known is None:
        found[file.path] = file
    elif file.speaker and file.speaker != known.speaker:
        raise Conflict(
            f"{file.path} is {file.speaker!r} here and {known.speaker!r} in an earlier line; name one speaker a file"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # Decoding will say what is wrong with it.
