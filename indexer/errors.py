"""Every error that voxdex raises on purpose, grouped by who must act.

A message gives the value, the limit and the remedy. Domain errors know nothing of HTTP or exit codes: `api` maps each
family once.
"""

from typing import ClassVar, TypeVar


class VoxdexError(Exception):
    """Root of all errors raised on purpose."""

    code: ClassVar[str] = "error"
    """Stable, machine-readable name; stored with failed files and shown to users."""


class InvalidRequest(VoxdexError):
    """The caller asked for something that has no meaning (an unknown option, a limit out of range)."""

    code = "invalid-request"


class IdempotencyKeyReused(InvalidRequest):
    """An `Idempotency-Key` came again with another request."""

    code = "idempotency-key-reused"


class BodyTooSlow(InvalidRequest):
    """The body of a request arrives too slowly to wait for it."""

    code = "body-too-slow"


class InvalidAudio(VoxdexError):
    """The recording cannot be used; another recording can."""

    code = "invalid-audio"


class UnsupportedFormat(InvalidAudio):
    """The bytes are not audio that any decoder here reads."""

    code = "unsupported-format"


class CorruptAudio(InvalidAudio):
    """The bytes claim to be audio and contradict themselves."""

    code = "corrupt-audio"


class TooLittleSpeech(InvalidAudio):
    """The recording is shorter than the encoder's minimum, or silent."""

    code = "audio-too-short"
    speech_s: float = 0.0
    """Seconds of it that hold sound, as far as whoever raises it knows."""
    needed_s: float | None = None
    """Seconds that are needed, where that is why it is refused."""


class NotEnoughSpeech(TooLittleSpeech):
    """The recording holds less speech than a decision needs; `speech_s` and `needed_s` say how much."""

    code = "not-enough-speech"


class SilentAudio(NotEnoughSpeech):
    """The recording holds samples, and none of them is sound."""


class TooNoisy(InvalidAudio):
    """The noise behind the speech is louder than the settings allow."""

    code = "too-noisy"


class NoSpeech(NotEnoughSpeech):
    """The recording sounds, and nobody speaks in it."""

    code = "no-speech"


class AudioTooLarge(InvalidAudio):
    """The recording exceeds a limit of the settings (bytes, seconds, channels)."""

    code = "payload-too-large"


class WorkerLost(InvalidAudio):
    """Every worker that opened the recording died of it (memory, a fault in a codec)."""

    code = "worker-lost"


class NotFound(VoxdexError):
    """The named gallery, speaker, recording, encoder or file does not exist."""

    code = "not-found"


class AudioGone(NotFound):
    """The recording is known, and its audio is not at its place any more."""

    code = "audio-gone"


class Conflict(VoxdexError):
    """The request contradicts what is stored."""

    code = "conflict"


class AlreadyExists(Conflict):
    """The name or the content is taken."""

    code = "already-exists"


class EncoderMismatch(Conflict):
    """Vectors of two encoders, or of a dimension the gallery does not keep, would meet."""

    code = "encoder-mismatch"


class EncoderChanged(EncoderMismatch):
    """The gallery went from one encoder to another meanwhile; the same work succeeds under the new one."""


class GalleryGone(NotFound):
    """The gallery was deleted meanwhile; the same work may succeed in another one that has its name by now."""


class ConsentRequired(Conflict):
    """The gallery enrolls nobody without a reference to their consent."""

    code = "consent-required"


class RequestInFlight(Conflict):
    """The first request with this `Idempotency-Key` is still being worked on."""

    code = "request-in-flight"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AccessDenied(VoxdexError):
    """The caller may not do this; another key may."""

    code = "forbidden"


class Unauthenticated(AccessDenied):
    """No key, or none that is known."""

    code = "unauthenticated"


class RateLimited(VoxdexError):
    """The key's requests of this minute are used up."""

    code = "rate-limited"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(VoxdexError):
    """Something outside failed (network, database, device); the same request may succeed later."""

    code = "unavailable"


class Overloaded(Unavailable):
    """More work waits than will be done soon; the same request succeeds a little later."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeviceFailed(Unavailable):
    """A GPU has no room for what it is asked to hold, or answers no more; the CPU can do the same work."""


class LeaseLost(Unavailable):
    """Another worker has taken over this work, or the job was canceled; nothing of it may be written any more."""

    code = "lease-lost"


class IndexReplaced(Unavailable):
    """The index was built anew by another process, and is to be opened again."""

    code = "index-replaced"


class UnsafeFork(Unavailable):
    """A process that has touched CUDA was about to fork; its child could not use the device."""

    code = "unsafe-fork"


class DownloadFailed(Unavailable):
    """No source gave the file; the message lists each source with its reason."""

    code = "download-failed"


class SchemaMismatch(Unavailable):
    """The database is not at the migration this code was written for; an upgrade of one of the two cures it."""

    code = "schema-mismatch"


class CorruptArtifact(VoxdexError):
    """A weights, index or snapshot file is damaged; the operator must act."""

    code = "corrupt-artifact"


class HashMismatch(CorruptArtifact):
    """A file's SHA-256 is not the one that was recorded for it."""

    code = "hash-mismatch"


class CorruptSnapshot(CorruptArtifact):
    """An index snapshot is torn, damaged or of another encoder or format; the record rebuilds it."""

    code = "corrupt-snapshot"
    remedy: ClassVar[str] = "run `voxdex index rebuild`"

    @property
    def problem(self) -> str:
        """What is wrong with which file, without the remedy."""
        return str(self).removesuffix(f": {self.remedy}")


class UnsafeArtifact(CorruptArtifact):
    """A file holds what could run code or escape its folder; refused before it is used."""

    code = "unsafe-artifact"


class UnsupportedCheckpoint(CorruptArtifact):
    """A model file is intact and is of a kind that voxdex does not run."""

    code = "unsupported-checkpoint"


class NonFiniteEmbedding(CorruptArtifact):
    """The encoder produced NaN or infinity for finite audio: its weights are unusable."""

    code = "non-finite-embedding"


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; the kind of error where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


_Error = TypeVar("_Error", bound=VoxdexError)


def about(name: str, error: _Error) -> _Error:
    """Say which recording an error is about, for errors raised where only samples are known."""
    named = type(error).__new__(type(error))  # Not built: some kinds want more than a message.
    named.args = (f"{name}: {error}", *error.args[1:])
    vars(named).update(vars(error))
    return named.with_traceback(error.__traceback__)
