"""Whose word holds where, what a gallery may be told, and what makes an answer less sure than it looks."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.deciding import Asked, Deciding, costs_of
from api.gallery_rules import require_rules
from api.probe_warnings import band_warnings, pair_warnings, quality_warnings, voices_warning
from indexer.db.changes import FeedPosition
from indexer.db.rows import GalleryHead, GallerySummary
from indexer.embedding.registry import EncoderRegistry, EncoderSpec
from indexer.errors import EncoderMismatch, InvalidRequest
from indexer.settings import Settings, load_settings
from indexer.types import EncoderId, GalleryId
from search.calibration import Calibration, default_calibrations
from search.operating_point import Wanted
from tests.calibration_kit import CAMPLUS, ECAPA, fitted_to_voices, voices
from tests.voices_kit import CLEAN, heard_voice

HEAD = GalleryHead(GalleryId(1), "calls", ECAPA, None, None, FeedPosition(0, 0, None, None))
NOTHING = Asked()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted_to_voices(voices())


@pytest.fixture
def spec(tmp_path: Path) -> EncoderSpec:
    return EncoderRegistry(tmp_path, tmp_path, offline=True).get("speechbrain-ecapa-voxceleb")


def deciding(spec: EncoderSpec, tmp_path: Path, *encoder_ids: EncoderId, **decision: Any) -> Deciding:
    settings: Settings = load_settings(home=tmp_path, decision=decision)
    return Deciding(settings, spec, encoder_ids or (ECAPA,))


def test_a_gallery_goes_before_the_settings_and_a_request_before_both(
    spec: EncoderSpec, tmp_path: Path, calibration: Calibration
) -> None:
    rules, notes = deciding(spec, tmp_path, target_fpir=0.02).identification(
        Asked(Wanted(llr=3.0)), replace(HEAD, target_fpir=0.05, possible_fpir=0.2), calibration
    )
    assert [(source, wanted.llr or wanted.rate or wanted.score) for source, wanted in rules.layers] == [
        ("request", 3.0),
        ("gallery", 0.05),
        ("setting", 0.02),
        ("encoder", spec.identification_threshold),
    ]
    assert rules.layers[1][1].possible_rate == 0.2
    assert notes == []
    claims, _ = deciding(spec, tmp_path, c_miss=10.0, c_fa=1.0, prior=0.1).verification(
        NOTHING, replace(HEAD, verification_threshold=0.6), calibration
    )
    assert claims.layers[1][1].score == 0.6
    costs = claims.layers[2][1].costs
    assert costs is not None
    assert (costs.p_target, costs.c_miss, claims.layers[2][1].rate) == (0.1, 10.0, None)
    assert claims.prior == 0.1


def test_a_prior_is_that_of_the_request_or_of_its_costs(spec: EncoderSpec, tmp_path: Path) -> None:
    how = deciding(spec, tmp_path)
    costs = costs_of(0.01, None, None, None)
    assert how.verification(Asked(Wanted(costs=costs)))[0].prior == 0.01
    assert how.verification(Asked(Wanted(costs=costs), 0.3))[0].prior == 0.3
    assert how.verification(NOTHING)[0].prior == 0.5


def test_without_a_calibration_an_answer_says_that_it_is_by_the_raw_score(spec: EncoderSpec, tmp_path: Path) -> None:
    rules, notes = deciding(spec, tmp_path).identification(NOTHING, HEAD)
    assert rules.calibration is None
    assert notes == ["uncalibrated: no calibration is known for encoder speechbrain-ecapa-voxceleb"]


def test_the_calibration_that_comes_along_is_used_unless_the_gallery_has_its_own(
    spec: EncoderSpec, tmp_path: Path
) -> None:
    shipped = next(found for found in default_calibrations() if len(found.encoder_ids) == 1)
    rules, notes = deciding(spec, tmp_path, *shipped.encoder_ids).identification(NOTHING, HEAD)
    assert (rules.calibration, notes) == (shipped, [])
    own = replace(shipped, name="telephone")
    assert deciding(spec, tmp_path, *shipped.encoder_ids).identification(NOTHING, HEAD, own)[0].calibration is own
    with pytest.raises(EncoderMismatch, match="voxdex calibrations use"):
        deciding(spec, tmp_path, ECAPA).identification(NOTHING, HEAD, own)


def test_two_encoders_without_a_calibration_that_fuses_them_are_decided_by_the_first(
    spec: EncoderSpec, tmp_path: Path, calibration: Calibration
) -> None:
    rules, notes = deciding(spec, tmp_path, ECAPA, CAMPLUS).verification(NOTHING, HEAD, calibration)
    assert rules.calibration is calibration
    assert "decided under the first encoder alone" in notes[0]


def test_what_a_calibration_cannot_promise_nobody_is_promised_unasked(
    spec: EncoderSpec, tmp_path: Path, calibration: Calibration
) -> None:
    few = replace(calibration, open_set=None)
    rules, _ = deciding(spec, tmp_path).identification(NOTHING, HEAD, few)
    assert rules.layers[2][1] == Wanted()


@pytest.mark.parametrize("given", [{"c_fa": 0.0}, {"c_miss": -1.0}, {"p_target": 1.0}, {"p_target": 0.0}])
def test_costs_that_mean_nothing_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="above 0"):
        costs_of(given.get("p_target"), given.get("c_miss"), given.get("c_fa"), None)


def gallery(**rules: float) -> GallerySummary:
    made = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return GallerySummary(GalleryId(1), "calls", ECAPA, "e", 192, made, 0, 0, 0, 0.0, **rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "rules", "problem"),
    [
        ({}, {"identification_threshold": 1.5}, "no cosine"),
        ({}, {"target_fpir": 0.0}, "no share"),
        ({}, {"target_p_fa": float("nan")}, "no share"),
        ({"identification_threshold": 0.5}, {"target_fpir": 0.01}, "decide by one of them"),
        ({"target_p_fa": 0.01}, {"verification_threshold": 0.4}, "decide by one of them"),
        ({"identification_threshold": 0.5}, {"possible_threshold": 0.6}, "possible_threshold 0.6 is above"),
        ({"possible_fpir": 0.1}, {"target_fpir": 0.2}, "possible_fpir 0.1 is below"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(
    before: dict[str, float], rules: dict[str, float], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        require_rules(gallery(**before), rules)
    with pytest.raises(InvalidRequest, match=problem):
        require_rules(None, before | rules)


def test_rules_that_go_together_are_taken_and_one_takes_the_place_of_another() -> None:
    require_rules(None, {"target_fpir": 0.01, "possible_fpir": 0.01, "target_p_fa": 0.001})
    require_rules(gallery(identification_threshold=0.5), {"identification_threshold": None, "target_fpir": 0.01})
    require_rules(gallery(identification_threshold=0.5), {"possible_threshold": 0.5, "consent_required": True})


def test_what_makes_a_voice_hard_to_tell_is_said_in_plain_words() -> None:
    assert quality_warnings(CLEAN) == []
    poor = replace(CLEAN, net_speech_s=1.24, snr_db=4.6, clipped_share=0.021)
    assert quality_warnings(poor) == [
        "short: 1.2 s of speech, and scores are steady from 3 s on",
        "noisy: the speech is 5 dB above the noise, 10 or more is good",
        "clipped: 2.1 % of the samples are at full scale",
    ]
    assert quality_warnings(replace(CLEAN, snr_db=None)) == []


def test_a_telephone_against_a_full_band_is_said_whichever_side_it_is_on() -> None:
    narrow = replace(CLEAN, bandwidth_hz=3400.0)
    assert band_warnings(CLEAN, [CLEAN, None]) == band_warnings(narrow, [narrow]) == band_warnings(narrow, []) == []
    assert band_warnings(narrow, [CLEAN])[0].startswith("telephone against wideband")
    assert band_warnings(CLEAN, [narrow, narrow])[0].startswith("wideband against telephone")
    assert band_warnings(narrow, [narrow, CLEAN]) == band_warnings(CLEAN, [narrow, CLEAN]) == []


def test_the_voice_that_an_answer_is_about_is_said_where_there_are_several() -> None:
    rows = np.eye(192, dtype=np.float32)
    first = heard_voice(rows[0], ECAPA, quality=replace(CLEAN, net_speech_s=12.3), name="a.wav")
    second = heard_voice(rows[1], ECAPA, quality=replace(CLEAN, net_speech_s=7.8), voice=1, name="a.wav")
    assert voices_warning([first]) == []
    assert voices_warning([first, second]) == [
        "2 voices are heard: this is about the one who speaks most, 12.3 of 20.1 s of speech, first at 0.0 s"
    ]
    short = heard_voice(rows[1], ECAPA, quality=replace(CLEAN, net_speech_s=0.9), name="b.wav")
    assert pair_warnings(first, short) == ["b.wav: short: 0.9 s of speech, and scores are steady from 3 s on"]
