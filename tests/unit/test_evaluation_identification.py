"""Identification figures: who is enrolled and looked up where, and what is counted as found, missed and named."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from api.evaluation.hearing import HeardRecording
from api.evaluation.identification import IdentificationFigures, evaluate_identification
from api.evaluation.protocols import Lookups, Protocol, by_count, by_roles, drawn_galleries, fixed_gallery
from api.evaluation.systems import System
from indexer.errors import InvalidRequest
from indexer.types import EncoderId
from search.bootstrap import Resampling
from search.calibration import Calibration
from search.trials import LabeledRecording
from tests.calibration_kit import ECAPA, fitted_to_voices, voices

SPEAKERS, TAKES = 30, 5


def _recordings() -> list[LabeledRecording]:
    return [
        LabeledRecording(f"{speaker}-{take}", f"s{speaker:02}", "x" if speaker < 20 else "y")
        for speaker in range(SPEAKERS)
        for take in range(TAKES)
    ]


@cache
def _calibration() -> Calibration:
    return fitted_to_voices(voices())


def _system(
    noise: float = 0.05,
    *,
    calibrated: bool = False,
    speech_s: float = 5.0,
    duration_s: float = 6.0,
    snr_db: float = 20.0,
) -> System:
    rng = np.random.default_rng(1)
    heard = []
    for _ in range(SPEAKERS):
        center = rng.normal(size=192)
        for _ in range(TAKES):
            vector = center / np.linalg.norm(center) + noise * rng.normal(size=192)
            vector = (vector / np.linalg.norm(vector)).astype(np.float32)
            heard.append(HeardRecording({ECAPA: vector}, duration_s, speech_s, snr_db))
    return System("system", heard, (ECAPA,), _calibration() if calibrated else None)


def _evaluate(
    system: System, protocol: Protocol, drawn: Sequence[Lookups], *, least_speech_s: float = 0.0, draws: int = 0
) -> IdentificationFigures:
    labels = [recording.speaker or "" for recording in _recordings()]
    return evaluate_identification(system, protocol, drawn, labels, Resampling(draws=draws), least_speech_s)


def test_roles_say_who_is_enrolled_and_who_is_looked_up() -> None:
    roles = [("a", "enroll"), ("a", "probe"), ("b", "probe"), ("a", None)]
    recordings = [
        LabeledRecording(str(number), speaker, role=role)  # type: ignore[arg-type]
        for number, (speaker, role) in enumerate(roles)
    ]
    protocol = by_roles(recordings)
    assert protocol.speakers == ("a",)
    assert protocol.enrolled == ((0,),)
    assert protocol.probes.tolist() == [1, 2]
    assert protocol.own.tolist() == [0, -1]
    with pytest.raises(InvalidRequest, match="0 speakers to enroll and 0 probes"):
        by_roles([LabeledRecording("a", "ann")])


def test_the_first_recordings_are_enrolled_and_one_is_left_to_look_up() -> None:
    recordings = [LabeledRecording(f"a{take}", "ann", "x") for take in range(2)]
    recordings += [LabeledRecording("b0", "bob", "x"), LabeledRecording("c0", "cy", "y")]
    protocol = by_count(recordings, {"x"}, 3)
    assert protocol.enrolled == ((0,), (2,))
    assert protocol.probes.tolist() == [1, 3]
    assert protocol.own.tolist() == [0, -1]
    with pytest.raises(InvalidRequest, match="give at least 1"):
        by_count(recordings, None, 0)
    with pytest.raises(InvalidRequest, match="nobody to enroll"):
        by_count(recordings, {"z"}, 1)


def test_everybody_is_once_in_and_once_out_of_a_drawn_gallery() -> None:
    protocol = by_count(_recordings(), None, 3)
    for lookups in drawn_galleries(protocol, 10, 2, seed=1):
        assert lookups.size == 10
        assert (lookups.mated_galleries == lookups.mated_own[:, None]).sum(axis=1).tolist() == [1] * len(lookups.mated)
        for probe, gallery in zip(lookups.unknown, lookups.unknown_galleries, strict=True):
            assert len(set(gallery.tolist())) == 10
            assert probe // TAKES not in gallery
        enrolled = {number for numbers in protocol.enrolled for number in numbers}
        assert not enrolled & set(lookups.mated.tolist())
        assert set(lookups.unknown.tolist()) == set(range(SPEAKERS * TAKES))
    with pytest.raises(InvalidRequest, match="30 speakers can be enrolled"):
        next(drawn_galleries(protocol, 30, 1, seed=1))


def test_voices_that_are_far_apart_are_all_found_and_no_stranger_is_named() -> None:
    protocol = by_count(_recordings(), {"x"}, 3)
    figures = _evaluate(_system(), protocol, [fixed_gallery(protocol)], draws=20)
    assert (figures.gallery_size, figures.mated, figures.unknown) == (20, 40, 50)
    assert figures.figures["top_1"].value == 1.0
    assert figures.figures["fnir_at_fpir_0.01"].value == 0.0
    assert figures.figures["fnir_at_fpir_0.01"].high == 0.0
    assert figures.decisions == {
        "mated_right": 40, "mated_wrong": 0, "mated_unknown": 0, "mated_not_enough_speech": 0,
        "unknown_named": 0, "unknown_unknown": 50, "unknown_not_enough_speech": 0,
    }  # fmt: skip
    assert figures.by_speech == {"4 to 8 s": (0.0, 40)}


def test_figures_are_those_of_counting_by_hand() -> None:
    system = _system(noise=0.2)
    protocol = by_count(_recordings(), {"x"}, 3)
    figures = _evaluate(system, protocol, [fixed_gallery(protocol)])
    vectors = system.vectors(ECAPA)
    prints = np.stack([vectors[list(numbers)].mean(axis=0) for numbers in protocol.enrolled])
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    scores = vectors[protocol.probes] @ prints.T
    mated, own = scores[protocol.own >= 0], protocol.own[protocol.own >= 0]
    strangers = np.sort(scores[protocol.own < 0].max(axis=1))[::-1]
    mates = mated[np.arange(len(own)), own]
    first = mates == mated.max(axis=1)
    assert 0.2 < first.mean() < 1.0
    assert figures.figures["top_1"].value == pytest.approx(first.mean())
    for fpir, passing in ((0.1, 5), (0.01, 0)):
        expected = 1 - (first & (mates > strangers[passing])).mean()
        assert figures.figures[f"fnir_at_fpir_{fpir:g}"].value == pytest.approx(expected)


def test_a_probe_with_too_little_speech_is_never_named() -> None:
    protocol = by_count(_recordings(), {"x"}, 3)
    drawn = [fixed_gallery(protocol)]
    for calibrated in (False, True):
        figures = _evaluate(_system(calibrated=calibrated, speech_s=0.2), protocol, drawn, least_speech_s=0.3)
        assert figures.decisions["mated_not_enough_speech"] == 40
        assert figures.decisions["unknown_not_enough_speech"] == 50
        assert figures.decisions["mated_right"] == figures.decisions["unknown_named"] == 0
        assert figures.figures["fnir_at_fpir_0.1"].value == 1.0


@pytest.mark.parametrize(("duration_s", "snr_db", "refused"), [(0.35, 20.0, 40), (6.0, -4.0, 40), (6.0, 20.0, 0)])
def test_a_piece_of_speech_and_speech_under_noise_are_refused_as_the_product_does(
    duration_s: float, snr_db: float, refused: int
) -> None:
    protocol = by_count(_recordings(), {"x"}, 3)
    system = _system(speech_s=0.35, duration_s=duration_s, snr_db=snr_db)
    figures = _evaluate(system, protocol, [fixed_gallery(protocol)], least_speech_s=0.3)
    assert figures.decisions["mated_not_enough_speech"] == refused
    figures = _evaluate(system, protocol, [fixed_gallery(protocol)])
    assert figures.decisions["mated_not_enough_speech"] == 0


def test_what_is_asked_for_beforehand_is_measured_beside_it() -> None:
    protocol = by_count(_recordings(), None, 3)
    drawn = list(drawn_galleries(protocol, 20, 2, seed=1))
    figures = _evaluate(_system(noise=0.1, calibrated=True), protocol, drawn)
    assert figures.calibration_id is not None
    asked = [figures.figures[f"asked_fpir_{fpir:g}"].value for fpir in (0.1, 0.01, 0.001)]
    missed = [figures.figures[f"asked_fnir_{fpir:g}"].value for fpir in (0.1, 0.01, 0.001)]
    assert asked == sorted(asked, reverse=True)
    assert missed == sorted(missed)
    plain = _evaluate(_system(noise=0.1), protocol, drawn)
    assert "asked_fpir_0.01" not in plain.figures


def test_misses_never_rise_with_the_share_of_strangers_that_may_be_named() -> None:
    protocol = by_count(_recordings(), None, 3)
    for calibrated in (False, True):
        figures = _evaluate(
            _system(noise=0.2, calibrated=calibrated), protocol, list(drawn_galleries(protocol, 20, 1, seed=1))
        )
        fpir, fnir = np.array(figures.curve).T
        assert (np.diff(fpir) > 0).all()
        assert (np.diff(fnir) <= 0).all()
        assert fnir[0] > fnir[-1]


def test_a_speaker_who_is_enrolled_by_nothing_usable_is_named() -> None:
    system = _system()
    heard = [HeardRecording({}, 0.0, 0.0, refusal="corrupt-audio", voices=0) if n < 3 else one
             for n, one in enumerate(system.heard)]  # fmt: skip
    protocol = by_count(_recordings(), {"x"}, 3)
    with pytest.raises(InvalidRequest, match="s00 is enrolled by can be used"):
        _evaluate(System("system", heard, (EncoderId(ECAPA),)), protocol, [fixed_gallery(protocol)])


def test_figures_without_strangers_are_refused() -> None:
    protocol = by_count(_recordings(), None, 3)
    with pytest.raises(InvalidRequest, match="60 probes of enrolled people and 0 of strangers"):
        fixed_gallery(protocol).require_both()
    next(drawn_galleries(protocol, 10, 1, seed=1)).require_both()  # In which everybody is a stranger once.
    enrolled = [LabeledRecording("a", "ann", role="enroll"), LabeledRecording("b", "bob", role="enroll")]
    strangers = by_roles([*enrolled, LabeledRecording("c", "cy", role="probe")])
    with pytest.raises(InvalidRequest, match="0 probes of enrolled people and 3 of strangers"):
        next(drawn_galleries(strangers, 1, 1, seed=1)).require_both()
