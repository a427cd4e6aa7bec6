"""How fast recordings become rows: ingest end to end, each of its stages, and the encoder alone, in one run."""

import importlib
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from api.bench.arithmetic import BFLOAT16, BYTES, FLOAT32, Limit, gflop_per_audio_s, limit_of, matrix_rates
from api.bench.machine import Measured, PeakMemory
from api.bench.own_home import make_own_home
from api.cli.output import counted, print_line, print_table
from indexer.errors import InvalidRequest
from indexer.ingest import Tally
from indexer.observability import REGISTRY
from indexer.types import SAMPLE_RATE_HZ, precision_of

if TYPE_CHECKING:
    from api.dependencies import Services
    from indexer.embedding.encoder import Encoder
    from indexer.embedding.encoder_set import EncoderSet

_GALLERY, _WARM = "bench", "warm"
_SEED = 20260101
_WARM_FILES = 24
_RATE_S = 2.0
_TURNS = 5
"""Parts of the recordings, after each of which the encoder has its turn: what else the machine does meets both."""

_TOGETHER = 32
"""Utterances of one length that the encoder alone gets at once, as the pipeline gives them to it."""

STAGES = {
    "read and hash": ("voxdex_stage_cpu_seconds_total", {"stage": "hash"}),
    "decode, resample": ("voxdex_stage_cpu_seconds_total", {"stage": "decode"}),
    "find speech": ("voxdex_stage_cpu_seconds_total", {"stage": "speech"}),
    "measure quality": ("voxdex_stage_cpu_seconds_total", {"stage": "measure"}),
    "features, encoder": ("voxdex_embed_seconds_total", {}),
    "rows": ("voxdex_commit_seconds_total", {}),
}
"""Stages, and the counters of their seconds: of processor time where threads decode, else of the clock."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where time went.

    Attributes
    ----------
    seconds
        Of processor time, summed over threads, where recordings are decoded; of the clock for encoder, rows and index.
    share
        Of the time from the first file to the index.
    """

    name: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestFigures(Measured):
    """One ingest, and the encoder alone with utterances of the same lengths.

    Attributes
    ----------
    speech_s
        Seconds of speech that were embedded, without the sound around it.
    embedded_s
        Lengths of the utterances that were embedded.
    encoder_s
        What these take in the encoder alone.
    share_of_encoder
        `encoder_s` by what ingest took: 1 where the rest costs nothing.
    given_s
        Lengths of all that the encoder was given: some stretches more than once, to tell whether several voices are
        there, and which.
    given_encoder_s, share_of_encoder_given
        What all that takes in the encoder alone, and the same by what ingest took.
    limit
        What a second of audio takes, and the machine's own rates, measured in the same run.
    share_of_limit, encoder_share_of_limit
        What the utterances would take at those rates, each embedded once, by what ingest and the encoder alone took.
    peak_bytes
        Most memory that ingest added to the process.
    """

    encoder: str
    decode_threads: int
    torch_threads: int
    files: int
    failed: int
    several_voices: int
    utterances: int
    audio_s: float
    speech_s: float
    embedded_s: float
    elapsed_s: float
    files_per_s: float
    audio_times_real_time: float
    speech_times_real_time: float
    encoder_s: float
    encoder_speech_times_real_time: float
    share_of_encoder: float
    given_s: float
    given_encoder_s: float
    share_of_encoder_given: float
    limit: Limit
    share_of_limit: float
    encoder_share_of_limit: float
    peak_bytes: int
    stages: tuple[Stage, ...]


