"""A recording of one voice -> the one vector that it is identified or verified by."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.audio.decode import AudioInfo, AudioSource, ChannelPolicy, open_audio
from indexer.audio.levels import is_silent
from indexer.audio.segmentation import UtteranceAudio, cut_utterances
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.embedding.encoder import Encoder
from indexer.errors import TooLittleSpeech, VoxdexError, about
from indexer.observability import DECODE_SECONDS, counting_seconds_of
from indexer.settings import AudioSettings

_PIECE_S = 80.0
"""A probe of up to one and a half times this goes through the network whole, as NeMo and SpeechBrain do it; a longer
one in pieces, because activations take about 15 MB a second of audio."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One voice to look up.

    Attributes
    ----------
    name
        What the user called the recording.
    channel
        Channel number where channels were kept apart, else None.
    vector
        (D,) float32; unit norm unless made raw.
    duration_s
        Seconds that were embedded.
    issues
        Why the recording was only partly read; empty when all of it was.
    """

    name: str
    channel: int | None
    vector: NDArray[np.float32]
    duration_s: float
    info: AudioInfo
    issues: tuple[str, ...]


def embed_probes(
    encoder: Encoder,
    source: AudioSource,
    *,
    channels: ChannelPolicy,
    limits: AudioSettings,
    name: str | None = None,
    raw: bool = False,
) -> list[Probe]:
    """Embed a recording as a whole, once for each track that the channel policy makes of it.

    Parameters
    ----------
    raw
        Return the network's own output, not normalized; for a recording longer than two minutes the mean of its
        pieces, weighted by duration.

    Raises
    ------
    InvalidAudio
        If the recording cannot be used: unreadable, silent, too short, over a limit.
    NotFound
        If it does not exist.
    """
    label = name or (str(source) if isinstance(source, Path) else "<bytes>")
    pieces: dict[int, list[NDArray[np.float32]]] = {}
    durations: dict[int, list[float]] = {}
    with open_audio(source, channels=channels, limits=limits, name=name) as reader:
        pieces_heard = counting_seconds_of(cut_utterances(reader.blocks(), _PIECE_S), DECODE_SECONDS)
        for piece in _sounding(pieces_heard):
            try:
                vector = (encoder.embed_raw if raw else encoder.embed)([piece.waveform])[0]
            except VoxdexError as error:
                named = about(label, error)
                if isinstance(named, TooLittleSpeech):
                    named.speech_s = piece.end_s - piece.start_s
                raise named from error
            pieces.setdefault(piece.track, []).append(vector)
            durations.setdefault(piece.track, []).append(piece.end_s - piece.start_s)
        apart = reader.tracks > 1
        return [
            Probe(
                name=label,
                channel=track if apart else None,
                vector=_combine(pieces[track], durations[track], raw=raw),
                duration_s=sum(durations[track]),
                info=reader.info,
                issues=reader.issues,
            )
            for track in sorted(pieces)
        ]


def _sounding(pieces: Iterator[UtteranceAudio]) -> Iterator[UtteranceAudio]:
    return (piece for piece in pieces if not is_silent(piece.waveform))


def _combine(vectors: list[NDArray[np.float32]], durations_s: list[float], *, raw: bool) -> NDArray[np.float32]:
    if len(vectors) == 1:
        return vectors[0]
    if raw:
        return np.average(np.stack(vectors), axis=0, weights=durations_s).astype(np.float32)
    return aggregate_embeddings(np.stack(vectors), durations_s)
