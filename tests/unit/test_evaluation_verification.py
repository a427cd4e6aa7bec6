"""Verification figures by slice, and the report they become."""

import re
from pathlib import Path

import numpy as np
import pytest

from api.evaluation.hearing import HeardRecording
from api.evaluation.html_report import Page, Table, write_report
from api.evaluation.pages import verification_page
from api.evaluation.systems import System
from api.evaluation.tables import verification_tables
from api.evaluation.verification import evaluate_verification, slices_of, under_conditions
from indexer.errors import InvalidRequest, Unavailable
from search.bootstrap import Resampling
from search.metrics import equal_error_rate
from search.trials import LabeledRecording, all_pairs
from tests.calibration_kit import CAMPLUS, ECAPA, fitted, gaussian_trials

SPEAKERS, TAKES = 8, 4
RECORDINGS = [
    LabeledRecording(f"{speaker}-{take}", f"s{speaker}", "x" if speaker < 4 else "y")
    for speaker in range(SPEAKERS)
    for take in range(TAKES)
]


def _system(name: str = "system", *, noise: float = 0.1, copies: int = 0, calibrated: bool = False) -> System:
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(SPEAKERS, 192)) / np.sqrt(192)
    heard = []
    for number in range(len(RECORDINGS) * (1 + copies)):
        worse = noise * (1 + 2 * (number // len(RECORDINGS)))
        vectors = {}
        for encoder in (ECAPA, CAMPLUS):
            vector = centers[number % len(RECORDINGS) // TAKES] + worse * rng.normal(size=192)
            vectors[encoder] = (vector / np.linalg.norm(vector)).astype(np.float32)
        heard.append(HeardRecording(vectors, 4.0, 0.5 + number % 4, 20.0))
    return System(name, heard, (ECAPA,), fitted(gaussian_trials()) if calibrated else None)


def test_figures_are_those_of_the_cosines() -> None:
    system = _system(noise=0.25)
    trials = all_pairs(RECORDINGS)
    scores = system.score(trials)
    vectors = system.vectors(ECAPA)
    by_hand = np.array([vectors[a] @ vectors[b] for a, b in zip(trials.enroll, trials.probe, strict=True)])
    np.testing.assert_allclose(scores, by_hand, atol=1e-6)
    slices = slices_of(under_conditions(trials, ()), system.net_speech_s)
    figures = evaluate_verification(system, trials, scores, slices, Resampling(draws=30))
    overall = figures.slices[0]
    assert (overall.targets, overall.nontargets, overall.speakers) == (48, 192, 8)
    assert overall.figures["eer"].value == pytest.approx(equal_error_rate(by_hand, trials.is_target))
    assert overall.figures["eer"].low is not None
    assert overall.figures["eer"].high is not None
    assert overall.figures["eer"].low <= overall.figures["eer"].value <= overall.figures["eer"].high
    assert "cllr" not in overall.figures  # A cosine is no llr.


def test_slices_part_the_trials_by_set_and_by_the_shorter_side() -> None:
    system = _system()
    trials = all_pairs(RECORDINGS)
    slices = slices_of(under_conditions(trials, ()), system.net_speech_s)
    rows = {(one.by, one.name): int(one.rows.sum()) for one in slices}
    assert rows["overall", "all"] == len(trials) == 240
    assert rows["set", "x"] + rows["set", "y"] == 240
    bands = {name: count for (by, name), count in rows.items() if by == "net speech"}
    assert sum(bands.values()) == 240
    assert bands["0 to 1 s"] > bands["2 to 4 s"] > 0


def test_what_cannot_be_used_is_counted_and_is_a_miss_where_refusals_count() -> None:
    plain = _system()
    heard = [HeardRecording({}, 0.0, 0.0, refusal="no-speech", voices=0) if n == 0 else one
             for n, one in enumerate(plain.heard)]  # fmt: skip
    system = System("system", heard, (ECAPA,))
    trials = all_pairs(RECORDINGS)
    slices = slices_of(under_conditions(trials, ()), system.net_speech_s)
    overall = evaluate_verification(system, trials, system.score(trials), slices, Resampling(draws=0)).slices[0]
    assert (overall.refused_targets, overall.refused_nontargets) == (3, 12)
    assert overall.targets + overall.refused_targets == 48
    assert overall.figures["eer"].value == 0.0
    assert overall.figures["eer_with_refusals"].value == pytest.approx(3 / 48)


def test_copies_are_looked_up_and_never_enrolled() -> None:
    trials = all_pairs(RECORDINGS)
    conditioned = under_conditions(trials, ("noise10", "crop2s"))
    assert len(conditioned.trials) == 3 * len(trials)
    assert conditioned.trials.enroll.max() < len(RECORDINGS)
    noisy = conditioned.condition == "noise10"
    np.testing.assert_array_equal(conditioned.trials.probe[noisy], trials.probe + len(RECORDINGS))
    names = [one.name for one in slices_of(conditioned, _system(copies=2).net_speech_s)]
    assert names[0] == "all"
    assert names[-3:] == ["noise10", "crop2s", "all conditions"]
    system = _system(noise=0.15, copies=2)
    slices = slices_of(conditioned, system.net_speech_s)
    scores = system.score(conditioned.trials)
    figures = evaluate_verification(system, conditioned.trials, scores, slices, Resampling(draws=0))
    eer = {one.name: one.figures["eer"].value for one in figures.slices}
    assert eer["all"] < eer["noise10"] < eer["crop2s"]


def test_two_encoders_without_a_calibration_are_the_mean_of_their_cosines() -> None:
    heard = _system().heard
    trials = all_pairs(RECORDINGS)
    both = System("both", heard, (ECAPA, CAMPLUS)).score(trials)
    each = [System("one", heard, (encoder,)).score(trials) for encoder in (ECAPA, CAMPLUS)]
    np.testing.assert_allclose(both, np.mean(each, axis=0))


def test_trials_of_one_kind_are_refused() -> None:
    system = _system()
    trials = all_pairs(RECORDINGS[:TAKES])
    slices = slices_of(under_conditions(trials, ()), system.net_speech_s)
    with pytest.raises(InvalidRequest, match="6 target and 0 nontarget trials can be scored"):
        evaluate_verification(system, trials, system.score(trials), slices, Resampling(draws=0))


def test_a_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    systems = [_system("baseline", noise=0.25), _system("a <b> & c", noise=0.2, calibrated=True)]
    trials = all_pairs(RECORDINGS)
    slices = slices_of(under_conditions(trials, ()), systems[-1].net_speech_s)
    scored = [(system, system.score(trials)) for system in systems]
    figures = [evaluate_verification(system, trials, scores, slices, Resampling(draws=0)) for system, scores in scored]
    page = write_report(tmp_path / "report", verification_page(figures, scored, trials, slices[0]))
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|srcset|href)="(?!data:)', text)
    assert not re.findall(r"https?:|@import|url\(", text)
    images = re.findall(r"<img ([^>]*)>", text)
    assert len(images) == 4
    assert all(re.search(r'alt="[^"]{30,}"', image) for image in images)
    assert "a <b> & c" not in text
    assert "a &lt;b&gt; &amp; c" in text
    assert "prefers-color-scheme: dark" in text
    light, dark = re.findall(r'src="([^"]+)"', text), re.findall(r'srcset="([^"]+)"', text)
    assert len(light) == len(dark) == 4
    assert not set(light) & set(dark)
    assert all(f"{100 * one.slices[0].figures['eer'].value:.2f} %</b>" in text for one in figures)
    assert '<html lang="en">' in text
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == ["calibration.png", "det.png", "report.html", "scores-1.png", "scores-2.png"]
    assert all((tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG") for name in written if "png" in name)


def test_a_table_says_how_far_each_system_is_from_the_baseline() -> None:
    systems = [_system("baseline", noise=0.3), _system("better", noise=0.2)]
    trials = all_pairs(RECORDINGS)
    slices = slices_of(under_conditions(trials, ()), systems[-1].net_speech_s)
    figures = [
        evaluate_verification(system, trials, system.score(trials), slices, Resampling(draws=0)) for system in systems
    ]
    (table,) = verification_tables(figures)
    change = table.columns.index("by %")
    before, after = (one.slices[0].figures["eer"].value for one in figures)
    assert [row[change] for row in table.rows[:2]] == ["", f"{100 * (after / before - 1):+.0f}"]


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(Unavailable, match="report: the report cannot be written"):
        write_report(tmp_path / "report", Page("Title", [], [Table("t", ["a"], [])]))
