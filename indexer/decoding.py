"""What decoding threads do with a file: read it, find speech and voices in it, and cut it into utterances."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from indexer.archive import ArchiveFile
from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.audio.levels import is_silent
from indexer.audio.quality import measure_quality
from indexer.audio.regions import Region
from indexer.audio.segmentation import Stretch, cut_stretches, cut_utterances
from indexer.audio.speech import SoundDetector
from indexer.errors import AudioTooLarge, InvalidAudio, NotFound, VoxdexError
from indexer.hearing import Hearing, listen, place_tracks
from indexer.listening import Listening, UnlikeStretch
from indexer.observability import DECODE_SECONDS, counting_seconds_of, counting_stage, counting_stage_of
from indexer.settings import AudioSettings
from indexer.stages import Crashed, Ended, GivenUp, Handed, Heard, Producer, Work, Works
from indexer.steady_files import SteadyFile
from indexer.takes import Blocks, Take
from indexer.window_vectors import embed_windows

logger = logging.getLogger(__name__)

_HASH_BLOCK_BYTES = 1 << 20

_KEPT_IN_DOUBT_S = 60.0
"""Most audio of a file, all tracks together, that stays in memory while its utterances are embedded, for it may have to
be heard once more: 4 MB. There are never more such files than utterances under way."""


class _NoAnswer(Exception):
    """The record could not be asked: no fault of the file, and no reason to refuse it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


def _nothing() -> None:
    pass


def hash_content(
    path: Path, *, max_bytes: int, name: str | None = None, progressed: Callable[[], None] = _nothing
) -> str:
    """SHA-256 of a file's bytes, as hex: the identity of a recording within its gallery.

    Parameters
    ----------
    name
        What messages call the file; its path where that is None.
    progressed
        Called after each block.

    Raises
    ------
    NotFound, InvalidAudio, AudioTooLarge
        If the path does not exist, is no regular file, cannot be read, or is over the limit.
    """
    name = name or str(path)
    try:
        if not path.is_file():
            if path.exists():
                raise InvalidAudio(f"{name}: not a regular file; give a file or a folder of files")
            raise NotFound(f"{name}: no such file; it may have been moved since it was listed")
        digest, read, size = hashlib.sha256(), 0, path.stat().st_size
        with path.open("rb") as stream:
            while size <= max_bytes and (block := stream.read(_HASH_BLOCK_BYTES)):
                digest.update(block)
                read += len(block)
                size = max(size, read)  # A file that is still written to grows while it is read.
                progressed()
        if size > max_bytes:
            raise AudioTooLarge(
                f"{name}: {size} bytes, the limit is {max_bytes}; split it, or raise VOXDEX_AUDIO__MAX_BYTES"
            )
        return digest.hexdigest()
    except OSError as error:
        raise InvalidAudio(f"{name}: cannot be read ({error.strerror or error}); check its permissions") from error


Fetch = Callable[[ArchiveFile], AbstractContextManager[Path]]


@dataclass(frozen=True, slots=True)
class Known:
    """Utterances of a file that are placed already: the tracks that they were cut from, and where."""

    channels: ChannelPolicy
    stretches: Sequence[Stretch]
    audio_track: int | None = None
    """Which audio track of its container they were cut from, from 1; None: not known."""


