"""A manifest is read row by row: a bad row costs that row, and only a manifest that is none stops the job."""

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.archive import nobody, parse_speaker_rule
from indexer.errors import AccessDenied, InvalidRequest
from indexer.jobs.manifests import ManifestSource
from indexer.jobs.source import Listed, SourceEntry, UnusableEntry
from indexer.manifests import MAX_LINE_BYTES


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    yield path


def source(path: Path, *, rule: str = "none", uri: str | None = None) -> ManifestSource:
    return ManifestSource(uri or str(path), lambda: at_hand(path), parse_speaker_rule(rule), lambda _: None)


def read(path: Path, content: str | bytes, **options: str) -> list[SourceEntry | UnusableEntry]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [step.entry for step in source(path, **options).read(None) if step.entry is not None]


def good(entries: list[SourceEntry | UnusableEntry]) -> list[tuple[str, str | None]]:
    return [(Path(entry.uri).name, entry.speaker) for entry in entries if isinstance(entry, SourceEntry)]


def refused(entries: list[SourceEntry | UnusableEntry]) -> dict[str, str]:
    return {entry.uri: str(entry.error) for entry in entries if isinstance(entry, UnusableEntry)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["uri", "path", "file", "URI ", "\ufeffuri"])
def test_rows_tell_all_there_is_to_know(tmp_path: Path, delimiter: str, column: str) -> None:
    labels = '"news;night"' if delimiter == ";" else "news; night ;news"
    lines = [
        [column, "speaker", "session", "recorded_at", "labels"],
        ["a.wav", " ann ", "s1", "2026-03-01T10:00:00+01:00", labels],
        ["/elsewhere/b.wav", "", "", "2026-03-01", ""],
    ]
    content = "\r\n".join(delimiter.join(cells) for cells in lines)
    first, second = read(tmp_path / "list.csv", content)
    assert isinstance(first, SourceEntry)
    assert (first.uri, first.speaker, first.session) == (str(tmp_path / "a.wav"), "ann", "s1")
    assert first.recorded_at == dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)
    assert (first.labels, first.line) == (("news", "night"), 2)
    assert isinstance(second, SourceEntry)
    assert (second.uri, second.speaker, second.session, second.labels) == ("/elsewhere/b.wav", None, None, ())
    assert second.recorded_at == dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def test_json_lines_tell_the_same(tmp_path: Path) -> None:
    rows = [
        {"uri": "a.wav", "speaker": "ann", "labels": ["news", "night"], "recorded_at": "2026-03-01T09:00:00Z"},
        {"Path": "b,\nc.wav", "speaker": 42},
    ]
    first, second = read(tmp_path / "list.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    assert isinstance(first, SourceEntry)
    assert (first.speaker, first.labels, first.recorded_at) == (
        "ann",
        ("news", "night"),
        dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC),
    )
    assert isinstance(second, SourceEntry)
    assert (second.uri, second.speaker, second.labels, second.line) == (
        str(tmp_path / "b,\nc.wav"),
        "42",
        None,
        3,
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",ann,,,", "names no file"),
        ('"x" y.wav,ann,,,', "no CSV row"),
        ('"never closed,ann,,,', "no CSV row"),
        ("a.wav,ann,,yesterday,", "recorded_at 'yesterday'"),
        ("a.wav,ann,,0001-01-01T00:00:00+23:00,", "recorded_at"),
        ("a.wav,ann,,,x,too,many", "7 values for 5 columns"),
        ("ftp://example.org/a.wav,ann,,,", "ftp:// is not read"),
        (f"a.wav,{'n' * 201},,,", "at most 200"),
        (f"a.wav,ann,,,{'l' * 201}", "at most 200"),
        ("a.wav,ann," + "x" * MAX_LINE_BYTES, "longer than"),
        ("a\0.wav,ann,,,", "not text"),
    ],
)
def test_a_bad_row_costs_that_row_and_is_named_by_its_line(tmp_path: Path, row: str, reason: str) -> None:
    content = f"uri,speaker,session,recorded_at,labels\nok-1.wav,ann\n{row}\nok-2.wav,bob\nok-3.wav,carl,x,,"
    entries = read(tmp_path / "list.csv", content)
    assert good(entries) == [("ok-1.wav", "ann"), ("ok-2.wav", "bob"), ("ok-3.wav", "carl")]
    ((place, message),) = refused(entries).items()
    assert place == f"{tmp_path / 'list.csv'}:3"
    assert message.startswith("line 3: ")
    assert reason in message


