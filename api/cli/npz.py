"""Vectors -> a NumPy .npz that is the same bytes for the same vectors."""

import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.archive import as_text
from indexer.errors import InvalidRequest

_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_npz(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write arrays under their keys, in the order given, without time stamps; readable by `numpy.load`.

    `numpy.savez` takes keys as keyword arguments (a recording named "file" would clash), stamps the time and appends a
    suffix; what is written here appears complete under exactly this path or not at all.

    Raises
    ------
    InvalidRequest
        If the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, array in arrays.items():
                member = zipfile.ZipInfo(f"{as_text(key)}.npy", date_time=_EPOCH)
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        unfinished.replace(path)
    except OSError as error:
        raise InvalidRequest(
            f"{path}: cannot be written ({error.strerror or error}); choose another --output"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
