"""How a serving process keeps up: python -m tests.reports.live identify|visible|batching [--postgres]

identify: cost of an answer without embedding, at 1,000 speakers x 5 enrollments among 50,000 utterances.
visible: time from a commit to the vector being found in another process's index, while ingest goes on.
batching: throughput of 64 threads through one encoder beside the encoder's own on the same list.
"""

import argparse
import multiprocessing
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from api.encoder_side import EncoderSide
from api.enrolled import EnrolledGallery
from api.filtered import FilteredGallery
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import GalleryHead, NewRecording, NewUtterance
from indexer.db.session import Database, open_database
from indexer.db.speakers import Speakers
from indexer.embedding.batching import BatchingEncoder
from indexer.embedding.registry import EncoderRegistry
from indexer.encoders_in_use import EncodersInUse
from indexer.index.followed import FollowedIndex
from indexer.index.follower import FeedWatch
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings, load_settings
from indexer.types import GalleryId, Vectors
from tests.integration.test_live_galleries import SpectrumEncoders
from tests.record_kit import ENCODER, make_gallery, record
from tests.vectors import unit_vectors
from tests.voices_kit import at, heard_voice, voices_of

BATCH_FILES, FILE_UTTERANCES = 32, 10


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quantiles(label: str, seconds: list[float]) -> None:
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    say(f"{label}: n = {len(seconds)}, p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max(seconds) * 1000:.2f} ms")


