"""Published weights into our networks: `.nemo` archives and state dicts of two kinds, verified before use.

A checkpoint is read in memory, hashed, unpickled as tensors only, and matched strictly by name and shape.
"""

import math
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from indexer.embedding.campplus import CamPlus, CamPlusConfig
from indexer.embedding.ecapa import Ecapa, EcapaConfig
from indexer.embedding.features import (
    FrontEnd,
    Generation,
    KaldiFrontEnd,
    KaldiFrontEndConfig,
    NemoFrontEnd,
    NemoFrontEndConfig,
    SpeechBrainFrontEnd,
    SpeechBrainFrontEndConfig,
)
from indexer.embedding.nemo_archive import GZIP_MAGIC, read_nemo_archive, require_class
from indexer.embedding.nemo_config import generation_of, read_front_end, read_network
from indexer.embedding.tensor_files import load_tensors
from indexer.embedding.user_encoders import Family
from indexer.embedding.weight_files import WeightFile, read_bytes, read_weights
from indexer.embedding.weight_names import (
    CAMPPLUS_MARK,
    NEMO_UNUSED,
    campplus_config,
    campplus_names,
    nemo_names,
    speechbrain_config,
    speechbrain_names,
)
from indexer.errors import CorruptArtifact, InvalidRequest, UnsupportedCheckpoint

MAX_PARAMETERS = 500_000_000  # the published networks have 21 million

NetworkConfig = EcapaConfig | CamPlusConfig
Network = Ecapa | CamPlus

_NEMO_BUFFERS = {"window": "preprocessor.featurizer.window", "filterbank": "preprocessor.featurizer.fb"}


@dataclass(frozen=True)
class Checkpoint:
    """Everything that decides a vector, read and verified.

    Parameters
    ----------
    family : "speechbrain", "nemo" or "campplus"
        Whose format the file is in.
    weights_sha256 : str
        SHA-256 of the file's bytes, lower-case hex.
    front_end : str
        "speechbrain", "nemo-legacy", "nemo-current" or "kaldi".
    network : EcapaConfig or CamPlusConfig
        Sizes of the network.
    front_end_config : NemoFrontEndConfig, SpeechBrainFrontEndConfig or KaldiFrontEndConfig
        How features are computed.
    state : mapping of str to tensor
        Weights by our names, float32 and finite.
    buffers : mapping of str to tensor
        `window` and `filterbank` of a NeMo front end; empty for the others, whose files hold none.
    facts : mapping of str to str
        What `voxdex encoder show` tells beyond the above.
    """

    family: Family
    weights_sha256: str
    front_end: str
    network: NetworkConfig
    front_end_config: NemoFrontEndConfig | SpeechBrainFrontEndConfig | KaldiFrontEndConfig
    state: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    facts: Mapping[str, str]

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.network.dim

    def build_network(self) -> Network:
        """Return the network with the weights in place, in evaluation mode."""
        with torch.device("meta"):  # no memory for the random weights that the real ones replace
            network = _network_of(self.network)
        # torch.zeros and not zeros_like: of a meta tensor the latter loads sympy, which takes two seconds.
        complete = {
            name: torch.zeros(tensor.shape, dtype=tensor.dtype)
            for name, tensor in network.state_dict().items()
            if _is_count(name)
        }
        network.load_state_dict(complete | dict(self.state), strict=True, assign=True)
        network.eval().requires_grad_(False)
        return network

    def build_front_end(self) -> FrontEnd:
        """Return the front end, in evaluation mode."""
        if isinstance(self.front_end_config, SpeechBrainFrontEndConfig):
            return SpeechBrainFrontEnd(self.front_end_config).eval()
        if isinstance(self.front_end_config, KaldiFrontEndConfig):
            return KaldiFrontEnd(self.front_end_config).eval()
        return NemoFrontEnd(self.front_end_config, self.buffers["window"], self.buffers["filterbank"]).eval()


