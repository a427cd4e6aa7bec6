"""Progress of downloads and of long work, as a person sees it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class TransferProgress(Protocol):
    """Called while bytes arrive."""

    def __call__(self, done_bytes: int, total_bytes: int | None, label: str) -> None:
        """Take the bytes so far, the bytes expected where known, and what is being fetched."""
        ...


@contextmanager
def transfer_progress(*, quiet: bool = False) -> Iterator[TransferProgress]:
    """Show a bar for each thing that is fetched; on a pipe, one line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    live = console.is_terminal and not quiet
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not live,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    tasks: dict[str, TaskID] = {}

    def report(done_bytes: int, total_bytes: int | None, label: str) -> None:
        if label not in tasks:
            tasks[label] = bars.add_task(label, total=total_bytes)
            if not live and not quiet:
                console.print(f"fetching {label}", markup=False, highlight=False)
        bars.update(tasks[label], completed=done_bytes, total=total_bytes)

    with bars:
        yield report


@contextmanager
def work_progress(label: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar with the time that is left; what is yielded is called after each of the `total` steps."""
    done = 0
    with share_progress(label, quiet=quiet) as told:
        told(0, total)

        def advance() -> None:
            nonlocal done
            done += 1
            told(done, total)

        yield advance


@contextmanager
def share_progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time that is left; what is yielded is called with how much is done, of how much."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bars = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bars.add_task(label, total=None)
    with bars:
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def waiting(
    label: str, *, total: int | None = None, quiet: bool = False, times_a_second: float = 10
) -> Iterator[Callable[[], None]]:
    """Show on a terminal that something is under way, and how long it has taken; nothing of it stays.

    What is yielded is called after each of the `total` steps. Lines that are written meanwhile appear above it. Where
    something is measured, it moves only some `times_a_second`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    counts = [BarColumn(), MofNCompleteColumn()] if total is not None and total > 1 else []
    moving = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *counts,
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
        refresh_per_second=times_a_second,
        redirect_stdout=sys.stdout.isatty(),
    )
    task = moving.add_task(label, total=total)
    with moving:
        yield lambda: moving.advance(task)
