"""A report as one page that needs nothing else: tables, plots inside it, and what they show in words."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexer.errors import Unavailable

PAGE = "report.html"

_STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --back: #fff; --soft: #5a5a5a; --line: #d5d5d5; }
@media (prefers-color-scheme: dark) { :root { --text: #ececec; --back: #16181b; --soft: #a8a8a8; --line: #3a3d42; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
p.soft, figcaption, footer { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; padding: .4rem 0; color: var(--soft); }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.number, th.number { text-align: right; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; }
"""

_NUMBER = re.compile(r"^[-+0-9.,/%() to]*$")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a caption."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG, the name of its file, and what it shows, for those who do not see it."""

    name: str
    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a report says."""

    title: str
    paragraphs: Sequence[str]
    tables: Sequence[Table]
    plots: Sequence[Plot] = field(default_factory=tuple)


def write_report(folder: Path, page: Page) -> Path:
    """Write the plots and the page that holds them; return the page.

    Raises
    ------
    Unavailable
        If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for plot in page.plots:
            (folder / f"{plot.name}.png").write_bytes(plot.png)
        (folder / PAGE).write_text(_document(page), encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"{folder}: the report cannot be written ({error.strerror or error})") from error
    return folder / PAGE


def _document(page: Page) -> str:
    title = html.escape(page.title)
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head>",
        f"<body><main><h1>{title}</h1>",
        *(f'<p class="soft">{html.escape(paragraph)}</p>' for paragraph in page.paragraphs),
        *map(_table, page.tables),
        *map(_plot, page.plots),
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _table(table: Table) -> str:
    texts = [["" if cell is None else str(cell) for cell in row] for row in table.rows]
    numeric = [all(_NUMBER.match(row[place]) for row in texts) for place in range(len(table.columns))]
    kinds = ['class="number"' if number else "" for number in numeric]
    head = "".join(
        f'<th scope="col" {kind}>{html.escape(column)}</th>' for column, kind in zip(table.columns, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(f"<td {kind}>{html.escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in texts
    )
    caption = f"<caption>{html.escape(table.caption)}</caption>"
    return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _plot(plot: Plot) -> str:
    data = base64.b64encode(plot.png).decode()
    return (
        f'<figure><img alt="{html.escape(plot.alt, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>"
    )
