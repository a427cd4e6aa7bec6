"""NeMo's ECAPA-TDNN written a second time, as plain functions on float64 NumPy arrays, to check the product against.

Slow and literal on purpose: loops over kernel taps and groups, masks instead of slices, no shared code with `indexer`.
It computes what NeMo computes for one utterance, per the public description of its front end and network.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.parity.nemo_files import fft_size

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


def nemo_features(
    samples: NDArray[Any], preprocessor: Mapping[str, Any], weights: Weights, generation: Literal["legacy", "current"]
) -> tuple[Array, int]:
    """Return (F, T) features and the number of valid frames."""
    fft, window_size, hop = fft_size(preprocessor)
    signal = samples.astype(np.float64)
    preemphasis = preprocessor.get("preemph", 0.97)
    if preemphasis is not None:
        signal = np.concatenate([signal[:1], signal[1:] - preemphasis * signal[:-1]])
    padded = np.pad(signal, fft // 2, mode="reflect" if generation == "legacy" else "constant")
    frames = 1 + (len(padded) - fft) // hop
    valid = frames if generation == "legacy" else frames - 1
    left = (fft - window_size) // 2
    window = np.zeros(fft)
    window[left : left + window_size] = weights["preprocessor.featurizer.window"]
    power = np.stack(
        [np.abs(np.fft.rfft(padded[t * hop : t * hop + fft] * window)) ** 2 for t in range(frames)], axis=1
    )
    power = power ** (preprocessor.get("mag_power", 2.0) / 2.0)
    mel = weights["preprocessor.featurizer.fb"][0].astype(np.float64) @ power
    guard = preprocessor.get("log_zero_guard_value", 2.0**-24)
    values = np.log(np.maximum(mel, guard) if preprocessor.get("log_zero_guard_type") == "clamp" else mel + guard)
    values = np.concatenate([values] * preprocessor.get("frame_splicing", 1), axis=0)
    speech = values[:, :valid]
    if preprocessor["normalize"] == "per_feature":
        values = (values - speech.mean(1, keepdims=True)) / (speech.std(1, ddof=1, keepdims=True) + 1e-5)
    elif preprocessor["normalize"] == "all_features":
        values = (values - speech.mean()) / (speech.std(ddof=1) + 1e-5)
    values[:, valid:] = preprocessor.get("pad_value", 0.0)
    multiple = preprocessor.get("pad_to", 16)
    missing = -frames % multiple if multiple else 0
    return np.pad(values, ((0, 0), (0, missing)), constant_values=preprocessor.get("pad_value", 0.0)), valid


def _conv(x: Array, weights: Weights, name: str, dilation: int = 1, groups: int = 1) -> Array:
    weight = weights[f"{name}.weight"].astype(np.float64)
    kernel = weight.shape[2]
    padding = dilation * (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (padding, padding)))
    length = padded.shape[1] - dilation * (kernel - 1)
    out = np.repeat(weights[f"{name}.bias"].astype(np.float64)[:, None], length, axis=1)
    per_out, per_in = weight.shape[0] // groups, weight.shape[1]
    for group in range(groups):
        rows = slice(group * per_out, (group + 1) * per_out)
        part = padded[group * per_in : (group + 1) * per_in]
        for tap in range(kernel):
            out[rows] += weight[rows, :, tap] @ part[:, tap * dilation : tap * dilation + length]
    return out


def _norm(x: Array, weights: Weights, name: str) -> Array:
    column = (slice(None),) + (None,) * (x.ndim - 1)
    scaled = (x - weights[f"{name}.running_mean"][column]) / np.sqrt(weights[f"{name}.running_var"][column] + 1e-5)
    if f"{name}.weight" not in weights:
        return scaled
    return scaled * weights[f"{name}.weight"][column] + weights[f"{name}.bias"][column]


def _tdnn(x: Array, weights: Weights, name: str, dilation: int = 1) -> Array:
    return _norm(np.maximum(_conv(x, weights, f"{name}.conv_layer", dilation), 0.0), weights, f"{name}.bn")


def _block(x: Array, mask: Array, weights: Weights, name: str, dilation: int, groups: int) -> Array:
    inner = _tdnn(x, weights, f"{name}.group_tdnn_block.0")
    inner = np.maximum(_conv(inner, weights, f"{name}.group_tdnn_block.1", dilation, groups), 0.0)
    inner = _tdnn(_norm(inner, weights, f"{name}.group_tdnn_block.3"), weights, f"{name}.group_tdnn_block.4")
    gate = (inner * mask).sum(1, keepdims=True) / mask.sum()
    gate = np.maximum(_conv(gate, weights, f"{name}.se_layer.se_layer.0"), 0.0)
    gate = _conv(_norm(gate, weights, f"{name}.se_layer.se_layer.2"), weights, f"{name}.se_layer.se_layer.3")
    return inner / (1.0 + np.exp(-gate)) + x


def _weighted_statistics(x: Array, share: Array) -> tuple[Array, Array]:
    mean = (share * x).sum(1)
    variance = (share * (x - mean[:, None]) ** 2).sum(1)
    return mean, np.sqrt(np.maximum(variance, 1e-10))


def _attention(x: Array, mask: Array, weights: Weights) -> Array:
    mean, deviation = _weighted_statistics(x, mask / mask.sum())
    frames = x.shape[1]
    context = np.concatenate([x, np.repeat(mean[:, None], frames, 1), np.repeat(deviation[:, None], frames, 1)])
    hidden = np.tanh(_tdnn(context, weights, "decoder._pooling.attention_layer.0"))
    scores = _conv(hidden, weights, "decoder._pooling.attention_layer.2")
    scores = np.where(mask > 0, scores, -np.inf)
    share = np.exp(scores - scores.max(1, keepdims=True))
    return np.concatenate(_weighted_statistics(x, share / share.sum(1, keepdims=True)))


def nemo_embedding(
    samples: NDArray[Any], config: Mapping[str, Any], weights: Weights, generation: Literal["legacy", "current"]
) -> Array:
    """Return the (D,) embedding, not normalized."""
    encoder, decoder = config["encoder"], config["decoder"]
    x, valid = nemo_features(samples, config["preprocessor"], weights, generation)
    kernels, dilations = encoder["kernel_sizes"], encoder["dilations"]
    assert all(dilation * (kernel - 1) % 2 == 0 for kernel, dilation in zip(kernels, dilations, strict=True))
    mask = (np.arange(x.shape[1]) < valid).astype(np.float64)[None]
    x = _tdnn(x, weights, "encoder.layers.0", dilations[0])
    outputs = []
    for index in range(1, len(encoder["filters"]) - 1):
        x = _block(x, mask, weights, f"encoder.layers.{index}", dilations[index], encoder["scale"])
        outputs.append(x)
    x = _tdnn(np.concatenate(outputs), weights, "encoder.feature_agg", dilations[-1])
    layers = len(decoder["emb_sizes"]) if isinstance(decoder["emb_sizes"], list) else 1
    if decoder["pool_mode"] == "attention":
        pooled = _attention(x, mask, weights)
        for index in range(layers):
            name = f"decoder.emb_layers.{index}"
            pooled = _conv(_norm(pooled, weights, f"{name}.0")[:, None], weights, f"{name}.1")[:, 0]
        return pooled
    mean = (x * mask).sum(1) / valid
    deviation = np.sqrt(np.maximum((((x - mean[:, None]) * mask) ** 2).sum(1) / (valid - 1), 1e-10))
    pooled = mean if decoder["pool_mode"] == "tap" else np.concatenate([mean, deviation])
    for index in range(layers):
        name = f"decoder.emb_layers.{index}"
        linear = weights[f"{name}.0.weight"].astype(np.float64) @ pooled + weights[f"{name}.0.bias"]
        embedding = _norm(linear, weights, f"{name}.1")
        pooled = np.maximum(embedding, 0.0)  # the next layer sees it rectified, the caller does not
    return embedding