def takes_all_that_sounds(listening: Listening | None) -> bool:
    """Whether all that sounds is speech of one voice, so that nothing is to be found out before it is cut."""
    return listening is None or (
        isinstance(listening.detector, SoundDetector)
        and listening.speakers in ("one", "channels")
        and listening.given is None
    )


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What one decoding thread does in a run of a pipeline.

    Attributes
    ----------
    min_samples
        Fewest samples of an utterance.
    producer
        Its way to the thread that embeds.

    The others are those of `indexer.pipeline.EmbeddingPipeline`.
    """

    min_samples: int
    channels: ChannelPolicy
    limits: AudioSettings
    listening: Listening | None
    is_known: Callable[[str], bool]
    fetch: Fetch
    known: Callable[[ArchiveFile], Known | None]
    stopping: Callable[[], bool]
    progressed: Callable[[], None]
    producer: Producer

    def run(self, works: Works) -> None:
        """Decode files until none is left or the run ends."""
        try:
            more = True
            while more and (work := works.next(self.producer.go_on)) is not None:
                with self.producer.turn():
                    more = self._settle(work)
        except GivenUp:
            return
        except _NoAnswer as error:
            self.producer.put(Crashed(error.reason))
        except BaseException as error:  # The consumer must hear of it, or it would wait forever.
            self.producer.put(Crashed(error))
        finally:
            self.producer.put(Ended())

    def _settle(self, work: Work) -> bool:
        """Decode a file for better or worse; False where the run ends."""
        try:
            if work.hearing is None:
                self._decode(work)
            else:
                self._tell_apart(work)
        except (_NoAnswer, GivenUp):
            raise
        except VoxdexError as error:
            if self.stopping():
                return False  # It may be what the file was given up with.
            work.result.error = error
        except Exception as error:
            # A decoder failed in a way nobody foresaw: that is one file's failure, not the job's.
            logger.exception("unforeseen failure while decoding")
            work.result.error = InvalidAudio(
                f"{work.result.file.recorded_uri}: decoding failed unexpectedly ({type(error).__name__}: {error}); "
                "convert it with ffmpeg, and please report it"
            )
        if work.hearing is None or not work.hearing.is_in_doubt:
            work.opened.close()
        self.producer.put(Handed(work))
        return True

    def _decode(self, work: Work) -> None:
        """Decode a file and hand its utterances over; raises GivenUp halfway where the run ends."""
        result = work.result
        name = result.file.recorded_uri
        path = work.opened.enter_context(self.fetch(result.file))
        file = SteadyFile(path, name)
        with counting_stage("hash"):
            result.content_sha256 = hash_content(
                path, max_bytes=self.limits.max_bytes, name=name, progressed=self.progressed
            )
        result.size_bytes = path.stat().st_size
        try:
            result.known = self.is_known(result.content_sha256)
        except Exception as error:
            raise _NoAnswer(error) from error
        if result.known:
            return
        known = self.known(result.file)
        if known is None and not takes_all_that_sounds(self.listening):
            self._listen(work, path)
        else:
            self._cut(work, path, known)
        try:
            file.require_unchanged()
        except InvalidAudio:
            result.content_sha256 = None  # It is of other bytes than what was heard.
            raise

    def _cut(self, work: Work, path: Path, known: Known | None) -> None:
        """Cut what is placed already, or all that sounds; the recording is read once."""
        result = work.result
        channels = self.channels if known is None else known.channels
        track = None if known is None else known.audio_track
        name = result.file.recorded_uri
        with open_audio(path, channels=channels, limits=self.limits, name=name, track=track) as reader:
            result.info = reader.info
            blocks = self._watched(reader.blocks())
            if known is None:
                utterances = cut_utterances(blocks, self.limits.utterance_s)
            else:
                utterances = cut_stretches(blocks, known.stretches)
            for audio in utterances:
                self.producer.go_on()
                if known is not None or self.listening is None:
                    if known is not None or not is_silent(audio.waveform):
                        self.producer.put(Heard(work, audio))
                elif not is_silent(audio.waveform):
                    voice = audio.track if self.listening.speakers == "channels" else None
                    spoken = [Region(0.0, audio.end_s - audio.start_s)]
                    self.producer.put(Heard(work, audio, voice, measure_quality(audio.waveform, spoken)))
            result.duration_s = reader.decoded_s
            result.issues = reader.issues
            result.levels = reader.levels

    def _listen(self, work: Work, path: Path) -> None:
        """Find where somebody speaks, and cut that, taken for one voice as long as nobody knows better."""
        assert self.listening is not None
        result = work.result
        name = result.file.recorded_uri
        take = work.take = Take(path, channels=self.channels, limits=self.limits, name=name, watched=self._watched)
        try:
            hearing = listen(take, self.listening, name=name, edges=False)
        finally:
            result.info = take.info
        result.duration_s, result.issues, result.levels = take.facts.duration_s, take.facts.issues, take.facts.levels
        if not hearing.is_settled and not hearing.is_in_doubt:
            hearing.tell_apart(take, self.producer)
        self._hand_over(work, take, hearing)
        if not (hearing.is_in_doubt and take.duration_s * len(hearing.tracks) <= _KEPT_IN_DOUBT_S):
            take.forget()
        work.hearing = hearing

    def _tell_apart(self, work: Work) -> None:
        """Find who speaks when, and cut that where it is more than one; the recording is read once or twice more."""
        assert work.take is not None
        assert work.hearing is not None
        work.hearing.tell_apart(work.take, self.producer)
        if work.hearing.is_as_supposed:
            work.result.utterances = work.supposed
            work.result.unlike = self._unlike(work, work.take, work.hearing)
        else:
            self._hand_over(work, work.take, work.hearing)
        work.take.forget()

    def _unlike(self, work: Work, take: Take, hearing: Hearing) -> UnlikeStretch | None:
        """Look closer at what may be a second voice where one is all there is as far as anybody knows."""
        finder = None if self.listening is None else self.listening.second_voice
        if finder is None or not work.doubts:
            return None
        encoder = self.producer.under(finder.tells_best(self.producer.ids))
        wanted = [work.doubts[track.track].windows if track.track in work.doubts else () for track in hearing.tracks]
        found = [
            finder.find(work.doubts[track]._replace(windows=tuple(windows)), vectors, encoder.id)
            for track, (windows, vectors) in enumerate(embed_windows(take, wanted, encoder))
            if windows
        ]
        return min((one for one in found if one is not None), key=lambda one: one.cosine, default=None)

    def _hand_over(self, work: Work, take: Take, hearing: Hearing) -> None:
        placed = place_tracks(hearing.tracks, take, utterance_s=self.limits.utterance_s, min_samples=self.min_samples)
        for audio in cut_stretches(take.blocks(), list(placed)):
            self.producer.go_on()
            utterance = placed[Stretch(audio.track, audio.start_s, audio.end_s)]
            with counting_stage("measure"):
                quality = measure_quality(audio.waveform, utterance.spoken)
            windows = hearing.windows(audio.track, utterance)
            self.producer.put(Heard(work, audio, utterance.voice, quality, windows))

    def _watched(self, blocks: Blocks) -> Blocks:
        for block in counting_seconds_of(counting_stage_of(blocks, "decode"), DECODE_SECONDS):
            self.progressed()
            self.producer.go_on()
            yield block
