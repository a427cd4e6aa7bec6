"""Names, numbers and pages, as every route takes and gives them."""

import datetime as dt
from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from api.paths import slashes_restored
from indexer.db.names import NAME_LIMIT, canonical, require_text
from indexer.errors import InvalidRequest

ID_LIMIT = 2**63 - 1
"""Highest number that the record can give to a row."""

PAGE_ROWS = 100
MOST_PAGE_ROWS = 1000


class Body(BaseModel):
    """What a request says; a misspelled field is refused, never passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What a response says."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


def _storable(value: str) -> str:
    try:
        return require_text("text", value)
    except InvalidRequest as error:
        raise ValueError("holds bytes that are not text") from error


Text = Annotated[str, AfterValidator(_storable)]
"""Text that both databases keep: no NUL, no half of a surrogate pair."""

Name = Annotated[Text, StringConstraints(min_length=1, max_length=NAME_LIMIT), AfterValidator(canonical)]
"""Of a gallery, speaker, label or session; the record refuses what is unprintable or padded with blanks."""

Reference = Annotated[Text, StringConstraints(min_length=1, max_length=500)]
"""Where a person's consent is kept."""

Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


def _in_utc(moment: dt.datetime) -> dt.datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except OverflowError as error:  # The first or the last day of the calendar, in another time zone.
        raise ValueError("is outside the years 1 to 9999 in UTC") from error


Instant = Annotated[dt.datetime, AfterValidator(_in_utc)]
"""A moment; without a time zone it is UTC, as in a manifest. Kept and given back in UTC."""


def _zoned(moment: dt.datetime) -> dt.datetime:
    if moment.tzinfo is None:
        raise ValueError("names no time zone: write Z behind it for UTC, or an offset as in +01:00")
    return moment


ZonedInstant = Annotated[dt.datetime, AfterValidator(_zoned), AfterValidator(_in_utc)]
"""A moment that decides what is answered: without a time zone it is refused."""

_Segment = Annotated[Name, BeforeValidator(slashes_restored)]

GalleryName = Annotated[_Segment, Path(description="The gallery's name, percent-encoded.", examples=["calls"])]
SpeakerName = Annotated[_Segment, Path(description="The speaker's name, percent-encoded.", examples=["Ann Lee"])]
RowNumber = Annotated[int, Path(ge=1, le=ID_LIMIT, examples=[42])]

FileName = Annotated[
    Text | None, Query(alias="filename", max_length=1000, description="What a recording sent as a raw body is called.")
]

Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`next_cursor` of the page before; absent: the first page."),
]
Limit = Annotated[int, Query(ge=1, le=MOST_PAGE_ROWS, description="Most items of the page.")]

PartOf = Annotated[
    Text | None,
    Query(min_length=1, max_length=200, description="Only those whose name has this in it, in upper or lower case."),
]

Item = TypeVar("Item")


class Page(View, Generic[Item]):
    """Some items of a list, and where to go on."""

    items: list[Item]
    next_cursor: str | None = Field(description="Give it as `cursor` to go on; null: this was the last page.")


def shown_cosine(cosine: float) -> float:
    """Round a cosine to be shown; rounding in its sums may have taken it a little beyond 1."""
    return round(max(-1.0, min(1.0, cosine)), 4)
