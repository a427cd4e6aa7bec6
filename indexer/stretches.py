"""A stretch of a stored recording, to listen to: found where its audio is, checked, decoded, written as WAV."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from indexer.audio.decode import ChannelPolicy, open_audio
from indexer.db.rows import RecordingSummary
from indexer.decoding import hash_content
from indexer.errors import AudioGone, InvalidRequest, NotFound
from indexer.intake import UPLOAD_PREFIX
from indexer.jobs.remote import fetched
from indexer.media import MediaStore
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, RecordingId

MOST_STRETCH_S = 600.0
"""Longest stretch that is given out at once: 19 MB of WAV."""


_MOST_CHECKED = 4096


class CheckedFiles:
    """Hashes of files, computed again only where a file may have changed: listening asks for one stretch after another.

    A file is known by place, size, and both times, of which programs can set back only one.
    """

    def __init__(self, most: int = _MOST_CHECKED) -> None:
        self._most = most
        self._known: OrderedDict[Path, tuple[tuple[int, ...], str]] = OrderedDict()
        self._lock = threading.Lock()

    def sha256(self, path: Path, *, max_bytes: int, name: str) -> str:
        """Return the hash of a file's content; raises what `hash_content` raises."""
        before = _state(path)
        with self._lock:
            state, known = self._known.get(path, ((), ""))
        if state == before:
            return known
        found = hash_content(path, max_bytes=max_bytes, name=name)
        if _state(path) == before:
            with self._lock:
                self._known[path] = before, found
                self._known.move_to_end(path)
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
        return found


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_CHECKED = CheckedFiles()


def _nothing() -> None:
    pass


def _at_most(max_bytes: int, settings: Settings) -> Settings:
    limits = settings.audio.model_copy(update={"max_bytes": min(max_bytes, settings.audio.max_bytes)})
    return settings.model_copy(update={"audio": limits})


class Placed(Protocol):
    """A recording, as far as it takes to find its audio."""

    @property
    def id(self) -> RecordingId:
        """Its number."""
        ...

    @property
    def uri(self) -> str:
        """Where it was read from."""
        ...

    @property
    def media_key(self) -> str | None:
        """Place below the media folder, where it is there."""
        ...


@contextmanager
def place_of(
    recording: Placed, media: MediaStore, settings: Settings, *, progressed: Callable[[], None] = _nothing
) -> Iterator[Path]:
    """Give the file that is where a recording was read from, for as long as the block lasts.

    Whether it is the same file still, its hash tells.

    Raises
    ------
    AudioGone
        If there is none any more.
    AudioTooLarge
        If it is on another machine and larger than `AudioSettings.max_bytes`.
    AccessDenied, Unavailable
        If the place refuses, or does not answer now.
    """
    if recording.media_key is None and recording.uri.startswith(UPLOAD_PREFIX):
        raise _gone(recording)
    place = (
        nullcontext(media.path_of(recording.media_key))
        if recording.media_key is not None
        else fetched(recording.uri, settings, progressed=progressed)
    )
    try:
        with place as path:
            if not path.is_file():
                raise _gone(recording)
            yield path
    except AudioGone:
        raise
    except NotFound as error:
        raise _gone(recording) from error


@contextmanager
def audio_of(recording: RecordingSummary, media: MediaStore, settings: Settings) -> Iterator[Path]:
    """Give the file that a recording was made of, for as long as the block lasts.

    Raises
    ------
    AudioGone
        If it is not there any more, or is another one: a stretch of somebody else is worse than none.
    AudioTooLarge
        If it is on another machine and larger than `ApiSettings.max_listen_bytes`.
    AccessDenied, Unavailable
        If the place refuses, or does not answer now.
    """
    with place_of(recording, media, _at_most(settings.api.max_listen_bytes, settings)) as path:
        name = f"recording {recording.id}"
        found = _CHECKED.sha256(path, max_bytes=settings.audio.max_bytes, name=name)
        require_same(recording.id, found, recording.content_sha256)
        yield path


def require_same(recording_id: RecordingId, found_sha256: str, recorded_sha256: str) -> None:
    """Refuse the audio at a recording's place, with AudioGone, where it is not what the recording was made of."""
    if found_sha256 != recorded_sha256:
        raise AudioGone(
            f"recording {recording_id}: another file is at the place it was read from; ingest that one to hear it"
        )


def _gone(recording: Placed) -> AudioGone:
    return AudioGone(f"recording {recording.id}: its audio is not at its place any more; only its vectors are kept")


def stretch_as_wav(
    path: Path,
    *,
    start_s: float,
    end_s: float | None,
    channels: str | None,
    settings: Settings,
    name: str,
    audio_track: int | None = None,
) -> bytes:
    """Decode a stretch of a recording into a WAV file: 16 kHz, 16 bits, one track.

    Parameters
    ----------
    end_s
        None means the end of the recording, if that is not too far.
    audio_track
        Which audio track of its container, from 1; None: the one that is taken for the best.

    Raises
    ------
    InvalidRequest
        If the stretch is empty, begins after the end, or lasts more than `MOST_STRETCH_S`.
    InvalidAudio
        If it cannot be decoded.
    """
    wanted_s = MOST_STRETCH_S if end_s is None else end_s - start_s
    if not 0 < wanted_s <= MOST_STRETCH_S:
        raise InvalidRequest(
            f"start_s = {start_s:g} and end_s = {end_s:g} give {wanted_s:g} s: ask for more than 0 and at most "
            f"{MOST_STRETCH_S:g} s at once"
        )
    policy = ChannelPolicy.parse(channels or "mix")
    if policy.kind == "each":
        raise InvalidRequest("channels = each gives several tracks, and a stretch is one; name a channel, or mix")
    first, last = round(start_s * SAMPLE_RATE_HZ), round((start_s + wanted_s) * SAMPLE_RATE_HZ)
    pieces: list[np.ndarray] = []
    position = 0
    with open_audio(path, channels=policy, limits=settings.audio, name=name, track=audio_track) as reader:
        for block in reader.blocks():
            inside = block[0, max(0, first - position) : max(0, last - position)]
            if inside.size:
                pieces.append(inside)
            position += block.shape[1]
            if position > last:
                break
    if not pieces:
        raise InvalidRequest(f"start_s = {start_s:g} is after the end of {name} ({position / SAMPLE_RATE_HZ:g} s)")
    if end_s is None and position > last:
        raise InvalidRequest(f"{name} goes on for more than {MOST_STRETCH_S:g} s: say where the stretch ends")
    written = io.BytesIO()
    soundfile.write(written, np.clip(np.concatenate(pieces), -1, 1), SAMPLE_RATE_HZ, "PCM_16", format="WAV")
    return written.getvalue()
