"""Where a peer beats the index is said, and nowhere else."""

from typing import Any

from api.bench.advantages import advantages

OWN: dict[str, Any] = {
    "search": {
        "recall": {"known": 1.0, "strangers": 0.999},
        "single_s": {"known": 0.002, "strangers": 0.004},
        "batch_s": {"known": 0.001, "strangers": 0.001},
        "memory_bytes": 100 << 20,
    },
    "build": {"build_s": 10.0},
}


def answer(recall: tuple[float, float], single: tuple[float, float], batch: tuple[float, float]) -> dict[str, Any]:
    kinds = ("known", "strangers")
    return {
        name: dict(zip(kinds, values, strict=True))
        for name, values in (("recall", recall), ("single_s", single), ("batch_s", batch))
    }


def test_a_peer_that_is_nowhere_better_wins_nowhere() -> None:
    peer = {"build_s": 9.9, "memory_bytes": 99 << 20}
    assert advantages(OWN, peer, answer((1.0, 0.999), (0.00196, 0.5), (0.5, 0.00099))) == []


def test_each_figure_in_which_a_peer_is_better_is_named_with_what_it_costs_in_recall() -> None:
    peer = {"build_s": 5.0, "memory_bytes": 10 << 20}
    assert advantages(OWN, peer, answer((0.9, 1.0), (0.001, 0.001), (0.0005, 0.002))) == [
        "recall stranger +0.0010",
        "query known 2.0x at recall -0.1000",
        "query stranger 4.0x",
        "batch known 2.0x at recall -0.1000",
        "build 2.0x",
        "memory -90 MiB",
    ]
