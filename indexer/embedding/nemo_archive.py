"""Read the two members of a `.nemo` archive in memory: nothing is extracted, and a hostile archive is refused by name.

A `.nemo` file is a tar (gzip-compressed before NeMo 1.7) with `model_config.yaml` and `model_weights.ckpt` at its root.
"""

import gzip
import io
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from indexer.errors import CorruptArtifact, UnsafeArtifact, UnsupportedCheckpoint, one_line

CONFIG_NAME = "model_config.yaml"
WEIGHTS_NAME = "model_weights.ckpt"

# The published model has 90 MB of weights and a configuration of 250 kB, most of it speaker labels.
MAX_ARCHIVE_BYTES = 4 * 1024**3
MAX_WEIGHTS_BYTES = 2 * 1024**3
MAX_CONFIG_BYTES = 8 * 1024**2
MAX_MEMBERS = 1_000
MAX_YAML_DEPTH = 50
MAX_YAML_ALIASES = 200

_DRAIN_BYTES = 1024**2

GZIP_MAGIC = b"\x1f\x8b"


class NemoArchive(NamedTuple):
    """The configuration as plain data, and the bytes of the weights."""

    config: dict[str, Any]
    weights: bytes


class _BoundedReader(io.RawIOBase):
    """A stream that refuses to go past a number of bytes, so that a compressed bomb cannot fill the memory."""

    def __init__(self, stream: io.BufferedIOBase | gzip.GzipFile, limit: int, label: str) -> None:
        self._stream = stream
        self._limit = limit
        self._label = label

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        # tarfile states every size it wants; an extended header may claim any number.
        self._check(self._stream.tell() + max(size, 0))
        return self._stream.read(size)

    def _check(self, end: int) -> None:
        if end > self._limit:
            raise UnsafeArtifact(f"{self._label}: unpacks to more than {self._limit} bytes; not a model archive")


def read_nemo_archive(data: bytes, label: str) -> NemoArchive:
    """Read configuration and weights from the bytes of a `.nemo` file.

    Parameters
    ----------
    data : bytes
        The whole file.
    label : str
        What messages call it, usually its path.

    Raises
    ------
    UnsafeArtifact
        If a member is absolute, leaves the archive, is a link or device, occurs twice or is absurdly large.
    CorruptArtifact
        If the tar or the YAML is damaged, or one of the two members is missing.
    """
    members: dict[str, bytes] = {}
    limits = {CONFIG_NAME: MAX_CONFIG_BYTES, WEIGHTS_NAME: MAX_WEIGHTS_BYTES}
    plain: io.BufferedIOBase | gzip.GzipFile = io.BytesIO(data)
    if data.startswith(GZIP_MAGIC):
        plain = gzip.GzipFile(fileobj=io.BytesIO(data))
    try:
        reader = _BoundedReader(plain, MAX_ARCHIVE_BYTES, label)
        with tarfile.open(fileobj=reader, mode="r:") as archive:
            names: set[str] = set()
            # Iterating reads one header at a time, so that a bad member is refused before it is skipped over.
            for member in archive:
                name = _safe_name(member, label)
                if name in names:
                    raise UnsafeArtifact(f"{label}: member {member.name!r} occurs twice; which one counts is ambiguous")
                names.add(name)
                if len(names) > MAX_MEMBERS:
                    raise UnsafeArtifact(f"{label}: more than {MAX_MEMBERS} members; not a model archive")
                limit = limits.get(name, MAX_ARCHIVE_BYTES)
                if member.size > limit:
                    raise UnsafeArtifact(f"{label}: member {member.name!r} claims {member.size} bytes, limit {limit}")
                if name in limits and member.isreg():
                    stream = archive.extractfile(member)
                    members[name] = stream.read() if stream is not None else b""
                    if len(members[name]) != member.size:
                        raise CorruptArtifact(f"{label}: member {member.name!r} is cut short; get the file again")
        # gzip compares its checksum at the very end, past what tar needs to see.
        while reader.read(_DRAIN_BYTES):
            pass
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise CorruptArtifact(f"{label}: not a readable .nemo archive ({one_line(error)}); get it again") from error
    for name in limits:
        if name not in members:
            held = ", ".join(sorted(names)[:8]) or "nothing"
            raise CorruptArtifact(f"{label}: {name} is missing from the archive, which holds {held}")
    return NemoArchive(parse_config(members[CONFIG_NAME], label), members[WEIGHTS_NAME])


def _safe_name(member: tarfile.TarInfo, label: str) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise UnsafeArtifact(
            f"{label}: member {member.name!r} points outside the archive; the file is hostile or broken"
        )
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise UnsafeArtifact(f"{label}: member {member.name!r} is a link or a special file, which no model contains")
    return str(path)  # "./a" and "a" are one name


def parse_config(text: bytes, label: str) -> dict[str, Any]:
    """Parse `model_config.yaml` into plain data; some old files nest everything under `model:`.

    Raises
    ------
    UnsafeArtifact
        If the YAML asks for objects, or nests or repeats beyond what a configuration does.
    CorruptArtifact
        If it is not a YAML mapping.
    """
    import yaml  # Here, because other weights have no such file.

    try:
        _refuse_yaml_bombs(text, label)
        config = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        raise UnsafeArtifact(f"{label}: {CONFIG_NAME} asks for more than data ({one_line(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{label}: {CONFIG_NAME} is not YAML ({one_line(error)})") from error
    if isinstance(config, dict) and "encoder" not in config and isinstance(config.get("model"), dict):
        outer = {key: value for key, value in config.items() if key != "model"}
        config = outer | config["model"]
    if not isinstance(config, dict):
        raise CorruptArtifact(f"{label}: {CONFIG_NAME} is not a mapping of sections")
    return config


def _refuse_yaml_bombs(text: bytes, label: str) -> None:
    import yaml

    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        # A merge key copies what it names, so that nine of them in a row make a billion entries.
        merges = isinstance(event, yaml.ScalarEvent) and event.value == "<<"
        if merges or depth > MAX_YAML_DEPTH or aliases > MAX_YAML_ALIASES:
            raise UnsafeArtifact(f"{label}: {CONFIG_NAME} nests or repeats itself beyond what a configuration does")


def require_class(config: dict[str, Any], section: str | None, expected: str, label: str) -> None:
    """Refuse a model whose class is another; the message names it.

    Parameters
    ----------
    config : dict
        The whole configuration.
    section : str or None
        The section whose `_target_` is checked; None for the model's own `target`.
    expected : str
        Class name without its module.

    Raises
    ------
    UnsupportedCheckpoint
        If the class is another, or none is named.
    """
    if section is None:
        found = config.get("target")
        if found is None:
            return  # files written by hand; the three sections below still say what the model is
        what = "model"
    else:
        part = config.get(section)
        if not isinstance(part, dict):
            raise UnsupportedCheckpoint(f"{label}: a NeMo model without a {section!r} section is no speaker encoder")
        found = part.get("_target_")
        what = section
    if str(found).rsplit(".", 1)[-1] != expected:
        raise UnsupportedCheckpoint(f"{label}: its {what} is of class {found}, voxdex runs {expected} only")
