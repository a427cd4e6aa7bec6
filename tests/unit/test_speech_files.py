"""Speech that somebody marked: RTTM, Audacity's labels, CSV; each error names file and line."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audio.regions import Region
from indexer.audio.rttm import RttmTurn
from indexer.audio.speech_files import read_speech_files, turn_regions
from indexer.errors import CorruptArtifact, NotFound, UnsupportedFormat


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_rttm_file_names_the_recordings_it_speaks_of(tmp_path: Path) -> None:
    path = written(
        tmp_path, "all.rttm", "SPEAKER b 1 2.5 1.5 <NA> <NA> ann <NA> <NA>\nSPEAKER a 1 0 1 <NA> <NA> bo <NA> <NA>\n"
    )
    assert read_speech_files(path) == {"b": [RttmTurn("b", 2.5, 1.5, "ann")], "a": [RttmTurn("a", 0.0, 1.0, "bo")]}


def test_labels_of_audacity_are_about_the_recording_called_like_them(tmp_path: Path) -> None:
    path = written(tmp_path, "call 7.txt", "3.0\t4.5\tann lee\n\\\t100.0\t900.0\n0.25\t1.0\n")
    assert read_speech_files(path) == {
        "call 7": [RttmTurn("call 7", 0.25, 0.75, "speech"), RttmTurn("call 7", 3.0, 1.5, "ann lee")]
    }


@pytest.mark.parametrize("header", ["", "start,end,speaker\n", "start_s,end_s,speaker\n"])
def test_a_csv_has_start_end_and_perhaps_a_speaker(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, "talk.csv", f'{header}0.5,1.5,"Lee, Ann"\n\n2,3\n')
    assert read_speech_files(path) == {
        "talk": [RttmTurn("talk", 0.5, 1.0, "Lee, Ann"), RttmTurn("talk", 2.0, 1.0, "speech")]
    }


def test_of_a_folder_every_file_of_marks_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path / "deep", "a.csv", "0,1\n")
    written(tmp_path, "b.lab", "0 1 x\n")
    written(tmp_path, "silent.txt", "")
    written(tmp_path, "notes.md", "no marks")
    assert {name: len(turns) for name, turns in read_speech_files(tmp_path).items()} == {"a": 1, "b": 1, "silent": 0}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "0,1\n5\n", "line 2: 1 field;"),
        ("a.csv", "0,1\nx,2\n", "line 2: 'x' is not a number of seconds"),
        ("a.csv", "0,nan\n", "line 1: 'nan' is not a number of seconds"),
        ("a.csv", "-1,2\n", "line 1: '-1' is not a number of seconds"),
        ("a.txt", "2.5\t1.5\tann\n", "line 1: ends at 1.5 s, before it begins at 2.5 s"),
        ("a.rttm", "SPEAKER a 1 x 1 <NA> <NA> ann\n", "line 1: 'x' is not a number of seconds"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(CorruptArtifact) as refused:
        read_speech_files(path)
    assert str(refused.value).startswith(f"{path}, {reason}")


def test_what_is_no_text_or_of_another_kind_or_not_there_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "a.csv"
    latin.write_bytes(b"0,1,J\xf6rg\n")
    with pytest.raises(CorruptArtifact, match="not UTF-8 text \\(byte 5\\)"):
        read_speech_files(latin)
    with pytest.raises(UnsupportedFormat, match=r"\.rttm"):
        read_speech_files(written(tmp_path, "a.json", "{}"))
    with pytest.raises(NotFound, match="no such file or folder"):
        read_speech_files(tmp_path / "none.rttm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no file of"):
        read_speech_files(tmp_path / "empty")


TURNS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=12)


@given(times=TURNS)
def test_regions_of_turns_are_apart_and_cover_what_anybody_says(times: list[tuple[int, int]]) -> None:
    turns = [RttmTurn("a", start, length, str(number % 3)) for number, (start, length) in enumerate(times)]
    regions = turn_regions(turns)
    spoken = {second for start, length in times for second in range(start, start + length)}
    assert {second for one in regions for second in range(int(one.start_s), int(one.end_s))} == spoken
    assert all(one.end_s < other.start_s for one, other in pairwise(regions))


def test_turns_that_touch_are_one_region() -> None:
    turns = [RttmTurn("a", 1.0, 1.0, "x"), RttmTurn("a", 2.0, 0.5, "y"), RttmTurn("a", 4.0, 0.0, "x")]
    assert turn_regions(turns) == [Region(1.0, 2.5)]
