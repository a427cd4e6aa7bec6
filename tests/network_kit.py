"""A small ECAPA-TDNN of the cascade kind, for tests of the network and of what runs it."""

from indexer.embedding.ecapa import ConvShape, EcapaConfig

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
