"""What naming speakers costs, as a table, and whether that is as little as is asked."""

from collections.abc import Iterator
from typing import Any

from api.bench.trial import KINDS, K
from api.cli.output import print_line, print_table

MIB = 2**20

IDENTIFY_LIMIT = 1.2
"""Most that naming speakers may take, in times of a search of the vectors that they enrolled with."""


def judged_enrolled(enrolled: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what was asked of naming speakers, and whether it was reached."""
    looked_at = enrolled["looked_at"]
    for what, key in (
        (f"the {K} nearest speakers, in times of the {K} nearest vectors", "nearest_to_search"),
        (f"the {looked_at} nearest speakers, in times of as many vectors", "wide_nearest_to_search"),
        ("identification, with what it reads of the record, in times of that", "identify_to_search"),
    ):
        ratio = enrolled[key]
        yield {
            "vectors": enrolled["vectors"],
            "what": what,
            "asked": f"<= {IDENTIFY_LIMIT}",
            "measured": f"{ratio:.2f}",
            "met": ratio <= IDENTIFY_LIMIT,
        }


def print_enrolled(enrolled: dict[str, Any]) -> None:
    """Print the figures."""
    if "problem" in enrolled:
        print_line(f"identification: {enrolled['problem']}")
        return
    looked_at = enrolled["looked_at"]
    rows = {
        f"search, the {K} nearest vectors (ms)": "search_s",
        f"search, the {looked_at} nearest vectors (ms)": "wide_search_s",
        f"the {K} nearest speakers (ms)": "nearest_s",
        f"the {looked_at} nearest speakers, as identification looks at (ms)": "wide_nearest_s",
        "what it reads of the record (ms)": "record_s",
        "decision of these speakers (ms)": "decide_s",
        "identification, all of this (ms)": "identify_s",
        f"best enrollments of {K} candidates, read of the record (ms)": "shown_s",
    }
    print_table(
        ["", "known", "strangers"],
        [[label, *(f"{1000 * enrolled[key][kind]:.3f}" for kind in KINDS)] for label, key in rows.items()],
        title=f"{enrolled['vectors']:,} enrolled vectors of {enrolled['speakers']:,} speakers",
    )
    print_line(
        f"voiceprints made in {enrolled['voiceprints_s']:.1f} s, {enrolled['voiceprints_bytes'] / MIB:,.0f} MiB more "
        f"resident; the index of the vectors made of the record in {enrolled['index_s']:.1f} s"
    )
