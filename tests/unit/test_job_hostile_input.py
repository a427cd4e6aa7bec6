"""What a writer may post and no job may break of: patterns without end, names that are no names, links in a circle."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.archive import SEARCH_S, SpeakerRule, list_archive, nobody, parse_speaker_rule
from indexer.errors import InvalidRequest
from indexer.jobs.buckets import BucketSource
from indexer.jobs.folders import FolderSource
from indexer.jobs.manifests import ManifestSource
from indexer.jobs.source import JobOptions, Source, SourceEntry, UnusableEntry, require_allowed
from indexer.jobs.sources import SingleSource
from indexer.jobs.uris import normal_uri
from indexer.settings import JobSettings
from tests.unit.test_job_manifests import at_hand

ENDLESS = r"regex:(([\w/])+)+!$"
NAME = "a" * 200 + "!x.wav"  # The engine cures simple cases of this by itself; a long one it does not.


def test_a_pattern_without_end_is_given_up_in_time_and_other_threads_run_meanwhile() -> None:
    rule = parse_speaker_rule(ENDLESS)
    ticks, ended = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not ended.wait(0.002):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(InvalidRequest, match=f"{NAME}.*searches longer than 0.1 s.*repeats"):
            rule(Path("/archive") / NAME)
    finally:
        ended.set()
        thread.join()
    assert time.monotonic() - began < 60  # It would go on for ever.
    assert ticks > 5


def test_a_slow_pattern_costs_an_archive_of_any_size_seconds() -> None:
    rule = parse_speaker_rule(ENDLESS)
    began = time.monotonic()
    for _ in range(1000):
        with pytest.raises(InvalidRequest):
            rule(Path("/archive") / NAME)
    assert time.monotonic() - began < 900 * SEARCH_S  # Not a thousand times the longest search.


@pytest.mark.parametrize(
    "text", ["parent:²", "parent:" + "9" * 5000, "regex:(a){99999999999}", "regex:" + "(x" * 240 + ")" * 240]
)
def test_rules_that_only_look_well_formed_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--speaker-from"):
        parse_speaker_rule(text)
    with pytest.raises(InvalidRequest):
        JobOptions("folder", text)


def _folder(root: Path, rule: SpeakerRule) -> Source:
    return FolderSource(root, rule)


def _one_file(root: Path, rule: SpeakerRule) -> Source:
    return FolderSource(root / NAME, rule)


def _bucket(root: Path, rule: SpeakerRule) -> Source:
    keys = [("in/" + NAME, 10), ("in/b.wav", 10)]
    return BucketSource("s3://calls/in/", rule, lambda bucket, prefix, after: (keys, False))


def _url(root: Path, rule: SpeakerRule) -> Source:
    return SingleSource(f"https://example.org/{NAME}", rule)


def _manifest(root: Path, rule: SpeakerRule) -> Source:
    (root / "list.csv").write_text(f"uri\n{NAME}\nb.wav\n")
    return ManifestSource(str(root / "list.csv"), lambda: at_hand(root / "list.csv"), rule, lambda _: None)


@pytest.mark.parametrize(("source", "others"), [(_folder, 1), (_one_file, 0), (_bucket, 1), (_url, 0), (_manifest, 1)])
def test_a_file_whose_speaker_cannot_be_told_is_refused_and_the_others_are_read(
    tmp_path: Path, source: Callable[[Path, SpeakerRule], Source], others: int
) -> None:
    for name in (NAME, "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF    WAVE")
    entries = [step.entry for step in source(tmp_path, parse_speaker_rule(ENDLESS)).read(None) if step.entry]
    (refused,) = [entry for entry in entries if isinstance(entry, UnusableEntry)]
    assert "repeats" in str(refused.error)
    assert sum(isinstance(entry, SourceEntry) for entry in entries) == others


def test_the_command_line_names_the_file_that_a_pattern_fails_on(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"RIFF    WAVE")
    with pytest.raises(InvalidRequest, match=NAME):
        list_archive([tmp_path], parse_speaker_rule(ENDLESS))


@pytest.mark.parametrize("text", ["file://[", "file://[::1/a.wav", "https://[/a.wav", "file://\u2100.example/a"])
def test_urls_that_no_reader_understands_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        normal_uri(text)


def test_links_in_a_circle_below_a_listed_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in (tmp_path / "circle", tmp_path / "circle" / "a.wav"):
        with pytest.raises(InvalidRequest, match="cannot be followed"):
            require_allowed(str(path), JobSettings(sources=(str(tmp_path),)), trusted=True)


def test_bad_rows_of_a_manifest_cost_those_rows_only(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri\nfile://[\ncircle/a.wav\nb.wav\n")
    settings = JobSettings(sources=(str(tmp_path),))

    def check(uri: str) -> None:
        require_allowed(uri, settings, trusted=False)

    source = ManifestSource(str(manifest), lambda: at_hand(manifest), nobody, check)
    first, second, third = (step.entry for step in source.read(None))
    assert isinstance(first, UnusableEntry)
    assert isinstance(second, UnusableEntry)
    assert isinstance(third, SourceEntry)


def test_a_source_whose_name_no_file_can_have_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        list(FolderSource(Path("/" + "a" * 300), nobody).read(None))
