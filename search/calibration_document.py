"""Calibrations as plain data: written whole, and read with every figure checked, for decisions hang on them."""

import hashlib
import itertools
import json
import math
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexer.errors import CorruptArtifact, InvalidRequest
from indexer.types import EncoderId
from search.calibration import QUALITIES, SHARES, Calibration, Range, TrainingData
from search.normalization import MIN_COHORT, MOST_COHORT, Normalization
from search.open_set import EARLIER_HALF_TRUST, EVERYBODY, OpenSetModel

FORMAT = "voxdex-calibration"
VERSION = 1


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class _Range(_Plain):
    low: float
    high: float
    typical: float


class _Data(_Plain):
    description: str = Field(max_length=2000)
    speakers: int = Field(ge=0)
    recordings: int = Field(ge=0)
    target_trials: int = Field(ge=0)
    nontarget_trials: int = Field(ge=0)
    fitted_at: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class _OpenSet(_Plain):
    level: float
    rise: float = Field(gt=0)
    spread: float = Field(gt=0)
    spread_weight: float = Field(ge=0)
    trust: float = Field(ge=0, le=1)
    correction: float
    correction_rise: float
    among: float = Field(gt=0, le=1, default=EVERYBODY)
    half_trust: float = Field(ge=0, default=EARLIER_HALF_TRUST)
    alike: int | None = Field(ge=1, default=None)
    crowd: float | None = None
    slope: float | None = Field(gt=0, default=None)


