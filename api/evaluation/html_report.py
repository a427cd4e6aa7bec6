"""A report as one page that needs nothing else: tables, plots inside it, and what they show in words."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api.evaluation.plots import Drawn
from indexer.errors import Unavailable

PAGE = "report.html"

_STYLE = """
/* Colors as the page has them (api/page/src/style/tokens.css). */
:root { color-scheme: light dark; --text: #1c1f1d; --back: #f5f5f1; --card: #fff; --soft: #585c56; --line: #dcdcd5;
  --stripe: #f5f5f1; }
@media (prefers-color-scheme: dark) { :root { --text: #e8ebe7; --back: #111413; --card: #191d1c; --soft: #a2aaa5;
  --line: #2c3230; --stripe: #212625; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 84rem;
  margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { line-height: 1.2; margin: 0 0 .5rem; }
.soft, figcaption, footer { color: var(--soft); }
p.soft { margin: .15rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem;
  margin: 1.2rem 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; margin: 1.2rem 0; list-style: none; }
.figures li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .7rem 1.1rem; }
.figures b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; width: 100%; }
caption { text-align: left; padding: 0 0 .6rem; font-weight: 600; }
th, td { padding: .35rem .55rem; text-align: left; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600; white-space: normal;
  vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody tr:nth-child(even) { background: var(--stripe); }
.number { text-align: right; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.2rem; }
.plots .card { margin: 0; }
figure img { display: block; width: 100%; height: auto; margin-bottom: .6rem; }
@media print { body { background: #fff; } .card, .figures li { break-inside: avoid; } }
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
    """A picture, the name of its file, and what it shows, for those who do not see it."""

    name: str
    drawn: Drawn
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a report says; `figures` are what to look at first, each with what it is."""

    title: str
    paragraphs: Sequence[str]
    tables: Sequence[Table]
    plots: Sequence[Plot] = ()
    figures: Sequence[tuple[str, str]] = ()


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
            (folder / f"{plot.name}.png").write_bytes(plot.drawn.light)
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
        *_figures(page.figures),
        *map(_table, page.tables),
        '<div class="plots">',
        *map(_plot, page.plots),
        "</div></main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _figures(figures: Sequence[tuple[str, str]]) -> list[str]:
    shown = [f"<li><b>{html.escape(value)}</b>{html.escape(meaning)}</li>" for value, meaning in figures]
    return ['<ul class="figures">', *shown, "</ul>"] if shown else []


def _table(table: Table) -> str:
    texts = [["" if cell is None else str(cell) for cell in row] for row in table.rows]
    numeric = [all(_NUMBER.match(row[place]) for row in texts) for place in range(len(table.columns))]
    kinds = ['class="number"' if number else "" for number in numeric]
    head = "".join(
        f'<th scope="col" {kind}>{html.escape(column)}</th>' for column, kind in zip(table.columns, kinds, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row" {kinds[0]}>{html.escape(row[0])}</th>'
        + "".join(f"<td {kind}>{html.escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in texts
    )
    caption = f"<caption>{html.escape(table.caption)}</caption>"
    inside = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="card wide" tabindex="0">{inside}</div>'


def _plot(plot: Plot) -> str:
    light, dark = (f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in plot.drawn)
    return (
        f'<figure class="card"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{html.escape(plot.alt, quote=True)}" src="{light}"></picture>'
        f"<figcaption>{html.escape(plot.caption)}</figcaption></figure>"
    )
