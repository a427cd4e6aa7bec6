"""Memory of one process over thousands of files of a job: `python -m tests.reports.memory [--files N] [--real]`.

Prints the resident set after each tenth of the files. They are short recordings of noise, all different; without
`--real` the encoder is the tests' own, which weighs nothing, so that what is left is decoding, recording and jobs.
"""

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import func, select

from api.dependencies import Services
from indexer.db.models import Recording
from indexer.embedding.encoder import Encoder
from indexer.settings import load_settings
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, make_bulk, make_gallery, submit, write_archive


def main() -> None:
    """Work through a job, and print what the process holds on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="length of the shortest; they reach to five times it"
    )
    parser.add_argument("--real", action="store_true", help="use the default encoder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.files, asked.seconds, real=asked.real)


def measure(folder: Path, files: int, seconds: float, *, real: bool) -> None:
    for part in range(20):
        write_archive(folder / "in", files // 20, seconds=seconds * (1 + part % 5), first=part * (files // 20))
    settings = load_settings(home=folder / "home")
    services = Services(settings)
    encoder: Encoder = services.comparison(None).encoder if real else SpectrumEncoder()
    queue = ListQueue()
    make_gallery(services.database, encoder)
    bulk = make_bulk(services.database, settings, queue, encoder)  # type: ignore[arg-type]
    submit(bulk, folder / "in")
    process, started, told = psutil.Process(), time.monotonic(), 0
    say(f"before: {rss_mb(process):.0f} MB")
    while queue.plans or queue.shards:
        if queue.plans:
            bulk.plan(queue.plans.pop(0))
            continue
        bulk.work(queue.shards.pop(0))
        with services.database.read_scope() as session:
            done = session.scalar(select(func.count(Recording.id))) or 0
        if done >= told + files // 10:
            told = done
            say(f"{done} files: {rss_mb(process):.0f} MB, {done / (time.monotonic() - started):.0f} files/s")
    services.close()


def rss_mb(process: psutil.Process) -> float:
    gc.collect()
    return float(process.memory_info().rss) / 1e6


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
