"""People without a name who are heard again and again."""

import datetime as dt

from voxdex_client.models.base import Model


class UnknownVoice(Model):
    """Somebody without a name who is heard again and again."""

    name: str
    """As "Unknown-17": stays with the voice from run to run, and is never given to another one."""
    utterances: int
    recordings: int
    speech_s: float
    edited: bool
    """Whether a person merged or split it, or took utterances out."""
    created_at: dt.datetime


class UnknownUtterance(Model):
    """A stretch in which an unknown voice is heard."""

    id: int
    recording_id: int
    uri: str
    channel: int | None
    """Number from 0; None: the mix of all."""
    start_s: float
    end_s: float
    score: float | None
    """Cosine to the mean of the voice when it was put there; None where a person did."""


class Parted(Model):
    """What became of an unknown voice that was two."""

    kept: UnknownVoice
    made: UnknownVoice


class Ungrouped(Model):
    """What a forgotten unknown voice leaves."""

    utterances: int
    """Utterances that are in no unknown voice now."""
