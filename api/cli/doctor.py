"""What works on this machine, and what to do about what does not."""

import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from indexer.errors import VoxdexError
from indexer.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything the main job needs; nothing raises, nothing is changed, nothing is fetched."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("device", lambda: _device(settings)),
        ("faiss", _faiss),
        ("milvus", lambda: _milvus(settings)),
        ("codecs", _codecs),
        ("weights", lambda: _weights(settings)),
        ("database", lambda: _database(settings)),
        ("folders", lambda: _folders(settings)),
    ]
    findings = []
    for what, check in checks:
        try:
            findings += list(check())
        except VoxdexError as error:
            findings.append(Finding(what, False, str(error)))
        except Exception as error:  # A broken installation fails in ways of its own; the doctor reports them all.
            findings.append(Finding(what, False, f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, voxdex {version('voxdex')}"
    yield Finding("python", sys.version_info >= (3, 11), found)


def _device(settings: Settings) -> Iterator[Finding]:
    import torch
    import torchaudio

    from indexer.embedding.encoder import choose_device

    same = torch.__version__.split("+")[0] == torchaudio.__version__.split("+")[0]
    yield Finding("torch", same, f"torch {torch.__version__}, torchaudio {torchaudio.__version__}")
    device = choose_device(settings.embedding.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    yield Finding("device", True, f"{device} ({name})")


def _faiss() -> Iterator[Finding]:
    # Both wheels install the package `faiss`; whichever came last is the one that runs.
    wheels = []
    for name in ("faiss-gpu", "faiss-cpu"):
        try:
            wheels.append(f"{name} {distribution(name).version}")
        except PackageNotFoundError:
            continue
    from indexer.index.faiss_codes import describe_faiss

    ok = len(wheels) == 1
    remedy = "" if ok else "; two wheels overwrite each other: uninstall both, then run make install"
    yield Finding("faiss", ok, f"{', '.join(wheels) or 'no wheel known'}: {describe_faiss()}{remedy}")


def _milvus(settings: Settings) -> Iterator[Finding]:
    address = settings.index.milvus.uri
    if address is None and settings.index.engine != "milvus":
        return
    path = Path("" if address is None else address.get_secret_value())
    if path.suffix == ".db" and not path.exists():
        yield Finding("milvus", True, f"{path} (made at first use)")
        return
    from indexer.index.milvus_server import connect

    server = connect(settings.index.milvus)
    yield Finding("milvus", True, f"{server.address} runs {server.call('get_server_version')}")


def _codecs() -> Iterator[Finding]:
    import av
    import soundfile

    yield Finding("soundfile", True, f"{soundfile.__version__} (libsndfile {soundfile.__libsndfile_version__})")
    wanted = ("aac", "opus", "vorbis", "mp3float", "amrnb", "amrwb", "gsm", "wmav2")
    missing = [codec for codec in wanted if codec not in av.codecs_available]
    found = f"{av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    yield Finding("pyav", True, found + (f"; cannot decode {', '.join(missing)}" if missing else ""))
    yield Finding("resampler", importlib.util.find_spec("soxr") is not None, f"soxr {version('soxr')}")


def _weights(settings: Settings) -> Iterator[Finding]:
    from indexer.embedding.registry import make_registry

    registry = make_registry(settings)
    spec = registry.get(settings.embedding.encoder)
    path = registry.cached(spec)
    place = registry.place_of(spec)
    if path:
        found = f"{spec.name}: {path}"
    elif place.exists():
        found = f"{spec.name}: {place} is not the published file: delete it, then run voxdex encoder pull"
    else:
        found = f"{spec.name} is not here yet: voxdex encoder pull"
    yield Finding("weights", path is not None, found)


def _database(settings: Settings) -> Iterator[Finding]:
    from indexer.db.models import SCHEMA_REVISION
    from indexer.db.session import make_engine, parse_url, revision_of, shown

    url = parse_url(settings.database_url)
    if url.drivername.startswith("sqlite") and not Path(url.database or "").exists():
        yield Finding("database", True, f"{shown(url)} (made at first use)")
        return
    engine = make_engine(settings.database_url)
    try:
        revision = revision_of(engine)
    finally:
        engine.dispose()
    if revision == SCHEMA_REVISION:
        yield Finding("database", True, f"{shown(url)} at revision {revision}")
    else:
        remedy = f"at revision {revision}, {SCHEMA_REVISION} is needed: run `voxdex db upgrade`"
        yield Finding("database", False, f"{shown(url)} {remedy}")


def _folders(settings: Settings) -> Iterator[Finding]:
    import os

    for what, folder in (("home", settings.home), ("cache", settings.cache)):
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        writable = os.access(nearest, os.W_OK)
        yield Finding(what, writable, f"{folder}" + ("" if writable else f": no permission to write in {nearest}"))
