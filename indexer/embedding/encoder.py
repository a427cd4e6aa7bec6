"""Waveforms in, unit vectors out: batching, device, and the checks that keep unusable vectors out of a gallery."""

import os
import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

import indexer.torch_imported  # noqa: F401  # isort: skip  # before anything else imports torch
import numpy as np
import torch

from indexer.embedding.checkpoints import Checkpoint, read_checkpoint
from indexer.embedding.engines import best_pass_s, for_any_lengths, make_engine, settled_precision
from indexer.embedding.features import Frames, RaggedFrames
from indexer.embedding.passes import keep_freed_memory, run_passes
from indexer.embedding.room import DEFAULT_PASS_S, Room, measured_room
from indexer.embedding.transfer import to_device
from indexer.embedding.user_encoders import Family
from indexer.embedding.weight_files import WeightFile
from indexer.embedding.windows import statistics_of, statistics_of_ragged
from indexer.errors import InvalidAudio, InvalidRequest, NonFiniteEmbedding, TooLittleSpeech, Unavailable
from indexer.observability import ENCODER_BUSY
from indexer.torch_threads import one_thread, settle_threads, use_threads
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Precision, Span, Vectors, Waveform, with_precision

_Made = TypeVar("_Made")

MIN_SPEECH_S = 0.1
"""Shortest utterance that is embedded. NeMo accepts 20 ms and then gives nearly the same vector to any voice, because
two frames have only a sign left after normalization; ten frames are about the span that the convolutions see."""

_PRIMITIVE_CACHE = "128"
"""Compiled CPU kernels that oneDNN keeps, a few for each length of utterance. Its own 1024 grow by a gigabyte over an
archive of many lengths, and are no faster."""


_ALONE_SAMPLES = 20 * SAMPLE_RATE_HZ
"""Samples, times threads, up to which one thread makes the features: a tenth of a millisecond for each second of audio,
where ten operations that are divided wake every other thread ten times."""

_LONGEST_JOINED = 60 * SAMPLE_RATE_HZ
"""Samples of the longest utterance that shares a pass with shorter ones: sums over one are made in order, those of many
side by side."""


class Encoder(Protocol):
    """What makes vectors comparable: one network with one front end, named by `id`."""

    @property
    def id(self) -> EncoderId:
        """Weights hash, front end and precision; vectors of two ids never meet."""

    @property
    def name(self) -> str:
        """How people call it."""

    @property
    def dim(self) -> int:
        """D, the dimension of its vectors."""

    @property
    def min_samples(self) -> int:
        """Fewest samples that it embeds."""

    @property
    def joins_lengths(self) -> bool:
        """Whether utterances of several lengths share a pass; else they go through it length by length."""

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows of unit norm, in input order."""

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows as the network gives them."""

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances as `embed` does, and (W, D) unit rows of stretches inside each of them."""


def encoder_id(weights_sha256: str, front_end: str, precision: Precision = "exact") -> EncoderId:
    """Name an encoder: the first 16 hex digits of its weights' hash, a dash, the front end, and "-fast" where it is."""
    return with_precision(EncoderId(f"{weights_sha256[:16]}-{front_end}"), precision)


