"""A recording -> the vectors that the voices in it are identified or verified by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.ahead import Ahead
from indexer.audio.decode import AudioInfo, AudioSource, ChannelPolicy, open_audio
from indexer.audio.levels import is_silent
from indexer.audio.quality import Quality, measure_quality, pooled_quality
from indexer.audio.regions import Region, bridged
from indexer.audio.remarks import remarks
from indexer.audio.segmentation import Stretch, UtteranceAudio, cut_stretches, cut_utterances
from indexer.audio.utterances import PlacedUtterance
from indexer.embedding.aggregation import aggregate_embeddings
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import TooLittleSpeech, VoxdexError, about
from indexer.hearing import Hearing, listen, place_tracks
from indexer.listening import Listening
from indexer.observability import DECODE_SECONDS, counting_seconds_of
from indexer.settings import AudioSettings
from indexer.takes import Blocks, RecordingFacts, Take
from indexer.types import SAMPLE_RATE_HZ, EncoderId, Span, Waveform
from indexer.window_vectors import SeenWindows, spans_of

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
        Why the recording was only partly read, which of several audio tracks was; empty when all of it was.
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
                issues=remarks(reader.info, reader.issues),
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


@dataclass(frozen=True, slots=True)
class HeardVoice:
    """One voice of a recording, as far as it was heard.

    Attributes
    ----------
    name
        What the user called the recording.
    channel
        Channel number where channels were kept apart, else None.
    voice
        Number within the recording, by first appearance.
    turns
        When it speaks, in seconds, by rising start.
    quality
        Of all its speech.
    vectors
        (D,) float32 unit vectors by encoder.
    recording
        What it was heard in.
    """

    name: str
    channel: int | None
    voice: int
    turns: tuple[Region, ...]
    quality: Quality
    vectors: Mapping[EncoderId, NDArray[np.float32]]
    recording: RecordingFacts


def hear_voices(
    encoders: EncoderSet,
    source: AudioSource,
    listening: Listening,
    *,
    channels: ChannelPolicy,
    limits: AudioSettings,
    name: str | None = None,
) -> list[HeardVoice]:
    """Embed the speech of each voice of a recording; whoever speaks most comes first.

    A voice's vector is made of its utterances as an archive's are cut, with what sounds around them and without pauses
    of more than two seconds; those of a short recording of one voice are all of it.

    Parameters
    ----------
    channels
        Which channels are heard; `listening.speakers` may ask for each.

    Raises
    ------
    NotEnoughSpeech
        If nobody speaks, or so little that no voice can be embedded.
    InvalidAudio
        If the recording cannot be used: unreadable, over a limit.
    NotFound
        If it does not exist.
    """
    label = name or (str(source) if isinstance(source, Path) else "<bytes>")
    take = Take(source, channels=listening.channels(channels), limits=limits, name=name, watched=_counted)
    with Ahead(encoders) as ahead:
        hearing = listen(take, listening, name=label, read=ahead.begin)
        speech = _speech_of_voices(hearing, take, encoders, label, ahead)
    if hearing.is_in_doubt:
        seen = {track: of_voice.seen for (track, _), of_voice in speech.items()}  # One voice is supposed in each.
        hearing.judge(seen, encoders.first.id)
    if not hearing.is_settled:
        hearing.tell_apart(take, encoders.first)
        if not hearing.is_as_supposed:
            speech = _speech_of_voices(hearing, take, encoders, label, ahead)
    told = hearing.told(take)
    turns: dict[tuple[int, int], list[Region]] = {}
    for track in told:
        for turn in track.turns:
            turns.setdefault((track.track, turn.voice), []).append(Region(turn.start_s, turn.end_s))
    apart = len(told) > 1
    heard = [
        HeardVoice(
            name=label,
            channel=track if apart else None,
            voice=voice,
            turns=tuple(bridged(turns[track, voice], 0.0)),
            quality=pooled_quality(of_voice.qualities),
            vectors=of_voice.vectors,
            recording=take.facts,
        )
        for (track, voice), of_voice in speech.items()
    ]
    return sorted(heard, key=lambda voice: -voice.quality.net_speech_s)


def _speech_of_voices(
    hearing: Hearing, take: Take, encoders: EncoderSet, name: str, ahead: Ahead
) -> dict[tuple[int, int], "_VoiceSpeech"]:
    """Embed the speech of each voice, as far as voices are known; by track and voice."""
    placed = place_tracks(hearing.tracks, take, utterance_s=_PIECE_S, min_samples=encoders.min_samples)
    speech: dict[tuple[int, int], _VoiceSpeech] = {}
    for audio in cut_stretches(take.blocks(), list(placed)):
        utterance = placed[Stretch(audio.track, audio.start_s, audio.end_s)]
        of_voice = speech.setdefault((audio.track, utterance.voice), _VoiceSpeech(encoders, name, ahead))
        of_voice.add(audio, utterance, hearing.windows(audio.track, utterance))
    for of_voice in speech.values():
        of_voice.finish()
    return speech


class _VoiceSpeech:
    """Speech of one voice while it is collected: embedded now and then, so that hours of it need no memory."""

    def __init__(self, encoders: EncoderSet, name: str, ahead: Ahead) -> None:
        self._encoders = encoders
        self._name = name
        self._ahead = ahead
        self._held: list[Waveform] = []
        self._windows: list[Region] = []
        self._spans: list[Span] = []
        self._vectors: dict[EncoderId, list[NDArray[np.float32]]] = {encoder_id: [] for encoder_id in encoders.ids}
        self._durations_s: list[float] = []
        self.qualities: list[Quality] = []
        self.seen = SeenWindows()

    def add(self, audio: UtteranceAudio, placed: PlacedUtterance, windows: Sequence[Region]) -> None:
        """Take the next utterance, and stretches in it of which vectors are wanted too."""
        waveform, spectra = self._ahead.done(audio.waveform)
        self.qualities.append(measure_quality(waveform, placed.spoken, spectra))
        held = self._samples_held
        self._windows += windows
        self._spans += [(held + start, held + end) for start, end in spans_of(windows, audio)]
        self._held.append(waveform)
        if self._samples_held >= 1.5 * _PIECE_S * SAMPLE_RATE_HZ:
            self._embed_held()

    def finish(self) -> None:
        """Embed what is left, where it is enough."""
        if self._samples_held >= self._encoders.min_samples:
            self._embed_held()

    @property
    def vectors(self) -> dict[EncoderId, NDArray[np.float32]]:
        """Its unit vector under each encoder."""
        return {
            encoder_id: _combine(vectors, self._durations_s, raw=False) for encoder_id, vectors in self._vectors.items()
        }

    @property
    def _samples_held(self) -> int:
        return sum(map(len, self._held))

    def _embed_held(self) -> None:
        # What was prepared is known by the array itself.
        speech = np.concatenate(self._held) if len(self._held) > 1 else self._held[0]
        try:
            if self._windows:
                embedded, (of_windows,) = self._encoders.embed_with_windows([speech], [self._spans])
                self.seen.add(self._windows, of_windows)
            else:
                embedded = self._encoders.embed([speech])
        except VoxdexError as error:
            raise about(self._name, error) from error
        for encoder_id, rows in embedded.items():
            self._vectors[encoder_id].append(rows[0])
        self._durations_s.append(len(speech) / SAMPLE_RATE_HZ)
        self._held, self._windows, self._spans = [], [], []


def _counted(blocks: Blocks) -> Blocks:
    return counting_seconds_of(blocks, DECODE_SECONDS)