def detect_family(path: Path) -> Family:
    """Tell from a file's first bytes, or from the names of its tensors, which family wrote it.

    Raises
    ------
    NotFound
        If there is no such file.
    UnsupportedCheckpoint
        If it is neither a tar archive nor a torch file.
    """
    head = read_bytes(path, 4)
    if head.startswith(GZIP_MAGIC):
        return "nemo"
    if head.startswith((b"PK", b"\x80")):  # torch's zip container; a bare pickle, as torch wrote before 1.6
        # Names of tensors stand as plain text in either container; a pickle need not be trusted to find one.
        return "campplus" if f"{CAMPPLUS_MARK}.weight".encode() in read_bytes(path) else "speechbrain"
    if tarfile.is_tarfile(path):
        return "nemo"
    raise UnsupportedCheckpoint(f"{path}: neither a .nemo archive nor a torch checkpoint; give one of the two")


def read_checkpoint(path: Path | WeightFile, family: Family, front_end: str | None = None) -> Checkpoint:
    """Read and verify one file of weights.

    Parameters
    ----------
    path : Path or WeightFile
        A `.nemo` archive, SpeechBrain's `embedding_model.ckpt`, or a CAM++ of 3D-Speaker, perhaps read already.
    family : "speechbrain", "nemo" or "campplus"
        Whose format it is; see `detect_family`.
    front_end : str, optional
        "legacy" or "current" (also "nemo-legacy", "nemo-current") to override the generation that a `.nemo` file's
        version implies.

    Raises
    ------
    NotFound
        If there is no such file.
    InvalidRequest
        If the front end is unknown or belongs to another family.
    UnsafeArtifact
        If the file holds what could run code, escape its folder or exhaust the memory.
    CorruptArtifact
        If it is damaged, or a tensor is missing, unexpected, of another shape or not finite.
    UnsupportedCheckpoint
        If it is intact and of a kind that voxdex does not run.
    """
    path, data, digest = path if isinstance(path, WeightFile) else read_weights(path)
    if family == "speechbrain":
        if front_end not in (None, "speechbrain"):
            raise InvalidRequest(f"front end {front_end!r}: SpeechBrain weights have one front end, 'speechbrain'")
        return _read_speechbrain(data, digest, str(path))
    if family == "campplus":
        if front_end not in (None, "kaldi"):
            raise InvalidRequest(f"front end {front_end!r}: CAM++ weights have one front end, 'kaldi'")
        return _read_campplus(data, digest, str(path))
    return _read_nemo(data, digest, str(path), _generation(front_end))


def _generation(front_end: str | None) -> Generation | None:
    if front_end is None:
        return None
    short = front_end.removeprefix("nemo-")
    if short not in ("legacy", "current"):
        raise InvalidRequest(f"front end {front_end!r}: NeMo weights take 'legacy' or 'current'")
    return cast(Generation, short)


def _read_speechbrain(data: bytes, digest: str, label: str) -> Checkpoint:
    tensors = load_tensors(data, label)
    network = speechbrain_config(tensors, label)
    state = _match(network, speechbrain_names(network), tensors, (), label)
    front_end = SpeechBrainFrontEndConfig()
    if network.bins != front_end.bins:
        raise UnsupportedCheckpoint(
            f"{label}: reads {network.bins} mel bins; the SpeechBrain front end has {front_end.bins}"
        )
    facts = _facts(network, state) | {"format": "SpeechBrain embedding_model.ckpt"}
    return Checkpoint("speechbrain", digest, "speechbrain", network, front_end, state, {}, facts)


def _read_campplus(data: bytes, digest: str, label: str) -> Checkpoint:
    tensors = load_tensors(data, label)
    network = campplus_config(tensors, label)
    state = _match(network, campplus_names(network), tensors, (), label)
    front_end = KaldiFrontEndConfig()
    if network.bins != front_end.bins:
        raise UnsupportedCheckpoint(f"{label}: reads {network.bins} mel bins; the Kaldi front end has {front_end.bins}")
    facts = _facts(network, state) | {"format": "3D-Speaker CAM++ state dict"}
    return Checkpoint("campplus", digest, "kaldi", network, front_end, state, {}, facts)


