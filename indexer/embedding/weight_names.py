"""What the tensors of the two families are called, module by module, and the sizes that SpeechBrain's file implies."""

from collections.abc import Mapping

from torch import Tensor

from indexer.embedding.ecapa import ConvShape, EcapaConfig
from indexer.errors import CorruptArtifact, UnsupportedCheckpoint

NEMO_UNUSED = ("decoder.final.", "loss.", "eval_loss.")
"""Prefixes of NeMo tensors that serve training: the speaker classifier and the losses."""

# The recipe's, which the file does not hold: hyperparams.yaml of the published model says 1, 2, 3, 4, 1.
_SPEECHBRAIN_FIRST_DILATION = 2
_SPEECHBRAIN_VARIANCE_FLOOR = 1e-12


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
