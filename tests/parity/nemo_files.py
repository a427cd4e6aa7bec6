"""Small `.nemo` files with random weights, in every container NeMo has written, built without the product's code."""

import copy
import io
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]

MODULES = "nemo.collections.asr.modules"

BASE: dict[str, Any] = {
    "sample_rate": 16000,
    "train_ds": {"manifest_filepath": None, "sample_rate": 16000, "labels": ["a", "b"]},
    "preprocessor": {
        "_target_": f"{MODULES}.AudioToMelSpectrogramPreprocessor",
        "normalize": "per_feature",
        "window_size": 0.025,
        "sample_rate": 16000,
        "window_stride": 0.01,
        "window": "hann",
        "features": 40,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 1e-5,
        "stft_conv": False,
    },
    "encoder": {
        "_target_": f"{MODULES}.ECAPAEncoder",
        "feat_in": 40,
        "filters": [24, 24, 24, 24, 72],
        "kernel_sizes": [5, 3, 5, 3, 1],
        "dilations": [1, 2, 3, 1, 1],
        "scale": 4,
    },
    "decoder": {
        "_target_": f"{MODULES}.SpeakerDecoder",
        "feat_in": 72,
        "num_classes": 2,
        "pool_mode": "attention",
        "emb_sizes": [40, 32],
        "attention_channels": 20,
    },
    "target": "nemo.collections.asr.models.label_models.EncDecSpeakerLabelModel",
    "nemo_version": "1.16.0",
}


def nemo_config(**changes: Any) -> dict[str, Any]:
    """Return the base configuration with changes such as `encoder__scale=8`; a value of `...` removes the option."""
    config = copy.deepcopy(BASE)
    for key, value in changes.items():
        section, _, option = key.partition("__")
        place = config[section] if option else config
        option = option or section
        if value is ...:
            del place[option]
        else:
            place[option] = value
    return config


def fft_size(preprocessor: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (fft, window, hop) in samples."""
    window = preprocessor.get("n_window_size") or int(preprocessor["window_size"] * 16000)
    hop = preprocessor.get("n_window_stride") or int(preprocessor["window_stride"] * 16000)
    return preprocessor.get("n_fft") or 2 ** int(np.ceil(np.log2(window))), window, hop


def random_weights(config: Mapping[str, Any], seed: int = 0) -> Arrays:
    """Return a complete state dict under NeMo's names: activations of order one, batch norms away from identity."""
    generator = np.random.default_rng(seed)
    weights: Arrays = {}

    def draw(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return generator.uniform(low, high, shape).astype(np.float32)

    def conv(name: str, c_out: int, *rest: int) -> None:
        bound = np.sqrt(3.0 / np.prod(rest))
        weights[f"{name}.weight"] = draw(-bound, bound, c_out, *rest)
        weights[f"{name}.bias"] = draw(-0.3, 0.3, c_out)

    def norm(name: str, channels: int, affine: bool = True) -> None:
        if affine:
            weights[f"{name}.weight"] = draw(0.6, 1.6, channels)
            weights[f"{name}.bias"] = draw(-0.3, 0.3, channels)
        weights[f"{name}.running_mean"] = draw(-0.4, 0.4, channels)
        weights[f"{name}.running_var"] = draw(0.4, 2.0, channels)

    preprocessor, encoder, decoder = config["preprocessor"], config["encoder"], config["decoder"]
    fft, window, _ = fft_size(preprocessor)
    bins = preprocessor["features"]
    weights["preprocessor.featurizer.window"] = np.hanning(window).astype(np.float32)
    centers = np.linspace(2, fft // 2 - 4, bins)[:, None]
    triangles = np.maximum(0.0, 1.0 - np.abs(np.arange(fft // 2 + 1)[None] - centers) / 6.0)
    weights["preprocessor.featurizer.fb"] = (triangles * 0.02).astype(np.float32)[None]

    filters, kernels = encoder["filters"], encoder["kernel_sizes"]
    conv("encoder.layers.0.conv_layer", filters[0], encoder["feat_in"], kernels[0])
    norm("encoder.layers.0.bn", filters[0])
    for index in range(1, len(filters) - 1):
        block, width = f"encoder.layers.{index}", filters[index]
        for part in ("0", "4"):
            conv(f"{block}.group_tdnn_block.{part}.conv_layer", width, width, 1)
            norm(f"{block}.group_tdnn_block.{part}.bn", width)
        conv(f"{block}.group_tdnn_block.1", width, width // encoder["scale"], kernels[index])
        norm(f"{block}.group_tdnn_block.3", width)
        conv(f"{block}.se_layer.se_layer.0", 128, width, 1)
        norm(f"{block}.se_layer.se_layer.2", 128)
        conv(f"{block}.se_layer.se_layer.3", width, 128, 1)
    conv("encoder.feature_agg.conv_layer", filters[-1], filters[-1], kernels[-1])
    norm("encoder.feature_agg.bn", filters[-1])

    attention = decoder["pool_mode"] == "attention"
    if attention:
        channels = decoder.get("attention_channels", 128)
        conv("decoder._pooling.attention_layer.0.conv_layer", channels, 3 * filters[-1], 1)
        norm("decoder._pooling.attention_layer.0.bn", channels)
        conv("decoder._pooling.attention_layer.2", filters[-1], channels, 1)
    sizes = decoder["emb_sizes"] if isinstance(decoder["emb_sizes"], list) else [decoder["emb_sizes"]]
    inputs = [filters[-1] if decoder["pool_mode"] == "tap" else 2 * filters[-1], *sizes]
    for index, (c_in, c_out) in enumerate(zip(inputs, sizes, strict=False)):
        if attention:
            norm(f"decoder.emb_layers.{index}.0", c_in)
            conv(f"decoder.emb_layers.{index}.1", c_out, c_in, 1)
        else:
            conv(f"decoder.emb_layers.{index}.0", c_out, c_in)
            norm(f"decoder.emb_layers.{index}.1", c_out, affine=False)
    weights["decoder.final.weight"] = draw(-1, 1, decoder["num_classes"], sizes[-1])
    return weights


def torch_bytes(weights: Mapping[str, Any], old_format: bool = False) -> bytes:
    """Serialize a state dict as torch does now (zip), or as it did before 1.6."""
    tensors = OrderedDict()
    for name, value in weights.items():
        tensors[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        if name.endswith("running_var"):
            tensors[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    stream = io.BytesIO()
    torch.save(tensors, stream, _use_new_zipfile_serialization=not old_format)
    return stream.getvalue()


def tar_bytes(
    members: list[tuple[str, bytes] | tarfile.TarInfo], compression: Literal["w", "w:gz"] = "w", folder: bool = False
) -> bytes:
    """Pack members in order; a bare TarInfo is added without content (links, folders)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=compression) as archive:
        if folder:
            root = tarfile.TarInfo("./")
            root.type = tarfile.DIRTYPE
            archive.addfile(root)
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def write_nemo(
    path: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Any],
    *,
    compression: Literal["w", "w:gz"] = "w",
    prefix: str = "./",
    old_format: bool = False,
) -> Path:
    """Write one archive; the defaults are what NeMo writes now."""
    members: list[tuple[str, bytes] | tarfile.TarInfo] = [
        (f"{prefix}model_config.yaml", yaml.safe_dump(dict(config)).encode()),
        (f"{prefix}model_weights.ckpt", torch_bytes(weights, old_format)),
    ]
    path.write_bytes(tar_bytes(members, compression, folder=bool(prefix)))
    return path
