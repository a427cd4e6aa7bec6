"""Weights are read as tensors only, matched strictly, and refused by name otherwise."""

import hashlib
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from indexer.embedding.checkpoints import detect_family, read_checkpoint
from indexer.embedding.encoder import encoder_id
from indexer.embedding.nemo_archive import WEIGHTS_NAME
from indexer.embedding.tensor_files import load_tensors
from indexer.embedding.weight_files import read_weights
from indexer.embedding.weight_names import speechbrain_names
from indexer.errors import (
    CorruptArtifact,
    InvalidRequest,
    NotFound,
    UnsafeArtifact,
    UnsupportedCheckpoint,
)
from tests.parity.nemo_files import Arrays, nemo_config, random_weights, tar_bytes, torch_bytes, write_nemo

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


class _Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _saved(value: Any, old_format: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not old_format)
    return stream.getvalue()


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [(os.system, "true", "system"), (eval, "1", "eval"), (torch.hub.load, "x", r"torch\.hub\.load")],
)
def test_a_pickle_that_would_run_code_is_refused_by_name_and_does_not_run(
    function: Any, argument: str, named: str, old_format: bool, tmp_path: Path
) -> None:
    payload = _Calls(function, argument)
    if function is os.system:
        payload = _Calls(os.system, f"touch {tmp_path / 'ran'}")
    with pytest.raises(UnsafeArtifact, match=named):
        load_tensors(_saved(OrderedDict(weight=payload), old_format), "m.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_bare_hostile_pickle_of_any_protocol_is_named(protocol: int) -> None:
    with pytest.raises(UnsafeArtifact, match="system"):
        load_tensors(pickle.dumps({"w": _Calls(os.system, "true")}, protocol=protocol), "m.ckpt")


def test_a_hostile_pickle_inside_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.nemo"
    hostile = _saved({"a": _Calls(os.system, "true")})
    path.write_bytes(
        tar_bytes([("model_config.yaml", yaml.safe_dump(nemo_config()).encode()), (WEIGHTS_NAME, hostile)])
    )
    with pytest.raises(UnsafeArtifact, match="system"):
        read_checkpoint(path, "nemo")


def test_a_compressed_record_is_refused_because_it_could_unpack_to_any_size() -> None:
    source = zipfile.ZipFile(io.BytesIO(_saved({"a": torch.zeros(1000)})))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(UnsafeArtifact, match="is compressed"):
        load_tensors(stream.getvalue(), "m.ckpt")


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_weights_cut_anywhere_are_corrupt(share: float, old_format: bool) -> None:
    data = _saved(OrderedDict(a=torch.arange(5000.0)), old_format)
    with pytest.raises(CorruptArtifact):
        load_tensors(data[: int(share * len(data))], "m.ckpt")


@pytest.mark.parametrize("value", [[torch.zeros(1)], {"a": "text"}, {1: torch.zeros(1)}, torch.zeros(3), {"a": {}}])
def test_what_is_no_state_dict_is_unsupported(value: Any) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="state dict"):
        load_tensors(_saved(value), "m.ckpt")


@pytest.mark.parametrize("value", [torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64)])
def test_what_is_no_plain_array_is_unsupported(value: torch.Tensor) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="a is no plain array"):
        load_tensors(_saved({"a": value}), "m.ckpt")


def _written(tmp_path: Path, weights: dict[str, Any], **changes: Any) -> Path:
    return write_nemo(tmp_path / "m.nemo", nemo_config(**changes), weights)


@pytest.fixture
def weights() -> Arrays:
    return random_weights(nemo_config())


