"""What a file is known by: its bytes, up to the limit."""

import hashlib
from pathlib import Path

import pytest

from indexer.decoding import hash_content
from indexer.errors import AudioTooLarge


def test_the_identity_is_the_sha256_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(range(256)) * 10_000)
    assert hash_content(path, max_bytes=1 << 30) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_grows_beyond_the_limit_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path, block, limit = tmp_path / "growing.wav", bytes(1 << 20), 5 << 20
    path.write_bytes(block)
    blocks = 1

    def grow() -> None:
        nonlocal blocks
        assert blocks < 100, "it is read without end"
        with path.open("ab") as stream:
            stream.write(block)
        blocks += 1

    with pytest.raises(AudioTooLarge, match=rf"growing\.wav: \d+ bytes, the limit is {limit}; split it"):
        hash_content(path, max_bytes=limit, progressed=grow)
