"""A small ECAPA-TDNN of the cascade kind, for tests of the network and of what runs it."""

import torch

from indexer.embedding.ecapa import ConvShape, Ecapa, EcapaConfig

SMALL_CASCADE = EcapaConfig(
    bins=8,
    channels=8,
    stem=ConvShape(5, 1),
    blocks=(ConvShape(3, 2), ConvShape(3, 3)),
    aggregation=ConvShape(1, 1),
    middle="res2",
    scale=4,
    gate_channels=4,
    gate_norm=False,
    padding="reflect",
    pooling="attention",
    attention_channels=6,
    variance_floor=1e-12,
    embedding_sizes=(5,),
)


def trained(config: EcapaConfig) -> Ecapa:
    """Return a network whose normalizations have scales of both signs, and offsets."""
    torch.manual_seed(3)
    network = Ecapa(config).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.uniform_(-1.0, 2.0)
            module.bias.uniform_(-1.0, 1.0)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(0.0, 1.0)
            module.running_var.uniform_(0.5, 2.0)
    return network
