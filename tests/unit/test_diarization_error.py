"""Diarization error rate: by hand, by law, and as pyannote.metrics has it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.audio.rttm import RttmTurn
from indexer.errors import InvalidRequest
from search.diarization_error import DiarizationError, measure_diarization

Spans = list[tuple[float, float, str]]


def _turns(spans: Spans) -> list[RttmTurn]:
    return [RttmTurn("call", start, end - start, speaker) for start, end, speaker in spans]


def _measure(reference: Spans, found: Spans, **options: float) -> DiarizationError:
    return measure_diarization(_turns(reference), _turns(found), **options)  # type: ignore[arg-type]


def test_an_answer_that_is_right_under_other_names_has_no_error() -> None:
    error = _measure([(0, 4, "ann"), (4, 9, "bob")], [(0, 4, "1"), (4, 9, "0")])
    assert error == DiarizationError(9.0, 0.0, 0.0, 0.0, 2, 2)
    assert error.rate == 0.0


def test_miss_false_alarm_and_confusion_are_told_apart() -> None:
    # ann 0-10, bob 10-20; heard: a 1-12 (2 s of bob), b 12-21 (1 s of nobody); the first second is missed.
    error = _measure([(0, 10, "ann"), (10, 20, "bob")], [(1, 12, "a"), (12, 21, "b")])
    assert (error.miss_s, error.false_alarm_s, error.confusion_s) == pytest.approx((1.0, 1.0, 2.0))
    assert error.rate == pytest.approx(4 / 20)


def test_the_mapping_is_the_best_one_and_not_the_first_that_fits() -> None:
    # Greedily x would be mapped to ann (6 s), which leaves y with nothing: 6 s right. Best: x-bob, y-ann: 5 + 5.
    reference = [(0, 6, "ann"), (6, 11, "bob"), (11, 16, "ann")]
    error = _measure(reference, [(0, 11, "x"), (11, 16, "y")])
    assert error.confusion_s == pytest.approx(16 - 10)


def test_overlapped_speech_counts_for_each_speaker_and_can_be_left_out() -> None:
    reference = [(0, 6, "ann"), (4, 10, "bob")]
    error = _measure(reference, [(0, 5, "a"), (5, 10, "b")])
    assert error.speech_s == pytest.approx(12)
    assert error.miss_s == pytest.approx(2)
    apart = _measure(reference, [(0, 5, "a"), (5, 10, "b")], skip_overlap=True)
    assert apart.speech_s == pytest.approx(8)
    assert apart.rate == 0.0


def test_nothing_within_the_collar_is_scored() -> None:
    late = _measure([(0, 10, "ann"), (10, 20, "bob")], [(0, 10.2, "a"), (10.2, 20, "b")], collar_s=0.25)
    assert late.rate == 0.0
    assert late.speech_s == pytest.approx(20 - 4 * 0.25)


def test_turns_of_one_speaker_that_overlap_count_once() -> None:
    assert _measure([(0, 5, "ann"), (3, 8, "ann")], [(0, 8, "a")]).speech_s == pytest.approx(8)


def test_a_recording_in_which_nobody_was_heard_misses_all_of_it() -> None:
    assert _measure([(0, 5, "ann")], []).rate == 1.0
    assert _measure([], [(0, 5, "a")]).rate == 1.0
    assert _measure([], []).rate == 0.0


def test_errors_of_several_recordings_add_up() -> None:
    total = _measure([(0, 5, "ann")], []) + _measure([(0, 15, "ann")], [(0, 15, "a")])
    assert total.rate == pytest.approx(0.25)


def test_a_negative_collar_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="negative"):
        _measure([(0, 5, "ann")], [], collar_s=-1.0)


_spans = st.lists(
    st.tuples(st.integers(0, 400), st.integers(1, 80), st.sampled_from("abc")).map(
        lambda drawn: (drawn[0] / 10, (drawn[0] + drawn[1]) / 10, drawn[2])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(reference=_spans, found=_spans, collar=st.sampled_from([0.0, 0.25, 1.0]), skip=st.booleans())
def test_it_agrees_with_pyannote_metrics(reference: Spans, found: Spans, collar: float, skip: bool) -> None:
    core = pytest.importorskip("pyannote.core", reason="pyannote.metrics, the published implementation, is not here")
    published = pytest.importorskip("pyannote.metrics.diarization", reason="pyannote.metrics is not here")

    def annotation(spans: Spans) -> object:
        made = core.Annotation()
        for number, (start, end, speaker) in enumerate(spans):
            made[core.Segment(start, end), number] = speaker
        return made.support()

    extent = core.Timeline([core.Segment(-5, 60)])
    metric = published.DiarizationErrorRate(collar=2 * collar, skip_overlap=skip)
    parts = metric.compute_components(annotation(reference), annotation(found), uem=extent)
    error = _measure(reference, found, collar_s=collar, skip_overlap=skip)
    ours = [error.speech_s, error.miss_s, error.false_alarm_s, error.confusion_s]
    theirs = [parts["total"], parts["missed detection"], parts["false alarm"], parts["confusion"]]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # Theirs drops stretches under a microsecond, and rounds.
