"""The registry's downloads, against a server on the loopback in the place of the publisher's."""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.downloads import UrlSource
from indexer.embedding.registry import BUILT_IN, NEMO_ECAPA, SPEECHBRAIN_ECAPA, EncoderRegistry, EncoderSpec
from indexer.errors import DownloadFailed, HashMismatch, UnsupportedCheckpoint
from indexer.file_integrity import sha256_of
from tests.loopback_server import CONTENT, Server, running


def nemo_archive(weights: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("./model_weights.ckpt")
        info.size = len(weights)
        archive.addfile(info, io.BytesIO(weights))
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Server()) as one:
        one.behavior.content = nemo_archive(CONTENT)
        yield one


@pytest.fixture
def nemo(server: Server) -> EncoderSpec:
    return replace(NEMO_ECAPA, sources=(UrlSource(server.url),))


def registry_in(folder: Path, spec: EncoderSpec, *, cache: str = "cache", offline: bool = False) -> EncoderRegistry:
    return EncoderRegistry(folder / "home", folder / cache, offline=offline, built_in=(spec,))


def test_the_first_download_is_trusted_and_recorded(server: Server, nemo: EncoderSpec, tmp_path: Path) -> None:
    registry = registry_in(tmp_path, nemo)
    assert registry.get(nemo.name).sha256 is None
    path = registry.pull(nemo)
    assert path == tmp_path / "cache" / "encoders" / "nemo-ecapa-tdnn" / "ecapa_tdnn.nemo"
    recorded = json.loads((tmp_path / "home" / "encoders.json").read_text())["first_use"]
    assert recorded == {"nemo-ecapa-tdnn": sha256_of(path)}
    assert registry.get(nemo.name).sha256 == sha256_of(path)
    assert registry_in(tmp_path, nemo, offline=True).pull(nemo) == path


def test_a_file_that_the_publisher_replaced_is_refused_with_the_remedy(
    server: Server, nemo: EncoderSpec, tmp_path: Path
) -> None:
    first = sha256_of(registry_in(tmp_path, nemo).pull(nemo))
    server.behavior.content = nemo_archive(CONTENT[::-1])
    with pytest.raises(HashMismatch, match=rf"expected {first}.*remove 'nemo-ecapa-tdnn' from 'first_use'"):
        registry_in(tmp_path, nemo, cache="fresh").pull(nemo)
    (tmp_path / "home" / "encoders.json").unlink()
    assert sha256_of(registry_in(tmp_path, nemo, cache="fresh").pull(nemo)) != first


def test_a_damaged_file_of_first_use_is_repaired(server: Server, nemo: EncoderSpec, tmp_path: Path) -> None:
    registry = registry_in(tmp_path, nemo)
    path = registry.pull(nemo)
    path.write_bytes(b"damaged")
    assert registry.cached(nemo) is None
    assert registry.pull(nemo).read_bytes() == server.behavior.content


def test_a_login_page_is_not_recorded_as_the_weights(server: Server, nemo: EncoderSpec, tmp_path: Path) -> None:
    server.behavior.content = b"<html>Please sign in</html>"
    with pytest.raises(DownloadFailed, match=r"is no \.nemo archive"):
        registry_in(tmp_path, nemo).pull(nemo)
    assert not (tmp_path / "home").exists()
    assert not list((tmp_path / "cache").rglob("ecapa_tdnn.nemo*"))


def test_weights_of_a_published_hash_are_repaired_when_damaged(server: Server, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.write_bytes(server.behavior.content)
    spec = replace(
        SPEECHBRAIN_ECAPA,
        sha256=sha256_of(reference),
        size_bytes=reference.stat().st_size,
        sources=(UrlSource(server.url),),
    )
    registry = registry_in(tmp_path, spec)
    path = registry.pull(spec)
    path.write_bytes(b"damaged")
    assert registry.cached(spec) is None
    assert registry.pull(spec) == registry.cached(spec) == path
    assert not (tmp_path / "home").exists()  # nothing to record: the publisher states the hash


def test_the_family_of_an_added_file_is_read_from_its_content(tmp_path: Path) -> None:
    registry = EncoderRegistry(tmp_path / "home", tmp_path / "cache")
    archive, text = tmp_path / "renamed.bin", tmp_path / "notes.nemo"
    archive.write_bytes(nemo_archive(CONTENT))
    text.write_text("not a model" * 100)
    assert registry.add("mine", archive).family == registry.get(str(archive)).family == "nemo"
    with pytest.raises(UnsupportedCheckpoint, match=r"notes\.nemo"):
        registry.add("notes", text)
    assert [spec.name for spec in registry.list()][len(BUILT_IN) :] == ["mine"]
