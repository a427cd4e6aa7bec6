"""Where commands are told to write: looked at before any work is done."""

from collections.abc import Iterable
from pathlib import Path

from indexer.errors import InvalidRequest


def check_output(path: Path, inputs: Iterable[Path] = ()) -> Path:
    """Return the file that an output path leads to, or refuse one that must not be replaced.

    Raises
    ------
    InvalidRequest
        If it is a folder, a device or a pipe, one of the inputs, or in no folder.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise InvalidRequest(f"{path}: not a regular file; give --output a file name, as in vectors.npz")
    if target.exists() and any(given.exists() and given.samefile(target) for given in inputs):
        raise InvalidRequest(f"{path}: is one of the inputs and would be overwritten; choose another --output")
    if not target.parent.is_dir():
        raise InvalidRequest(f"{path}: there is no folder {target.parent}; make it, or choose another --output")
    return target


def check_folder(path: Path) -> None:
    """Refuse a folder that cannot be made.

    Raises
    ------
    InvalidRequest
        If it, or a folder that it would be in, is a file.
    """
    there = next((folder for folder in (path, *path.parents) if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise InvalidRequest(f"{path}: {there} is no folder; choose another one")
