"""The service itself: keys, encoders, and how it is."""

import datetime as dt
from typing import Literal

from voxdex_client.models.base import Model
from voxdex_client.models.jobs import JobState

Scope = Literal["read", "identify", "write", "admin", "embeddings"]


class Key(Model):
    """An API key, without its secret."""

    public_id: str
    name: str
    scopes: list[Scope]
    gallery: str | None
    """The one gallery it opens; None: every gallery."""
    rate_limit_per_minute: int | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class CreatedKey(Key):
    """An API key that was just made."""

    key: str
    """What requests carry; shown this once."""


class Encoder(Model):
    """A network that makes vectors, as the service knows it."""

    name: str
    family: str
    description: str
    license: str
    published_eer: str
    identification_threshold: float | None
    verification_threshold: float | None
    measured_eer: dict[str, float]
    """Equal error rate in percent, by kind of speech."""
    times_real_time: float | None
    """Seconds of audio that one CPU core embeds in a second."""
    default: bool
    """Whether new galleries get it."""
    here: bool
    """Whether its weights are on the service's machine."""


class Encoders(Model):
    """The encoders that galleries can be made with."""

    items: list[Encoder]


class Session(Model):
    """Who asks, and what they may."""

    state: Literal["open", "signed_in", "signed_out"]
    """`open`: no key is needed; `signed_out`: one is, and there is none in force."""
    key: str | None
    """Public id of the key."""
    name: str | None
    scopes: list[Scope]
    gallery: str | None
    """The one gallery that is seen; None: every gallery."""
    expires_at: dt.datetime | None
    """When a browser's session ends; None where a key was sent."""
    version: str


class Stats(Model):
    """What is stored, in all galleries that the key opens."""

    galleries: int
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float
    jobs: dict[JobState, int]
    """Jobs by state; a state without jobs is left out."""


class Alive(Model):
    """The process answers."""

    status: str


class Check(Model):
    """Whether a part works; `problem` is a stable code where it does not."""

    ok: bool
    problem: str | None


class EncoderCheck(Check):
    """Whether the default encoder is loaded."""

    encoder_id: str | None


class GalleryLag(Model):
    """How far one open index is behind the record."""

    gallery_id: int
    vectors: int
    changes_behind: int
    lag_s: float


class IndexCheck(Check):
    """Whether every open index is in step with the record."""

    lag_s: float
    galleries: list[GalleryLag]


class Readiness(Model):
    """Whether requests should be sent there, and if not, which part is at fault."""

    ready: bool
    database: Check
    broker: Check | None
    encoder: EncoderCheck
    index: IndexCheck


class OpenIndex(Model):
    """One index of an open gallery in the process that answered."""

    gallery: str
    encoder_id: str
    kind: str
    vectors: int
    memory_bytes: int
    mapped_bytes: int
    changes_behind: int
    lag_s: float
    details: dict[str, str | int | float]


class EncoderInUse(Model):
    """An encoder, and the galleries that are searched under it."""

    encoder_id: str
    name: str
    galleries: list[str]


class WorkUnderWay(Model):
    """A shard of a job that somebody works on."""

    name: str
    state: str


class System(Model):
    """What the process that answered is made of and how it is."""

    version: str
    database: Literal["sqlite", "postgresql"]
    jobs_run: Literal["here", "workers"]
    workers: list[WorkUnderWay]
    queues: dict[str, int]
    device: str
    encoders: list[EncoderInUse]
    indexes: list[OpenIndex]
    media_bytes_free: int | None
