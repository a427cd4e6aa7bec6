"""What jobs may read: spelled in one way, listed by folder or prefix, refused otherwise."""

from pathlib import Path

import pytest

from indexer.errors import AccessDenied, InvalidRequest
from indexer.jobs.source import JobOptions, guess_kind, require_allowed
from indexer.jobs.uris import absolute_uri, normal_uri, rule_path
from indexer.settings import JobSettings


def listing(*sources: str) -> JobSettings:
    return JobSettings(sources=sources)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/archive/calls/", "/archive/calls"),
        ("/archive//./calls", "/archive/calls"),
        ("file:///archive/two%20words.wav", "/archive/two words.wav"),
        ("file://localhost/a.wav", "/a.wav"),
        ("S3://calls/2025/a b#?.wav", "s3://calls/2025/a b#?.wav"),
        ("gs://calls", "gs://calls/"),
        ("HTTPS://Example.org:443/a.wav?sig=1#x", "https://example.org/a.wav?sig=1"),
        ("https://example.org", "https://example.org/"),
        ("http://127.0.0.1:8000/a.wav", "http://127.0.0.1:8000/a.wav"),
        ("https://[2001:DB8::1]:444/a.wav", "https://[2001:db8::1]:444/a.wav"),
    ],
)
def test_a_place_has_one_spelling(given: str, expected: str) -> None:
    assert normal_uri(given) == expected
    assert normal_uri(expected) == expected


@pytest.mark.parametrize(
    "given",
    [
        "calls/a.wav",
        "",
        "ftp://example.org/a.wav",
        "memory://x",
        "zip://a.wav::s3://calls/a.zip",
        "s3://calls/a.zip::file:///etc/passwd",
        "s3:///key",
        "s3://user@calls/key",
        "s3://arn:aws:s3:eu-1:1:accesspoint/x",
        "s3://calls/../other/key",
        "file://elsewhere/a.wav",
        "file:///a.wav?x",
        "https:///a.wav",
        "https://user:secret@example.org/a.wav",
        "https://example.org\\@evil.example/a.wav",
        "https://example.org/a/../b.wav",
        "https://example.org/a/%2e%2E/b.wav",
        "https://example.org/a/%252e%252e/b.wav",
        "https://example.org:port/a.wav",
        "https://example.org/a\nb",
        "/a\0b",
        "/" + "a" * 5000,
    ],
)
def test_what_could_be_taken_for_two_things_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest):
        normal_uri(given)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("source", "listed"),
    [
        ("s3://calls/2025/a.wav", True),
        ("s3://calls/2025", True),
        ("s3://calls/2025b/a.wav", False),
        ("s3://calls2/2025/a.wav", False),
        ("s3://calls/", False),
        ("gs://anything/at/all.wav", True),
        ("https://media.example.org/in/a.wav?sig=x", True),
        ("https://media.example.org/inner/a.wav", False),
        ("https://media.example.org.evil.example/in/a.wav", False),
        ("https://media.example.org:8443/in/a.wav", False),
        ("http://media.example.org/in/a.wav", False),
        ("http://127.0.0.1:8000/a.wav", True),
        ("http://127.0.0.1:8001/a.wav", False),
        ("https://127.0.0.1:8000/a.wav", False),
        ("/srv/archive/a.wav", True),
        ("/srv/archive", True),
        ("/srv/archive2/a.wav", False),
        ("/srv/archive/../secret", False),
        ("/etc/passwd", False),
    ],
)
def test_a_list_binds_everybody(source: str, listed: bool, trusted: bool) -> None:
    settings = listing(
        "s3://calls/2025", "gs://", "https://media.example.org/in", "http://127.0.0.1:8000", "/srv/archive"
    )
    if listed:
        assert require_allowed(source, settings, trusted=trusted) == normal_uri(source)
    else:
        with pytest.raises(AccessDenied, match="VOXDEX_JOBS__SOURCES"):
            require_allowed(source, settings, trusted=trusted)


