"""What the tensors of each family are called, module by module, and the sizes that shapes imply."""

import math
from collections.abc import Mapping

from torch import Tensor

from indexer.embedding.campplus import HEAD_STRIDES, CamPlusConfig, DenseShape
from indexer.embedding.ecapa import ConvShape, EcapaConfig
from indexer.errors import CorruptArtifact, UnsupportedCheckpoint

NEMO_UNUSED = ("decoder.final.", "loss.", "eval_loss.")
"""Prefixes of NeMo tensors that serve training: the speaker classifier and the losses."""

CAMPPLUS_MARK = "xvector.tdnn.linear"
"""A module that every CAM++ of 3D-Speaker has, and no other network here."""

# The recipe's, which the file does not hold: hyperparams.yaml of the published model says 1, 2, 3, 4, 1.
_SPEECHBRAIN_FIRST_DILATION = 2
_SPEECHBRAIN_VARIANCE_FLOOR = 1e-12
_CAMPPLUS_DILATIONS = (1, 2, 2)


def nemo_names(config: EcapaConfig) -> dict[str, str]:
    """Return NeMo's module prefix for each of our modules that hold tensors."""
    names = {
        "stem.conv": "encoder.layers.0.conv_layer",
        "stem.norm": "encoder.layers.0.bn",
        "aggregation.conv": "encoder.feature_agg.conv_layer",
        "aggregation.norm": "encoder.feature_agg.bn",
    }
    for index in range(len(config.blocks)):
        block = f"encoder.layers.{index + 1}"
        names |= {
            f"blocks.{index}.expand.conv": f"{block}.group_tdnn_block.0.conv_layer",
            f"blocks.{index}.expand.norm": f"{block}.group_tdnn_block.0.bn",
            f"blocks.{index}.middle.conv": f"{block}.group_tdnn_block.1",
            f"blocks.{index}.middle.norm": f"{block}.group_tdnn_block.3",
            f"blocks.{index}.reduce.conv": f"{block}.group_tdnn_block.4.conv_layer",
            f"blocks.{index}.reduce.norm": f"{block}.group_tdnn_block.4.bn",
            f"blocks.{index}.gate.squeeze": f"{block}.se_layer.se_layer.0",
            f"blocks.{index}.gate.norm": f"{block}.se_layer.se_layer.2",
            f"blocks.{index}.gate.excite": f"{block}.se_layer.se_layer.3",
        }
    if config.pooling == "attention":
        names |= {
            "pooling.context.conv": "decoder._pooling.attention_layer.0.conv_layer",
            "pooling.context.norm": "decoder._pooling.attention_layer.0.bn",
            "pooling.score": "decoder._pooling.attention_layer.2",
        }
    # After attention a layer is normalization then linear; after plain statistics the other way round.
    first, second = ("norm", "linear") if config.pooling == "attention" else ("linear", "norm")
    for index in range(len(config.embedding_sizes)):
        names[f"embeddings.{index}.{first}"] = f"decoder.emb_layers.{index}.0"
        names[f"embeddings.{index}.{second}"] = f"decoder.emb_layers.{index}.1"
    return names


def speechbrain_names(config: EcapaConfig) -> dict[str, str]:
    """Return SpeechBrain's module prefix for each of our modules that hold tensors."""
    names = {
        "stem.conv": "blocks.0.conv.conv",
        "stem.norm": "blocks.0.norm.norm",
        "aggregation.conv": "mfa.conv.conv",
        "aggregation.norm": "mfa.norm.norm",
        "pooling.context.conv": "asp.tdnn.conv.conv",
        "pooling.context.norm": "asp.tdnn.norm.norm",
        "pooling.score": "asp.conv.conv",
        "embeddings.0.norm": "asp_bn.norm",
        "embeddings.0.linear": "fc.conv",
    }
    for index in range(len(config.blocks)):
        block = f"blocks.{index + 1}"
        for ours, theirs in (("expand", "tdnn1"), ("reduce", "tdnn2")):
            names[f"blocks.{index}.{ours}.conv"] = f"{block}.{theirs}.conv.conv"
            names[f"blocks.{index}.{ours}.norm"] = f"{block}.{theirs}.norm.norm"
        for branch in range(config.scale - 1):
            names[f"blocks.{index}.middle.branches.{branch}.conv"] = f"{block}.res2net_block.blocks.{branch}.conv.conv"
            names[f"blocks.{index}.middle.branches.{branch}.norm"] = f"{block}.res2net_block.blocks.{branch}.norm.norm"
        names[f"blocks.{index}.gate.squeeze"] = f"{block}.se_block.conv1.conv"
        names[f"blocks.{index}.gate.excite"] = f"{block}.se_block.conv2.conv"
    return names


