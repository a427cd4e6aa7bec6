"""What commands print for people."""

import pytest

from api.cli.output import print_fields


def test_fields_are_aligned_and_what_is_not_there_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(
        {
            "name": "calls",
            "calibration_id": None,
            "identification_threshold": 0.31,
            "target_fpir": 0.0001,
            "consent_required": False,
            "speakers": ("Ann", "Bob"),
            "labels": (),
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "name                      calls",
        "identification_threshold  0.31",
        "target_fpir               0.0001",
        "consent_required          no",
        "speakers                  Ann, Bob",
    ]