def _read_nemo(data: bytes, digest: str, label: str, generation: Generation | None) -> Checkpoint:
    config, weights = read_nemo_archive(data, label)
    require_class(config, None, "EncDecSpeakerLabelModel", label)
    network = read_network(config, label)
    generation = generation or generation_of(config)
    front_end = read_front_end(config, generation, label)
    features = front_end.bins * front_end.frame_splicing
    if network.bins != features:
        raise UnsupportedCheckpoint(
            f"{label}: encoder.feat_in = {network.bins}, and the preprocessor gives {features} rows"
        )
    tensors = load_tensors(weights, label)
    buffers = {
        "window": _buffer(tensors, "window", (front_end.window,), label),
        "filterbank": _buffer(tensors, "filterbank", (1, front_end.bins, front_end.fft // 2 + 1), label)[0],
    }
    state = _match(network, nemo_names(network), tensors, NEMO_UNUSED, label)
    version = str(config.get("nemo_version", "not stated"))[:40]
    facts = _facts(network, state) | {"format": ".nemo archive", "nemo_version": version}
    return Checkpoint("nemo", digest, f"nemo-{generation}", network, front_end, state, buffers, facts)


def _buffer(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], label: str) -> Tensor:
    theirs = _NEMO_BUFFERS[name]
    if theirs not in tensors:
        raise CorruptArtifact(f"{label}: tensor {theirs} is missing")
    return _number_tensor(tensors[theirs], theirs, shape, label)


def _number_tensor(tensor: Tensor, name: str, shape: tuple[int, ...], label: str) -> Tensor:
    if tuple(tensor.shape) != shape:
        raise CorruptArtifact(f"{label}: tensor {name} has shape {tuple(tensor.shape)}, the configuration says {shape}")
    if not tensor.is_floating_point():
        raise CorruptArtifact(f"{label}: tensor {name} is of type {tensor.dtype}, expected floating point")
    converted = tensor.detach().to(torch.float32).contiguous()
    # NaN and infinity show in the extremes, which takes a twelfth of the time of asking each number.
    if converted.numel() and not all(map(math.isfinite, map(float, torch.aminmax(converted)))):
        raise CorruptArtifact(f"{label}: tensor {name} holds NaN or infinity; the weights are unusable")
    return converted


def _network_of(config: NetworkConfig) -> Network:
    return CamPlus(config) if isinstance(config, CamPlusConfig) else Ecapa(config)


def _is_count(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # of training steps; plays no part in an embedding


def _match(
    network: NetworkConfig, names: Mapping[str, str], tensors: Mapping[str, Tensor], unused: tuple[str, ...], label: str
) -> dict[str, Tensor]:
    with torch.device("meta"):
        wanted = {name: tensor for name, tensor in _network_of(network).state_dict().items() if not _is_count(name)}
    parameters = sum(tensor.numel() for tensor in wanted.values())
    if parameters > MAX_PARAMETERS:
        raise UnsupportedCheckpoint(f"{label}: its sizes imply {parameters} parameters, limit {MAX_PARAMETERS}")
    theirs = {ours: f"{names[module]}.{leaf}" for ours in wanted for module, _, leaf in [ours.rpartition(".")]}
    missing = sorted(set(theirs.values()) - set(tensors))
    counts = {f"{prefix}.num_batches_tracked" for prefix in names.values()}
    unexpected = sorted(
        name
        for name in set(tensors) - set(theirs.values()) - counts - set(_NEMO_BUFFERS.values())
        if not name.startswith(unused)
    )
    for problem, found in (("is missing", missing), ("is not part of this network", unexpected)):
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise CorruptArtifact(f"{label}: tensor {found[0][:120]}{more} {problem}")
    return {
        ours: _number_tensor(tensors[name], name, tuple(wanted[ours].shape), label) for ours, name in theirs.items()
    }


def _facts(network: NetworkConfig, state: Mapping[str, Tensor]) -> dict[str, str]:
    trained = sum(tensor.numel() for name, tensor in state.items() if "running_" not in name)
    if isinstance(network, CamPlusConfig):
        dense = ", ".join(f"{shape.layers}/{shape.kernel}/{shape.dilation}" for shape in network.blocks)
        return {
            "parameters": f"{trained:,}",
            "channels": str(network.channels),
            "blocks": f"{len(network.blocks)} dense (layers/kernel/dilation {dense})",
            "pooling": "mean and deviation",
            "mel_bins": str(network.bins),
        }
    blocks = ", ".join(f"{shape.kernel}/{shape.dilation}" for shape in network.blocks)
    return {
        "parameters": f"{trained:,}",
        "channels": str(network.channels),
        "blocks": f"{len(network.blocks)} (kernel/dilation {blocks})",
        "pooling": network.pooling,
        "mel_bins": str(network.bins),
    }