def add_batch(database: Database, gallery: GalleryId, name: str, vectors: Vectors, owners: list[str | None]) -> int:
    """One transaction of ingest; returns the last embedding id."""
    with database.session_scope() as session:
        named = sorted({owner for owner in owners if owner is not None})
        ids = Speakers(session).get_or_create(gallery, named)
        recordings = [
            NewRecording(
                f"{name}-{number}",
                f"/{name}-{number}.wav",
                utterances=[
                    NewUtterance(None, n, n + 1.0, vectors[row], ids[owner] if (owner := owners[row]) else None)
                    for n, row in enumerate(range(number * FILE_UTTERANCES, (number + 1) * FILE_UTTERANCES))
                ],
            )
            for number in range(len(vectors) // FILE_UTTERANCES)
        ]
        return max(max(added.embedding_ids) for added in Recordings(session).add_many(gallery, ENCODER, recordings))


def identify(settings: Settings, *, speakers: int = 1000, each: int = 5, utterances: int = 50_000) -> None:
    database = open_database(settings)
    gallery = make_gallery(database)
    rng = np.random.default_rng(0)
    centers = unit_vectors(speakers, seed=1)
    enrolled = np.repeat(centers, each, axis=0) + rng.standard_normal((speakers * each, 192)) * 0.05
    vectors = np.concatenate([enrolled, rng.standard_normal((utterances - speakers * each, 192))])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owners = [f"speaker {row // each}" if row < speakers * each else None for row in range(utterances)]
    for start in range(0, utterances, 2000):
        add_batch(database, gallery, f"b{start}", vectors[start : start + 2000], owners[start : start + 2000])
    index = FollowedIndex(GalleryIndex(database, settings, gallery), ENCODER).index
    fakes = SpectrumEncoders()
    known = EnrolledGallery(database, gallery, ENCODER, index)
    started = time.perf_counter()
    known.load()
    say(f"loading who is enrolled: {(time.perf_counter() - started) * 1000:.0f} ms")
    filtered = FilteredGallery(database, gallery, ENCODER)
    side = EncoderSide(fakes.encoder, fakes.spec, index, known, filtered)
    voices = voices_of([side], settings, database, gallery, "archive")
    for label, labels in (("identify", None), ("identify again", None)):
        seconds = []
        for number in range(300):
            probe = heard_voice(centers[number % speakers], ENCODER)
            started = time.perf_counter()
            (found,) = voices.identify([probe], top_k=5, asked=at(0.5), labels=labels)
            seconds.append(time.perf_counter() - started)
            assert found.answer.speaker == f"speaker {number % speakers}"
        quantiles(f"{label} ({database.engine.dialect.name})", seconds)
    database.close()


def _ingest(
    settings: Settings, gallery: GalleryId, batches: int, times: "multiprocessing.Queue[tuple[int, float]]"
) -> None:
    database = open_database(settings)
    vectors = unit_vectors(BATCH_FILES * FILE_UTTERANCES, seed=5)
    for number in range(batches):
        owners: list[str | None] = [f"speaker {number % 50}"] * len(vectors)
        times.put((add_batch(database, gallery, f"w{number}", vectors, owners), time.monotonic()))
        time.sleep(0.1)
    times.put((-1, 0.0))
    database.close()


def visible(settings: Settings, *, batches: int = 120) -> None:
    database = open_database(settings)
    gallery = make_gallery(database)
    followed = FollowedIndex(GalleryIndex(database, settings, gallery), ENCODER)
    known = EnrolledGallery(database, gallery, ENCODER, followed.index)
    known.load()

    class Both:
        gallery_id = gallery

        def __init__(self) -> None:
            with database.read_scope() as session:
                self.head = Galleries(session).heads([gallery])[gallery]

        def look(self, head: GalleryHead) -> bool:
            self.head = head
            return followed.position != head.position.vectors

        def follow(self, head: GalleryHead) -> None:
            followed.follow()

        def outdated(self) -> bool:
            return known.outdated(self.head)

        def refresh(self) -> None:
            known.refresh()

        def untidy(self) -> bool:
            return followed.untidy()

        def keep(self) -> None:
            followed.keep()

        def check(self) -> None:
            followed.check()

        def forsake(self) -> None: ...

    watch = FeedWatch(database)
    watch.add(Both())
    context = multiprocessing.get_context("spawn")
    times: multiprocessing.Queue[tuple[int, float]] = context.Queue()
    writer = context.Process(target=_ingest, args=(settings, gallery, batches, times))
    writer.start()
    seen: list[float] = []
    while (found := times.get())[0] >= 0:
        number, committed = found
        while not followed.index.holds(np.array([number]))[0]:
            time.sleep(0.002)
        seen.append(time.monotonic() - committed)
    writer.join()
    watch.close()
    quantiles(f"commit -> in another process's index ({database.engine.dialect.name}, {followed.index.count})", seen)
    database.close()


def batching(*, threads: int = 64, probes: int = 64, rounds: int = 3) -> None:
    settings = load_settings()
    registry = EncoderRegistry(settings.home, settings.cache, offline=settings.offline)
    inner, _ = EncodersInUse(registry, settings.embedding).load()
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(0, 0.05, 48_000).astype(np.float32) for _ in range(probes)]
    expected = inner.embed(waveforms)
    encoder = BatchingEncoder(inner, queue=256, batch=settings.probes.batch)
    direct, shared = [], []
    with ThreadPoolExecutor(threads) as pool:
        barrier = threading.Barrier(threads)
        list(pool.map(lambda _: barrier.wait(), range(threads)))
        for _ in range(rounds):
            started = time.perf_counter()
            inner.embed(waveforms)
            direct.append(time.perf_counter() - started)
            started = time.perf_counter()
            found = list(pool.map(lambda waveform: encoder.embed([waveform])[0], waveforms))
            shared.append(time.perf_counter() - started)
    encoder.close()
    assert (1 - (np.stack(found) * expected).sum(axis=1)).max() < 1e-5
    ratios = [one / other for one, other in zip(direct, shared, strict=True)]
    say(f"direct {[round(s, 2) for s in direct]} s, shared {[round(s, 2) for s in shared]} s for {probes} x 3 s")
    say(f"throughput against the encoder's own: median {np.median(ratios):.3f}, total {sum(direct) / sum(shared):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["identify", "visible", "batching"])
    parser.add_argument("--postgres", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "batching":
        batching()
        return
    with record(arguments.postgres) as settings:
        (identify if arguments.what == "identify" else visible)(settings)


if __name__ == "__main__":
    main()
