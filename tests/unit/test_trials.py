"""Trial lists and manifests: every form that is read, the pairs they make, and errors that name the line."""

from pathlib import Path

import pytest

from indexer.errors import InvalidRequest
from search.trials import LabeledRecording, all_pairs, part_of, read_manifest, read_trials


def _written(folder: Path, text: str) -> Path:
    path = folder / "list"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_voxceleb_list_is_read_and_its_speakers_are_found(tmp_path: Path) -> None:
    trials = read_trials(_written(tmp_path, "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n\n1 a/2.wav a/3.wav\n"))
    assert [recording.path for recording in trials.recordings] == ["a/1.wav", "a/2.wav", "b/1.wav", "a/3.wav"]
    assert trials.is_target.tolist() == [True, False, True]
    assert [recording.speaker for recording in trials.recordings] == ["a/1.wav", "a/1.wav", "b/1.wav", "a/1.wav"]
    assert trials.speakers == (["a/1.wav", "a/1.wav", "a/1.wav"], ["a/1.wav", "b/1.wav", "a/1.wav"])


@pytest.mark.parametrize(
    "text",
    [
        "enroll,probe,target\na.wav,b c.wav,1\na.wav,d.wav,0\n",
        "Enrollment;Test;Label\na.wav;b c.wav;target\na.wav;d.wav;nontarget\n",
        "\ufefffile1\tfile2\tsame\na.wav\tb c.wav\tTRUE\na.wav\td.wav\tfalse\n",
    ],
)
def test_a_csv_of_trials_is_read_under_its_usual_headers(tmp_path: Path, text: str) -> None:
    trials = read_trials(_written(tmp_path, text))
    assert [recording.path for recording in trials.recordings] == ["a.wav", "b c.wav", "d.wav"]
    assert trials.is_target.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1 a.wav b.wav\n0 a.wav\n", r"list:2: 2 words"),
        ("1 a.wav b.wav\nmaybe a.wav c.wav\n", r"list:2: label 'maybe'"),
        ("1 a.wav b.wav\n1 b.wav c.wav\n0 a.wav c.wav\n", r"list:3: a nontarget trial .* one speaker"),
        ("enroll,target\na.wav,1\n", r"list:1: columns \[enroll, target\]; one must be named probe"),
        ("1 a.wav\n", r"one must be named enroll; or give lines of `1 a\.wav b\.wav` \(1: one speaker, 0: two\)"),
        ("enroll,probe,target\na.wav,,1\n", r"list:2: no probe"),
        ("enroll,probe,target\na.wav,b.wav,1,x\n", r"list:2: more values than the 3 columns"),
        ("enroll,probe,target\n", "no trials"),
        ("", r"list:1: columns \[\]"),
    ],
)
def test_a_line_that_is_no_trial_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        read_trials(_written(tmp_path, text))


def test_a_manifest_is_read_with_roles_sets_and_sessions(tmp_path: Path) -> None:
    text = "path,speaker,role,set,session,seconds\na.wav,ann,enroll,x,1,3\nrain.wav,,,,,\nb.wav,bob,,,,\n"
    assert read_manifest(_written(tmp_path, text)) == [
        LabeledRecording("a.wav", "ann", "x", "1", "enroll"),
        LabeledRecording("b.wav", "bob"),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("path,speaker\na.wav,\n", "no recordings whose speaker is named"),
        ("path,speaker\n,ann\n", "list:2: speaker ann and no path"),
        ("path,speaker,role\na.wav,ann,enrol\n", "list:2: role 'enrol'"),
        ("path,speaker\na.wav,ann\na.wav,bob\n", r"list:3: a\.wav is in line 2 already"),
        ("path,name\na.wav,ann\n", "one must be named speaker"),
        ("path,speaker\n", "no recordings"),
        ('path,speaker\na.wav,ann\n"b"x,bob\n', "list:3: no CSV row"),
    ],
)
def test_a_row_that_says_too_little_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        read_manifest(_written(tmp_path, text))


def test_a_list_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        read_trials(tmp_path / "none")
    (tmp_path / "wav").write_bytes(b"RIFF\xff\xfe")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_trials(tmp_path / "wav")


_RECORDINGS = [
    LabeledRecording("a1", "ann", "x", "1"),
    LabeledRecording("a2", "ann", "x", "1"),
    LabeledRecording("a3", "ann", "y", "2"),
    LabeledRecording("b1", "bob", "x", "1"),
    LabeledRecording("b2", "bob", "y", "2"),
]


def _pairs(**options: object) -> list[tuple[str, str, bool]]:
    trials = all_pairs(_RECORDINGS, **options)  # type: ignore[arg-type]
    paths = [recording.path for recording in trials.recordings]
    return sorted(
        (paths[a], paths[b], bool(same))
        for a, b, same in zip(trials.enroll, trials.probe, trials.is_target, strict=True)
    )


def test_every_pair_of_a_set_is_made_once() -> None:
    assert _pairs() == [("a1", "a2", True), ("a1", "b1", False), ("a2", "b1", False), ("a3", "b2", False)]
    assert len(_pairs(within="all")) == 10


def test_target_pairs_of_one_session_can_be_left_out() -> None:
    pairs = _pairs(within="all", across_sessions=True)
    assert ("a1", "a2", True) not in pairs
    assert ("a1", "a3", True) in pairs
    assert ("a1", "b1", False) in pairs


def test_parts_share_no_speaker_and_are_the_whole_together() -> None:
    recordings = [LabeledRecording(f"{speaker}-{take}", f"s{speaker}") for speaker in range(40) for take in range(2)]
    first, second = (part_of(recordings, part, 2) for part in (1, 2))
    assert {recording.speaker for recording in first}.isdisjoint(recording.speaker for recording in second)
    assert len(first) + len(second) == len(recordings)
    assert 20 <= len(first) <= 60
    with pytest.raises(InvalidRequest, match="part 3 of 2"):
        part_of(recordings, 3, 2)
