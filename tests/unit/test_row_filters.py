"""What a filter of a search may ask for, and what is refused because it has no meaning."""

import datetime as dt
from typing import Any

import pytest

from api.cli.filters import row_filter
from indexer.db.filters import MOST_LABELS, MOST_NAMES, RowFilter
from indexer.errors import InvalidRequest, VoxdexError

JANUARY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FEBRUARY = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
NOTHING: dict[str, Any] = {
    "labels": None,
    "speakers": None,
    "sessions": None,
    "recorded_from": None,
    "recorded_until": None,
    "min_duration_s": None,
    "min_speech_s": None,
    "min_sample_rate_hz": None,
    "max_sample_rate_hz": None,
}


def test_filters_that_ask_for_the_same_are_one_whatever_the_order_and_the_zone() -> None:
    there = dt.timezone(dt.timedelta(hours=3))
    one = RowFilter(labels=("b", "a", "a"), speakers=("Zo\u00eb",), recorded_from=JANUARY)
    other = RowFilter(labels=("a", "b"), speakers=("Zoe\u0308",), recorded_from=JANUARY.astimezone(there))
    assert one == other
    assert hash(one) == hash(other)
    assert one != RowFilter(labels=("a",), speakers=("Zo\u00eb",), recorded_from=JANUARY)


def test_a_filter_is_true_where_it_asks_for_anything_even_for_zero_seconds() -> None:
    assert not RowFilter()
    assert not RowFilter(labels=(), speakers=())
    for asked in (
        RowFilter(labels=("a",)),
        RowFilter(speakers=("Ann",)),
        RowFilter(sessions=("monday",)),
        RowFilter(recorded_from=JANUARY),
        RowFilter(recorded_until=JANUARY),
        RowFilter(min_duration_s=0.0),
        RowFilter(min_speech_s=0.0),
        RowFilter(min_sample_rate_hz=0),
        RowFilter(max_sample_rate_hz=0),
    ):
        assert asked


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"recorded_from": dt.datetime(2026, 1, 31, 8)},
            r"recorded_from = .* no time zone: write 2026-01-31T08:00:00Z",
        ),
        ({"labels": ["day", ""]}, "an empty label in a filter leaves nothing: name a label, or leave it out"),
        ({"speakers": [" "]}, "an empty speaker"),
        ({"sessions": [""]}, "an empty session"),
        ({"recorded_until": dt.datetime(2026, 1, 31)}, "recorded_until = .* no time zone"),
        ({"recorded_from": FEBRUARY, "recorded_until": JANUARY}, "no time is from 2026-02-01T00:00:00Z on and before"),
        ({"recorded_from": JANUARY, "recorded_until": JANUARY}, "later than recorded_from"),
        (
            {"recorded_from": dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=3)))},
            "outside the years 1 to 9999",
        ),
        ({"min_duration_s": -0.1}, "min_duration_s = -0.1 where a number from 0"),
        ({"min_duration_s": float("nan")}, "min_duration_s = nan"),
        ({"min_speech_s": float("inf")}, "min_speech_s = inf"),
        ({"min_sample_rate_hz": 2**70}, "min_sample_rate_hz"),
        ({"min_sample_rate_hz": 16000, "max_sample_rate_hz": 8000}, "at least 16000 and at most 8000 Hz"),
        ({"labels": tuple(map(str, range(MOST_LABELS + 1)))}, "51 labels in one filter where at most 50"),
        ({"speakers": tuple(map(str, range(MOST_NAMES + 1)))}, "1001 speakers"),
        ({"labels": ("a\0b",)}, "label 'a.x00b' holds bytes that are not text"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_value(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        RowFilter(**asked)


def test_the_command_line_reads_moments_with_a_zone_and_refuses_others() -> None:
    read = row_filter(**{**NOTHING, "recorded_from": "2026-01-01T01:00+01:00", "recorded_until": "2026-02-01T00:00Z"})
    assert (read.recorded_from, read.recorded_until) == (JANUARY, FEBRUARY)
    for text, message in (("yesterday", "--from 'yesterday' is no ISO 8601 time"), ("2026-01-31", "no time zone")):
        with pytest.raises(VoxdexError, match=message):
            row_filter(**{**NOTHING, "recorded_from": text})
    assert not row_filter(**NOTHING)
