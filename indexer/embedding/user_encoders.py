"""The encoders a user added, and the hashes recorded at first use, in one small file of the home folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from indexer.errors import CorruptArtifact, HashMismatch, NotFound, Unavailable
from indexer.file_integrity import exclusive_lock, make_private_dir, sha256_of, write_json_atomically

SCHEMA = 1

Family = Literal["speechbrain", "nemo", "campplus"]


@dataclass(frozen=True)
class UserEncoder:
    """One model file of the user, as it was when it was added.

    Attributes
    ----------
    path : str
        Absolute path; the file stays where it is.
    family : str
        "speechbrain", "nemo" or "campplus".
    front_end : str or None
        Front end asked for; None leaves the choice to the file.
    sha256 : str
        Hash of the file.
    size_bytes, mtime_ns : int
        When both are unchanged the file is not read again to compare its hash.
    """

    path: str
    family: Family
    front_end: str | None
    sha256: str
    size_bytes: int
    mtime_ns: int


def describe(path: Path, *, family: Family, front_end: str | None) -> UserEncoder:
    """Take note of a model file as it is now."""
    status = path.stat()
    return UserEncoder(
        path=str(path),
        family=family,
        front_end=front_end,
        sha256=sha256_of(path),
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


class UserEncoders:
    """Reads and writes `encoders.json`; every change is one atomic replacement under a lock between processes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.path = home / "encoders.json"

    def encoders(self) -> dict[str, UserEncoder]:
        """Return the added encoders by name.

        Raises
        ------
        CorruptArtifact
            If the file is not what this class writes.
        """
        return self._read()[0]

    def first_use(self) -> dict[str, str]:
        """Return the SHA-256 of files whose publisher states none, by encoder name, as first downloaded.

        Raises
        ------
        CorruptArtifact
            If the file is not what this class writes.
        """
        return self._read()[1]

    def put(self, name: str, encoder: UserEncoder) -> None:
        """Add or replace one encoder."""
        with self._changing() as (encoders, _):
            encoders[name] = encoder

    def add(self, name: str, encoder: UserEncoder) -> bool:
        """Add an encoder; False, and nothing changed, if the name is taken."""
        with self._changing() as (encoders, _):
            if name in encoders:
                return False
            encoders[name] = encoder
            return True

    def pin(self, name: str, sha256: str) -> str:
        """Record the hash of a first use; returns the one on record, which another process may have written."""
        with self._changing() as (_, first_use):
            return first_use.setdefault(name, sha256)

    def check(self, name: str, encoder: UserEncoder, *, verify: bool = False) -> Path:
        """Return the path of an added encoder's file, known to be the file that was added.

        Raises
        ------
        NotFound
            If the file is gone.
        HashMismatch
            If its content changed.
        """
        path = Path(encoder.path)
        if not path.is_file():
            raise NotFound(f"encoder {name!r}: {path} is gone; put it back, or remove {name!r} from {self.path}")
        status = path.stat()
        if not verify and (status.st_size, status.st_mtime_ns) == (encoder.size_bytes, encoder.mtime_ns):
            return path
        if (digest := sha256_of(path)) != encoder.sha256:
            raise HashMismatch(
                f"encoder {name!r}: {path} has SHA-256 {digest}, {encoder.sha256} when it was added; "
                "put the old file back, or add the new one under another name (its vectors are not comparable)"
            )
        if status.st_mtime_ns != encoder.mtime_ns:
            try:
                self.put(name, replace(encoder, mtime_ns=status.st_mtime_ns))
            except Unavailable:  # a read-only home: the file is read again next time
                return path
        return path

    @contextmanager
    def _changing(self) -> Iterator[tuple[dict[str, UserEncoder], dict[str, str]]]:
        try:
            make_private_dir(self._home)
            lock = self._home / ".encoders.json.lock"
            lock.touch()
            with exclusive_lock(lock):
                before = self._read()
                encoders, first_use = dict(before[0]), dict(before[1])
                yield encoders, first_use
                if (encoders, first_use) != before:
                    content = {name: asdict(encoder) for name, encoder in encoders.items()}
                    write_json_atomically(self.path, {"schema": SCHEMA, "encoders": content, "first_use": first_use})
        except OSError as error:
            raise Unavailable(
                f"cannot write {self.path}: {error.strerror or error}; make room or use --home"
            ) from error

    def _read(self) -> tuple[dict[str, UserEncoder], dict[str, str]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, {}
        except (OSError, ValueError) as error:
            raise self._corrupt(f"cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise self._corrupt("holds no JSON object")
        if content.get("schema") != SCHEMA:
            raise self._corrupt(f"has schema {content.get('schema')!r}, this version reads {SCHEMA}")
        encoders, first_use = content.get("encoders"), content.get("first_use")
        if not isinstance(encoders, dict) or not isinstance(first_use, dict):
            raise self._corrupt("lacks 'encoders' or 'first_use'")
        if not all(isinstance(digest, str) for digest in first_use.values()):
            raise self._corrupt("has a 'first_use' that is not a hash")
        return {name: self._parse(name, entry) for name, entry in encoders.items()}, first_use

    def _parse(self, name: str, entry: Any) -> UserEncoder:
        try:
            encoder = UserEncoder(**entry)
        except TypeError as error:
            raise self._corrupt(f"has an incomplete entry {name!r}") from error
        if encoder.family not in get_args(Family):
            raise self._corrupt(f"has an entry {name!r} of the unknown family {encoder.family!r}")
        texts = (encoder.path, encoder.sha256)
        numbers = (encoder.size_bytes, encoder.mtime_ns)
        well_typed = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
        if not well_typed or not (encoder.front_end is None or isinstance(encoder.front_end, str)):
            raise self._corrupt(f"has a malformed entry {name!r}")
        return encoder

    def _corrupt(self, what: str) -> CorruptArtifact:
        return CorruptArtifact(f"{self.path} {what}; repair it, or delete it and add your encoders again")
