"""Memory of one process over thousands of files of a job: `python -m tests.reports.memory [--files N] [--real]`.

With `--recording FILE ... --hours H` instead: of one recording of so many hours, a FLAC in which these files follow on
each other again and again, that is listened to for speech and voices. With `--real` its vectors are those of the
default encoder, which are remembered: what was heard before, to the sample, gets its vector of then with a little
noise, so that hours cost what a few minutes cost the network.

Prints the resident set after each tenth of the files, or every minute. Files are short recordings of noise, all
different; without `--real` the encoder is the tests' own, which weighs nothing, so that what is left is decoding,
recording and jobs.
"""

import argparse
import gc
import hashlib
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import soundfile
from sqlalchemy import func, select

from api.dependencies import Services
from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.speech import FRAME_SAMPLES, GROUP_FRAMES
from indexer.db.models import Recording
from indexer.embedding.around import AroundEncoder
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import load_settings
from indexer.types import SAMPLE_RATE_HZ, Span, Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, make_bulk, make_gallery, submit, write_archive
from tests.reports.conversations import decode_mono


def main() -> None:
    """Work through a job, and print what the process holds on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="length of the shortest; they reach to five times it"
    )
    parser.add_argument("--real", action="store_true", help="use the default encoder")
    parser.add_argument("--recording", type=Path, nargs="+", help="speech, of several voices best")
    parser.add_argument("--hours", type=float, default=8.0, help="how long that is")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.recording is None:
            measure(Path(folder), asked.files, asked.seconds, real=asked.real)
        else:
            measure_long(Path(folder), asked.recording, asked.hours, real=asked.real)


def measure_long(folder: Path, recordings: Sequence[Path], hours: float, *, real: bool) -> None:
    samples = repeatable([decode_mono(recording) for recording in recordings])
    path = folder / "long.flac"
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC") as written:
        for _ in range(round(hours * 3600 * SAMPLE_RATE_HZ / len(samples))):
            written.write(samples)
    services = Services(load_settings(home=folder / "home"))
    encoder: Encoder = NoisyMemory(services.comparison(None).encoder) if real else SpectrumEncoder()
    pipeline = EmbeddingPipeline(
        EncoderSet(encoder),
        channels=ChannelPolicy.parse("mix"),
        limits=services.settings.audio,
        decode_threads=services.settings.ingest.decode_threads,
        is_known=lambda content: False,
        listening=services.listening,
    )
    process, started = psutil.Process(), time.monotonic()
    say(f"{len(samples) / SAMPLE_RATE_HZ:.0f} s again and again; before: {rss_mb(process):.0f} MB")
    with told_every(60.0, lambda: f"after {time.monotonic() - started:.0f} s: {rss_mb(process):.0f} MB"):
        (result,) = pipeline.run([ArchiveFile(path, None, path.stat().st_size)])
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # Kilobytes, on Linux.
    say(
        f"{result.duration_s / 3600:.2f} h, {result.speech_s / 3600:.2f} h of speech, "
        f"{len(result.utterances)} utterances of {len(result.voices_s)} voices, {result.error or 'no error'}: "
        f"peak {peak_mb:.0f} MB, {result.duration_s / (time.monotonic() - started):.0f} times real time"
    )
    if isinstance(encoder, NoisyMemory):
        say(f"{encoder.asked} vectors, {encoder.made} of them made by the network")
    services.close()


def repeatable(pieces: Sequence[Waveform]) -> Waveform:
    """Join pieces so that what is heard of them does not depend on how often they were heard before.

    The pause at the end is long enough for an utterance to end, and the whole is as long as some groups of the frames
    in which speech is found.
    """
    pause = np.zeros(round(0.4 * SAMPLE_RATE_HZ), dtype=np.float32)
    joined = np.concatenate([part for piece in pieces for part in (piece, pause)])
    joined = np.pad(joined, (0, round(2.5 * SAMPLE_RATE_HZ)))
    return np.pad(joined, (0, -len(joined) % (GROUP_FRAMES * FRAME_SAMPLES)))


class NoisyMemory(AroundEncoder):
    """Another encoder, asked for each vector once: later ones are that with noise, at a cosine of 0.95."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__(inner)
        self._kept: dict[bytes, Vectors] = {}
        self._rng = np.random.default_rng(1)
        self._guard = threading.Lock()
        self.asked = self.made = 0

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        return self.embed_with_windows(waveforms, [()] * len(waveforms))[0]

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        return self.embed(waveforms)

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        keys = [
            hashlib.sha256(waveform.tobytes() + repr(spans).encode()).digest()
            for waveform, spans in zip(waveforms, windows, strict=True)
        ]
        new = [place for place, key in enumerate(keys) if key not in self._kept]
        if new:
            own, inside = self._inner.embed_with_windows([waveforms[p] for p in new], [windows[p] for p in new])
            for place, vector, rows in zip(new, own, inside, strict=True):
                self._kept[keys[place]] = np.concatenate([vector[None], rows])
        with self._guard:
            self.asked += len(keys)
            self.made += len(new)
            told = [self._like(self._kept[key]) for key in keys]
        return np.stack([own[0] for own in told]), [own[1:] for own in told]

    def _like(self, vectors: Vectors) -> Vectors:
        noise = self._rng.standard_normal(vectors.shape, dtype=np.float32)
        noisy = vectors + 0.33 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        like: Vectors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
        return like


@contextmanager
def told_every(seconds: float, text: Callable[[], str]) -> Iterator[None]:
    """Say something again and again, for as long as the block lasts."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(seconds):
            say(text())

    thread = threading.Thread(target=tell, name="told")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
