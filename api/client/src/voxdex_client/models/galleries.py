"""Galleries, and what they are like as a whole."""

import datetime as dt
from typing import Literal

from voxdex_client.models.base import Model


class Gallery(Model):
    """A gallery and what it holds."""

    name: str
    encoder: str
    encoder_id: str
    """Weights and front end; vectors are comparable only where these are equal."""
    second_encoder_id: str | None
    """Whose scores are fused with those of the first; None: of none."""
    created_at: dt.datetime
    identification_threshold: float | None
    verification_threshold: float | None
    possible_threshold: float | None
    target_fpir: float | None
    possible_fpir: float | None
    target_p_fa: float | None
    calibration_id: str | None
    """None: the one that comes with the service, if there is one."""
    score_normalization: bool
    """Whether scores are normalized by other people of the gallery."""
    consent_required: bool
    retention_days: int | None
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float


class Calibration(Model):
    """What turns scores into llrs, and how well it does on speakers it was not fitted to."""

    id: str
    name: str
    origin: Literal["voxdex", "record"]
    encoder_ids: list[str]
    description: str
    speakers: int
    recordings: int
    fitted_at: str
    cllr_before: float
    cllr_after: float
    min_cllr: float


class Calibrations(Model):
    """The calibrations that galleries can be given."""

    items: list[Calibration]


class Shares(Model):
    """Shares of the pairs of one speaker and of two, by columns between the edges."""

    edges: list[float]
    same: list[float]
    different: list[float]


class DetPoint(Model):
    """Both error rates of pairs at a threshold."""

    threshold: float
    p_fa: float
    p_miss: float


class Errors(Model):
    """What is to be expected of identification at a threshold."""

    threshold: float
    fpir: float
    """Share of strangers who would be named."""
    fnir: float
    """Share of recordings of enrolled people that would not be given their name."""


class ErrorsNow(Errors):
    """The same where the gallery decides now."""

    asked: str


class GalleryQuality(Model):
    """How well a gallery's recordings are told apart: each compared with the others, as if it were new."""

    speakers: int
    recordings: int
    sampled: bool
    same_pairs: int
    different_pairs: int
    scores: Shares
    llrs: Shares | None
    eer: float | None
    det: list[DetPoint]
    decides_by: Literal["llr", "score"]
    """What thresholds are of."""
    curve: list[Errors]
    point: ErrorsNow | None
    calibration: Calibration | None
    warnings: list[str]


class PlacedSpeaker(Model):
    """A speaker on the map."""

    speaker: str
    x: float
    y: float
    recordings: int
    enrolled_s: float
    nearest: str | None
    score: float | None


class GalleryMap(Model):
    """Speakers on a plane: the nearer two are, the more alike they sound."""

    method: Literal["t-SNE", "PCA"]
    speakers: int
    points: list[PlacedSpeaker]
