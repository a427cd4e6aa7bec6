"""What a user points at becomes the right files with the right speakers."""

import datetime as dt
import json
from pathlib import Path

import pytest

from indexer.archive import list_archive, parse_speaker_rule, read_speakers
from indexer.errors import InvalidRequest, NotFound, VoxdexError
from indexer.folder_walk import walk


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("ann/1/a.wav", "ann/1/b.flac", "bob/2/c.wav", "bob/2/notes.txt", ".hidden/d.wav", "bob/.e.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_a_folder_gives_its_audio_in_sorted_order_and_counts_the_rest(tree: Path) -> None:
    listing = list_archive([tree], parse_speaker_rule("none"))
    assert [str(file.path.relative_to(tree)) for file in listing.files] == [
        "ann/1/a.wav",
        "ann/1/b.flac",
        "bob/2/c.wav",
    ]
    assert listing.ignored == 1
    assert [file.size_bytes for file in listing.files] == [1, 1, 1]


def test_a_named_file_is_taken_whatever_it_looks_like(tree: Path) -> None:
    listing = list_archive([tree / "bob/2/notes.txt"], parse_speaker_rule("none"))
    assert [file.path.name for file in listing.files] == ["notes.txt"]


def test_a_file_given_twice_is_listed_once(tree: Path) -> None:
    listing = list_archive([tree, tree / "ann", tree / "ann/1/a.wav"], parse_speaker_rule("none"))
    assert len(listing.files) == 3


def test_a_loop_of_links_ends(tree: Path) -> None:
    (tree / "ann" / "again").symlink_to(tree)
    assert len(list_archive([tree], parse_speaker_rule("none")).files) == 3


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("none", [None, None, None]),
        ("parent", ["1", "1", "2"]),
        ("parent:2", ["ann", "ann", "bob"]),
        (r"regex:/(?P<speaker>\w+)/\d/\w+\.wav$", ["ann", None, "bob"]),
        (r"regex:/(ann)/", ["ann", "ann", None]),
    ],
)
def test_a_path_tells_its_speaker(tree: Path, rule: str, expected: list[str | None]) -> None:
    assert [file.speaker for file in list_archive([tree], parse_speaker_rule(rule)).files] == expected


def test_a_manifest_lists_files_and_names_speakers(tree: Path) -> None:
    manifest = tree / "list.csv"
    manifest.write_text("Path,Speaker,extra\nann/1/a.wav,Ann,1\nbob/2/c.wav,,2\n", encoding="utf-8-sig")
    listing = list_archive([manifest], parse_speaker_rule("none"))
    assert [(file.path.name, file.speaker) for file in listing.files] == [("a.wav", "Ann"), ("c.wav", None)]
    named = list_archive([tree], parse_speaker_rule(f"csv:{manifest}"))
    assert [file.speaker for file in named.files] == ["Ann", None, None]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_manifest_from_elsewhere_finds_its_files_below_what_is_ingested(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, delimiter: str
) -> None:
    manifest = tmp_path_factory.mktemp("elsewhere") / "names.csv"
    manifest.write_text(f'path{delimiter}speaker\n1/a.wav{delimiter}"Ann, A.; 1"\n')
    rule = parse_speaker_rule(f"csv:{manifest}", roots=[tree / "bob", tree / "ann"])
    assert [file.speaker for file in list_archive([tree], rule).files] == ["Ann, A.; 1", None, None]


def test_a_manifest_that_names_two_speakers_for_a_file_is_refused(tree: Path) -> None:
    manifest = tree / "names.csv"
    manifest.write_text("path,speaker\nann/1/a.wav,Ann\nann/1/a.wav,Bob\n")
    with pytest.raises(InvalidRequest, match="both 'Ann' and 'Bob'"):
        parse_speaker_rule(f"csv:{manifest}")


@pytest.mark.parametrize(
    "rule", ["parents", "parent:0", "parent:x", "regex:", "regex:abc", "regex:(", "csv:", "none:1"]
)
def test_an_unknown_rule_is_refused_by_name(rule: str) -> None:
    with pytest.raises(InvalidRequest, match="--speaker-from"):
        parse_speaker_rule(rule)


class LockedFolder(type(Path())):  # type: ignore[misc]
    """A folder that may not be listed, also for a user who may list everything."""

    def __fspath__(self) -> str:
        raise PermissionError(13, "Permission denied", str(self))


def test_a_folder_that_cannot_be_listed_is_named_and_stops_nothing(tree: Path) -> None:
    (step,) = walk(LockedFolder(tree / "ann"))
    assert str(step) == f"{tree / 'ann'}: cannot be listed (Permission denied); check its permissions"