@pytest.mark.parametrize(
    ("source", "for_trusted"),
    [
        ("/anywhere", True),
        ("s3://calls/a.wav", True),
        ("gs://calls/a.wav", True),
        ("https://example.org/a.wav", False),
        ("http://127.0.0.1/a.wav", False),
    ],
)
def test_without_a_list_only_the_trusted_read_and_nobody_reads_the_web(source: str, for_trusted: bool) -> None:
    with pytest.raises(AccessDenied):
        require_allowed(source, listing(), trusted=False)
    if for_trusted:
        require_allowed(source, listing(), trusted=True)
    else:
        with pytest.raises(AccessDenied):
            require_allowed(source, listing(), trusted=True)


def test_plain_http_is_never_read_from_another_machine_even_where_it_is_listed() -> None:
    with pytest.raises(AccessDenied):
        require_allowed("http://example.org/a.wav", listing("http://example.org/"), trusted=True)


def test_a_link_out_of_a_listed_folder_is_refused_and_a_listed_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "secret.wav").touch()
    (tmp_path / "archive" / "way-out.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "link").symlink_to(tmp_path / "archive")
    settings = listing(str(tmp_path / "link"))
    require_allowed(str(tmp_path / "archive" / "a.wav"), settings, trusted=False)
    require_allowed(str(tmp_path / "link" / "a.wav"), settings, trusted=False)
    with pytest.raises(AccessDenied):
        require_allowed(str(tmp_path / "archive" / "way-out.wav"), settings, trusted=True)


def test_a_list_that_makes_no_sense_names_the_setting() -> None:
    with pytest.raises(InvalidRequest, match="VOXDEX_JOBS__SOURCES"):
        require_allowed("/a", listing("relative/folder"), trusted=True)
    with pytest.raises(InvalidRequest, match="VOXDEX_JOBS__SOURCES"):
        require_allowed("https://example.org/a", listing("https://"), trusted=True)


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("a.wav", "/archive/list.csv", "/archive/a.wav"),
        ("../b/a.wav", "/nowhere-at-all/list.csv", "/b/a.wav"),
        ("/other/a.wav", "s3://calls/list.csv", "/other/a.wav"),
        ("x/a b.wav", "s3://calls/in/list.csv", "s3://calls/in/x/a b.wav"),
        ("x/a b#1.wav", "https://example.org/in/list.csv?sig=1", "https://example.org/in/x/a%20b%231.wav"),
        ("gs://other/a.wav", "/archive/list.csv", "gs://other/a.wav"),
    ],
)
def test_what_a_manifest_names_begins_where_the_manifest_is(text: str, base: str, expected: str) -> None:
    assert absolute_uri(text, base) == expected


def test_speaker_rules_see_urls_as_paths() -> None:
    assert rule_path("s3://calls/ann/1.wav") == Path("/calls/ann/1.wav")
    assert rule_path("https://example.org/ann%20b/1.wav?sig=/x/y") == Path("/example.org/ann b/1.wav")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "archive"},
        {"kind": "folder", "speaker_from": "csv:/etc/passwd"},
        {"kind": "folder", "speaker_from": "regex:("},
        {"kind": "folder", "speaker_from": "regex:(" + "a" * 600 + ")"},
        {"kind": "folder", "channels": "both"},
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        JobOptions(**values)  # type: ignore[arg-type]


def test_options_survive_being_kept_with_the_job() -> None:
    options = JobOptions("url", "parent:2", "left")
    assert JobOptions.from_document({**options.as_document(), "trusted": True}) == options


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/archive", "folder"),
        ("/archive/list.CSV", "manifest"),
        ("s3://calls/list.jsonl", "manifest"),
        ("https://example.org/list.csv?sig=a.b", "manifest"),
        ("s3://calls/2025/", "url"),
        ("https://example.org/a.wav", "url"),
    ],
)
def test_the_kind_of_a_source_is_guessed(source: str, kind: str) -> None:
    assert guess_kind(source) == kind