@pytest.mark.parametrize(
    "name",
    ["encoder.layers.0.conv_layer.weight", "decoder.emb_layers.1.1.bias", "preprocessor.featurizer.fb"],
)
def test_a_missing_tensor_is_named(name: str, weights: Arrays, tmp_path: Path) -> None:
    del weights[name]
    with pytest.raises(CorruptArtifact, match=f"{name} is missing"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


def test_an_unexpected_tensor_is_named(weights: Arrays, tmp_path: Path) -> None:
    weights["encoder.layers.9.conv_layer.weight"] = np.zeros(3, np.float32)
    with pytest.raises(CorruptArtifact, match=r"encoder\.layers\.9\.conv_layer\.weight is not part"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


@pytest.mark.parametrize("name", ["encoder.feature_agg.bn.weight", "preprocessor.featurizer.window"])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(name: str, weights: Arrays, tmp_path: Path) -> None:
    right = weights[name].shape
    weights[name] = np.zeros(7, np.float32)
    with pytest.raises(CorruptArtifact, match=rf"{name} has shape \(7,\), the configuration says \({right[0]},\)"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(value: float, weights: Arrays, tmp_path: Path) -> None:
    weights["decoder.emb_layers.0.1.weight"][3, 5, 0] = value
    with pytest.raises(CorruptArtifact, match=r"decoder\.emb_layers\.0\.1\.weight holds NaN or infinity"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


def test_whole_numbers_in_place_of_weights_are_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    weights["encoder.feature_agg.bn.bias"] = torch.zeros(72, dtype=torch.int64)
    with pytest.raises(CorruptArtifact, match="int64"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


def test_a_tensor_that_repeats_one_number_endlessly_is_refused_before_it_is_expanded(
    weights: dict[str, Any], tmp_path: Path
) -> None:
    weights["encoder.feature_agg.bn.bias"] = torch.zeros(1).expand(10**12)
    with pytest.raises(CorruptArtifact, match="1000000000000"):
        read_checkpoint(_written(tmp_path, weights), "nemo")


def test_sizes_beyond_any_speaker_encoder_are_refused_without_allocating_them(weights: Arrays, tmp_path: Path) -> None:
    changes = {"encoder__filters": [65_536, 65_536, 65_536], "decoder__feat_in": 65_536}
    with pytest.raises(UnsupportedCheckpoint, match="parameters, limit"):
        read_checkpoint(_written(tmp_path, weights, **changes), "nemo")


@pytest.mark.parametrize("name", ["decoder.final.bias", "loss.weight"])
def test_tensors_of_training_are_ignored(name: str, weights: Arrays, tmp_path: Path) -> None:
    weights[name] = np.full(2, np.nan, np.float32)
    assert read_checkpoint(_written(tmp_path, weights), "nemo").dim == 32


def test_half_precision_weights_are_widened(weights: dict[str, Any], tmp_path: Path) -> None:
    halved = {name: torch.from_numpy(value).half() for name, value in weights.items()}
    state = read_checkpoint(_written(tmp_path, halved), "nemo").state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (None, "nemo-legacy"),
        ("legacy", "nemo-legacy"),
        ("current", "nemo-current"),
        ("nemo-legacy", "nemo-legacy"),
        ("nemo-current", "nemo-current"),
    ],
)
def test_the_front_end_can_be_chosen_in_short_or_in_full(asked: str | None, named: str) -> None:
    checkpoint = read_checkpoint(TINY, "nemo", asked)
    assert checkpoint.front_end == named
    assert encoder_id(checkpoint.weights_sha256, checkpoint.front_end) == f"{checkpoint.weights_sha256[:16]}-{named}"


def test_weights_that_were_read_already_are_those_whose_hash_is_taken_whatever_becomes_of_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.nemo"
    path.write_bytes(TINY.read_bytes())
    read = read_weights(path)
    path.unlink()
    assert read_checkpoint(read, "nemo").weights_sha256 == hashlib.sha256(TINY.read_bytes()).hexdigest()


def test_an_unknown_front_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'speechbrain'"):
        read_checkpoint(TINY, "nemo", "speechbrain")


def test_facts_describe_the_network() -> None:
    facts = read_checkpoint(TINY, "nemo").facts
    assert facts["nemo_version"] == "1.16.0"
    assert facts["mel_bins"] == "40"
    assert facts["pooling"] == "attention"


def test_a_missing_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.nemo", tmp_path):
        with pytest.raises(NotFound):
            read_checkpoint(path, "nemo")
        with pytest.raises(NotFound):
            detect_family(path)


@pytest.mark.parametrize(
    ("content", "family"),
    [
        (_saved({"a": torch.zeros(1)}), "speechbrain"),
        (_saved({"a": torch.zeros(1)}, old_format=True), "speechbrain"),
        (tar_bytes([("a", b"x")]), "nemo"),
        (tar_bytes([("a", b"x")], "w:gz"), "nemo"),
    ],
    ids=["zip", "pickle", "tar", "tar.gz"],
)
def test_the_family_is_read_off_the_content(content: bytes, family: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    assert detect_family(path) == family


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVE", b"hello"])
def test_a_file_of_no_family_is_unsupported(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(UnsupportedCheckpoint, match="neither"):
        detect_family(path)


def _speechbrain_weights() -> dict[str, torch.Tensor]:
    # SpeechBrain's layout at a small width: C = 16 in 4 chunks, two blocks, D = 12.
    tensors: dict[str, torch.Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = torch.randn(shape, generator=torch.Generator().manual_seed(len(tensors))) * 0.2
        tensors[f"{name}.bias"] = torch.zeros(shape[0])

    def norm(name: str, channels: int) -> None:
        for leaf, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            tensors[f"{name}.{leaf}"] = torch.full((channels,), value)
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(1)

    conv("blocks.0.conv.conv", 16, 80, 5)
    norm("blocks.0.norm.norm", 16)
    for block in ("blocks.1", "blocks.2"):
        for part in ("tdnn1", "tdnn2"):
            conv(f"{block}.{part}.conv.conv", 16, 16, 1)
            norm(f"{block}.{part}.norm.norm", 16)
        for branch in range(3):
            conv(f"{block}.res2net_block.blocks.{branch}.conv.conv", 4, 4, 3)
            norm(f"{block}.res2net_block.blocks.{branch}.norm.norm", 4)
        conv(f"{block}.se_block.conv1.conv", 8, 16, 1)
        conv(f"{block}.se_block.conv2.conv", 16, 8, 1)
    conv("mfa.conv.conv", 32, 32, 1)
    norm("mfa.norm.norm", 32)
    conv("asp.tdnn.conv.conv", 10, 96, 1)
    norm("asp.tdnn.norm.norm", 10)
    conv("asp.conv.conv", 32, 10, 1)
    norm("asp_bn.norm", 64)
    conv("fc.conv", 12, 64, 1)
    return tensors


def test_sizes_of_a_speechbrain_file_are_read_off_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "embedding_model.ckpt"
    path.write_bytes(torch_bytes(_speechbrain_weights()))
    checkpoint = read_checkpoint(path, "speechbrain")
    network = checkpoint.network
    assert (network.channels, network.scale, network.gate_channels, network.attention_channels) == (16, 4, 8, 10)
    assert [shape.dilation for shape in network.blocks] == [2, 3]
    assert (checkpoint.dim, checkpoint.front_end) == (12, "speechbrain")
    assert set(speechbrain_names(network)) == {name.rpartition(".")[0] for name in checkpoint.state}
    with pytest.raises(InvalidRequest, match="legacy"):
        read_checkpoint(path, "speechbrain", "legacy")


@pytest.mark.parametrize("gone", ["fc.conv.weight", "blocks.0.conv.conv.weight", "mfa.conv.conv.weight"])
def test_a_state_dict_of_another_network_is_unsupported(gone: str, tmp_path: Path) -> None:
    tensors = _speechbrain_weights()
    del tensors[gone]
    path = tmp_path / "embedding_model.ckpt"
    path.write_bytes(_saved(tensors))
    with pytest.raises(UnsupportedCheckpoint, match=gone):
        read_checkpoint(path, "speechbrain")


def test_a_speechbrain_file_that_lacks_a_tensor_inside_is_corrupt(tmp_path: Path) -> None:
    tensors = _speechbrain_weights()
    del tensors["blocks.2.se_block.conv2.conv.bias"]
    path = tmp_path / "embedding_model.ckpt"
    path.write_bytes(_saved(tensors))
    with pytest.raises(CorruptArtifact, match=r"blocks\.2\.se_block\.conv2\.conv\.bias is missing"):
        read_checkpoint(path, "speechbrain")
