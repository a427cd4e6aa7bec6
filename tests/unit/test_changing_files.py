"""A recording that is written to while it is read is refused: its hash would be of another content than its vectors."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.embedded_files import EmbeddedFile
from indexer.embedding.encoder_set import EncoderSet
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import AudioSettings
from tests.api_kit import wav
from tests.fakes import SpectrumEncoder


def embedded(path: Path, meanwhile: Callable[[], object]) -> EmbeddedFile:
    """Embed a file; something happens once it was hashed and before it is decoded."""

    def is_known(_: str) -> bool:
        meanwhile()
        return False

    pipeline = EmbeddingPipeline(
        EncoderSet(SpectrumEncoder()),
        channels=ChannelPolicy.parse("mix"),
        limits=AudioSettings(),
        decode_threads=1,
        is_known=is_known,
    )
    (result,) = pipeline.run([ArchiveFile(path, None, path.stat().st_size)])
    return result


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(32_000))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(wav(3.0, 1))
    other.replace(path)


@pytest.mark.parametrize("change", [grow, replace])
def test_a_file_that_changes_while_it_is_read_is_refused_and_keeps_no_identity(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(3.0))
    result = embedded(path, lambda: change(path))
    assert result.error is not None
    assert "changed while it was read; ingest it again" in str(result.error)
    assert result.content_sha256 is None


@pytest.mark.parametrize("harmless", [lambda path: os.utime(path.parent), lambda path: path.chmod(0o600)])
def test_what_leaves_the_content_alone_is_no_change(tmp_path: Path, harmless: Callable[[Path], object]) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(3.0))
    result = embedded(path, lambda: harmless(path))
    assert result.error is None
    assert len(result.utterances) == 1
