"""From scores to llrs: known answers, laws, and documents that are refused when a figure of them is wrong."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import CorruptArtifact, InvalidRequest
from search.calibration import Calibration, default_calibration, default_calibrations, read_calibration
from search.calibration_fit import likely_one_voice
from search.calibration_trials import LabeledVoices, all_trials, score_pairs, strangers
from search.metrics import cllr, min_cllr
from tests.calibration_kit import CAMPLUS, ECAPA, fitted, fitted_to_voices, gaussian_trials, voices


@pytest.fixture(scope="module")
def single() -> Calibration:
    return fitted(gaussian_trials())


@pytest.fixture(scope="module")
def of_voices() -> Calibration:
    return fitted_to_voices(voices())


@pytest.fixture(scope="module")
def fused() -> Calibration:
    return fitted(gaussian_trials(columns=2), encoders=(ECAPA, CAMPLUS))


def test_the_llr_of_two_normal_distributions_is_found(single: Calibration) -> None:
    # ln N(s; 0.5, 0.15) - ln N(s; 0, 0.15) = (0.5 s - 0.125) / 0.0225
    scores = np.array([0.0, 0.25, 0.5])
    found = single.llr(scores, enrolled_speech_s=7, probe_speech_s=5, snr_db=20)
    np.testing.assert_allclose(found, (0.5 * scores - 0.125) / 0.0225, atol=0.8)


def test_the_llr_is_the_log_odds_of_scikit_learn_at_equal_priors() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not here")
    trials = gaussian_trials()
    trials = trials.take(trials.is_target | (np.arange(len(trials)) % 8 == 1))  # one target is not one nontarget
    calibration = fitted(trials)
    features = [name for name in calibration.weights if name != "intercept"]
    brevity = 1 / (trials.enrolled_speech_s + 2) + 1 / (trials.probe_speech_s + 2)
    parts = {"score_1": trials.scores[:, 0], "brevity": brevity}
    for name, known in calibration.ranges.items():
        parts[name] = np.clip(parts[name], known.low, known.high)
    matrix = np.stack([np.prod([parts[part] for part in name.split("*")], axis=0) for name in features], axis=1)
    regression = linear_model.LogisticRegression(C=np.inf, class_weight="balanced", max_iter=5_000, tol=1e-8)
    regression.fit((matrix - matrix.mean(axis=0)) / matrix.std(axis=0), trials.is_target)
    published = regression.decision_function((matrix - matrix.mean(axis=0)) / matrix.std(axis=0))
    ours = calibration.llr(
        trials.scores,
        enrolled_speech_s=trials.enrolled_speech_s,
        probe_speech_s=trials.probe_speech_s,
        snr_db=trials.snr_db,
    )
    np.testing.assert_allclose(ours, published, atol=0.05)


def test_a_fit_says_how_much_it_improves_on_speakers_it_has_not_seen(single: Calibration) -> None:
    assert single.cllr_after < 0.4 * single.cllr_before
    assert single.min_cllr <= single.cllr_after < 1.1 * single.min_cllr


@settings(max_examples=100, deadline=None)
@given(
    low=st.floats(-1, 1),
    more=st.floats(0.001, 1),
    enrolled=st.floats(0.01, 500),
    probe=st.floats(0.01, 500),
    snr=st.none() | st.floats(-50, 100),
)
def test_a_higher_score_never_means_less(
    of_voices: Calibration, low: float, more: float, enrolled: float, probe: float, snr: float | None
) -> None:
    pair = of_voices.llr([low, low + more], enrolled_speech_s=enrolled, probe_speech_s=probe, snr_db=snr)
    assert pair[1] > pair[0]


@settings(max_examples=50, deadline=None)
@given(score=st.floats(-1, 1), one=st.floats(0.1, 60), other=st.floats(0.1, 60))
def test_neither_order_of_two_recordings_matters(
    of_voices: Calibration, score: float, one: float, other: float
) -> None:
    forth = of_voices.llr([score], enrolled_speech_s=one, probe_speech_s=other)
    back = of_voices.llr([score], enrolled_speech_s=other, probe_speech_s=one)
    assert forth == back


def test_either_score_of_a_fusion_counts(fused: Calibration) -> None:
    quality = {"enrolled_speech_s": 7.0, "probe_speech_s": 5.0, "snr_db": 20.0}
    base, first, second = fused.llr(np.array([[0.2, 0.2], [0.3, 0.2], [0.2, 0.3]]), **quality)
    assert first > base
    assert second > base


def test_two_encoders_may_come_in_either_order(fused: Calibration) -> None:
    quality = {"enrolled_speech_s": 7.0, "probe_speech_s": 5.0, "snr_db": 20.0}
    swapped = fused.swapped()
    assert swapped.encoder_ids == (CAMPLUS, ECAPA)
    np.testing.assert_allclose(swapped.llr([[0.1, 0.4]], **quality), fused.llr([[0.4, 0.1]], **quality))


def test_what_lies_beyond_the_training_data_counts_as_its_edge(of_voices: Calibration) -> None:
    known = of_voices.ranges["brevity"]
    for brevity, seconds in ((known.low, 10_000), (known.high, 0.0001)):
        edge = 2 / brevity - 2
        at_edge = of_voices.llr([0.4], enrolled_speech_s=edge, probe_speech_s=edge)
        beyond = of_voices.llr([0.4], enrolled_speech_s=seconds, probe_speech_s=seconds)
        np.testing.assert_allclose(beyond, at_edge)


def test_noise_counts_where_it_helps_and_unknown_noise_as_the_typical_one(single: Calibration) -> None:
    assert "snr_db" not in single.ranges
    trials = gaussian_trials()
    trials.scores[:, 0] += 0.02 * (trials.snr_db - 20)
    noisy = fitted(trials)
    typical = noisy.ranges["snr_db"].typical
    quality = {"enrolled_speech_s": 5.0, "probe_speech_s": 5.0}
    llrs = noisy.llr([0.4] * 4, **quality, snr_db=[math.nan, typical, typical + 5, typical - 5])
    assert llrs[0] == pytest.approx(llrs[1], rel=1e-12)
    assert llrs[0] == pytest.approx(noisy.llr([0.4], **quality)[0], rel=1e-12)
    assert llrs[2] < llrs[1] < llrs[3]


def test_short_speech_makes_the_same_score_count_differently(of_voices: Calibration) -> None:
    long, short = (of_voices.llr([0.35], enrolled_speech_s=11, probe_speech_s=s)[0] for s in (10.0, 1.2))
    assert short > long + 0.5  # Two of one voice seldom reach it when one is short, and strangers never do.


def test_the_score_of_an_llr_is_found_again(of_voices: Calibration) -> None:
    score = of_voices.score_at(2.5, enrolled_speech_s=8, probe_speech_s=3)
    assert of_voices.llr([score], enrolled_speech_s=8, probe_speech_s=3)[0] == pytest.approx(2.5)


def test_a_fusion_has_no_single_score_for_an_llr(fused: Calibration) -> None:
    with pytest.raises(InvalidRequest, match="fuses two encoders"):
        fused.score_at(0.0, enrolled_speech_s=5, probe_speech_s=5)


def test_false_alarms_are_as_rare_as_asked(single: Calibration) -> None:
    trials = gaussian_trials(40_000, seed=99)
    llrs = single.llr(
        trials.scores,
        enrolled_speech_s=trials.enrolled_speech_s,
        probe_speech_s=trials.probe_speech_s,
        snr_db=trials.snr_db,
    )[~trials.is_target]
    for p_fa in (0.1, 0.02):
        assert np.mean(llrs >= single.llr_at_p_fa(p_fa)) == pytest.approx(p_fa, rel=0.35)


@settings(max_examples=50, deadline=None)
@given(p_fa=st.floats(1e-9, 0.5), rarer=st.floats(0.01, 0.99))
def test_rarer_false_alarms_need_a_higher_llr(single: Calibration, p_fa: float, rarer: float) -> None:
    assert single.llr_at_p_fa(p_fa * rarer) >= single.llr_at_p_fa(p_fa)


@pytest.mark.parametrize("p_fa", [0.0, 1.0, -0.1, math.nan])
def test_a_false_alarm_rate_that_is_none_is_refused(single: Calibration, p_fa: float) -> None:
    with pytest.raises(InvalidRequest, match="p_fa"):
        single.llr_at_p_fa(p_fa)


def test_scores_of_too_few_columns_or_nan_are_refused(fused: Calibration) -> None:
    with pytest.raises(InvalidRequest, match="2 encoders"):
        fused.llr([0.5], enrolled_speech_s=5, probe_speech_s=5)
    with pytest.raises(InvalidRequest, match="NaN"):
        fused.llr([[0.5, math.nan]], enrolled_speech_s=5, probe_speech_s=5)


def test_scores_that_say_nothing_of_the_voice_are_refused() -> None:
    trials = gaussian_trials(apart=-0.3)  # Two of one voice are less alike than strangers.
    with pytest.raises(InvalidRequest, match="not told apart"):
        fitted(trials)


def test_too_little_data_is_refused_with_how_much_there_is() -> None:
    with pytest.raises(InvalidRequest, match=r"40 target trials of \d+ speakers.*needs 50 of 20"):
        fitted(gaussian_trials(80))
    with pytest.raises(InvalidRequest, match=r"2000 target trials of 10 speakers"):
        fitted(gaussian_trials(speakers=10))


def test_too_few_strangers_promise_no_error_rate_of_identification(of_voices: Calibration) -> None:
    assert of_voices.open_set is not None
    assert fitted_to_voices(voices(speakers=40)).open_set is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), apart=st.floats(0.2, 0.8))
def test_no_calibration_beats_the_best_that_keeps_the_order(seed: int, apart: float) -> None:
    trials = gaussian_trials(400, seed=seed, apart=apart)
    scores = trials.scores[:, 0] * 20 - 5
    assert cllr(scores, trials.is_target) >= min_cllr(scores, trials.is_target) - 1e-12


@pytest.mark.parametrize("which", ["single", "of_voices", "fused"])
def test_a_document_read_again_is_the_same_calibration(which: str, request: pytest.FixtureRequest) -> None:
    calibration: Calibration = request.getfixturevalue(which)
    again = Calibration.from_document(json.loads(json.dumps(calibration.to_document())))
    assert again == calibration
    assert again.id == calibration.id
    assert len(calibration.id) == 64


def test_another_figure_is_another_id(single: Calibration) -> None:
    document = single.to_document()
    document["weights"]["intercept"] += 1e-9
    assert Calibration.from_document(document).id != single.id


def _without(document: dict[str, Any], key: str) -> None:
    del document[key]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), "something", "no calibration"),
        (("version",), 2, "version 2"),
        (("weights", "score_1"), math.nan, "weights"),
        (("weights", "score_1"), "12", "weights.score_1"),
        (("weights", "score_1"), -1000.0, "falls or stays"),
        (("weights", "score_2"), 1.0, "unknown feature 'score_2'"),
        (("weights", "score_1*score_1"), 1.0, "unknown feature"),
        (("weights", "__import__"), 1.0, "unknown feature"),
        (("weights", "score_1*brevity*brevity"), 1.0, "different measures"),
        (("weights", "score_1*intercept"), 1.0, "different measures"),
        (("weights", "score_1*brevity"), -10_000.0, "falls or stays"),
        (("ranges", "brevity", "low"), 1000.0, "range"),
        (("ranges", "loudness"), {"low": 0.0, "typical": 0.0, "high": 0.0}, "loudness"),
        (("encoder_ids",), [], "encoder_ids"),
        (("encoder_ids",), ["a", "b", "c"], "encoder_ids"),
        (("encoder_ids",), ["a", "a"], "two different ones"),
        (("encoder_ids",), [""], "one encoder"),
        (("name",), "../evil", "name"),
        (("cllr_after",), -1.0, "cllr_after"),
        (("cllr_after",), math.inf, "cllr_after"),
        (("nontarget_llrs",), [], "nontarget_llrs"),
        (("nontarget_llrs",), [[0.1, 1.0], [0.5, 2.0]], "falling shares"),
        (("nontarget_llrs",), [[0.5, 2.0], [0.1, 1.0]], "rising llrs"),
        (("nontarget_llrs",), [[0.5, 2.0], [0.0, 3.0]], "falling shares"),
        (("open_set",), {"level": 1.0}, "open_set"),
        (("data", "fitted_at"), "yesterday", "fitted_at"),
        (("data", "speakers"), -1, "speakers"),
        (("data", "extra"), 1, "extra"),
        (("extra",), 1, "extra"),
    ],
)
def test_a_wrong_figure_is_refused_by_name(single: Calibration, path: tuple[str, ...], value: Any, said: str) -> None:
    document = copy.deepcopy(single.to_document())
    place = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(CorruptArtifact, match=said):
        Calibration.from_document(document)


@pytest.mark.parametrize("missing", ["weights", "encoder_ids", "version", "data", "nontarget_llrs", "ranges"])
def test_a_missing_figure_is_refused_by_name(single: Calibration, missing: str) -> None:
    document = single.to_document()
    _without(document, missing)
    with pytest.raises(CorruptArtifact, match=missing):
        Calibration.from_document(document)


def test_thresholds_that_fall_as_a_gallery_grows_are_refused(of_voices: Calibration) -> None:
    document = of_voices.to_document()
    document["open_set"]["correction_rise"] = -100.0
    with pytest.raises(CorruptArtifact, match="would fall as the gallery grows"):
        Calibration.from_document(document)


@pytest.mark.parametrize("document", [None, [], 3, "text", {}, {"format": "voxdex-calibration", "version": 1, 5: {6}}])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(CorruptArtifact):
        Calibration.from_document(document)


def test_a_file_that_is_no_calibration_is_named(tmp_path: Path, single: Calibration) -> None:
    file = tmp_path / "mine.json"
    file.write_text("{")
    with pytest.raises(CorruptArtifact, match=r"mine\.json is no JSON"):
        read_calibration(file)
    file.write_text("{}")
    with pytest.raises(CorruptArtifact, match=r"mine\.json: this is no calibration"):
        read_calibration(file)
    file.write_text(json.dumps(single.to_document()))
    assert read_calibration(file) == single


def test_a_measure_that_never_varies_is_left_out() -> None:
    trials = gaussian_trials()
    trials.snr_db[:] = math.nan
    trials.probe_speech_s[:] = trials.enrolled_speech_s[:] = 3.0
    assert fitted(trials).ranges == {}


def test_every_shipped_calibration_can_be_used() -> None:
    for calibration in default_calibrations():
        assert calibration.open_set is not None
        assert calibration.cllr_after < calibration.cllr_before
        assert calibration.data.speakers >= 300


def test_the_shipped_calibration_of_two_encoders_is_found_in_either_order() -> None:
    (fused,) = [one for one in default_calibrations() if len(one.encoder_ids) == 2]
    assert default_calibration(fused.encoder_ids) == fused
    other = default_calibration(fused.encoder_ids[::-1])
    assert other is not None
    assert other.encoder_ids == fused.encoder_ids[::-1]
    assert default_calibration(fused.encoder_ids[::-1], "another condition") is None


def test_one_voice_under_two_labels_is_found_and_spoils_no_threshold() -> None:
    labeled = voices(speakers=110, each=4, seed=11)
    shortest = labeled.net_speech_s.reshape(110, 4).min(axis=1)
    clearest = f"s{int(np.argmax(shortest)):03}"  # As alike in all recordings as most voices are.
    wrong = labeled.speakers.copy()
    wrong[labeled.speakers == clearest] = [clearest, clearest, "anew", "anew"]
    mislabeled = replace(labeled, speakers=wrong)
    trials, unlike = all_trials(mislabeled), strangers(mislabeled)
    calibration = fitted_to_voices(mislabeled)
    assert likely_one_voice(calibration, trials, unlike) == [("anew", clearest)]
    right, spoiled = fitted_to_voices(labeled).open_set, calibration.open_set
    assert right is not None
    assert spoiled is not None
    asked = {"gallery_size": 100, "rivals": np.linspace(0, -6, 50)}
    assert spoiled.threshold(0.01, **asked) == pytest.approx(right.threshold(0.01, **asked), abs=1.0)


def test_strangers_of_another_set_are_not_what_llrs_are_fitted_to() -> None:
    labeled = voices()
    halves = np.where(np.arange(len(labeled)) % 2 == 0, "a", "b")
    trials = all_trials(replace(labeled, sets=halves))
    assert len(trials) < 0.6 * len(all_trials(labeled))
    assert len(strangers(replace(labeled, sets=halves))) == len(strangers(labeled))


def test_sessions_and_copies_make_no_target_trials_of_what_is_the_same() -> None:
    labeled = voices(speakers=60)
    sessions = np.tile(["monday", "monday", "friday"], 60)
    # Each monday with friday; and both mondays together with friday, where those are the two that are enrolled.
    assert 2 * 60 <= _targets(replace(labeled, sessions=sessions)) < 3 * 60
    copies = np.arange(len(labeled)) // 3
    assert _targets(replace(labeled, originals=copies)) == 0
    # One session only is better than none.
    # And a voiceprint of two recordings is compared with the third.
    assert _targets(replace(labeled, sessions=np.full(180, "monday"))) == 3 * 60 + 60


def _targets(labeled: LabeledVoices) -> int:
    return int(all_trials(labeled).is_target.sum())


def test_a_voiceprint_of_several_recordings_is_a_trial_with_the_others_alone() -> None:
    labeled = voices(speakers=60, each=5)
    trials = all_trials(labeled)
    together = trials.take(trials.enrolled_speech_s > labeled.net_speech_s.max())
    assert together.is_target.sum() <= 2 * 60  # three of five are enrolled
    assert together.is_target.any()
    scores = {target: float(np.median(together.scores[together.is_target == target])) for target in (True, False)}
    alone = float(np.median(trials.scores[trials.is_target]))
    assert scores[True] > alone > scores[False]


def test_likeness_that_two_telephones_make_is_no_evidence_for_one_voice() -> None:
    trials = gaussian_trials(8_000)
    both = np.arange(len(trials)) % 4 < 2
    trials.scores[both] += 0.25
    trials.enrolled_telephone[both] = trials.probe_telephone[both] = 1.0
    calibration = fitted(trials)
    quality = {"enrolled_speech_s": 7.0, "probe_speech_s": 5.0, "snr_db": 20.0}
    over = np.array([0.0, 1.0, math.nan])
    wide, telephone, unknown = calibration.llr([0.4] * 3, **quality, enrolled_telephone=over, probe_telephone=over)
    assert telephone < 0 < wide
    assert unknown == wide


def test_an_encoder_that_tells_little_between_two_kinds_of_lines_counts_little_there() -> None:
    trials = gaussian_trials(6_000, columns=2)
    mixed = np.arange(6_000) < 3_000
    trials.probe_telephone[mixed] = 1.0
    # The second encoder hears the line more than the voice.
    heard = np.where(trials.is_target[mixed], 0.3, 0.2)
    trials.scores[mixed, 1] = np.random.default_rng(11).normal(heard, 0.15)
    calibration = fitted(trials, encoders=(ECAPA, CAMPLUS))
    quality = {"enrolled_speech_s": 7.0, "probe_speech_s": 5.0, "enrolled_telephone": 0.0}
    scores = [[0.3, 0.1], [0.5, 0.1], [0.3, 0.3]]
    wide, telephone = (calibration.llr(scores, **quality, probe_telephone=line) for line in (0.0, 1.0))
    assert wide[2] - wide[0] > 0.7 * (wide[1] - wide[0])
    assert telephone[2] - telephone[0] < 0.5 * (telephone[1] - telephone[0])
    rises = calibration.slope(probe_speech_s=[5.0, 5.0], probe_telephone=[0.0, 1.0])
    for rise, llrs in zip(rises, (wide, telephone), strict=True):
        assert rise == pytest.approx((llrs[1] + llrs[2] - 2 * llrs[0]) / 0.2, rel=0.2)
    assert rises[0] > rises[1]


def test_too_few_recordings_over_a_telephone_teach_nothing_of_it() -> None:
    trials = gaussian_trials(4_000)
    trials.enrolled_telephone[:500] = trials.probe_telephone[:500] = 1.0
    assert not {"telephone_one", "telephone_both"} & set(fitted(trials).ranges)


def test_a_recording_as_it_is_counts_more_than_its_copies() -> None:
    plain = voices(speakers=60, each=2)
    copied = replace(plain, originals=np.arange(len(plain)) // 2)
    trials = score_pairs(copied, np.array([0, 0, 1]), np.array([2, 3, 3]))
    assert trials.weights.tolist() == pytest.approx([1.0, 0.1, 0.01])


def test_strangers_are_enrolled_and_asked_for_by_recordings_as_they_are() -> None:
    plain = voices(speakers=60)
    copies = replace(plain, vectors=tuple(-vectors for vectors in plain.vectors))
    both = LabeledVoices(
        vectors=tuple(np.concatenate(pair) for pair in zip(plain.vectors, copies.vectors, strict=True)),
        **{
            name: np.concatenate([getattr(plain, name), getattr(copies, name)])
            for name in ("speakers", "sessions", "sets", "net_speech_s", "snr_db", "telephone", "originals")
        },
    )
    alone, among_copies = strangers(plain), strangers(both)
    np.testing.assert_array_equal(among_copies.scores, alone.scores)
    np.testing.assert_array_equal(among_copies.probes, alone.probes)
