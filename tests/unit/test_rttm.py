from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.rttm import RttmTurn, format_rttm, overlap_free_turns, parse_rttm
from indexer.errors import CorruptArtifact


def test_speaker_lines_are_read_and_others_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; a comment\n"
        "SPKR-INFO meeting 1 <NA> <NA> <NA> unknown ann <NA>\n"
        "\n"
        "SPEAKER meeting 1 1.440 11.872 <NA> <NA> MÉO069 <NA> <NA>\n"
        "SPEAKER other 1 0 2 <NA> <NA> bob\n",
        encoding="utf-8",
    )
    turns = parse_rttm(path)
    assert turns == [RttmTurn("meeting", 1.44, 11.872, "MÉO069"), RttmTurn("other", 0.0, 2.0, "bob")]
    assert turns[0].end_s == pytest.approx(13.312)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SPEAKER meeting 1 1.0 2.0", "line 1: 5 fields"),
        ("SPEAKER meeting 1 x 2.0 <NA> <NA> ann", "'x'"),
        ("SPEAKER meeting 1 1.0 nan <NA> <NA> ann", "'nan'"),
        ("SPEAKER meeting 1 1.0 -2 <NA> <NA> ann", "'-2'"),
    ],
)
def test_a_malformed_line_is_named_by_number_and_value(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(line)
    with pytest.raises(CorruptArtifact, match=said):
        parse_rttm(path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_bytes(b"SPEAKER \xff\xfe")
    with pytest.raises(CorruptArtifact, match="not UTF-8"):
        parse_rttm(path)


def test_overlap_is_cut_out_by_hand() -> None:
    #   ann 0......4      6...8
    #   bob      3.....5
    turns = [RttmTurn("m", 0, 4, "ann"), RttmTurn("m", 3, 2, "bob"), RttmTurn("m", 6, 2, "ann")]
    assert overlap_free_turns(turns) == [
        RttmTurn("m", 0, 3, "ann"),
        RttmTurn("m", 4, 1, "bob"),
        RttmTurn("m", 6, 2, "ann"),
    ]
    assert overlap_free_turns(turns, 2.5) == [RttmTurn("m", 0, 3, "ann")]


def test_touching_turns_of_one_speaker_are_one_stretch() -> None:
    turns = [RttmTurn("m", 0, 2, "ann"), RttmTurn("m", 2, 2, "ann"), RttmTurn("m", 3, 3, "ann")]
    assert overlap_free_turns(turns) == [RttmTurn("m", 0, 6, "ann")]


def test_a_turn_inside_another_splits_it() -> None:
    turns = [RttmTurn("m", 0, 10, "ann"), RttmTurn("m", 4, 2, "bob")]
    assert overlap_free_turns(turns) == [RttmTurn("m", 0, 4, "ann"), RttmTurn("m", 6, 4, "ann")]


def test_a_change_of_speaker_without_a_pause_makes_two_stretches() -> None:
    turns = [RttmTurn("m", 0, 2, "ann"), RttmTurn("m", 2, 2, "bob")]
    assert overlap_free_turns(turns) == turns


def test_recordings_do_not_silence_each_other() -> None:
    turns = [RttmTurn("b", 0, 2, "ann"), RttmTurn("a", 0, 2, "bob")]
    assert overlap_free_turns(turns) == [RttmTurn("a", 0, 2, "bob"), RttmTurn("b", 0, 2, "ann")]


# Quarters of a second, so that sums are exact and turns meet often.
QUARTERS = st.integers(0, 40).map(lambda quarters: quarters / 4)
TURNS = st.lists(st.builds(RttmTurn, st.sampled_from("xy"), QUARTERS, QUARTERS, st.sampled_from("abc")), max_size=12)


def talkers(turns: list[RttmTurn], recording: str, time_s: float) -> set[str]:
    return {
        turn.speaker
        for turn in turns
        if turn.recording == recording and turn.start_s <= time_s < turn.start_s + turn.duration_s
    }


@given(TURNS)
def test_a_stretch_is_where_exactly_one_speaker_talks(turns: list[RttmTurn]) -> None:
    alone = overlap_free_turns(turns)
    for recording in "xy":
        for eighth in range(1, 170, 2):  # the middle of each quarter of a second
            talking = talkers(turns, recording, eighth / 8)
            assert talkers(alone, recording, eighth / 8) == (talking if len(talking) == 1 else set())


TIMES = st.floats(0, 100, allow_nan=False)


@given(st.lists(st.builds(RttmTurn, st.just("x"), TIMES, TIMES, st.sampled_from("abc")), max_size=12), TIMES)
def test_no_stretch_meets_another_speakers_turn(turns: list[RttmTurn], min_s: float) -> None:
    for stretch in overlap_free_turns(turns, min_s):
        assert stretch.duration_s >= min_s
        for turn in turns:
            if turn.speaker != stretch.speaker and turn.duration_s > 0:
                shared = min(stretch.end_s, turn.end_s) - max(stretch.start_s, turn.start_s)
                assert shared <= 1e-9  # an end is start + duration, which rounds


def test_turns_that_are_written_are_read_back_with_spaces_in_names_as_underscores(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        format_rttm([RttmTurn("call 7", 0.5, 1.25, "voice 1"), RttmTurn("call 7", 1.75, 0.333, "voice 2")]),
        encoding="utf-8",
    )

    assert parse_rttm(path) == [RttmTurn("call_7", 0.5, 1.25, "voice_1"), RttmTurn("call_7", 1.75, 0.333, "voice_2")]
