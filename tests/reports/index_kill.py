"""What an index survives: `python -m tests.reports.index_kill [--kills 100] [--vectors 20000] [--seed 1] [--postgres]`.

A process writes recordings into a record, deletes some, and meanwhile follows the record into its index, writes
snapshots of it, or builds it anew. It is killed with -9 at a random moment; what it was doing then is counted. After
each kill `voxdex index check` must find index and record in step, and the index that the next process opens must hold
exactly the rows of the record: every row whose commit was acknowledged, and none whose erasure was. Then the next
process starts where the killed one left off. Prints what happened as JSON; exit status 1 tells that something was
wrong.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from indexer.db.galleries import Galleries
from indexer.db.models import Embedding
from indexer.db.recordings import Recordings
from indexer.db.rows import NewRecording, NewUtterance
from indexer.db.session import Database, open_database
from indexer.index.adjustment import Adjustment
from indexer.index.feed import IndexFeed
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings, load_settings
from indexer.types import GalleryId, RecordingId
from tests.record_kit import ENCODER, make_gallery, record
from tests.vectors import unit_vectors

DOINGS = ("add", "snapshot", "rebuild")
RECORDINGS_AT_ONCE = 4
UTTERANCES = 10
DELETE_SHARE = 0.2
START_S = 600.0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do everything, and return what happened."""
    rng = random.Random(arguments.seed)
    killed: Counter[str] = Counter()
    wrong: list[str] = []
    began = time.monotonic()
    with record(arguments.postgres) as settings:
        environment = {**os.environ, "VOXDEX_INDEX__COMPRESS_ABOVE": str(arguments.compress_above)}
        if settings.database.url is not None:
            environment["VOXDEX_DATABASE__URL"] = settings.database_url
        settings.home.mkdir(exist_ok=True)
        journal = Journal(settings.home / "journal")
        database = open_database(settings)
        gallery = make_gallery(database)
        _fill(database, gallery, journal, arguments.vectors)
        for number in range(arguments.kills):
            doing = DOINGS[number % len(DOINGS)]
            killed[_kill_one(settings, environment, journal, doing, number, rng)] += 1
            wrong += [f"kill {number} while told to {doing}: {what}" for what in _look(settings, environment, journal)]
        held = journal.read()
        database.close()
    return {
        "database": "postgresql" if arguments.postgres else "sqlite",
        "kills": arguments.kills,
        "killed_in": dict(killed),
        "seed": arguments.seed,
        "vectors_at_first": arguments.vectors,
        "vectors_acknowledged": len(held.added),
        "vectors_erased": len(held.erased),
        "took_s": round(time.monotonic() - began, 1),
        "wrong": wrong,
    }


@dataclass
class Acknowledged:
    """What a process was told to be committed before it died."""

    added: set[int] = field(default_factory=set)
    erasing: set[int] = field(default_factory=set)
    """Ids whose erasure was begun; it may have been committed or not."""
    erased: set[int] = field(default_factory=set)


