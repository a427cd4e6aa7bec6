"""Whether a file costs the same however many there are: `python -m tests.reports.growth FOLDER [--files N]`.

First `--files` recordings of a second, all different, cut from the speech in FOLDER, are ingested into an empty gallery
on SQLite: prints the time of a file, and what the process holds, from 100 to 1,000 to 10,000. Then `--again` such
recordings are ingested into records that hold so many vectors already: prints the time of a file beside each number.
Without `--real` the encoder is the tests' own, which weighs nothing: what is left is everything but the network, and
growth that would hide behind it shows. With it the default encoder embeds, and after every 90 files it embeds as many
utterances alone, so that a machine whose speed drifts cannot pass for growth. Beside the time of the clock, which other
work on the machine lengthens, stands the processor time of all threads. With `--writing` files are only looked up and
written, as if they had been embedded: that takes seconds, and the least of four quarters says most on a busy machine.
"""

import argparse
import hashlib
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import soundfile

from api.bench.enrolled_voices import fill_record
from api.bench.ingest_bench import encoder_alone_s
from api.bench.vector_sets import ClusteredVoices
from api.dependencies import Services
from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.quality import Quality
from indexer.db.jobs import IN_PROCESS, Jobs
from indexer.embedded_files import EmbeddedFile, EmbeddedUtterance
from indexer.embedding.encoder_set import EncoderSet
from indexer.ingest import COMMIT_FILES, Ingest, IngestRun, Tally
from indexer.jobs.recorder import Recorder
from indexer.settings import DatabaseSettings, load_settings
from indexer.types import EMBEDDING_DIM, SAMPLE_RATE_HZ, EncoderId, Waveform
from tests.fakes import SpectrumEncoder
from tests.job_kit import make_gallery
from tests.reports.conversations import decode_mono

_MARKS = (100, 1_000, 10_000, 100_000)
_DITHER = 1e-4
"""Noise that makes repeated pieces different recordings."""

_WARM = 10
_TURN = 90
"""Files between two turns of the encoder alone: those from the 10 that warm up to the first mark."""