class SpeakerEncoder:
    """The network of a checkpoint, with its front end, on one device.

    Parameters
    ----------
    checkpoint : Checkpoint
        Verified weights.
    name : str
        How people call the encoder.
    device : str
        "auto" (CUDA where there is one, else CPU), "cpu", "cuda", "cuda:N" or "mps".
    precision : "exact" or "fast"
        What the vectors keep to, which is part of the id: a cosine to those of float32 of 0.99999, or of 0.999. Fast
        ones are made in bfloat16 where the device multiplies such numbers, else in float32.
    batch_audio_s : float, optional
        Most seconds of audio in the passes that are under way; one longer utterance still goes through alone, because
        cutting it would change its vector. Where it is not given, 40 on a CPU, and on a GPU what its free memory
        holds. On a CPU a process that embeds 120 s in one pass peaks at about 1.8 GB.
    threads : int
        CPU threads, for the whole process; 0 leaves torch's choice.

    Raises
    ------
    InvalidRequest
        If an argument is out of range.
    Unavailable
        If the device is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str,
        device: str = "auto",
        precision: Precision = "exact",
        batch_audio_s: float | None = None,
        threads: int = 0,
    ) -> None:
        if batch_audio_s is not None and not batch_audio_s > 0:
            raise InvalidRequest(f"batch_audio_s = {batch_audio_s}: must be above 0 seconds")
        if threads < 0:
            raise InvalidRequest(f"threads = {threads}: must be 0 (torch's choice) or more")
        if threads:
            use_threads(threads)
        # Read by oneDNN when the first convolution runs, so it is early enough here.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PRIMITIVE_CACHE)
        self.name = name
        self.id = encoder_id(checkpoint.weights_sha256, checkpoint.front_end, precision)
        self.dim = checkpoint.dim
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        if self.device.type == "cuda":
            # TF32 keeps 10 bits of the mantissa: scores would differ between machines in the third decimal.
            torch.backends.cudnn.allow_tf32 = False
            # Sums in bfloat16 between parts of a product would do the same to fast vectors.
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        else:
            keep_freed_memory()
        self._front_end = checkpoint.build_front_end().to(self.device)
        self._network = make_engine(checkpoint, precision, self.device)
        self._joining = for_any_lengths(self._network, self._front_end, self.device)
        self._prepared: dict[int, tuple[weakref.ref[Waveform], Frames]] = {}
        needed = self._front_end.samples_for(checkpoint.network.min_frames)
        self.min_samples = max(needed, round(MIN_SPEECH_S * SAMPLE_RATE_HZ))
        self._batch_samples = int((batch_audio_s or DEFAULT_PASS_S) * SAMPLE_RATE_HZ)
        best = best_pass_s(self._network, self.device) * SAMPLE_RATE_HZ
        self._room = Room(self.device, int(min(self._batch_samples, best)))
        if batch_audio_s is None and self.device.type == "cuda":
            self._room.samples = measured_room(self.device, self._forward_noise, self._batch_samples)

    @property
    def joins_lengths(self) -> bool:
        """Whether utterances of several lengths share a pass, as they do on a GPU."""
        return self._joining is not None

    def prepare(self, waveform: Waveform) -> None:
        """Compute, by the calling thread alone, what the network will read of an utterance if it is embedded by itself.

        It is known by the array itself, which nobody may write to, and kept as long as that, until it is embedded.
        Where preparing would gain nothing (on a GPU), or the waveform cannot be embedded, nothing happens.
        """
        if self.device.type != "cpu" or len(waveform) < self.min_samples:
            return
        with torch.inference_mode(), one_thread():
            frames = self._front_end(torch.from_numpy(waveform[None]))
        key = id(waveform)
        self._prepared[key] = weakref.ref(waveform, lambda _: self._prepared.pop(key, None)), frames

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances so that a dot product of two rows is their cosine score.

        Parameters
        ----------
        waveforms : sequence of (N_i,) float32 arrays
            Mono speech at 16 kHz in [-1, 1]. Lengths may differ: equal lengths share a pass, and on a GPU any lengths
            without padding, so batch-mates never change a row beyond rounding (in cosine distance 1e-5 at most, of
            precision "fast" 1e-4).

        Returns
        -------
        (B, D) float32 array
            Rows have unit L2 norm, in input order; (0, D) for no waveforms.

        Raises
        ------
        InvalidAudio
            If a waveform is not a one-dimensional float32 array of finite numbers.
        TooLittleSpeech
            If one is shorter than `min_samples`.
        NonFiniteEmbedding
            If the network gives NaN, infinity or a zero vector.

        References
        ----------
        Desplanques et al., "ECAPA-TDNN", Interspeech 2020, arXiv:2005.07143; Wang et al., "CAM++", Interspeech 2023,
        arXiv:2303.00332.
        """
        return self._unit(self.embed_raw(waveforms))

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as the network gives them, for comparison with the code that published the weights.

        Parameters, order and errors are those of `embed`; rows are not normalized.
        """
        for index, waveform in enumerate(waveforms):
            self._check(index, waveform)
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)

        def run(rows: list[int]) -> torch.Tensor:
            return self._forward([waveforms[row] for row in rows])

        with ENCODER_BUSY.counting():
            # All passes are handed over before the first is waited for, so that a GPU never idles between two.
            for rows, made in self._passes(run, [len(waveform) for waveform in waveforms]):
                vectors[rows] = made.cpu().numpy()
        return self._finite(vectors)

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances as `embed` does, and stretches inside them out of the same pass.

        Windows are pooled from the frames that the network made of their utterance, without attention and with edges
        that are up to 20 ms off: a hundred cost some hundredths of a pass. They tell who is heard where within it; for
        comparison with other recordings, cut them out and embed them.

        Parameters
        ----------
        windows
            For each waveform, stretches inside it, in samples; they may overlap.

        Returns
        -------
        (B, D) float32 array, and for each waveform a (W, D) float32 array
            Rows have unit L2 norm, in input order.

        Raises
        ------
        InvalidAudio, TooLittleSpeech, NonFiniteEmbedding
            As `embed` does.
        """
        for index, waveform in enumerate(waveforms):
            self._check(index, waveform)
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)
        pooled: list[Vectors] = [np.empty((0, self.dim), dtype=np.float32)] * len(windows)

        def run(rows: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
            return self._forward_with_windows([waveforms[row] for row in rows], [windows[row] for row in rows])

        with ENCODER_BUSY.counting():
            for rows, (made, of_windows) in self._passes(run, [len(waveform) for waveform in waveforms]):
                vectors[rows] = made.cpu().numpy()
                for row, some in zip(rows, of_windows, strict=True):
                    pooled[row] = some.cpu().numpy()
        return self._unit(self._finite(vectors)), [self._unit(self._finite(some)) for some in pooled]

    def _finite(self, vectors: Vectors) -> Vectors:
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise NonFiniteEmbedding(
                f"encoder {self.name} gave NaN or infinity for utterance {row}, a finite waveform; check its weights"
            )
        return vectors

    def _unit(self, vectors: Vectors) -> Vectors:
        raw = vectors.astype(np.float64)
        norms = np.linalg.norm(raw, axis=1, keepdims=True)
        if not norms.all():
            raise NonFiniteEmbedding(
                f"encoder {self.name} gave a zero vector, which has no direction; check its weights"
            )
        unit: Vectors = (raw / norms).astype(np.float32)
        return unit

    def _check(self, index: int, waveform: Waveform) -> None:
        if not isinstance(waveform, np.ndarray) or waveform.ndim != 1 or waveform.dtype != np.float32:
            kind = f"{waveform.dtype} of shape {waveform.shape}" if isinstance(waveform, np.ndarray) else type(waveform)
            raise InvalidAudio(f"utterance {index}: {kind}; an encoder takes one-dimensional float32 arrays")
        if len(waveform) < self.min_samples:
            raise TooLittleSpeech(
                f"utterance {index}: {len(waveform) / SAMPLE_RATE_HZ:.3f} s of audio; encoder {self.name} needs "
                f"{self.min_samples / SAMPLE_RATE_HZ:.3f} s or more: give a longer recording"
            )
        if not np.isfinite(waveform).all():
            raise InvalidAudio(f"utterance {index}: holds NaN or infinity; decode the recording again")

    def _passes(self, run: Callable[[list[int]], _Made], lengths: Sequence[int]) -> Iterable[tuple[list[int], _Made]]:
        """Run waveforms in passes; return which they were and what each pass made of them."""
        on_cpu = self.device.type == "cpu"
        threads = settle_threads() if on_cpu else 1
        most = min(self._room.samples, sum(lengths) // threads)
        batches = list((batches_of_one_length if self._joining is None else batches_of_any_lengths)(lengths, most=most))
        # The longest first: whoever runs out of passes waits for the last one, a short one then.
        batches.sort(key=lambda rows: -sum(lengths[row] for row in rows))
        longest = sum(lengths[row] for row in batches[0]) if batches else 1
        at_once = max(1, self._batch_samples // longest) if on_cpu else 1

        def within_memory(rows: list[int]) -> list[tuple[list[int], _Made]]:
            return self._room.run(run, rows, [lengths[row] for row in rows])

        return chain.from_iterable(run_passes(within_memory, batches, at_once))

    def _forward(self, waveforms: Sequence[Waveform]) -> torch.Tensor:
        """Embed waveforms; return (B, D) rows on the device, which may not be computed yet."""
        with torch.inference_mode():
            if self._joining is not None and _lengths_differ(waveforms):
                return self._joining.of_ragged(*self._ragged(waveforms))
            features = self._taken(waveforms) or self._features(waveforms)
            return self._network(features.values, features.valid)

    def _forward_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Embed waveforms, and stretches of each out of the frames that its vector is pooled from: (W, D) rows."""
        samples = [len(waveform) for waveform in waveforms]
        with torch.inference_mode():
            if self._joining is not None and _lengths_differ(waveforms):
                rows, ragged = self._ragged(waveforms)
                made, kept = self._joining.of_ragged_with_frames(rows, ragged)
                speech, _, spoken = ragged.speech(kept)
                statistics = statistics_of_ragged(speech[0], spoken.frames, windows, samples)
                of_windows = self._joining.of_statistics(statistics)
                return made, list(torch.split(of_windows, [len(spans) for spans in windows]))
            features = self._taken(waveforms) or self._features(waveforms)
            made, frames = self._network.with_frames(features.values, features.valid)
            frames = frames[:, :, : features.valid]
            return made, [self._pool(*one) for one in zip(frames, windows, samples, strict=True)]

    def _features(self, waveforms: Sequence[Waveform]) -> Frames:
        stacked = to_device(torch.from_numpy(np.stack(waveforms)), self.device)
        alone = self.device.type == "cpu" and stacked.numel() * torch.get_num_threads() <= _ALONE_SAMPLES
        with one_thread() if alone else nullcontext():
            return self._front_end(stacked)

    def _ragged(self, waveforms: Sequence[Waveform]) -> RaggedFrames:
        behind = to_device(torch.from_numpy(np.concatenate(waveforms)), self.device)
        return self._front_end.of_ragged(behind, [len(waveform) for waveform in waveforms])

    def _taken(self, waveforms: Sequence[Waveform]) -> Frames | None:
        """Take what was prepared of an utterance that is embedded by itself."""
        of, frames = self._prepared.pop(id(waveforms[0]), (None, None)) if len(waveforms) == 1 else (None, None)
        return frames if of is not None and of() is waveforms[0] else None

    def _forward_noise(self, samples: int) -> torch.Tensor:
        """Embed so many samples of noise, in utterances of about four seconds, as those of a recording come."""
        noise = np.random.default_rng(0).normal(0.0, 0.1, samples).astype(np.float32)
        count = max(1, samples // 64_000)
        cuts = np.linspace(0, samples, count + 1).astype(np.int64)[1:-1] + np.arange(1, count) % 2 * 160
        return self._forward(np.split(noise, cuts))

    def _pool(self, frames: torch.Tensor, spans: Sequence[Span], samples: int) -> torch.Tensor:
        """Return the (W, D) vectors of stretches of an utterance, of which (C, T) frames are given."""
        if not spans:
            return torch.empty((0, self.dim))
        # In one thread: of one utterance they are so little that a second one costs more than it takes over.
        with one_thread():
            return self._network.of_statistics(statistics_of(frames, spans, samples))


def _lengths_differ(waveforms: Sequence[Waveform]) -> bool:
    return len({len(waveform) for waveform in waveforms}) > 1


def batches_of_one_length(lengths: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Divide utterances into passes of equal lengths, of so many samples at most; a longer one has its own."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        by_length[length].append(row)
    for length, rows in by_length.items():
        size = max(1, most // max(1, length))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def batches_of_any_lengths(lengths: Sequence[int], *, most: int) -> Iterator[list[int]]:
    """Divide utterances of any lengths into passes of so many samples at most; a long one has its own."""
    batch: list[int] = []
    samples = 0
    for row, length in sorted(enumerate(lengths), key=lambda one: one[1]):
        if batch and (samples + length > most or length > _LONGEST_JOINED):
            yield batch
            batch, samples = [], 0
        batch.append(row)
        samples += length
    if batch:
        yield batch


def choose_device(choice: str) -> torch.device:
    """Turn a device setting into a device that is there.

    Raises
    ------
    InvalidRequest
        If the word is unknown.
    Unavailable
        If this machine has no such device.
    """
    found = re.fullmatch(r"(auto|cpu|mps|cuda)(?:(?<=cuda):([0-9]{1,4}))?", choice)
    if found is None:
        raise InvalidRequest(f"device {choice!r}: give auto, cpu, cuda, cuda:N or mps")
    kind, number = found[1], int(found[2] or 0)
    if kind == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if number >= count:
            raise Unavailable(f"device {choice!r}: this machine has {count} CUDA devices; use device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise Unavailable("device 'mps': this machine has no Metal device; use device cpu")
    return torch.device(choice)


def load_encoder(
    path: Path | WeightFile,
    *,
    name: str,
    family: Family,
    front_end: str | None = None,
    device: str = "auto",
    precision: Precision = "exact",
    or_exact: bool = False,
    batch_audio_s: float | None = None,
    threads: int = 0,
) -> SpeakerEncoder:
    """Read weights and put them on a device; see `read_checkpoint` and `SpeakerEncoder` for the errors.

    Parameters
    ----------
    or_exact
        Whether exact vectors will do where the device, or the network, makes fast ones no faster.
    """
    checkpoint = read_checkpoint(path, family, front_end)
    if or_exact:
        precision = settled_precision(precision, checkpoint.network, choose_device(device))
    return SpeakerEncoder(
        checkpoint, name=name, device=device, precision=precision, batch_audio_s=batch_audio_s, threads=threads
    )
