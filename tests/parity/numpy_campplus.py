"""CAM++ and Kaldi's filterbank once more, in NumPy and float64, with a loop for each sum: what ours is compared to."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

DILATIONS = (1, 2, 2)
SEGMENT = 100


def kaldi_features(waveform: NDArray[np.float32]) -> Array:
    """Return (80, T) log-mel features minus their means."""
    samples = waveform.astype(np.float64)
    mel = lambda hertz: 1127.0 * np.log1p(hertz / 700.0)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(8000.0), 82)
    places = mel(np.arange(257) * 31.25)
    filters = np.zeros((80, 257))
    for band in range(80):
        left, center, right = edges[band : band + 3]
        for place in range(256):
            if left < places[place] <= center:
                filters[band, place] = (places[place] - left) / (center - left)
            elif center < places[place] < right:
                filters[band, place] = (right - places[place]) / (right - center)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    columns = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400]
        frame = frame - frame.mean()
        shifted = np.concatenate(([frame[0]], frame[:-1]))
        spectrum = np.fft.rfft((frame - 0.97 * shifted) * window, 512)
        columns.append(np.log(np.maximum(filters @ np.abs(spectrum) ** 2, np.finfo(np.float32).eps)))
    values = np.stack(columns, axis=1)
    return values - values.mean(axis=1, keepdims=True)


def campplus_embedding(waveform: NDArray[np.float32], weights: Weights) -> Array:
    """Return the (D,) output of the network for one utterance."""
    return campplus_network(kaldi_features(waveform), weights)


def campplus_network(features: Array, weights: Weights) -> Array:
    """Return the (D,) output for (F, T) features."""
    x = _relu(_norm(_conv2d(features[None], weights["head.conv1.weight"], 1), weights, "head.bn1"))
    for stage in (1, 2):
        index = 0
        while f"head.layer{stage}.{index}.conv1.weight" in weights:
            x = _residual(x, weights, f"head.layer{stage}.{index}", 2 if index == 0 else 1)
            index += 1
    x = _relu(_norm(_conv2d(x, weights["head.conv2.weight"], 2), weights, "head.bn2"))
    x = x.reshape(-1, x.shape[2])
    x = _relu(_norm(_conv1d(x, weights["xvector.tdnn.linear.weight"], stride=2), weights, "xvector.tdnn.nonlinear"))
    for block, dilation in enumerate(DILATIONS, 1):
        layer = 1
        while f"xvector.block{block}.tdnnd{layer}.linear1.weight" in weights:
            x = np.concatenate((x, _dense(x, weights, f"xvector.block{block}.tdnnd{layer}", dilation)))
            layer += 1
        x = _relu(_norm(x, weights, f"xvector.transit{block}.nonlinear"))
        x = _conv1d(x, weights[f"xvector.transit{block}.linear.weight"])
    x = _relu(_norm(x, weights, "xvector.out_nonlinear"))
    pooled = np.concatenate((x.mean(axis=1), x.std(axis=1, ddof=1)))[:, None]
    return _norm(_conv1d(pooled, weights["xvector.dense.linear.weight"]), weights, "xvector.dense.nonlinear")[:, 0]


def _dense(x: Array, weights: Weights, name: str, dilation: int) -> Array:
    x = _conv1d(_relu(_norm(x, weights, f"{name}.nonlinear1")), weights[f"{name}.linear1.weight"])
    x = _relu(_norm(x, weights, f"{name}.nonlinear2"))
    cam = f"{name}.cam_layer"
    mask = np.empty((weights[f"{cam}.linear2.weight"].shape[0], x.shape[1]))
    for start in range(0, x.shape[1], SEGMENT):
        context = x.mean(axis=1) + x[:, start : start + SEGMENT].mean(axis=1)
        hidden = _relu(weights[f"{cam}.linear1.weight"][:, :, 0] @ context + weights[f"{cam}.linear1.bias"])
        logits = weights[f"{cam}.linear2.weight"][:, :, 0] @ hidden + weights[f"{cam}.linear2.bias"]
        mask[:, start : start + SEGMENT] = (1.0 / (1.0 + np.exp(-logits)))[:, None]
    return _conv1d(x, weights[f"{cam}.linear_local.weight"], dilation=dilation) * mask


def _residual(x: Array, weights: Weights, name: str, stride: int) -> Array:
    y = _relu(_norm(_conv2d(x, weights[f"{name}.conv1.weight"], stride), weights, f"{name}.bn1"))
    y = _norm(_conv2d(y, weights[f"{name}.conv2.weight"], 1), weights, f"{name}.bn2")
    if f"{name}.shortcut.0.weight" in weights:
        x = _norm(_conv2d(x, weights[f"{name}.shortcut.0.weight"], stride), weights, f"{name}.shortcut.1")
    return _relu(y + x)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def _norm(x: Array, weights: Weights, name: str) -> Array:
    if f"{name}.running_mean" not in weights:
        name = f"{name}.batchnorm"
    shape = (-1, *(1,) * (x.ndim - 1))
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    x = (x - mean.reshape(shape)) / np.sqrt(variance.astype(np.float64).reshape(shape) + 1e-5)
    if f"{name}.weight" in weights:
        x = x * weights[f"{name}.weight"].reshape(shape) + weights[f"{name}.bias"].reshape(shape)
    return x


def _conv1d(x: Array, kernel: NDArray[np.float32], *, stride: int = 1, dilation: int = 1) -> Array:
    taps = kernel.shape[2]
    padding = dilation * (taps // 2)
    padded = np.pad(x, ((0, 0), (padding, padding)))
    count = (x.shape[1] + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    out = np.zeros((kernel.shape[0], count))
    for tap in range(taps):
        out += (
            kernel[:, :, tap].astype(np.float64) @ padded[:, tap * dilation :][:, : count * stride : stride][:, :count]
        )
    return out


def _conv2d(x: Array, kernel: NDArray[np.float32], stride: int) -> Array:
    taps = kernel.shape[2]
    padding = taps // 2
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    rows = (x.shape[1] + 2 * padding - taps) // stride + 1
    out = np.zeros((kernel.shape[0], rows, x.shape[2]))
    for down in range(taps):
        for across in range(taps):
            part = padded[:, down : down + (rows - 1) * stride + 1 : stride, across : across + x.shape[2]]
            out += np.einsum("oi,ift->oft", kernel[:, :, down, across].astype(np.float64), part)
    return out