def main() -> None:
    """Measure as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="speech to cut recordings from")
    parser.add_argument("--files", type=int, default=10_000, help="recordings into an empty gallery; 0: none")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="vectors there")
    parser.add_argument("--again", type=int, default=500, help="recordings into each of these")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a recording")
    parser.add_argument("--real", action="store_true", help="use the default encoder")
    parser.add_argument("--writing", action="store_true", help="measure what looks files up and writes them alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.writing:
            for rows in asked.rows:
                report_writing(folder / f"home-{rows}", rows, asked.again)
            return
        if asked.folder is None:
            parser.error("the folder of the speech is needed, unless --writing is given")
        pieces = list(itertools.islice(cut_pieces(asked.folder, asked.seconds), 1000))
        if asked.files:
            files = write_pieces(folder / "in", pieces, asked.files, seed=0)
            report_files(folder / "empty", files, real=asked.real)
            shutil.rmtree(folder / "in")
        files = write_pieces(folder / "again", pieces, asked.again, seed=1)
        first: _Clock | None = None
        for rows in asked.rows:
            each = report_rows(folder / f"home-{rows}", files, rows, real=asked.real, first=first)
            first = first or each
            shutil.rmtree(folder / f"home-{rows}")


def cut_pieces(folder: Path, seconds: float) -> Iterator[Waveform]:
    """Yield stretches of the recordings of a folder."""
    size = round(seconds * SAMPLE_RATE_HZ)
    for path in sorted(folder.rglob("*.flac")):
        samples = decode_mono(path)
        for first in range(0, len(samples) - size + 1, size):
            piece = samples[first : first + size]
            if np.abs(piece).max() > 0.05:  # No pause.
                yield piece


def write_pieces(folder: Path, pieces: list[Waveform], count: int, *, seed: int) -> list[ArchiveFile]:
    """Write `count` recordings, no two alike."""
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        piece = pieces[number % len(pieces)]
        soundfile.write(path, piece + rng.normal(0, _DITHER, len(piece)), SAMPLE_RATE_HZ, subtype="PCM_16")
        files.append(ArchiveFile(path, None, path.stat().st_size))
    return files


def ingest_into(services: Services, *, real: bool) -> Ingest:
    """Return what ingests into a new gallery."""
    if real:
        return services.ingest("grown", None)
    encoder = SpectrumEncoder()
    return Ingest(
        database=services.database,
        gallery_id=make_gallery(services.database, encoder, "grown"),
        encoders_for=lambda _: EncoderSet(encoder),
        limits=services.settings.audio,
        channels=ChannelPolicy.parse("mix"),
        decode_threads=services.settings.ingest.decode_threads,
        listening=services.listening,
    )


def report_files(home: Path, files: list[ArchiveFile], *, real: bool) -> None:
    """Print the time of a file from mark to mark."""
    process = psutil.Process()
    with closing(Services(load_settings(home=home, database=DatabaseSettings()))) as services:
        ingest = ingest_into(services, real=real)
        ingest.run(files[:_WARM], source="warm")
        before, first = _WARM, None
        for mark in [*(mark for mark in _MARKS if mark < len(files)), len(files)]:
            each, _ = measured(ingest, files[before:mark], real=real)
            first = first or each
            say(f"files {before} to {mark}: {each.told(first)}, {process.memory_info().rss / 1e6:.0f} MB")
            before = mark


def report_rows(home: Path, files: list[ArchiveFile], rows: int, *, real: bool, first: "_Clock | None") -> "_Clock":
    """Print and return the time of a file into a record that holds `rows` vectors."""
    with closing(Services(load_settings(home=home, database=DatabaseSettings()))) as services:
        fill_record(services.database, ClusteredVoices(1), rows)
        ingest = ingest_into(services, real=real)
        ingest.run(files[:_WARM], source="warm")
        each, failed = measured(ingest, files[_WARM:], real=real)
        say(f"beside {rows} vectors: {each.told(first or each)} ({failed} of {len(files) - _WARM} failed)")
        return each


def measured(ingest: Ingest, files: list[ArchiveFile], *, real: bool) -> tuple["_Clock", int]:
    """Return the time of a file, in turns with the encoder alone if that is real, and how many failed."""
    wall = cpu = alone = 0.0
    failed = 0
    turn = _TURN if real else len(files)
    for place in range(0, len(files), turn):
        some = files[place : place + turn]
        began = _Clock.now()
        failed += ingest.run(some, source="growth").tally.failed
        ended = _Clock.now()
        wall, cpu = wall + ended.wall - began.wall, cpu + ended.cpu - began.cpu
        if real:
            length = soundfile.info(some[0].path).frames
            alone += encoder_alone_s(ingest.encoders_for(ingest.gallery_id), Counter({length: len(some)}))
    return _Clock(1000 * wall / len(files), 1000 * cpu / len(files), 1000 * alone / len(files)), failed


def report_writing(home: Path, rows: int, files: int) -> None:
    """Print the least time of a file that is looked up and written, beside `rows` vectors."""
    with closing(Services(load_settings(home=home, database=DatabaseSettings()))) as services:
        if rows:
            fill_record(services.database, ClusteredVoices(1), rows)
        encoder = SpectrumEncoder()
        gallery_id = make_gallery(services.database, encoder, "grown")
        with services.database.session_scope() as session:
            job_id = Jobs(session).start(gallery_id, kind=IN_PROCESS, source="growth", found=files)
        run = IngestRun(job_id, services.database, Tally(found=files))
        recorder = Recorder(
            database=services.database,
            gallery_id=gallery_id,
            encoder_ids=(encoder.id,),
            channels=ChannelPolicy.parse("mix"),
        )
        spent: list[_Clock] = []
        for quarter in range(4):
            made = [_made_up(encoder.id, number) for number in range(quarter * files // 4, (quarter + 1) * files // 4)]
            began = _Clock.now()
            for first in range(0, len(made), COMMIT_FILES):
                some = made[first : first + COMMIT_FILES]
                for one in some:
                    recorder.is_known(one.content_sha256 or "")
                run.commit(recorder, some)
            spent.append(_Clock.now().each_ms(began, len(made)))
        say(
            f"writing beside {rows} vectors: {min(one.cpu for one in spent):.2f} ms of a processor a file, at the least"
        )


def _made_up(encoder_id: EncoderId, number: int) -> EmbeddedFile:
    vector = np.random.default_rng(number).normal(size=EMBEDDING_DIM).astype(np.float32)
    file = ArchiveFile(Path(f"/archive/{number:06}.wav"), None, 32_000)
    quality = Quality(net_speech_s=1.0, snr_db=20.0, clipped_share=0.0, bandwidth_hz=7000.0, level_dbfs=-20.0)
    unit = {encoder_id: vector / np.linalg.norm(vector)}
    return EmbeddedFile(
        file,
        content_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        size_bytes=32_000,
        duration_s=1.0,
        utterances=[EmbeddedUtterance(0, 0.0, 1.0, unit, 0, quality)],
    )


class _Clock(NamedTuple):
    """Time of the clock and of the processor, in seconds or in milliseconds a file."""

    wall: float
    cpu: float
    alone: float = 0.0
    """What the encoder alone took by the clock; 0: it had no turns."""

    @classmethod
    def now(cls) -> "_Clock":
        return cls(time.perf_counter(), time.process_time())

    def each_ms(self, since: "_Clock", files: int) -> "_Clock":
        return _Clock(1000 * (self.wall - since.wall) / files, 1000 * (self.cpu - since.cpu) / files)

    def told(self, first: "_Clock") -> str:
        told = (
            f"{self.wall:.2f} ms a file ({self.wall / first.wall:.2f}), "
            f"{self.cpu:.2f} ms of processors ({self.cpu / first.cpu:.2f})"
        )
        if not self.alone:
            return told
        by_encoder = self.wall / self.alone
        grown = by_encoder / (first.wall / first.alone)
        return f"{told}, {by_encoder:.2f} times the encoder alone ({grown:.2f})"


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