def run_ingest_bench(
    services: "Services",
    paths: Sequence[Path],
    *,
    files: int,
    encoder: str | None,
    speakers: str | None = None,
    speech: str | None = None,
) -> IngestFigures:
    """Ingest recordings into a gallery on SQLite that is thrown away, and embed as much by the encoder alone, in turns.

    Parameters
    ----------
    files
        Most recordings, taken at even steps over all that are found.
    speakers, speech
        As `voxdex ingest` takes them.

    Raises
    ------
    InvalidRequest
        If no recording is found, or none of them can be embedded.
    """
    import torch

    from api.bench.given_audio import GivenAudio
    from api.dependencies import Services
    from indexer.archive import list_archive, nobody

    found = list_archive(paths, nobody).files
    if not found:
        raise InvalidRequest("no recording is there: give files or folders of recordings")
    chosen = [found[place] for place in np.linspace(0, len(found) - 1, min(files, len(found))).round().astype(int)]
    with tempfile.TemporaryDirectory(prefix="voxdex-bench-") as folder:
        settings = make_own_home(services.settings, Path(folder))
        with closing(Services(settings)) as apart:
            # Networks, codecs and kernels are loaded before anything is measured; so is what groups voices (0.4 s for
            # the first recording of several) and what keeps indexes (0.2 s).
            importlib.import_module("scipy.cluster.hierarchy")
            warm = apart.ingest(_WARM, encoder, speakers=speakers, speech=speech)
            warm.run(chosen[:: max(1, len(chosen) // _WARM_FILES)], source="bench")
            apart.indexes.bring_into_step(_WARM)
            ingest = apart.ingest(_GALLERY, encoder, speakers=speakers, speech=speech)
            encoders = ingest.encoders_for(ingest.gallery_id)
            given, of_gallery = GivenAudio(), ingest.encoders_for
            ingest = replace(ingest, encoders_for=lambda gallery_id: given.around(of_gallery(gallery_id)))
            spent: defaultdict[str, float] = defaultdict(float)
            tally, samples, peak_bytes = Tally(), list[int](), 0
            elapsed_s = encoder_s = more_encoder_s = given_s = 0.0
            for number in range(_TURNS):
                before = _seconds()
                began = time.perf_counter()
                with PeakMemory() as memory:
                    tally.add(ingest.run(chosen[number::_TURNS], source="bench").tally)
                    indexing = time.perf_counter()
                    apart.indexes.bring_into_step(_GALLERY)
                ended = time.perf_counter()
                elapsed_s += ended - began
                for name, seconds in _seconds().items():
                    spent[name] += seconds - before[name]
                spent["index"] += ended - indexing
                peak_bytes = max(peak_bytes, memory.peak_bytes)
                lengths, several = _lengths(apart)
                new = Counter(lengths) - Counter(samples)
                encoder_s += encoder_alone_s(encoders, new)
                for own, all_of_it in zip(encoders, given.taken(), strict=False):
                    given_s += sum(length * count for length, count in all_of_it.items()) / SAMPLE_RATE_HZ
                    more_encoder_s += encoder_alone_s((own,), all_of_it - new)
                samples = lengths
            if not samples:
                raise InvalidRequest(
                    f"of {counted(len(chosen), 'recording')} none could be embedded, so there is nothing to measure; "
                    "give others (`voxdex ingest` says what is wrong with these)"
                )
            limit = _limit(apart, encoders)
    embedded_s = sum(samples) / SAMPLE_RATE_HZ
    least_s = sum(limit.least_s(length / SAMPLE_RATE_HZ) for length in samples)
    return IngestFigures(
        encoder=", ".join(encoders.ids),
        decode_threads=settings.ingest.decode_threads,
        torch_threads=torch.get_num_threads(),
        files=tally.processed,
        failed=tally.failed,
        several_voices=several,
        utterances=tally.utterances,
        audio_s=tally.audio_s,
        speech_s=tally.speech_s,
        embedded_s=embedded_s,
        elapsed_s=elapsed_s,
        files_per_s=tally.processed / elapsed_s,
        audio_times_real_time=tally.audio_s / elapsed_s,
        speech_times_real_time=tally.speech_s / elapsed_s,
        encoder_s=encoder_s,
        encoder_speech_times_real_time=tally.speech_s / encoder_s,
        share_of_encoder=encoder_s / elapsed_s,
        given_s=given_s,
        given_encoder_s=encoder_s + more_encoder_s,
        share_of_encoder_given=(encoder_s + more_encoder_s) / elapsed_s,
        limit=limit,
        share_of_limit=least_s / elapsed_s,
        encoder_share_of_limit=least_s / encoder_s,
        peak_bytes=peak_bytes,
        stages=tuple(Stage(name, seconds, seconds / elapsed_s) for name, seconds in spent.items()),
    )


def _limit(services: "Services", encoders: "EncoderSet") -> Limit:
    """Return what a second of audio takes, and the rates of this machine that bound it."""
    from indexer.embedding.engines import multiplies_bytes, runs_fast

    works = []
    for encoder in encoders:
        loaded, _ = services.encoders.load(encoder.name)
        is_fast = precision_of(encoder.id) == "fast" and runs_fast(loaded.checkpoint.network, loaded.device)
        numbers, in_bytes = BFLOAT16 if is_fast else FLOAT32, is_fast and multiplies_bytes(loaded.device)
        works.append(gflop_per_audio_s(loaded.checkpoint, numbers, in_bytes=in_bytes))
    used = {kind for work in works for kind in work}
    return limit_of(works, matrix_rates([kind for kind in (FLOAT32, BFLOAT16, BYTES) if kind in used], _RATE_S))


def _seconds() -> dict[str, float]:
    return {name: REGISTRY.get_sample_value(counter, labels) or 0.0 for name, (counter, labels) in STAGES.items()}


def _lengths(services: "Services") -> tuple[list[int], int]:
    """Return how many samples each utterance has, and how many recordings hold several voices."""
    from indexer.db.galleries import Galleries
    from indexer.db.models import Recording, Utterance

    with services.database.read_scope() as session:
        gallery_id = Galleries(session).by_name(_GALLERY).id
        query = (
            select(Utterance.start_s, Utterance.end_s, Utterance.recording_id, Utterance.voice)
            .join(Recording, Recording.id == Utterance.recording_id)
            .where(Recording.gallery_id == gallery_id)
        )
        rows = session.execute(query).all()
    samples = [round(row.end_s * SAMPLE_RATE_HZ) - round(row.start_s * SAMPLE_RATE_HZ) for row in rows]
    return samples, len({row.recording_id for row in rows if row.voice})


def encoder_alone_s(encoders: "Iterable[Encoder]", samples: Counter[int]) -> float:
    """Seconds that so many utterances of each length take in the encoders alone, those of one length together."""
    noise = np.random.default_rng(_SEED).normal(0.0, 0.1, max(samples, default=0) + SAMPLE_RATE_HZ).astype(np.float32)
    spent_s = 0.0
    for length, count in _batches(samples):
        # Arithmetic takes as long for noise as for speech.
        waveforms: list[NDArray[np.float32]] = [noise[place : place + length] for place in range(count)]
        began = time.perf_counter()
        for encoder in encoders:
            encoder.embed(waveforms)
        spent_s += time.perf_counter() - began
    return spent_s


def _batches(samples: Counter[int]) -> Iterator[tuple[int, int]]:
    """Yield lengths and how many utterances of each go together."""
    for length, left in sorted(samples.items()):
        while left > 0:
            yield length, min(left, _TOGETHER)
            left -= _TOGETHER


def print_ingest_bench(figures: IngestFigures) -> None:
    """Print the figures."""
    print_line(figures.heading)
    print_line(
        f"encoder {figures.encoder}; {counted(figures.torch_threads, 'thread')} of torch, "
        f"{figures.decode_threads} that decode"
    )
    print_line(
        f"{counted(figures.files, 'file')} ({figures.failed} failed, {figures.several_voices} with several voices): "
        f"{figures.audio_s:.0f} s of audio, {figures.speech_s:.0f} s of speech, "
        f"{counted(figures.utterances, 'utterance')} of {figures.embedded_s:.0f} s"
    )
    print_table(
        ["stage", "seconds", "share of the time"],
        [[stage.name, f"{stage.seconds:.2f}", f"{100 * stage.share:.1f} %"] for stage in figures.stages],
    )
    print_line(
        f"ingest: {figures.elapsed_s:.1f} s, {figures.files_per_s:.1f} files/s, {figures.audio_times_real_time:.1f} "
        f"times real time of audio, {figures.speech_times_real_time:.1f} of speech; "
        f"{figures.peak_bytes / 2**20:.0f} MiB at the most"
    )
    print_line(
        f"the encoder alone, utterances of the same lengths: {figures.encoder_s:.1f} s, "
        f"{figures.encoder_speech_times_real_time:.1f} times real time of speech; ingest reaches "
        f"{100 * figures.share_of_encoder:.0f} % of it"
    )
    print_line(
        f"the encoder alone, all that it was given, what tells voices apart more than once ({figures.given_s:.0f} s): "
        f"{figures.given_encoder_s:.1f} s; ingest reaches {100 * figures.share_of_encoder_given:.0f} % of it"
    )
    print_line(
        f"{figures.limit}; ingest reaches {100 * figures.share_of_limit:.0f} % of what that allows, the encoder alone "
        f"{100 * figures.encoder_share_of_limit:.0f} %"
    )
