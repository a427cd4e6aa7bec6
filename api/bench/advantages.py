"""Where a peer does better than our index, by the figures of one run."""

from collections.abc import Iterator
from typing import Any

from api.bench.trial import KINDS

NOISE = 0.05
"""Times and sizes that differ by less are called equal: repeated runs differ as much."""

LESS_RECALL = 0.0005
"""Recall that differs by less is called equal."""


def advantages(size: dict[str, Any], entry: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """Say at what a peer, asked with one effort, beats the index, and by how much.

    Parameters
    ----------
    size
        Figures of the index at one number of vectors.
    entry, answer
        Those of the peer with the same vectors, and what it answered.
    """
    return list(_found(size, entry, answer))


def _found(size: dict[str, Any], entry: dict[str, Any], answer: dict[str, Any]) -> Iterator[str]:
    own, names = size["search"], dict(zip(KINDS, ("known", "stranger"), strict=True))
    for kind in KINDS:
        more = answer["recall"][kind] - own["recall"][kind]
        if more > LESS_RECALL:
            yield f"recall {names[kind]} +{more:.4f}"
    for label, key in (("query", "single_s"), ("batch", "batch_s")):
        for kind in KINDS:
            times = own[key][kind] / answer[key][kind]
            if times > 1 + NOISE:
                less = own["recall"][kind] - answer["recall"][kind]
                cost = f" at recall -{less:.4f}" if less > LESS_RECALL else ""
                yield f"{label} {names[kind]} {times:.1f}x{cost}"
    if (times := size["build"]["build_s"] / max(entry["build_s"], 1e-9)) > 1 + NOISE:
        yield f"build {times:.1f}x"
    if own["memory_bytes"] > (1 + NOISE) * entry["memory_bytes"]:
        yield f"memory -{(own['memory_bytes'] - entry['memory_bytes']) / 2**20:,.0f} MiB"
