"""What the command line prints: tables for people, one JSON document for programs, one line for an error."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from indexer.errors import (
    AccessDenied,
    Conflict,
    CorruptArtifact,
    InvalidAudio,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
    VoxdexError,
    one_line,
)

EXIT_SOME_FAILED = 1
"""The command ran to its end, and something it was given could not be used."""

_EXIT_CODES: tuple[tuple[type[VoxdexError], int], ...] = (
    (InvalidRequest, 2),
    (InvalidAudio, 3),
    (NotFound, 4),
    (Conflict, 5),
    (Unavailable, 6),
    (RateLimited, 6),
    (CorruptArtifact, 7),
    (AccessDenied, 8),
)


_ENDLESS = 100_000
_BETWEEN_COLUMNS = 3
_NARROWEST = 10
"""Cells to which a column with a long word may shrink."""


def exit_code(error: VoxdexError) -> int:
    """Exit status of an error's family; docs/cli.md lists them."""
    return next((code for family, code in _EXIT_CODES if isinstance(error, family)), 1)


def print_json(document: Any) -> None:
    """Write one JSON document; dataclasses, paths and times are written as data."""
    json.dump(document, sys.stdout, default=_plain, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_error(error: VoxdexError, *, as_json: bool) -> None:
    """Write an error as one line on standard error, and as a document where JSON was asked for."""
    message = one_line(error)
    if as_json:
        print_json({"error": {"code": error.code, "message": message}})
    sys.stderr.write(f"voxdex: {error.code}: {message}\n")


def print_line(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def print_notice(text: str) -> None:
    """Write a line to standard error: what is worth knowing and not the answer."""
    sys.stderr.write(f"voxdex: {text}\n")


def counted(number: int, noun: str) -> str:
    """Write "1 recording" and "2 recordings"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values below each other, aligned; what is not there is left out."""
    shown = {name: text for name, value in fields.items() if (text := _field(value))}
    width = max(map(len, shown), default=0)
    for name, text in shown.items():
        print_line(f"{name:{width}}  {text}")


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def terminal_width() -> int | None:
    """Return how wide the terminal is that answers go to; None where they go to a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else None


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows as a table; numbers are aligned to the right, and markup in names means nothing."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    material = [list(row) for row in rows]
    cells = [[cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row] for row in material]
    console = Console()
    if not console.is_terminal:  # A pipe has no width: never wrap a row that a program reads.
        console = Console(width=_ENDLESS)
    widths = _whole_words([columns, *([cell.plain for cell in row] for row in cells)], console.width)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for position, column in enumerate(columns):
        numeric = bool(material) and all(isinstance(row[position], int | float) for row in material)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", width=widths[position])
    for row in cells:
        table.add_row(*row)
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as drawn:
        console.print(table)
    # Not the blanks to the right, which rich fills up to the widest row with: a file of them only grows.
    for line in drawn.get().splitlines():
        print_line(line.rstrip())


def _whole_words(rows: Sequence[Sequence[str]], room: int) -> list[int | None]:
    """Return widths of columns in which as few words are broken as can be; None where there is no room."""
    from rich.cells import cell_len

    columns = list(zip(*rows, strict=True))
    widest = [max(map(cell_len, column)) for column in columns]
    widths = [max((cell_len(word) for text in column for word in text.split()), default=0) for column in columns]
    spare = room - _BETWEEN_COLUMNS * len(columns) - sum(widths)
    while spare < 0:  # The longest words are broken, such as paths, and short ones stay whole.
        longest = max(range(len(columns)), key=widths.__getitem__)
        if widths[longest] <= _NARROWEST:
            return [None] * len(columns)
        widths[longest] -= 1
        spare += 1
    for place in sorted(range(len(columns)), key=lambda place: widest[place] - widths[place]):
        more = min(widest[place] - widths[place], spare)
        widths[place] += more
        spare -= more
    return list(widths)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def outcome_text(outcome: str, *, good: bool) -> Any:
    """Color a decision for the terminal."""
    from rich.text import Text

    return Text(outcome, style="green" if good else "yellow")
