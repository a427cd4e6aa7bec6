import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.file_integrity import make_private_dir, remembered_sha256, sha256_of, sidecar_of, write_json_atomically
from indexer.http_download import refusal_of
from indexer.sources import PackageSource, UrlSource


@pytest.mark.parametrize(
    "url", ["https://example.org/x", "http://127.0.0.1:80/x", "http://[::1]/x", "http://localhost/x"]
)
def test_https_and_the_loopback_may_be_used(url: str) -> None:
    assert refusal_of(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "http://127.0.0.1.example.org/x",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "x",
        "https://",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert refusal_of(url)


def test_a_redirect_from_https_to_http_is_refused_on_the_loopback_too() -> None:
    assert "redirects from https" in str(refusal_of("http://127.0.0.1/x", redirected_from="https://example.org/x"))
    assert refusal_of("http://127.0.0.1/x", redirected_from="http://127.0.0.1/y") is None
    assert refusal_of("https://cdn.example.org/x", redirected_from="https://example.org/x") is None


def test_a_label_keeps_a_signature_to_itself() -> None:
    assert UrlSource("https://user:secret@example.org/a/b?signature=secret").label == "example.org/a/b"
    assert PackageSource("some-package==1.2", "00", "x").label == "package some-package==1.2"


def test_a_hash_is_remembered_until_size_or_time_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = remembered_sha256(path)
    assert first == sha256_of(path)
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert remembered_sha256(path) == first  # so it was not read
    assert remembered_sha256(path, verify=True) == sha256_of(path) != first
    path.write_bytes(b"three")
    assert remembered_sha256(path) == sha256_of(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1, "sha256": "00"}', '{"schema": 9}', "\x00"])
def test_a_damaged_note_of_a_hash_is_not_believed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    sidecar_of(path).write_text(content)
    assert remembered_sha256(path) == sha256_of(path)


def test_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_dir(tmp_path / "a" / "b")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", ".")] == [0o700, 0o700, 0o755]


def test_a_json_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomically(path, {"a": 1})
    before = path.read_text()
    with pytest.raises(TypeError):
        write_json_atomically(path, {"a": object()})
    assert path.read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_the_registry_loads_no_torch_and_touches_no_network() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('network at import')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import indexer.embedding.registry, indexer.downloads, indexer.demo_data\n"
        "assert not {'torch', 'numpy', 'faiss', 'sqlalchemy'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