class _Normalization(_Plain):
    method: Literal["as-norm"]
    cohort: int = Field(ge=MIN_COHORT, le=MOST_COHORT)
    top_n: int = Field(ge=1, le=MIN_COHORT // 2)


class _Document(_Plain):
    format: str
    version: int
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    encoder_ids: list[str] = Field(min_length=1, max_length=2)
    weights: dict[str, float] = Field(max_length=32)
    ranges: dict[str, _Range] = Field(max_length=len(QUALITIES))
    data: _Data
    cllr_before: float = Field(ge=0)
    cllr_after: float = Field(ge=0)
    min_cllr: float = Field(ge=0)
    nontarget_llrs: list[tuple[float, float]] = Field(min_length=1, max_length=1000)
    open_set: _OpenSet | None = None
    normalized: _Normalization | None = None


def to_document(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain data for JSON."""
    document = asdict(calibration)
    document.pop("id")
    document["encoder_ids"] = list(calibration.encoder_ids)
    document["nontarget_llrs"] = [list(point) for point in calibration.nontarget_llrs]
    # As in documents from before there was such a thing: their ids stay what they were.
    if calibration.open_set is not None:
        for name in calibration.open_set.unwritten:
            del document["open_set"][name]
    if calibration.normalized is None:
        del document["normalized"]
    else:
        document["normalized"] = {"method": "as-norm", **document["normalized"]}
    return {"format": FORMAT, "version": VERSION, **document}


def from_document(document: object) -> Calibration:
    """Read a calibration from plain data.

    Raises
    ------
    CorruptArtifact
        If it is of another format or version, or a figure is missing, not finite or out of range; the message says
        which.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CorruptArtifact(f"this is no calibration: it has no format {FORMAT!r}; `voxdex calibrate` makes one")
    if document.get("version") != VERSION:
        raise CorruptArtifact(
            f"calibration of version {document.get('version')!r}, and this voxdex reads {VERSION}: fit it again"
        )
    try:
        # As JSON, for a tuple is a list there and a whole number may stand for any.
        read = _Document.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CorruptArtifact(f"calibration: {place}: {first['msg']}") from error
    except (TypeError, ValueError) as error:
        raise CorruptArtifact(f"calibration is no plain data: {error}") from error
    try:
        return Calibration(
            name=read.name,
            encoder_ids=tuple(EncoderId(encoder_id) for encoder_id in read.encoder_ids),
            weights=read.weights,
            ranges={name: Range(found.low, found.high, found.typical) for name, found in read.ranges.items()},
            data=TrainingData(**read.data.model_dump()),
            cllr_before=read.cllr_before,
            cllr_after=read.cllr_after,
            min_cllr=read.min_cllr,
            nontarget_llrs=tuple(read.nontarget_llrs),
            open_set=OpenSetModel(**read.open_set.model_dump()) if read.open_set else None,
            normalized=Normalization(read.normalized.cohort, read.normalized.top_n) if read.normalized else None,
        )
    except InvalidRequest as error:
        raise CorruptArtifact(f"calibration {read.name}: {error}") from error


def content_hash(calibration: Calibration) -> str:
    """Return the SHA-256 of a calibration's document: its id."""
    plain = json.dumps(to_document(calibration), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def check(calibration: Calibration) -> None:
    """Refuse a calibration that would answer wrongly.

    Raises
    ------
    InvalidRequest
        If it names two encoders as one, a feature is unknown, a score column has no weight, a range is turned around,
        the false-alarm curve does not fall, or an llr would fall with a score anywhere within the ranges.
    """
    encoders = calibration.encoder_ids
    if not 1 <= len(encoders) <= 2 or len(set(encoders)) != len(encoders) or not all(encoders):
        raise InvalidRequest(f"encoders {list(encoders)}: a calibration is of one encoder, or of two different ones")
    columns = [f"score_{number}" for number in range(1, len(encoders) + 1)]
    for name, weight in calibration.weights.items():
        parts = name.split("*")
        if not set(parts) <= {*columns, *calibration.ranges, "intercept"} or sum(part in columns for part in parts) > 1:
            raise InvalidRequest(f"weight of an unknown feature {name!r}")
        if len(parts) > 1 and (len(set(parts)) < len(parts) or "intercept" in parts):
            raise InvalidRequest(f"weight of {name!r}: a product is of different measures and of a score at most")
        if not math.isfinite(weight):
            raise InvalidRequest(f"weight {weight} of {name}: every figure must be finite")
    for name, known in calibration.ranges.items():
        if name not in QUALITIES or not known.low <= known.typical <= known.high:
            raise InvalidRequest(f"range {known} of {name!r}: give low <= typical <= high of one of {QUALITIES}")
    for column in columns:
        if column not in calibration.weights:
            raise InvalidRequest(f"{column} has no weight")
        least = lowest_slope(calibration, column)
        if not least > 0:
            raise InvalidRequest(
                f"llr falls or stays as {column} rises (slope {least:.3g} at the worst quality): the scores of one "
                "voice and of two are not told apart by this data; give more of it"
            )
    model = calibration.open_set
    if model is not None and not model.rises:
        raise InvalidRequest("open_set: its threshold would fall as the gallery grows; fit the calibration again")
    shares, llrs = zip(*calibration.nontarget_llrs, strict=True)
    falls = all(first > second for first, second in itertools.pairwise(shares))
    rises = all(first <= second for first, second in itertools.pairwise(llrs))
    if not falls or not rises or not 0 < shares[-1] <= shares[0] <= 1:
        raise InvalidRequest("nontarget_llrs must have falling shares from at most 1 to above 0, and rising llrs")


def lowest_slope(calibration: Calibration, column: str) -> float:
    """Return the least that the llr rises with a score, over every quality within the ranges."""
    # The slope is linear in each measure, so its least value is at a corner.
    names = list(calibration.ranges)
    corners = itertools.product(*[(known.low, known.high) for known in calibration.ranges.values()])
    possible = [dict(zip(names, corner, strict=True)) for corner in corners]
    # Both sides and only one of them are never over a telephone: of two shares a and b, a + b - 2 a b and a b.
    possible = [corner for corner in possible if sum(corner.get(share, 0.0) for share in SHARES) <= 1.0]
    return min(_slope(calibration, column, corner) for corner in possible)


def _slope(calibration: Calibration, column: str, quality: dict[str, float]) -> float:
    slope = 0.0
    for name, weight in calibration.weights.items():
        parts = name.split("*")
        if column in parts:
            slope += weight * math.prod(quality[part] for part in parts if part != column)
    return slope
