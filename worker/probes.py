"""The voices of requests, embedded by workers: an API machine without a device sends them over the broker's Redis.

The task's message holds an id. Waveforms and vectors lie under keys of their own that whoever asked deletes, and that
Redis forgets by itself soon after nobody waits for them any more.
"""

import itertools
import json
import logging
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from celery import Celery
from redis.exceptions import OutOfMemoryError

from indexer.encoders_in_use import EncodersInUse
from indexer.errors import CorruptArtifact, EncoderMismatch, Overloaded, Unavailable, VoxdexError, one_line
from indexer.settings import Settings
from indexer.types import EncoderId, Span, Vectors, Waveform, precision_of
from worker.app import EMBED_PROBES, PROBES, make_app
from worker.client import connect_redis, translated_errors

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_GRACE_S = 10.0
"""What a key outlives the wait by, and a socket the answer."""

_SPARE_CONNECTIONS = 16
"""Connections beyond those of the probes that may wait: for counting and cleaning up."""


@dataclass(frozen=True)
class _Described:
    id: EncoderId
    name: str
    dim: int
    min_samples: int


class RemoteEncoder:
    """An encoder whose network runs in the workers of the queue `probes`; safe to use from several threads.

    Parameters
    ----------
    settings : Settings
        With a broker; `probes.timeout_s` bounds each call, `probes.queue` and `probes.max_bytes` what may wait.
    name : str
        The encoder's name in the registry of the workers.
    front_end : str, optional
        Front end that replaces the registry's.
    expected : EncoderId, optional
        What the workers must find under that name.
    """

    def __init__(
        self, settings: Settings, *, name: str, front_end: str | None = None, expected: EncoderId | None = None
    ) -> None:
        self._probes = settings.probes
        self._app: Celery = make_app(settings)
        # A thread that waits for its answer holds a connection.
        self._redis = connect_redis(
            settings,
            longest_answer_s=settings.probes.timeout_s + _GRACE_S,
            connections=settings.probes.queue + _SPARE_CONNECTIONS,
        )
        self._name = name
        self._front_end = front_end
        self._expected = expected
        self._described: _Described | None = None
        self._describing = threading.Lock()
        self._undescribed: tuple[float, VoxdexError] | None = None
        self._counting = threading.Lock()
        self._bytes_sent = 0

    @property
    def id(self) -> EncoderId:
        """Weights hash and front end."""
        return self._expected or self._describe().id

    @property
    def name(self) -> str:
        """How people call it."""
        return self._name

    @property
    def dim(self) -> int:
        """D, the dimension of its vectors."""
        return self._describe().dim

    @property
    def min_samples(self) -> int:
        """Fewest samples that it embeds."""
        return self._describe().min_samples

    @property
    def joins_lengths(self) -> bool:
        """Never: what share a pass is for the worker to say."""
        return False

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows of unit norm, in input order.

        Raises
        ------
        Overloaded
            If too many probes wait already, or no worker answered in time.
        Unavailable
            If the broker cannot be reached.
        VoxdexError
            Whatever the worker's encoder raises, by the same name.
        """
        return self._ask(waveforms, raw=False)[1]

    def embed_raw(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Embed utterances as (B, D) rows as the network gives them; see `embed` for the errors."""
        return self._ask(waveforms, raw=True)[1]

    def embed_with_windows(
        self, waveforms: Sequence[Waveform], windows: Sequence[Sequence[Span]]
    ) -> tuple[Vectors, list[Vectors]]:
        """Embed utterances and stretches inside them; see `embed` for the errors."""
        _, rows = self._ask(waveforms, raw=False, windows=windows)
        ends = itertools.accumulate((len(spans) for spans in windows), initial=len(waveforms))
        return rows[: len(waveforms)], [rows[first:end] for first, end in itertools.pairwise(ends)]

    def close(self) -> None:
        """Close every connection."""
        self._app.close()
        self._redis.close()

    def _describe(self) -> _Described:
        """Ask once for all who wait; where that fails, it has failed for each of them."""
        began, timeout_s = time.monotonic(), self._probes.timeout_s
        described = self._described
        if described is not None:
            return described
        if not self._describing.acquire(timeout=timeout_s):
            raise _no_answer(timeout_s)
        try:
            if self._described is not None:
                return self._described
            if self._undescribed is not None and self._undescribed[0] >= began:
                raise copy(self._undescribed[1])
            try:
                self._described, _ = self._ask([], raw=False)
            except VoxdexError as error:
                self._undescribed = time.monotonic(), copy(error)
                raise
            return self._described
        finally:
            self._describing.release()

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        """Hold what lies in the broker's memory below the limit; a request is never too large by itself."""
        limit = self._probes.max_bytes
        with self._counting:
            if self._bytes_sent and self._bytes_sent + size > limit:
                raise Overloaded(
                    f"{self._bytes_sent} bytes of audio wait for a worker, the limit is {limit}: try again"
                )
            self._bytes_sent += size
        try:
            yield
        finally:
            with self._counting:
                self._bytes_sent -= size

    def _ask(
        self, waveforms: Sequence[Waveform], *, raw: bool, windows: Sequence[Sequence[Span]] | None = None
    ) -> tuple[_Described, Vectors]:
        head = {
            "name": self._name,
            "front_end": self._front_end,
            "expected": self._expected,
            "raw": raw,
            "windows": windows,
        }
        arrays = [np.ascontiguousarray(waveform, dtype="<f4") for waveform in waveforms]
        request_id = uuid.uuid4().hex
        question, answer = _keys(request_id)
        timeout_s = self._probes.timeout_s
        with translated_errors(), self._room_for(sum(array.nbytes for array in arrays)):
            waiting = self._redis.llen(PROBES)
            if waiting >= self._probes.queue:
                raise Overloaded(f"{waiting} probes wait for a worker, the limit is {self._probes.queue}: try again")
            try:
                self._redis.set(question, _pack(head, arrays), px=_milliseconds(timeout_s + _GRACE_S))
                self._app.send_task(EMBED_PROBES, args=[request_id], expires=timeout_s)
                found = cast("list[bytes] | None", self._redis.blpop([answer], timeout=timeout_s))
            except OutOfMemoryError as error:
                raise Overloaded("the broker's memory is full of audio and messages: try again") from error
            finally:
                self._redis.delete(question, answer)
        if found is None:
            raise _no_answer(timeout_s)
        told, vectors = _unpack(found[1])
        if "error" in told:
            raise _error(told["error"], told["message"])
        return _Described(EncoderId(told["id"]), told["name"], told["dim"], told["min_samples"]), _matrix(
            vectors, told["dim"]
        )


