"""Where in a track somebody speaks, found while the audio passes."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.audio.edges import LevelMeter, sharpened
from indexer.audio.levels import SILENCE_PEAK, is_silent
from indexer.audio.regions import Region, SpeechDetector, SpeechStream
from indexer.settings import SpeechSettings
from indexer.types import SAMPLE_RATE_HZ, Waveform

if TYPE_CHECKING:  # torch is loaded when the first audio is listened to, not before
    from indexer.audio.silero import SileroNetwork, SileroState

FRAME_SAMPLES = 512
"""Samples that one probability of speech is about: 32 ms at 16 kHz."""

CONTEXT_SAMPLES = 64
"""Samples before a frame that the network sees too; zeros before the first."""

GROUP_FRAMES = 128
"""Frames that share a pass, about four seconds: half the cost of one second. Always so many, counted from the beginning
of the track, so that no probability depends on how audio comes in."""

LAST_FRAMES = 32
"""The last group is as long as it must be, in these steps: so short words cost little, and few lengths are compiled."""

LOUD_DBFS = -30.0
"""Audio whose loudest frames are below is raised to it for the network, which misses very quiet speech otherwise: of
telephone prompts at -50 dBFS it found 84 % as they are and all of them raised. Noise gained nothing by it."""

MOST_GAIN_DB = 30.0

_QUIETER = 0.5
"""What remains of the loudness of a group of frames four seconds later, so that pauses are not raised to speech."""

_LOUD_SHARE = 16
"""The loudness of a group is that of one frame in so many: a click is shorter."""

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

SHORT_S = 2.0
"""A track up to this long, in which no speech is found, is heard again at `SHORT_THRESHOLD`: a single word gives the
network too little to be sure of. Of 300 one-second words that saved 7 of the 12 that were lost; of ten recordings of
noise none was taken for speech by it, because those are longer."""

SHORT_THRESHOLD = 0.2

SPLIT_S = 0.2
"""Pauses from which on the edges of speech are looked for: the network hears speech for up to a tenth of a second
beyond its end, and what lasts so long lasts longer once its edges are found."""

_GROUP_SAMPLES = GROUP_FRAMES * FRAME_SAMPLES


def make_detector(settings: SpeechSettings) -> SpeechDetector:
    """Return the detector that is set; its network is loaded when it first listens."""
    return SileroDetector(settings) if settings.detector == "silero" else SoundDetector()


class SoundDetector:
    """Takes a track that sounds anywhere for speech as a whole, and one that is silent throughout for none."""

    def stream(self, *, edges: bool = True) -> SpeechStream:
        """Begin to listen to a track."""
        return _SoundStream()

    def regions(self, waveform: Waveform) -> list[Region]:
        """Return one region, from the first sample to the last; none where all is silent."""
        return _listen(self.stream(), waveform)


class _SoundStream:
    def __init__(self) -> None:
        self._low, self._high, self._sum, self._count = np.inf, -np.inf, 0.0, 0

    def push(self, block: Waveform) -> list[Region]:
        if len(block):
            self._low = min(self._low, float(block.min()))
            self._high = max(self._high, float(block.max()))
            self._sum += float(block.sum(dtype=np.float64))
            self._count += len(block)
        return []

    def finish(self) -> list[Region]:
        if self._count == 0:
            return []
        mean = self._sum / self._count
        sounds = max(self._high - mean, mean - self._low) >= SILENCE_PEAK
        return [Region(0.0, self._count / SAMPLE_RATE_HZ)] if sounds else []

    def spoken(self) -> list[Region]:
        return self.finish()


class SileroDetector:
    """Silero VAD with hysteresis: a region begins above one threshold and ends below a lower one.

    It runs on CPU threads wherever the encoder runs, so that a GPU is never waited for.

    Parameters
    ----------
    settings
        `threshold`, `release_threshold`, `min_speech_s`, `min_silence_s`, `padding_s`; the last is added to both
        sides of a region, and regions that then touch are one.
    """

    def __init__(self, settings: SpeechSettings) -> None:
        self._settings = settings
        self._network: SileroNetwork | None = None
        self._loading = threading.Lock()

    def stream(self, *, edges: bool = True) -> SpeechStream:
        """Begin to listen to a track; without `edges` nobody will ask where speech itself begins and ends.

        Raises
        ------
        Unavailable
            If the package silero-vad is not installed.
        CorruptArtifact
            If its weights are unusable.
        """
        return _SileroStream(self._loaded(), self._settings, edges)

    def regions(self, waveform: Waveform) -> list[Region]:
        """Find the speech of a track that is at hand; the same that its stream finds."""
        return _listen(self.stream(edges=False), waveform)

    def probabilities(self, waveform: Waveform) -> NDArray[np.float32]:
        """Return the probability of speech in each frame of 32 ms; the last frame is filled up with zeros."""
        frames = _Frames(self._loaded())
        return np.concatenate([*frames.push(waveform), frames.finish()])

    def _loaded(self) -> "SileroNetwork":
        with self._loading:
            if self._network is None:
                from indexer.audio.silero import load_silero

                self._network = load_silero()
            return self._network


def _listen(stream: SpeechStream, waveform: Waveform) -> list[Region]:
    return [*stream.push(waveform), *stream.finish()]


class _Frames:
    """Samples in blocks of any length -> probabilities in groups of one length, whose bounds no block moves."""

    def __init__(self, network: "SileroNetwork") -> None:
        self._network = network
        self._state: SileroState | None = None
        self._loudness = 0.0
        self._held: Waveform = np.zeros(CONTEXT_SAMPLES, dtype=np.float32)  # context, then samples of a group to come

    def push(self, block: Waveform) -> list[NDArray[np.float32]]:
        """Return the probabilities of the groups that are complete."""
        held = np.concatenate((self._held, block))
        groups = (len(held) - CONTEXT_SAMPLES) // _GROUP_SAMPLES
        found = [self._group(held[group * _GROUP_SAMPLES :]) for group in range(groups)]
        self._held = held[groups * _GROUP_SAMPLES :].copy()  # A copy, or the block would stay in memory.
        return found

    def finish(self) -> NDArray[np.float32]:
        """Return the probabilities of the frames that are left."""
        left = -(-(len(self._held) - CONTEXT_SAMPLES) // FRAME_SAMPLES)
        steps = -(-left // LAST_FRAMES)
        filled = np.zeros(CONTEXT_SAMPLES + steps * LAST_FRAMES * FRAME_SAMPLES, dtype=np.float32)
        filled[: len(self._held)] = self._held
        return self._group(filled)[:left] if left else np.empty(0, dtype=np.float32)

    def _group(self, samples: Waveform) -> NDArray[np.float32]:
        group = samples[: CONTEXT_SAMPLES + _GROUP_SAMPLES]
        if is_silent(group):  # Hours of it are common in archives; the network forgets what was before.
            self._state = None
            return np.zeros((len(group) - CONTEXT_SAMPLES) // FRAME_SAMPLES, dtype=np.float32)
        probabilities, self._state = self._network.probabilities(group * self._gain(group), self._state)
        return probabilities

    def _gain(self, group: Waveform) -> np.float32:
        power = np.sort(group[CONTEXT_SAMPLES:].reshape(-1, FRAME_SAMPLES).var(axis=1, dtype=np.float64))
        loudest = power[-max(1, len(power) // _LOUD_SHARE) :]
        self._loudness = max(float(np.sqrt(loudest.mean())), _QUIETER * self._loudness)
        wanted = 10 ** (LOUD_DBFS / 20) / max(self._loudness, 1e-9)  # steps between constant frames have none
        return np.float32(min(max(1.0, wanted), 10 ** (MOST_GAIN_DB / 20)))


class _SileroStream:
    def __init__(self, network: "SileroNetwork", settings: SpeechSettings, edges: bool) -> None:
        self._frames = _Frames(network)
        self._meter = LevelMeter() if edges else None
        self._samples = 0
        self._begin(settings)

    def push(self, block: Waveform) -> list[Region]:
        self._samples += len(block)
        if self._meter is not None:
            self._meter.push(block)
        return [region for group in self._frames.push(block) for region in self._hear(group)]

    def finish(self) -> list[Region]:
        duration_s = self._samples / SAMPLE_RATE_HZ
        last = self._frames.finish()
        regions = [*self._hear(last), *self._maker.finish(duration_s)]
        if not regions and duration_s <= SHORT_S:
            self._begin(_lenient(self._settings))  # all of a short track is in its last group
            regions = [*self._hear(last), *self._maker.finish(duration_s)]
        if self._meter is not None:
            self._bare += self._bare_maker.finish(duration_s)
        return regions

    def spoken(self) -> list[Region]:
        if self._meter is None:
            raise RuntimeError("the edges of speech were not to be asked for: stream(edges=True)")
        return sharpened(self._bare, self._meter.levels(), pause_s=self._settings.min_silence_s)

    def _begin(self, settings: SpeechSettings) -> None:
        self._settings = settings
        self._maker = RegionMaker(settings)
        self._bare_maker = RegionMaker(_unpadded(settings))
        self._bare: list[Region] = []

    def _hear(self, probabilities: NDArray[np.float32]) -> list[Region]:
        if self._meter is not None:
            self._bare += self._bare_maker.push(probabilities)
        return self._maker.push(probabilities)


def _unpadded(settings: SpeechSettings) -> SpeechSettings:
    """Return what finds the bare speech in the regions."""
    return settings.model_copy(update={"padding_s": 0.0, "min_silence_s": min(settings.min_silence_s, SPLIT_S)})


def _lenient(settings: SpeechSettings) -> SpeechSettings:
    """Return what a short track is heard with, where it seems to hold nothing."""
    threshold = min(settings.threshold, SHORT_THRESHOLD)
    return settings.model_copy(
        update={"threshold": threshold, "release_threshold": threshold / 2, "min_speech_s": 0.0, "padding_s": 0.2}
    )


class RegionMaker:
    """Probabilities of consecutive frames -> regions.

    Parameters
    ----------
    settings
        See `SileroDetector`.
    """

    def __init__(self, settings: SpeechSettings) -> None:
        self._settings = settings
        self._release = min(settings.release_threshold, settings.threshold)
        self._frame = 0
        self._began: int | None = None  # frame in which the speech that goes on began
        self._paused: int | None = None  # first frame of the pause that may be its end
        self._pending: Region | None = None  # padded, and not handed out: the next may touch it

    def push(self, probabilities: Sequence[float] | NDArray[np.float32]) -> list[Region]:
        """Hear the next frames; return the regions that nothing can change any more."""
        ended = []
        for probability in np.asarray(probabilities).tolist():
            self._hear(probability)
            self._frame += 1
            if self._pending is not None and self._is_out_of_reach(self._pending):
                ended.append(self._pending)
                self._pending = None
        return ended

    def finish(self, duration_s: float) -> list[Region]:
        """Return what is left of a track of that length; what would reach beyond it is cut."""
        if self._began is not None:
            self._close(self._frame if self._paused is None else self._paused)
        left = self._pending
        return [] if left is None else [Region(left.start_s, min(left.end_s, duration_s))]

    def _hear(self, probability: float) -> None:
        if self._began is None:
            if probability >= self._settings.threshold:
                self._began = self._frame
        elif probability >= self._release:
            self._paused = None
        else:
            self._paused = self._frame if self._paused is None else self._paused
            if (self._frame + 1 - self._paused) * FRAME_S >= self._settings.min_silence_s:
                self._close(self._paused)

    def _close(self, end: int) -> None:
        start_s, end_s = (self._began or 0) * FRAME_S, end * FRAME_S
        self._began = self._paused = None
        if end_s - start_s < self._settings.min_speech_s:
            return
        padded = Region(max(0.0, start_s - self._settings.padding_s), end_s + self._settings.padding_s)
        if self._pending is not None and padded.start_s <= self._pending.end_s:
            padded = Region(self._pending.start_s, padded.end_s)
        self._pending = padded

    def _is_out_of_reach(self, region: Region) -> bool:
        """Whether speech that goes on, or begins in the frame to come, is too far from it to become one with it."""
        next_start = self._frame if self._began is None else self._began
        return next_start * FRAME_S - self._settings.padding_s > region.end_s
