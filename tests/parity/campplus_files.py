"""Small CAM++ files of 3D-Speaker's format with random weights, so that no test needs the published ones."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]


def random_campplus(
    *,
    head: int = 3,
    channels: int = 8,
    growth: int = 4,
    bottleneck: int = 6,
    context: int = 5,
    layers: tuple[int, int, int] = (2, 3, 1),
    dim: int = 192,
    seed: int = 5,
) -> Arrays:
    """Return weights by 3D-Speaker's names, scaled so that signals neither die out nor explode."""
    dice = np.random.default_rng(seed)
    weights: Arrays = {}

    def conv(name: str, *shape: int, bias: bool = False) -> None:
        weights[f"{name}.weight"] = (dice.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        if bias:
            weights[f"{name}.bias"] = (0.3 * dice.standard_normal(shape[0])).astype(np.float32)

    def norm(name: str, width: int, *, affine: bool = True) -> None:
        if affine:
            weights[f"{name}.weight"] = dice.uniform(0.7, 1.3, width).astype(np.float32)
            weights[f"{name}.bias"] = (0.2 * dice.standard_normal(width)).astype(np.float32)
        weights[f"{name}.running_mean"] = (0.2 * dice.standard_normal(width)).astype(np.float32)
        weights[f"{name}.running_var"] = dice.uniform(0.7, 1.5, width).astype(np.float32)

    conv("head.conv1", head, 1, 3, 3)
    norm("head.bn1", head)
    for stage in (1, 2):
        for index in (0, 1):
            block = f"head.layer{stage}.{index}"
            for number in (1, 2):
                conv(f"{block}.conv{number}", head, head, 3, 3)
                norm(f"{block}.bn{number}", head)
        conv(f"head.layer{stage}.0.shortcut.0", head, head, 1, 1)
        norm(f"head.layer{stage}.0.shortcut.1", head)
    conv("head.conv2", head, head, 3, 3)
    norm("head.bn2", head)
    conv("xvector.tdnn.linear", channels, 10 * head, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", channels)
    width = channels
    for block_number, count in enumerate(layers, 1):
        for layer in range(1, count + 1):
            name = f"xvector.block{block_number}.tdnnd{layer}"
            norm(f"{name}.nonlinear1.batchnorm", width)
            conv(f"{name}.linear1", bottleneck, width, 1)
            norm(f"{name}.nonlinear2.batchnorm", bottleneck)
            conv(f"{name}.cam_layer.linear_local", growth, bottleneck, 3)
            conv(f"{name}.cam_layer.linear1", context, bottleneck, 1, bias=True)
            conv(f"{name}.cam_layer.linear2", growth, context, 1, bias=True)
            width += growth
        norm(f"xvector.transit{block_number}.nonlinear.batchnorm", width)
        conv(f"xvector.transit{block_number}.linear", width // 2, width, 1)
        width //= 2
    norm("xvector.out_nonlinear.batchnorm", width)
    conv("xvector.dense.linear", dim, 2 * width, 1)
    norm("xvector.dense.nonlinear.batchnorm", dim, affine=False)
    return weights


def write_campplus(path: Path, weights: Arrays) -> Path:
    """Write a state dict as torch does."""
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, path)
    return path
