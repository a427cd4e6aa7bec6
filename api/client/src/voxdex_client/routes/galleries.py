"""Galleries, and what they are like as a whole."""

from voxdex_client import models
from voxdex_client.requests import UNSET, Sent, Unset, route


@route("POST", "/v1/galleries", models.Gallery, keyed=True)
def create_gallery(
    name: str,
    *,
    encoder: str | None = None,
    second_encoder: str | None = None,
    identification_threshold: float | None = None,
    verification_threshold: float | None = None,
    possible_threshold: float | None = None,
    target_fpir: float | None = None,
    possible_fpir: float | None = None,
    target_p_fa: float | None = None,
    consent_required: bool = False,
    retention_days: int | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Make a gallery: an enrolled set that is searched under one encoder, or under two whose scores are fused."""
    fields = {
        "name": name,
        "encoder": encoder,
        "second_encoder": second_encoder,
        "identification_threshold": identification_threshold,
        "verification_threshold": verification_threshold,
        "possible_threshold": possible_threshold,
        "target_fpir": target_fpir,
        "possible_fpir": possible_fpir,
        "target_p_fa": target_p_fa,
        "consent_required": consent_required,
        "retention_days": retention_days,
    }
    return Sent(json=fields, key=idempotency_key)


@route("GET", "/v1/galleries", models.Page[models.Gallery])
def list_galleries(*, limit: int | None = None, cursor: str | None = None) -> Sent:
    """List the galleries that the key opens."""
    return Sent(query={"limit": limit, "cursor": cursor})


@route("GET", "/v1/galleries/{gallery}", models.Gallery)
def get_gallery(gallery: str) -> Sent:
    """Show a gallery and what it holds."""
    return Sent(path={"gallery": gallery})


@route("PATCH", "/v1/galleries/{gallery}", models.Gallery)
def change_gallery(
    gallery: str,
    *,
    identification_threshold: float | Unset | None = UNSET,
    verification_threshold: float | Unset | None = UNSET,
    possible_threshold: float | Unset | None = UNSET,
    target_fpir: float | Unset | None = UNSET,
    possible_fpir: float | Unset | None = UNSET,
    target_p_fa: float | Unset | None = UNSET,
    calibration_id: str | Unset | None = UNSET,
    score_normalization: bool | Unset = UNSET,
    consent_required: bool | Unset = UNSET,
    retention_days: int | Unset | None = UNSET,
) -> Sent:
    """Change a gallery; what is left out stays, and None takes a value back."""
    fields = {
        "identification_threshold": identification_threshold,
        "verification_threshold": verification_threshold,
        "possible_threshold": possible_threshold,
        "target_fpir": target_fpir,
        "possible_fpir": possible_fpir,
        "target_p_fa": target_p_fa,
        "calibration_id": calibration_id,
        "score_normalization": score_normalization,
        "consent_required": consent_required,
        "retention_days": retention_days,
    }
    return Sent(path={"gallery": gallery}, json=fields)


@route("DELETE", "/v1/galleries/{gallery}", models.Erased)
def delete_gallery(gallery: str) -> Sent:
    """Erase a gallery: speakers, recordings, vectors and uploaded audio."""
    return Sent(path={"gallery": gallery})


@route("GET", "/v1/galleries/{gallery}/quality", models.GalleryQuality)
def gallery_quality(gallery: str) -> Sent:
    """Tell how well a gallery's recordings are told apart, and the errors to expect at each threshold."""
    return Sent(path={"gallery": gallery})


@route("GET", "/v1/galleries/{gallery}/map", models.GalleryMap)
def gallery_map(gallery: str) -> Sent:
    """Place a gallery's speakers on a plane, near to whom they sound like."""
    return Sent(path={"gallery": gallery})


@route("GET", "/v1/calibrations", models.Calibrations)
def calibrations() -> Sent:
    """List the calibrations that galleries can be given."""
    return Sent()