def test_a_row_that_contradicts_an_earlier_one_costs_that_row_as_in_a_job(tree: Path) -> None:
    manifest = tree / "list.csv"
    manifest.write_text(
        "path,speaker,recorded_at\nann/1/a.wav,Ann,\nann/1/a.wav,Bob,\n,Carl,\nann/1/b.flac,Ann,yesterday\n"
        "s3://calls/a.wav,,\nann/1/a.wav,,\nbob/2/c.wav,,\n"
    )
    listing = list_archive([manifest, manifest], parse_speaker_rule("none"))
    assert [(file.path.name, file.speaker) for file in listing.files] == [("a.wav", "Ann"), ("c.wav", None)]
    assert [row.place for row in listing.refused] == [f"{manifest}:{line}" for line in (3, 4, 5, 6)]
    reasons = ["'Bob' here and 'Ann' in an earlier line", "names no file", "no ISO 8601 time", "with --remote"]
    for line, (row, reason) in enumerate(zip(listing.refused, reasons, strict=True), start=3):
        assert str(row.error).startswith(f"{manifest}: line {line}: ")
        assert reason in str(row.error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "list.csv",
            "uri,speaker,session,recorded_at,labels\nann/1/a.wav,Ann,s1,2026-03-01T10:00:00+01:00,news;night\n",
        ),
        (
            "list.tsv",
            "file\tspeaker\tsession\trecorded_at\tlabels\nann/1/a.wav\tAnn\ts1\t2026-03-01T09:00\tnews,night\n",
        ),
        (
            "list.jsonl",
            '{"path": "ann/1/a.wav", "speaker": "Ann", "session": "s1", "recorded_at": "2026-03-01T09:00:00Z", '
            '"labels": ["news", "night"]}\n',
        ),
        (
            "list.NDJSON",
            '{"uri": "ann/1/a.wav", "speaker": "Ann", "session": "s1", "recorded_at": "2026-03-01 09:00", '
            '"labels": "news; night"}\n',
        ),
    ],
)
def test_a_manifest_of_any_kind_tells_all_there_is_to_know(tree: Path, name: str, content: str) -> None:
    (tree / name).write_text(content)
    (file,) = list_archive([tree / name], parse_speaker_rule("none")).files
    assert (file.path, file.speaker, file.session) == (tree / "ann/1/a.wav", "Ann", "s1")
    assert file.recorded_at == dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)
    assert file.labels == ("news", "night")


def test_a_manifest_adds_what_it_knows_to_files_of_a_folder_and_a_rule_goes_before_it(tree: Path) -> None:
    manifest = tree / "list.csv"
    manifest.write_text("path,speaker,session\nann/1/a.wav,Anna,s1\nbob/2/c.wav,Bo,s2\n")
    listing = list_archive([tree, manifest], parse_speaker_rule("regex:/(ann)/"))
    assert [(file.path.name, file.speaker, file.session) for file in listing.files] == [
        ("a.wav", "ann", "s1"),
        ("b.flac", "ann", None),
        ("c.wav", "Bo", "s2"),
    ]


@pytest.mark.parametrize(
    "named", ["x" * 5000, "y" * 300, "again/a.wav", "a\0.wav", "ftp://example.org/a.wav", "file://elsewhere/a.wav"]
)
def test_a_row_that_names_no_possible_file_costs_that_row(tree: Path, named: str) -> None:
    (tree / "again").symlink_to(tree / "again")
    (tree / "list.jsonl").write_text(f"{json.dumps({'uri': named})}\n{json.dumps({'uri': 'ann/1/a.wav'})}\n")
    listing = list_archive([tree / "list.jsonl"], parse_speaker_rule("none"))
    assert [row.place for row in listing.refused] == [f"{tree / 'list.jsonl'}:1"]
    assert [file.path.name for file in listing.files] == ["a.wav"]


def test_a_list_of_speakers_with_a_bad_row_is_refused_by_its_line(tree: Path) -> None:
    manifest = tree / "names.csv"
    manifest.write_text('path,speaker\nann/1/a.wav,Ann\n"never closed,Bob\n')
    with pytest.raises(VoxdexError, match="line 3: no CSV row"):
        parse_speaker_rule(f"csv:{manifest}")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        list_archive([tmp_path / "nowhere"], parse_speaker_rule("none"))


def test_a_manifest_without_a_path_column_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("name,speaker\na,b\n")
    with pytest.raises(InvalidRequest, match="must be named uri"):
        list_archive([manifest], parse_speaker_rule("none"))
    manifest.write_text("path,who\na,b\n")
    with pytest.raises(InvalidRequest, match="must be named speaker"):
        parse_speaker_rule(f"csv:{manifest}")
    manifest.write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        read_speakers(manifest)
