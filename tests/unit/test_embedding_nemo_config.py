"""Every option of a NeMo configuration is honored, known not to matter, or refused by name."""

from typing import Any

import pytest

from indexer.embedding.ecapa import ConvShape, EcapaConfig
from indexer.embedding.nemo_archive import require_class
from indexer.embedding.nemo_config import generation_of, read_front_end, read_network
from indexer.errors import UnsupportedCheckpoint
from tests.parity.nemo_files import nemo_config


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        ("1.16.0", "legacy"),
        ("1.9.0", "legacy"),
        ("2.4.0", "legacy"),
        ("2.4.1rc3", "legacy"),
        ("2.5.0rc0", "current"),
        ("2.5.0", "current"),
        ("2.10.0", "current"),
        ("2.6.0rc0", "current"),
        ("3.0.0", "current"),
        ("10.0", "current"),
        (2.4, "legacy"),
        (None, "legacy"),
        ("unknown", "legacy"),
    ],
)
def test_the_front_end_follows_the_version_that_wrote_the_file(version: Any, generation: str) -> None:
    assert generation_of({"nemo_version": version}) == generation


def test_a_file_without_a_version_gets_the_legacy_front_end() -> None:
    assert generation_of({}) == "legacy"


def test_sizes_are_those_of_the_configuration() -> None:
    network = read_network(nemo_config(), "m.nemo")
    assert network.bins == 40
    assert network.channels == 24
    assert network.stem == ConvShape(5, 1)
    assert network.blocks == (ConvShape(3, 2), ConvShape(5, 3), ConvShape(3, 1))
    assert network.aggregation == ConvShape(1, 1)
    assert network.scale == 4
    assert network.attention_channels == 20
    assert network.embedding_sizes == (40, 32)
    assert network.gate_channels == 128
    assert network.gate_norm


def test_left_out_options_take_the_defaults_of_nemo() -> None:
    config = nemo_config(encoder__scale=..., decoder__emb_sizes=..., decoder__pool_mode=...)
    network = read_network(config, "m.nemo")
    assert (network.scale, network.embedding_sizes, network.pooling) == (8, (256,), "xvector")
    config = nemo_config(preprocessor__window_size=..., preprocessor__features=..., preprocessor__n_fft=...)
    front_end = read_front_end(config, "legacy", "m.nemo")
    assert (front_end.window, front_end.hop, front_end.fft, front_end.bins) == (320, 160, 512, 64)
    assert (front_end.preemphasis, front_end.pad_to, front_end.guard_value) == (0.97, 16, 2.0**-24)


def test_short_lists_mean_what_they_mean_to_nemo() -> None:
    config = nemo_config(encoder__kernel_sizes=[5, 3, 3, 3], encoder__dilations=[1, 2, 3, 4])
    assert read_network(config, "m.nemo").aggregation == ConvShape(3, 4)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-5", 1e-5), ("tiny", 1.1754943508222875e-38), ("eps", 1.1920928955078125e-07)]
)
def test_a_number_that_yaml_takes_for_text_is_a_number(text: str, number: float) -> None:
    front_end = read_front_end(nemo_config(preprocessor__log_zero_guard_value=text), "legacy", "m.nemo")
    assert front_end.guard_value == pytest.approx(number, rel=1e-12)


def test_embedding_sizes_may_be_text_as_in_old_files() -> None:
    assert read_network(nemo_config(decoder__emb_sizes="512,256"), "m.nemo").embedding_sizes == (512, 256)


def test_options_that_act_in_training_only_are_ignored() -> None:
    config = nemo_config(
        preprocessor__dither=1.0,
        preprocessor__nb_augmentation_prob=0.5,
        preprocessor__mel_norm=None,
        decoder__angular=True,
    )
    assert read_front_end(config, "legacy", "m.nemo") == read_front_end(nemo_config(), "legacy", "m.nemo")
    assert read_network(config, "m.nemo") == read_network(nemo_config(), "m.nemo")


