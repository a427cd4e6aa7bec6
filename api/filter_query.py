"""The filter of a search, as the parameters of a query."""

from typing import Annotated

from fastapi import Depends, Query

from api.schemas.common import Name, ZonedInstant
from indexer.db.filters import MOST, MOST_LABELS, MOST_NAMES, RowFilter

_Seconds = Annotated[float | None, Query(ge=0, le=MOST, allow_inf_nan=False)]
_Hertz = Annotated[int | None, Query(ge=0, le=MOST)]


async def filter_of(
    label: Annotated[
        list[Name] | None,
        Query(max_length=MOST_LABELS, description="Only recordings with all these labels.", examples=[["meeting"]]),
    ] = None,
    speaker: Annotated[
        list[Name] | None,
        Query(
            max_length=MOST_NAMES,
            description="Only utterances that are enrolled as one of these speakers; an unknown name is refused.",
        ),
    ] = None,
    session: Annotated[
        list[Name] | None,
        Query(max_length=MOST_NAMES, description="Only recordings made on one of these occasions."),
    ] = None,
    recorded_from: Annotated[
        ZonedInstant | None,
        Query(
            description="Only recordings made then or later; a time zone is needed. A recording whose `recorded_at` is "
            "not known is left out.",
            examples=["2026-01-01T00:00:00Z"],
        ),
    ] = None,
    recorded_until: Annotated[
        ZonedInstant | None,
        Query(
            description="Only recordings made before then; a time zone is needed.", examples=["2026-02-01T00:00:00Z"]
        ),
    ] = None,
    min_duration_s: Annotated[_Seconds, Query(description="Only utterances as long as this or longer.")] = None,
    min_speech_s: Annotated[
        _Seconds, Query(description="Only recordings of which as many seconds or more were embedded.")
    ] = None,
    min_sample_rate_hz: Annotated[
        _Hertz, Query(description="Only recordings sampled so often or more: 16000 leaves telephone calls out.")
    ] = None,
    max_sample_rate_hz: Annotated[
        _Hertz, Query(description="Only recordings sampled so often or less: 8000 leaves telephone calls only.")
    ] = None,
) -> RowFilter:
    """Read a filter from a query; see `RowFilter` for what is refused."""
    return RowFilter(
        labels=tuple(label or ()),
        speakers=tuple(speaker or ()),
        sessions=tuple(session or ()),
        recorded_from=recorded_from,
        recorded_until=recorded_until,
        min_duration_s=min_duration_s,
        min_speech_s=min_speech_s,
        min_sample_rate_hz=min_sample_rate_hz,
        max_sample_rate_hz=max_sample_rate_hz,
    )


Filter = Annotated[RowFilter, Depends(filter_of)]