def speechbrain_config(tensors: Mapping[str, Tensor], label: str) -> EcapaConfig:
    """Read the sizes off the shapes; the dilations are the recipe's 1, then 2, 3, 4, ..., then 1.

    Raises
    ------
    UnsupportedCheckpoint
        If the tensors are not those of an ECAPA-TDNN of SpeechBrain.
    CorruptArtifact
        If a tensor that decides a size has an impossible shape.
    """

    def conv(name: str) -> tuple[int, int, int]:
        tensor = tensors.get(f"{name}.weight")
        if tensor is None:
            held = ", ".join(sorted(tensors)[:3]) or "nothing"
            raise UnsupportedCheckpoint(
                f"{label}: no tensor {name}.weight, so no SpeechBrain ECAPA-TDNN; it holds {held}, ..."
            )
        if tensor.dim() != 3 or min(tensor.shape) < 1:
            raise CorruptArtifact(
                f"{label}: tensor {name}.weight has shape {tuple(tensor.shape)}, expected three sizes"
            )
        c_out, c_in, kernel = tensor.shape
        return c_out, c_in, kernel

    channels, bins, stem_kernel = conv("blocks.0.conv.conv")
    block_kernels: list[int] = []
    while f"blocks.{len(block_kernels) + 1}.tdnn1.conv.conv.weight" in tensors:
        block_kernels.append(conv(f"blocks.{len(block_kernels) + 1}.res2net_block.blocks.0.conv.conv")[2])
    scale = 1
    while f"blocks.1.res2net_block.blocks.{scale - 1}.conv.conv.weight" in tensors:
        scale += 1
    if not block_kernels or channels % scale:
        raise UnsupportedCheckpoint(
            f"{label}: {len(block_kernels)} blocks of {channels} channels in {scale} chunks are no ECAPA-TDNN"
        )
    return EcapaConfig(
        bins=bins,
        channels=channels,
        stem=ConvShape(stem_kernel, 1),
        blocks=tuple(ConvShape(kernel, _SPEECHBRAIN_FIRST_DILATION + i) for i, kernel in enumerate(block_kernels)),
        aggregation=ConvShape(conv("mfa.conv.conv")[2], 1),
        middle="res2",
        scale=scale,
        gate_channels=conv("blocks.1.se_block.conv1.conv")[0],
        gate_norm=False,
        padding="reflect",
        pooling="attention",
        attention_channels=conv("asp.tdnn.conv.conv")[0],
        variance_floor=_SPEECHBRAIN_VARIANCE_FLOOR,
        embedding_sizes=(conv("fc.conv")[0],),
    )