class ProbeDesk:
    """The worker's side: takes the waveforms of a request and leaves their vectors."""

    def __init__(self, settings: Settings, encoders: EncodersInUse) -> None:
        self._kept_s = settings.probes.timeout_s + _GRACE_S
        self._encoders = encoders
        self._redis = connect_redis(settings)

    def answer(self, request_id: str) -> None:
        """Embed the waveforms of a request; one that is not there any more was given up by whoever asked.

        Raises
        ------
        Unavailable
            If the broker cannot be reached.
        """
        question, answer = _keys(request_id)
        with translated_errors():
            packed = cast("bytes | None", self._redis.getdel(question))
        if packed is None:
            return
        head, waveforms = _unpack(packed)
        try:
            reply = self._embed(head, waveforms)
        except VoxdexError as error:
            reply = _pack({"error": error.code, "message": one_line(error)}, [])
        except Exception:
            self._leave(answer, _pack({"error": Unavailable.code, "message": "the worker failed; try again"}, []))
            raise
        self._leave(answer, reply)

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()

    def _embed(self, head: dict[str, Any], waveforms: list[Waveform]) -> bytes:
        expected = head["expected"]
        precision = None if expected is None else precision_of(expected)
        encoder, spec = self._encoders.load(head["name"], head["front_end"], precision)
        if expected not in (None, encoder.id):
            raise EncoderMismatch(
                f"{spec.name} is encoder {encoder.id} on the worker and {expected} for who asks: "
                "give both the same weights"
            )
        if head["windows"] is not None:
            own, of_windows = encoder.embed_with_windows(waveforms, head["windows"])
            vectors = np.concatenate([own, *of_windows])
        else:
            vectors = encoder.embed_raw(waveforms) if head["raw"] else encoder.embed(waveforms)
        described = {"id": encoder.id, "name": encoder.name, "dim": encoder.dim, "min_samples": encoder.min_samples}
        return _pack(described, list(vectors))

    def _leave(self, key: str, reply: bytes) -> None:
        with translated_errors(), self._redis.pipeline() as pipeline:
            pipeline.rpush(key, reply)
            pipeline.pexpire(key, _milliseconds(self._kept_s))
            pipeline.execute()


def _no_answer(timeout_s: float) -> Overloaded:
    return Overloaded(
        f"no worker embedded the probe within {timeout_s:g} s: start more of `voxdex worker --queues probes`",
        retry_after_s=5.0,
    )


def _keys(request_id: str) -> tuple[str, str]:
    return f"voxdex:probe:{request_id}", f"voxdex:probe:{request_id}:vectors"


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))


def _pack(head: dict[str, Any], arrays: Sequence[np.ndarray[Any, Any]]) -> bytes:
    """Write a JSON head and one-dimensional float32 arrays, little-endian."""
    text = json.dumps({**head, "lengths": [len(array) for array in arrays]}).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *(array.astype("<f4").tobytes() for array in arrays)])


def _unpack(packed: bytes) -> tuple[dict[str, Any], list[Waveform]]:
    (length,) = _LENGTH.unpack_from(packed)
    head: dict[str, Any] = json.loads(packed[_LENGTH.size : _LENGTH.size + length])
    return head, list(_split(np.frombuffer(packed[_LENGTH.size + length :], dtype="<f4"), head["lengths"]))


def _split(samples: Waveform, lengths: Sequence[int]) -> Iterator[Waveform]:
    if sum(lengths) != len(samples):
        raise CorruptArtifact(f"a probe's message holds {len(samples)} numbers where it names {sum(lengths)}")
    start = 0
    for length in lengths:
        yield samples[start : start + length]
        start += length


def _matrix(rows: list[Waveform], dim: int) -> Vectors:
    return np.stack(rows) if rows else np.empty((0, dim), dtype=np.float32)


def _error(code: str, message: str) -> VoxdexError:
    """Raise again what the worker raised."""
    kinds = [VoxdexError]
    for kind in kinds:  # Grows while it is read: the families first, so that a code names the widest that bears it.
        kinds.extend(kind.__subclasses__())
    return next((kind for kind in kinds if kind.code == code), Unavailable)(message)