def _read_network_only(config: dict[str, Any], generation: str, label: str) -> EcapaConfig:
    return read_network(config, label)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("preprocessor__sample_rate", 8000, r"preprocessor\.sample_rate = 8000"),
        ("train_ds__sample_rate", 8000, r"train_ds\.sample_rate = 8000"),
        ("train_ds__sample_rate", "${sample_rate}", r"train_ds\.sample_rate = .*refers to another option"),
        ("preprocessor__sample_rate", "${sample_rate}", r"preprocessor\.sample_rate = .*refers to another option"),
        ("encoder__filters", ["${model.filters}"] * 5, r"encoder\.filters = .*refers to another option"),
        ("decoder__feat_in", "${encoder.filters.4}", r"decoder\.feat_in = .*refers to another option"),
        ("preprocessor__use_torchaudio", True, "use_torchaudio"),
        ("preprocessor__window", "kaiser", "window = 'kaiser'"),
        ("preprocessor__window", None, "window"),
        ("preprocessor__n_window_size", 400, "n_window_size"),
        ("preprocessor__window_size", "long", "window_size = 'long'"),
        ("preprocessor__window_size", 1e9, "window_size"),
        ("preprocessor__n_fft", 256, "n_fft"),
        ("preprocessor__normalize", {"fixed_mean": [0], "fixed_std": [1]}, "normalize"),
        ("preprocessor__log_zero_guard_type", "none", "log_zero_guard_type"),
        ("preprocessor__log_zero_guard_value", "huge", "log_zero_guard_value"),
        ("preprocessor__pad_to", "max", "pad_to = 'max'"),
        ("preprocessor__preemph", float("nan"), "preemph"),
        ("preprocessor__log", "yes", r"preprocessor\.log"),
        ("preprocessor__new_option", 1, r"unknown option preprocessor\.new_option"),
        ("preprocessor___target_", "nemo.AudioToMFCCPreprocessor", "AudioToMFCCPreprocessor"),
        ("encoder___target_", "nemo.ConvASREncoder", "encoder is of class nemo.ConvASREncoder"),
        ("encoder___target_", ..., "encoder is of class None"),
        ("encoder__filters", [24, 24], "filters"),
        ("encoder__filters", [24, 24, 32, 24, 80], "one width"),
        ("encoder__filters", [24, 24, 24, 24, 96], "3 x 24"),
        ("encoder__filters", [10**9] * 5, "filters"),
        ("encoder__filters", ..., "filters = 'None'"),
        ("encoder__scale", 5, "divisors of the block width 24"),
        ("encoder__scale", 0, "scale"),
        ("encoder__kernel_sizes", [5, 3, 3], "kernel_sizes"),
        ("encoder__kernel_sizes", [5, 4, 3, 3, 1], "odd sizes in the blocks|kernel_sizes"),
        ("encoder__dilations", [1, True, 1, 1, 1], "dilations"),
        ("encoder__new_option", 1, r"unknown option encoder\.new_option"),
        ("decoder___target_", "nemo.ConvASRDecoder", "ConvASRDecoder"),
        ("decoder__feat_in", 99, "the 72 channels of the encoder"),
        ("decoder__pool_mode", "max", "pool_mode = 'max'"),
        ("decoder__emb_sizes", [], "emb_sizes"),
        ("decoder__emb_sizes", [192, "many"], "emb_sizes"),
        ("decoder__new_option", 1, r"unknown option decoder\.new_option"),
    ],
)
def test_what_cannot_be_honored_is_refused_by_name(option: str, value: Any, complaint: str) -> None:
    changes = {option: value}
    if option == "encoder__kernel_sizes" and 4 in value:
        changes["encoder__dilations"] = [1, 1, 1, 1, 1]
    config = nemo_config(**changes)
    read = read_front_end if option.startswith(("preprocessor", "train_ds")) else _read_network_only
    with pytest.raises(UnsupportedCheckpoint, match=complaint) as caught:
        read(config, "legacy", "m.nemo")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_model_of_another_class_is_named() -> None:
    config = {"target": "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"}
    with pytest.raises(UnsupportedCheckpoint, match="EncDecCTCModelBPE"):
        require_class(config, None, "EncDecSpeakerLabelModel", "m.nemo")


@pytest.mark.parametrize("value", [None, "text", 3, ["list"]])
def test_a_model_without_an_encoder_section_is_no_speaker_encoder(value: Any) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="'encoder' section"):
        read_network(nemo_config() | {"encoder": value}, "m.nemo")
