"""The report of `voxdex calibrate`: what llrs are worth on speakers that they were not fitted to."""

from pathlib import Path

from api.calibrating import Calibrated
from api.evaluation.html_report import write_report
from api.evaluation.pages import calibration_page
from search.calibration_fit import fit_calibration
from tests.calibration_kit import ECAPA, TODAY, gaussian_trials


def test_a_calibration_is_shown_on_speakers_held_out(tmp_path: Path) -> None:
    calibration, held_out = fit_calibration(
        gaussian_trials(), name="calls", encoder_ids=(ECAPA,), description="made up", recordings=60, today=TODAY
    )
    assert 0 < held_out.is_target.sum() < len(held_out.llrs) == len(held_out.scores)
    made = Calibrated(calibration, held_out, 60, {"no-speech": 3}, [("ann", "anne")])
    page = write_report(tmp_path, calibration_page(made)).read_text(encoding="utf-8")
    for said in (f"<b>{calibration.cllr_after:.3f}</b>", f"at best {calibration.min_cllr:.3f}", "anne", "made up"):
        assert said in page
    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.png", "det.png", "llrs.png", "report.html"]
