"""Options that keep a search to a part of the archive."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import InvalidRequest

if TYPE_CHECKING:
    from indexer.db.filters import RowFilter

Labels = Annotated[
    list[str] | None,
    typer.Option("--label", help="Only recordings with this label; repeat for several, all of which are needed."),
]
Speakers = Annotated[
    list[str] | None,
    typer.Option("--speaker", "-s", help="Only utterances enrolled as this speaker; repeat for one of several."),
]
Sessions = Annotated[
    list[str] | None,
    typer.Option("--session", help="Only recordings made on this occasion; repeat for one of several."),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Only recordings made then or later, as in 2026-01-31T08:00Z; a time zone is needed.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None, typer.Option("--until", help="Only recordings made before then; likewise.", show_default=False)
]
MinDuration = Annotated[
    float | None,
    typer.Option("--min-duration", help="Only utterances of as many seconds or more.", show_default=False),
]
MinSpeech = Annotated[
    float | None,
    typer.Option(
        "--min-speech", help="Only recordings of which as many seconds or more were embedded.", show_default=False
    ),
]
MinSampleRate = Annotated[
    int | None,
    typer.Option(
        "--min-sample-rate", help="Only recordings of as many Hz or more: 16000 leaves calls out.", show_default=False
    ),
]
MaxSampleRate = Annotated[
    int | None,
    typer.Option(
        "--max-sample-rate", help="Only recordings of as many Hz or fewer: 8000 leaves calls only.", show_default=False
    ),
]


def row_filter(
    *,
    labels: Sequence[str] | None,
    speakers: Sequence[str] | None,
    sessions: Sequence[str] | None,
    recorded_from: str | None,
    recorded_until: str | None,
    min_duration_s: float | None,
    min_speech_s: float | None,
    min_sample_rate_hz: int | None,
    max_sample_rate_hz: int | None,
) -> "RowFilter":
    """Make a filter of what the options say.

    Raises
    ------
    InvalidRequest
        If one of them has no meaning.
    """
    from indexer.db.filters import RowFilter

    return RowFilter(
        labels=tuple(labels or ()),
        speakers=tuple(speakers or ()),
        sessions=tuple(sessions or ()),
        recorded_from=_moment("--from", recorded_from),
        recorded_until=_moment("--until", recorded_until),
        min_duration_s=min_duration_s,
        min_speech_s=min_speech_s,
        min_sample_rate_hz=min_sample_rate_hz,
        max_sample_rate_hz=max_sample_rate_hz,
    )


def _moment(option: str, text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(f"{option} {text!r} is no ISO 8601 time; write 2026-01-31T08:00Z") from error