def campplus_names(config: CamPlusConfig) -> dict[str, str]:
    """Return 3D-Speaker's module prefix for each of our modules that hold tensors."""
    names = {
        "head.stem.conv": "head.conv1",
        "head.stem.norm": "head.bn1",
        "head.last.conv": "head.conv2",
        "head.last.norm": "head.bn2",
        "stem": CAMPPLUS_MARK,
        "stem_norm": "xvector.tdnn.nonlinear.batchnorm",
        "norm": "xvector.out_nonlinear.batchnorm",
        "embedding": "xvector.dense.linear",
        "embedding_norm": "xvector.dense.nonlinear.batchnorm",
    }
    places = [(stage, index) for stage, count in enumerate(config.head_blocks, 1) for index in range(count)]
    for number, (stage, index) in enumerate(places):
        ours, theirs = f"head.blocks.{number}", f"head.layer{stage}.{index}"
        for place, name in (("first", "1"), ("second", "2")):
            names[f"{ours}.{place}.conv"] = f"{theirs}.conv{name}"
            names[f"{ours}.{place}.norm"] = f"{theirs}.bn{name}"
        if index == 0:
            names[f"{ours}.shortcut.conv"] = f"{theirs}.shortcut.0"
            names[f"{ours}.shortcut.norm"] = f"{theirs}.shortcut.1"
    for block, shape in enumerate(config.blocks):
        names[f"blocks.{block}.norm"] = f"xvector.transit{block + 1}.nonlinear.batchnorm"
        names[f"blocks.{block}.transit"] = f"xvector.transit{block + 1}.linear"
        for layer in range(shape.layers):
            ours, theirs = f"blocks.{block}.layers.{layer}", f"xvector.block{block + 1}.tdnnd{layer + 1}"
            names[f"{ours}.norm"] = f"{theirs}.nonlinear1.batchnorm"
            names[f"{ours}.narrow"] = f"{theirs}.linear1"
            names[f"{ours}.narrow_norm"] = f"{theirs}.nonlinear2.batchnorm"
            names[f"{ours}.masked.local"] = f"{theirs}.cam_layer.linear_local"
            names[f"{ours}.masked.squeeze"] = f"{theirs}.cam_layer.linear1"
            names[f"{ours}.masked.excite"] = f"{theirs}.cam_layer.linear2"
    return names


def campplus_config(tensors: Mapping[str, Tensor], label: str) -> CamPlusConfig:
    """Read the sizes off the shapes; the dilations are the recipe's, which the file does not hold.

    Raises
    ------
    UnsupportedCheckpoint
        If the tensors are not those of a CAM++ of 3D-Speaker.
    CorruptArtifact
        If a tensor that decides a size has an impossible shape.
    """

    def sizes(name: str, count: int) -> tuple[int, ...]:
        tensor = tensors.get(f"{name}.weight")
        if tensor is None:
            held = ", ".join(sorted(tensors)[:3]) or "nothing"
            raise UnsupportedCheckpoint(f"{label}: no tensor {name}.weight, so no CAM++; it holds {held}, ...")
        if tensor.dim() != count or min(tensor.shape) < 1:
            raise CorruptArtifact(
                f"{label}: tensor {name}.weight has shape {tuple(tensor.shape)}, expected {count} sizes"
            )
        return tuple(tensor.shape)

    def counted(pattern: str, first: int) -> int:
        number = first
        while f"{pattern.format(number)}.weight" in tensors:
            number += 1
        return number - first

    head_channels = sizes("head.conv1", 4)[0]
    channels, flat, kernel = sizes(CAMPPLUS_MARK, 3)
    bottleneck = sizes("xvector.block1.tdnnd1.linear1", 3)[0]
    growth = sizes("xvector.block1.tdnnd1.cam_layer.linear_local", 3)[0]
    blocks = tuple(
        DenseShape(
            layers=counted(f"xvector.block{block}.tdnnd{{}}.linear1", 1),
            kernel=sizes(f"xvector.block{block}.tdnnd1.cam_layer.linear_local", 3)[2],
            dilation=dilation,
        )
        for block, dilation in enumerate(_CAMPPLUS_DILATIONS, 1)
    )
    strides = math.prod(HEAD_STRIDES)
    if flat % head_channels:
        raise UnsupportedCheckpoint(f"{label}: {flat} channels of {head_channels} each are no CAM++")
    return CamPlusConfig(
        bins=flat // head_channels * strides,
        head_channels=head_channels,
        head_blocks=(counted("head.layer1.{}.conv1", 0), counted("head.layer2.{}.conv1", 0)),
        channels=channels,
        kernel=kernel,
        blocks=blocks,
        growth=growth,
        bottleneck=bottleneck,
        context_channels=sizes("xvector.block1.tdnnd1.cam_layer.linear1", 3)[0],
        dim=sizes("xvector.dense.linear", 3)[0],
    )
