"""Calibrations as records keep them: documents under the id that names their content."""

from collections.abc import Mapping
from typing import Any

from indexer.errors import CorruptArtifact
from search.calibration import Calibration


def stored_calibration(calibration_id: str, document: Mapping[str, Any]) -> Calibration:
    """Read what a record keeps.

    Raises
    ------
    CorruptArtifact
        If it is damaged, or its figures are not those that its id was made of.
    """
    remedy = f"`voxdex calibrations delete {calibration_id[:12]}` removes it"
    try:
        calibration = Calibration.from_document(dict(document))
    except CorruptArtifact as error:
        raise CorruptArtifact(f"{error}; {remedy}") from error
    if calibration.id != calibration_id:
        raise CorruptArtifact(
            f"calibration {calibration_id[:12]} of the record was changed: its content has the id "
            f"{calibration.id[:12]}; {remedy}"
        )
    return calibration