class Journal:
    """Lines appended by the process that is killed; one that was cut off counts as not written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, ids: tuple[int, ...]) -> None:
        os.write(self._file, f"{what} {' '.join(map(str, ids))}\n".encode())

    def length(self) -> int:
        return os.fstat(self._file).st_size

    def read(self) -> Acknowledged:
        known = Acknowledged()
        sets = {"added": known.added, "erasing": known.erasing, "erased": known.erased}
        for line in self._path.read_text(encoding="ascii").split("\n")[:-1]:
            what, *ids = line.split()
            sets[what].update(map(int, ids))
        return known


def _fill(database: Database, gallery: GalleryId, journal: Journal, vectors: int) -> None:
    for number in range(vectors // (RECORDINGS_AT_ONCE * UTTERANCES)):
        journal.write("added", _add(database, gallery, f"first-{number}", number))


def _add(database: Database, gallery: GalleryId, name: str, seed: int) -> tuple[int, ...]:
    rows = unit_vectors(RECORDINGS_AT_ONCE * UTTERANCES, seed=seed).reshape(RECORDINGS_AT_ONCE, UTTERANCES, -1)
    recordings = [
        NewRecording(
            f"{name}-{place}",
            f"/{name}-{place}.wav",
            utterances=[NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(some)],
        )
        for place, some in enumerate(rows)
    ]
    with database.session_scope() as session:
        added = Recordings(session).add_many(gallery, ENCODER, recordings)
    return tuple(int(number) for one in added for number in one.embedding_ids)


def _kill_one(
    settings: Settings, environment: dict[str, str], journal: Journal, doing: str, number: int, rng: random.Random
) -> str:
    """Start a process, kill it at a random moment, and return what it was doing then."""
    home = settings.home
    command = [sys.executable, "-m", "tests.reports.index_kill", "--work", doing, "--home", str(home)]
    (home / "doing").write_text("start", encoding="ascii")
    length = journal.length()
    process = subprocess.Popen([*command, "--seed", str(number)], env=environment)
    try:
        until = time.monotonic() + START_S
        while not (home / f"ready-{number}").exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"process {number} did not come to work: exit status {process.poll()}")
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.2))
        while number == 0 and journal.length() == length and process.poll() is None:
            time.sleep(0.01)  # However slow the machine is: something is added meanwhile.
        if process.poll() is not None:
            raise RuntimeError(f"process {number} ended by itself: exit status {process.poll()}")
    finally:
        process.kill()
        process.wait()
    return (home / "doing").read_text(encoding="ascii").strip()


def _look(settings: Settings, environment: dict[str, str], journal: Journal) -> list[str]:
    """Say what is not as it must be, as the next process finds it."""
    found: list[str] = []
    checked = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "index", "check", "-g", "archive", "--home", settings.home, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode != 0:
        found.append(f"index check: {checked.stdout.strip()[-500:]} {checked.stderr.strip()[-500:]}")
    known = journal.read()
    database = open_database(settings)
    gallery, feed = _feed(database, settings)
    opened = feed.open()
    try:
        held = set(opened.index.ids().tolist())
        with database.read_scope() as session:
            recorded = set(session.scalars(select(Embedding.id).where(Embedding.gallery_id == gallery)))
    finally:
        opened.index.close()
        database.close()
    if opened.problem is not None:
        found.append(f"a snapshot is damaged: {opened.problem}")
    if held != recorded:
        found.append(f"the index lacks {len(recorded - held)} rows of the record and has {len(held - recorded)} others")
    if lost := known.added - known.erasing - recorded:
        found.append(f"{len(lost)} committed vectors are gone from the record")
    if back := known.erased & held:
        found.append(f"{len(back)} erased vectors are in the index")
    return found


def _feed(database: Database, settings: Settings) -> tuple[GalleryId, IndexFeed]:
    with database.read_scope() as session:
        gallery = Galleries(session).head("archive").id
    return gallery, GalleryIndex(database, settings, gallery).feed(ENCODER)


class Worker:
    """The process that is killed: it writes into the record and sees to the index."""

    def __init__(self, home: Path, seed: int) -> None:
        self._settings = load_settings(home=home)
        self._database = open_database(self._settings)
        self._gallery, self._feed = _feed(self._database, self._settings)
        self._journal = Journal(home / "journal")
        self._doing = os.open(home / "doing", os.O_WRONLY)
        self._seed = seed
        self._random = random.Random(seed)

    def work(self, what: str) -> None:
        """Go on until killed."""
        index = self._feed.open().index
        threading.Thread(target=self._record, daemon=True).start()
        (self._settings.home / f"ready-{self._seed}").touch()
        while True:
            with self._at("add"):
                self._feed.follow(index, _ignore)
            if what == "snapshot":
                with self._at("snapshot"):
                    self._feed.save(index, keep_previous=self._random.random() < 0.5)
            elif what == "rebuild":
                with self._at("rebuild"):
                    GalleryIndex(self._database, self._settings, self._gallery).rebuild(ENCODER).close()

    @contextmanager
    def _at(self, what: str) -> Iterator[None]:
        os.pwrite(self._doing, what.ljust(10).encode(), 0)
        yield
        os.pwrite(self._doing, b"between".ljust(10), 0)

    def _record(self) -> None:
        number = 0
        while True:
            number += 1
            name = f"{self._seed}-{number}"
            ids = _add(
                self._database,
                self._gallery,
                name,
                seed=int(np.random.default_rng([self._seed, number]).integers(2**31)),
            )
            self._journal.write("added", ids)
            if self._random.random() < DELETE_SHARE:
                self._delete(f"{name}-0", ids[:UTTERANCES])
            time.sleep(0.005)

    def _delete(self, content: str, ids: tuple[int, ...]) -> None:
        self._journal.write("erasing", ids)
        with self._database.session_scope() as session:
            recording = Recordings(session).by_content(self._gallery, content)
            assert recording is not None
            Recordings(session).delete(RecordingId(recording.id))
        self._journal.write("erased", ids)


def _ignore(_step: Adjustment) -> None:
    """Nobody counts."""


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--vectors", type=int, default=20_000, help="vectors before the first kill")
    parser.add_argument("--compress-above", type=int, default=5_000, help="from how many on codes are scanned")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--work", choices=DOINGS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> int:
    """Run, and print the report."""
    arguments = parse()
    if arguments.work is not None:
        Worker(arguments.home, arguments.seed).work(arguments.work)
    report = run(arguments)
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
