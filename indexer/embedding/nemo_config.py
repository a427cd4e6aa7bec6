"""The sections of a NeMo model configuration, read into the configurations of our front end and network.

What NeMo would compute decides each rule here, including its odd ones. An option that is unknown is refused by name:
it may change the vectors.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch

from indexer.embedding.ecapa import ConvShape, EcapaConfig
from indexer.embedding.features import Generation, NemoFrontEndConfig
from indexer.embedding.nemo_archive import require_class
from indexer.errors import UnsupportedCheckpoint
from indexer.types import SAMPLE_RATE_HZ

GATE_CHANNELS = 128  # fixed in NeMo's encoder, not configurable
VARIANCE_FLOOR = 1e-10
MAX_WIDTH = 65_536
MAX_LAYERS = 64

# Options that act in training only, that NeMo itself ignores, or whose effect is in the checkpoint's own tensors.
_IGNORED = {
    "preprocessor": {
        "dither",
        "nb_augmentation_prob",
        "nb_max_freq",
        "rng",
        "stft_conv",
        "stft_exact_pad",
        "lowfreq",
        "highfreq",
        "mel_norm",
    },
    "encoder": {"init_mode"},
    "decoder": {"init_mode", "num_classes", "angular"},
}


def refuse_reference(name: str, value: Any, label: str) -> None:
    """Refuse an unresolved `${...}` reference; NeMo resolves them when it saves a model.

    Raises
    ------
    UnsupportedCheckpoint
        If the value holds one; the message names the option.
    """
    if isinstance(value, str) and "${" in value:
        raise UnsupportedCheckpoint(
            f"{label}: {name} = {value[:80]!r} refers to another option; save the model with NeMo, which resolves it"
        )


class _Section:
    """One section, read option by option; what was never read is refused at the end."""

    def __init__(self, config: Mapping[str, Any], name: str, label: str) -> None:
        self._values = dict(config[name])
        self._name = name
        self._label = label
        self._unread = {key for key in self._values if not str(key).startswith("_")} - _IGNORED[name]

    def refuse(self, key: str, wanted: str) -> UnsupportedCheckpoint:
        value = self._values.get(key)
        return UnsupportedCheckpoint(
            f"{self._label}: {self._name}.{key} = {str(value)[:80]!r}; voxdex supports {wanted}"
        )

    def raw(self, key: str, default: Any) -> Any:
        self._unread.discard(key)
        value = self._values.get(key, default)
        refuse_reference(f"{self._name}.{key}", value, self._label)
        return value

    def number(self, key: str, default: float) -> float:
        value = self.raw(key, default)
        # YAML 1.1 reads 1e-05 as a string.
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.refuse(key, "a number")
        try:
            number = float(value)
        except ValueError:
            raise self.refuse(key, "a number") from None
        if not math.isfinite(number):
            raise self.refuse(key, "a finite number")
        return number

    def integer(self, key: str, default: int | None, low: int = 1, high: int = MAX_WIDTH) -> int:
        return self._as_integer(key, self.raw(key, default), low, high)

    def integers(self, key: str, default: Any) -> tuple[int, ...]:
        values = self.raw(key, default)
        if isinstance(values, str):  # "512,512" in old files
            values = values.split(",")
        if not isinstance(values, list):
            values = [values]
        if not 1 <= len(values) <= MAX_LAYERS:
            raise self.refuse(key, f"1 to {MAX_LAYERS} whole numbers")
        return tuple(self._as_integer(key, value, 1, MAX_WIDTH) for value in values)

    def _as_integer(self, key: str, value: Any, low: int, high: int) -> int:
        refuse_reference(f"{self._name}.{key}", value, self._label)
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise self.refuse(key, f"whole numbers from {low} to {high}") from None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refuse(key, f"whole numbers from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def done(self) -> None:
        if self._unread:
            names = ", ".join(f"{self._name}.{key}" for key in sorted(map(str, self._unread)))
            raise UnsupportedCheckpoint(f"{self._label}: unknown option {names}, which may change the vectors")


def generation_of(config: Mapping[str, Any]) -> Generation:
    """Return the front end that wrote the file: "current" from NeMo 2.5 on, "legacy" before or where none is named."""
    match = re.match(r"\s*v?(\d+)\.(\d+)", str(config.get("nemo_version", "")))
    return "current" if match and (int(match[1]), int(match[2])) >= (2, 5) else "legacy"


def read_front_end(config: Mapping[str, Any], generation: Generation, label: str) -> NemoFrontEndConfig:
    """Read the `preprocessor` section.

    Raises
    ------
    UnsupportedCheckpoint
        If the class or an option is one that voxdex does not compute; the message names it.
    """
    require_class(dict(config), "preprocessor", "AudioToMelSpectrogramPreprocessor", label)
    section = _Section(config, "preprocessor", label)
    _require_rate(config, section, label)
    if section.flag("use_torchaudio", False):
        raise section.refuse("use_torchaudio", "false")
    if section.raw("window", "hann") not in ("hann", "hamming", "blackman", "bartlett"):
        raise section.refuse("window", "hann, hamming, blackman and bartlett")
    window = _samples(section, "window_size", 0.02, "n_window_size")
    hop = _samples(section, "window_stride", 0.01, "n_window_stride")
    fft = section.raw("n_fft", None) and section.integer("n_fft", None)
    fft = fft or 2 ** math.ceil(math.log2(window))
    if window > fft:
        raise section.refuse("n_fft", f"at least the window of {window} samples")
    exact_pad = section.flag("exact_pad", False)
    if exact_pad and (hop % 2 or hop > fft):
        raise section.refuse("exact_pad", f"it with an even hop of at most n_fft only, not {hop}")
    normalize = section.raw("normalize", "per_feature")
    if isinstance(normalize, dict):
        raise section.refuse("normalize", "per_feature, all_features and none")
    guard = section.raw("log_zero_guard_type", "add")
    if guard not in ("add", "clamp"):
        raise section.refuse("log_zero_guard_type", "add and clamp")
    preemphasis = section.raw("preemph", 0.97)
    front_end = NemoFrontEndConfig(
        generation=generation,
        bins=section.integer("features", 64),
        fft=fft,
        window=window,
        hop=hop,
        preemphasis=None if preemphasis is None else section.number("preemph", 0.97),
        power=section.number("mag_power", 2.0),
        log=section.flag("log", True),
        guard=cast(Literal["add", "clamp"], guard),
        guard_value=_guard_value(section),
        # NeMo normalizes for these two words and silently not at all for any other.
        normalize=cast(Any, normalize) if normalize in ("per_feature", "all_features") else None,
        frame_splicing=section.integer("frame_splicing", 1, high=64),
        pad_to=section.integer("pad_to", 16, low=0, high=4096),
        pad_value=section.number("pad_value", 0.0),
        exact_pad=exact_pad,
    )
    section.done()
    return front_end


def _require_rate(config: Mapping[str, Any], section: _Section, label: str) -> None:
    rate = section.integer("sample_rate", SAMPLE_RATE_HZ, high=1_000_000)
    training = config.get("train_ds")
    loaded = training.get("sample_rate", SAMPLE_RATE_HZ) if isinstance(training, dict) else SAMPLE_RATE_HZ
    refuse_reference("train_ds.sample_rate", loaded, label)
    for name, value in (("preprocessor", rate), ("train_ds", loaded)):
        if value != SAMPLE_RATE_HZ:
            raise UnsupportedCheckpoint(
                f"{label}: {name}.sample_rate = {str(value)[:80]}; voxdex runs models for {SAMPLE_RATE_HZ} Hz only"
            )


def _samples(section: _Section, seconds_key: str, default_s: float, samples_key: str) -> int:
    in_seconds = section.raw(seconds_key, default_s)
    in_samples = section.raw(samples_key, None)
    if in_seconds and in_samples:
        raise section.refuse(samples_key, f"either it or {seconds_key}")
    if not in_seconds:
        return section.integer(samples_key, None, low=2)
    samples = int(section.number(seconds_key, default_s) * SAMPLE_RATE_HZ)
    if not 2 <= samples <= MAX_WIDTH:
        raise section.refuse(seconds_key, f"2 to {MAX_WIDTH} samples at {SAMPLE_RATE_HZ} Hz")
    return samples


def _guard_value(section: _Section) -> float:
    words = {"tiny": torch.finfo(torch.float32).tiny, "eps": torch.finfo(torch.float32).eps}
    value = section.raw("log_zero_guard_value", 2.0**-24)
    if isinstance(value, str) and value in words:
        return words[value]
    return section.number("log_zero_guard_value", 2.0**-24)


def read_network(config: Mapping[str, Any], label: str) -> EcapaConfig:
    """Read the `encoder` and `decoder` sections.

    Raises
    ------
    UnsupportedCheckpoint
        If a class or an option is one that voxdex does not run, or the sizes contradict each other.
    """
    require_class(dict(config), "encoder", "ECAPAEncoder", label)
    require_class(dict(config), "decoder", "SpeakerDecoder", label)
    encoder = _Section(config, "encoder", label)
    filters = encoder.integers("filters", [])
    kernels = encoder.integers("kernel_sizes", [])
    dilations = encoder.integers("dilations", [])
    blocks = len(filters) - 2
    if blocks < 1:
        raise encoder.refuse("filters", "a first layer, one block or more, and the aggregation")
    if len(set(filters[:-1])) > 1:
        raise encoder.refuse(
            "filters", "one width for the first layer and all blocks, whose input is added to the output"
        )
    if filters[-1] != filters[0] * blocks:
        raise encoder.refuse("filters", f"a last width of {blocks} x {filters[0]}, the blocks side by side")
    scale = encoder.integer("scale", 8)
    if filters[0] % scale:
        raise encoder.refuse("scale", f"divisors of the block width {filters[0]}")
    for name, values in (("kernel_sizes", kernels), ("dilations", dilations)):
        if len(values) < blocks + 1:
            raise encoder.refuse(name, f"one number for each of the {len(filters)} filters")
    # The aggregation takes the last entry, as NeMo does, whatever the length of the list.
    shapes = [ConvShape(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=False)][: blocks + 1]
    for index, shape in enumerate(shapes[1:], start=1):
        if shape.dilation * (shape.kernel - 1) % 2:
            raise encoder.refuse("kernel_sizes", f"odd sizes in the blocks, not {shape.kernel} in block {index}")
    decoder = _Section(config, "decoder", label)
    pooling = str(decoder.raw("pool_mode", "xvector")).lower()
    if pooling not in ("attention", "xvector", "tap"):
        raise decoder.refuse("pool_mode", "attention, xvector and tap")
    if decoder.integer("feat_in", None) != filters[-1]:
        raise decoder.refuse("feat_in", f"the {filters[-1]} channels of the encoder")
    network = EcapaConfig(
        bins=encoder.integer("feat_in", None),
        channels=filters[0],
        stem=shapes[0],
        blocks=tuple(shapes[1:]),
        aggregation=ConvShape(kernels[-1], dilations[-1]),
        middle="group",
        scale=scale,
        gate_channels=GATE_CHANNELS,
        gate_norm=True,
        padding="zeros",
        pooling=cast(Any, pooling),
        attention_channels=decoder.integer("attention_channels", 128),
        variance_floor=VARIANCE_FLOOR,
        embedding_sizes=decoder.integers("emb_sizes", 256),
    )
    encoder.done()
    decoder.done()
    return network
