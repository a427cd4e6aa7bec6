"""Walks folders of any size in sorted order and in constant memory, from any place on."""

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAMES_AT_ONCE = 100_000
"""Names of one folder that are held in memory (about 20 MB); a larger folder is read once for each so many."""


@dataclass(frozen=True, slots=True)
class UnreadableFolder:
    """A folder that could not be listed, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: cannot be listed ({self.reason}); check its permissions"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file, a link to one, or a link to nothing: what is missing must not be passed over in silence."""

    path: Path
    is_link: bool


def walk(
    folder: Path, *, after: tuple[str, ...] = (), names_at_once: int = NAMES_AT_ONCE
) -> Iterator[FoundFile | UnreadableFolder]:
    """Step through the files below a folder, in the order of the parts of their paths.

    Two runs and two machines list alike. Hidden names are passed over. Links to folders are not followed: they can
    form loops, and what they lead to is outside of what was asked for.

    Parameters
    ----------
    after
        Parts of a path below `folder`: only what comes behind it is listed, whether it still exists or not.
    names_at_once
        Most names held in memory for one folder on the way down.
    """
    last, descend = (after[0], after[1:]) if after else ("", ())
    if descend:  # The path that was reached last lies inside this folder, if that is still one.
        inside = folder / last
        if inside.is_dir() and not inside.is_symlink():
            yield from walk(inside, after=descend, names_at_once=names_at_once)
    while True:
        try:
            names = _next_names(folder, last, names_at_once)
        except OSError as error:
            yield UnreadableFolder(folder, error.strerror or str(error))
            return
        for name, is_link in names:
            path = folder / name
            try:
                is_folder = path.is_dir()
                is_file = not is_folder and (path.is_file() or (is_link and not path.exists()))
            except OSError as error:  # A folder may show its names and not what is behind them.
                yield UnreadableFolder(path, error.strerror or str(error))
                continue
            if is_folder and not is_link:
                yield from walk(path, names_at_once=names_at_once)
            elif is_file:
                yield FoundFile(path, is_link)
        if len(names) < names_at_once:
            return
        last = names[-1][0]


def _next_names(folder: Path, last: str, most: int) -> list[tuple[str, bool]]:
    """Return the first so many names behind `last`, sorted, each with whether it is a link."""
    with os.scandir(folder) as entries:
        behind = (
            (entry.name, entry.is_symlink())
            for entry in entries
            if entry.name > last and not entry.name.startswith(".")
        )
        return heapq.nsmallest(most, behind)
