"""What a measurement was taken on: machine, versions, commit; and what memory a process takes."""

import os
import platform
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

_LIBRARIES = ("numpy", "faiss-gpu", "faiss-cpu", "torch", "usearch", "hnswlib", "pymilvus", "milvus-lite")
_SAMPLE_S = 0.02
_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What it takes to repeat a measurement; the beginning of every report."""

    machine: Mapping[str, str] = field(default_factory=lambda: describe_machine())
    versions: Mapping[str, str] = field(default_factory=lambda: describe_versions())
    commit: str = field(default_factory=lambda: describe_commit())

    @property
    def heading(self) -> str:
        """One line of it."""
        facts = ", ".join(f"{key} {value}" for key, value in {**self.machine, **self.versions}.items())
        return f"{facts}, commit {self.commit}"


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory and system, as far as they can be told."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = {"platform": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": str(cores)}
    with suppress(ValueError, OSError, AttributeError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        said["memory"] = f"{memory / 2**30:.1f} GiB"
    with suppress(OSError, AttributeError):
        said["load when it began"] = f"{os.getloadavg()[0]:.2f}"
    return said


def describe_versions() -> dict[str, str]:
    """Versions of everything that is measured; what is not installed is left out."""
    said = {"python": platform.python_version(), "voxdex": version("voxdex")}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            said[name] = version(name)
    return said


def describe_commit(file: Path = Path(__file__)) -> str:
    """Commit of the source tree that a file belongs to, with "+changes" where files differ from it; else "unknown".

    An installation may lie in the tree of another project, in its virtual environment say, whose commit is not meant.
    """
    git = ["git", "-C", str(file.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", str(file)], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed.strip() else "")


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def resident_bytes() -> int | None:
    """Memory that this process and those it started hold and that no file backs; None where the system cannot tell.

    Pages of mapped files are left out: the system takes them back when memory is short.
    """
    if not Path("/proc/self/status").exists():
        return None
    return sum(_anonymous(pid) for pid in (os.getpid(), *_descendants(os.getpid())))


def _anonymous(pid: int) -> int:
    total = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * _KIB
    return total


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                for child in map(int, children.read_text(encoding="utf-8").split()):
                    found += [child, *_descendants(child)]
    return found


class PeakMemory:
    """The most that `resident_bytes` grew inside the block, looked at fifty times a second."""

    def __init__(self) -> None:
        self.before = resident_bytes() or 0
        self._peak = self.before
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bench-memory", daemon=True)

    @property
    def peak_bytes(self) -> int:
        """What was added at the most."""
        return self._peak - self.before

    def now_bytes(self) -> int:
        """Return what is added now."""
        return (resident_bytes() or 0) - self.before

    def _watch(self) -> None:
        while not self._end.wait(_SAMPLE_S):
            self._peak = max(self._peak, resident_bytes() or 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._peak = max(self._peak, resident_bytes() or 0)
