"""What `voxdex index check` says of rows that are newer than the files of an index."""

import pytest

from indexer.index.drift import CheckReport
from tests.service_stack import agree

NONE: dict[str, tuple[int, ...]] = {"missing": (), "extra": (), "changed": (), "damaged": ()}


def test_newer_rows_are_told_as_a_part_of_those_that_agree() -> None:
    report = CheckReport(recorded=11, indexed=11, behind=7, **NONE)  # type: ignore[arg-type]
    assert report.describe() == (
        "index and record agree on 11 vectors; 7 of them are newer than its files and read when it is opened"
    )


@pytest.mark.parametrize(
    ("indexed", "behind", "in_step", "agreed"),
    [
        (5, 0, True, True),
        (5, 5, True, True),
        (0, 5, True, True),
        (0, 0, True, False),
        (4, 1, True, False),
        (5, 0, False, False),
    ],
)
def test_a_service_agrees_with_its_record_before_and_after_it_has_written_files(
    indexed: int, behind: int, in_step: bool, agreed: bool
) -> None:
    assert agree({"recorded": 5, "indexed": indexed, "behind": behind, "in_step": in_step}) is agreed
