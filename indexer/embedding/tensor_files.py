"""Torch's weight files into tensors, and into nothing else: a pickle that names anything more is refused."""

import io
import pickle
import pickletools
import re
import zipfile
from typing import Any

import torch
from torch import Tensor

from indexer.errors import CorruptArtifact, UnsafeArtifact, UnsupportedCheckpoint, one_line

# What the pickle of a state dict names; used to say which name is foreign, while torch's own reader enforces it.
_TENSOR_NAMES = re.compile(
    r"collections\.OrderedDict"
    r"|torch\._utils\._rebuild_\w+"
    r"|torch\._tensor\._rebuild\w+"
    r"|torch\.serialization\._get_layout"
    r"|torch\.(storage\.)?\w*Storage"
    r"|torch\.(Size|Tensor|device|b?float\w*|u?int\d+|half|double|long|bool)"
)
_PICKLES_IN_OLD_FORMAT = 5  # magic, protocol, machine, object, keys; raw numbers follow


def load_tensors(data: bytes, label: str) -> dict[str, Tensor]:
    """Unpickle a state dict in torch's zip format or the one before it, tensors only.

    Parameters
    ----------
    data : bytes
        The whole file.
    label : str
        What messages call it, usually its path.

    Raises
    ------
    UnsafeArtifact
        If the pickle names anything but tensors, or a record is compressed; the message names it.
    CorruptArtifact
        If the bytes are damaged.
    UnsupportedCheckpoint
        If they hold something else than dense tensors by name.
    """
    is_zip = data.startswith(b"PK")
    if is_zip:
        _refuse_compressed_records(data, label)
    try:
        loaded: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the reader raise nearly anything
        foreign = _foreign_name(_zip_pickle(data) if is_zip else data)
        if foreign is not None:
            raise UnsafeArtifact(f"{label}: its pickle calls {foreign}, which could run code; refused") from error
        reason = one_line(error).split("WeightsUnpickler error: ")[-1][:120]
        raise CorruptArtifact(f"{label}: damaged weights ({reason}); get the file again") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise UnsupportedCheckpoint(f"{label}: holds no plain state dict (tensors by name)")
    for name, tensor in loaded.items():
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise UnsupportedCheckpoint(f"{label}: {name} is no plain array of numbers")
    return loaded


def _refuse_compressed_records(data: bytes, label: str) -> None:
    # torch stores its records as they are; a compressed one could unpack to any size.
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as container:
            for record in container.infolist():
                if record.compress_type != zipfile.ZIP_STORED:
                    raise UnsafeArtifact(f"{label}: record {record.filename!r} is compressed, which torch never writes")
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CorruptArtifact(f"{label}: damaged weights ({error}); get the file again") from error


def _zip_pickle(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as container:
            for name in container.namelist():
                if name.endswith("/data.pkl"):
                    return container.read(name)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError):
        pass  # the caller reports the damage
    return b""


def _foreign_name(pickled: bytes) -> str | None:
    # Reads opcodes without running them; damage ends the reading.
    stream = io.BytesIO(pickled)
    texts: list[str] = []
    try:
        for _ in range(_PICKLES_IN_OLD_FORMAT):
            for opcode, argument, _position in pickletools.genops(stream):
                name = None
                if opcode.name in ("GLOBAL", "INST"):
                    name = str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    name = ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
                if name is not None and not _TENSOR_NAMES.fullmatch(name):
                    return name[:120]
    except (ValueError, EOFError, pickle.UnpicklingError, UnicodeDecodeError, OverflowError):
        pass
    return None