@pytest.mark.parametrize(
    "row",
    [
        "[1]",
        '"a.wav"',
        "{",
        "[" * 100_000,
        '{"uri": 1.5}',
        '{"uri": "a.wav", "labels": "x", "speaker": []}',
        '{"uri": "a.wav", "labels": [1]}',
        '{"uri": "a.wav", "recorded_at": 5}',
        '{"uri": "", "speaker": "x"}',
        '{"uri": "a\\ud800.wav", "labels": {}}',
    ],
)
def test_a_bad_line_of_json_costs_that_line(tmp_path: Path, row: str) -> None:
    entries = read(tmp_path / "list.jsonl", '{"uri": "ok-1.wav"}\n' + row + '\n{"uri": "ok-2.wav"}\n')
    assert good(entries) == [("ok-1.wav", None), ("ok-2.wav", None)]
    assert list(refused(entries)) == [f"{tmp_path / 'list.jsonl'}:2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "one must be named uri"),
        (b"\n\n \n", "one must be named uri"),
        (b"name,speaker\na.wav,ann\n", r"columns are \[name, speaker\]"),
        (b'"uri\na.wav\n', "no CSV header"),
        (b"uri\n" + b"a.wav\n" * 300_000 + b"\xff.wav\n", "not UTF-8"),
        ("uri\na.wav\n".encode("utf-16"), "not UTF-8"),
        (b"uri\na\xc3", "not UTF-8"),
        (b"RIFF\x00\x00\x00\x00WAVE\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_no_manifest_is_refused_before_any_row_is_taken(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=reason):
        next(source(path).read(None))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@given(names=st.lists(CELLS, max_size=8), bad=st.sets(st.integers(0, 8)), stop=st.integers(0, 20))
def test_reading_goes_on_where_it_stopped_whatever_the_rows_hold(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], bad: set[int], stop: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "list.csv"
    rows = ['"' + name.replace('"', '""') + '",x' for name in names]
    rows = [row.replace('",x', '" ,x') if number in bad else row for number, row in enumerate(rows)]
    path.write_bytes(("uri,speaker\n" + "\n".join(rows)).encode())
    whole = list(source(path).read(None))
    before = whole[: stop % (len(whole) + 1)]
    again = list(source(path).read(before[-1].cursor if before else None))
    assert [described(step) for step in before + again] == [described(step) for step in whole]


def described(step: Listed) -> object:
    return (
        step.entry if isinstance(step.entry, SourceEntry) else (step.entry and (step.entry.uri, str(step.entry.error)))
    )


def test_a_manifest_that_was_changed_is_read_from_its_first_row_again(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    read(path, "uri\na.wav\nb.wav\n")
    place = next(iter(source(path).read(None))).cursor
    assert [step.entry.line for step in source(path).read(place) if isinstance(step.entry, SourceEntry)] == [3]
    path.write_text("uri\nnew.wav\na.wav\nb.wav\n")
    assert [step.entry.line for step in source(path).read(place) if isinstance(step.entry, SourceEntry)] == [2, 3, 4]


def test_a_rule_goes_before_the_manifest_and_the_manifest_helps_where_the_rule_says_nothing(tmp_path: Path) -> None:
    entries = read(tmp_path / "list.csv", "uri,speaker\nann/1.wav,x\n2.wav,bob\n", rule="regex:/(ann)/")
    assert good(entries) == [("1.wav", "ann"), ("2.wav", "bob")]


def test_rows_of_a_manifest_elsewhere_begin_where_it_is(tmp_path: Path) -> None:
    entries = read(tmp_path / "list.csv", "uri\na.wav\n../b.wav\n", uri="s3://calls/in/list.csv")
    assert [entry.uri for entry in entries] == ["s3://calls/in/a.wav", "s3://calls/in/list.csv:3"]


def test_every_row_is_asked_for_permission(tmp_path: Path) -> None:
    def check(uri: str) -> None:
        if "secret" in uri:
            raise AccessDenied(f"{uri}: jobs may not read this")

    path = tmp_path / "list.csv"
    path.write_text("uri\na.wav\n/secret/b.wav\n")
    steps = list(ManifestSource(str(path), lambda: at_hand(path), nobody, check).read(None))
    assert isinstance(steps[0].entry, SourceEntry)
    assert isinstance(steps[1].entry, UnusableEntry)
    assert steps[1].entry.error.code == "forbidden"


def test_json_lines_by_name_are_json_whatever_their_first_line_holds(tmp_path: Path) -> None:
    entries = read(tmp_path / "allbad.jsonl", 'garbage, and more\n{"uri": "a.wav"}\n')
    assert good(entries) == [("a.wav", None)]
    assert list(refused(entries)) == [f"{tmp_path / 'allbad.jsonl'}:1"]
    assert read(tmp_path / "empty.ndjson", "") == []


def test_a_name_that_says_nothing_leaves_it_to_the_first_line(tmp_path: Path) -> None:
    assert good(read(tmp_path / "list.txt", '{"uri": "a.wav", "speaker": "ann"}')) == [("a.wav", "ann")]
    assert good(read(tmp_path / "list", "file\na.wav")) == [("a.wav", None)]


@pytest.mark.parametrize("cell", ['"vip,gold"', "vip;gold", '"vip; gold,vip"'])
def test_labels_are_told_apart_by_commas_and_semicolons(tmp_path: Path, cell: str) -> None:
    (entry,) = read(tmp_path / "list.csv", f"uri,labels\na.wav,{cell}\n")
    assert isinstance(entry, SourceEntry)
    assert entry.labels == ("vip", "gold")


def test_a_header_alone_is_a_manifest_without_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "list.csv", "uri,speaker\n") == []
