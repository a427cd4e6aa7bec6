"""What a margin is said to find is measured on probes that had no part in choosing it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.index.calibration import PROBES, TARGET_RECALL, Calibration, measure
from indexer.index.scans import Positions
from indexer.types import Vectors
from tests.vectors import voices


class _Rows:
    def __init__(self) -> None:
        self.vectors = voices(300, 10, seed=4)
        self.order = np.arange(len(self.vectors))
        self.passes = 0

    def rows_at(self, positions: Positions) -> NDArray[Any]:
        return self.vectors[positions]

    def blocks(self) -> Iterator[tuple[Positions, Vectors]]:
        self.passes += 1
        for start in range(0, len(self.vectors), 512):
            yield self.order[start : start + 512], self.vectors[start : start + 512]


class _Estimates:
    """Scores that are too low by a share of rows' own error, which grows each time somebody looks."""

    def __init__(self, rows: _Rows, *, growth: float) -> None:
        self._rows = rows
        self._errors = np.abs(np.random.default_rng(5).normal(0.0, 0.02, len(rows.vectors))).astype(np.float32)
        self._growth = growth

    def raw_search(self, probes: Vectors, fetch: int) -> tuple[NDArray[np.float32], Positions]:
        scores = probes @ self._rows.vectors.T - self._errors
        places = np.argsort(-scores, axis=1)[:, :fetch]
        return np.take_along_axis(scores, places, axis=1), places

    def raw_scores(self, probes: Vectors, positions: Positions) -> NDArray[np.float32]:
        exact = np.einsum("qd,qkd->qk", probes, self._rows.vectors[positions])
        scores: NDArray[np.float32] = exact - self._errors[positions]
        self._errors *= np.float32(self._growth)
        return scores


def _measured(growth: float, known: Calibration | None = None) -> tuple[Calibration, _Rows]:
    rows = _Rows()
    found = measure(_Estimates(rows, growth=growth), rows, rows.blocks, np.random.default_rng(6), known)
    return found, rows


def test_a_margin_that_suffices_is_measured_in_one_pass() -> None:
    found, rows = _measured(growth=1.0)
    assert found.recall_at_10 >= TARGET_RECALL
    assert rows.passes == 1


def test_a_margin_that_has_become_too_narrow_is_widened_until_new_probes_find_enough() -> None:
    narrow = Calibration(gain=1.0, margin=0.01)
    found, rows = _measured(growth=1.0, known=narrow)
    assert found.margin > 0.03
    assert found.gain == narrow.gain
    assert found.recall_at_10 >= TARGET_RECALL
    assert rows.passes >= 2


def test_a_margin_that_is_never_wide_enough_is_not_said_to_be_and_is_not_sought_for_ever() -> None:
    found, rows = _measured(growth=2.0, known=Calibration(gain=1.0, margin=0.01))
    assert found.recall_at_10 < TARGET_RECALL
    assert rows.passes <= 4


def test_a_margin_that_is_still_wide_enough_stays() -> None:
    wide = Calibration(gain=1.0, margin=0.5)
    found, rows = _measured(growth=1.0, known=wide)
    assert (found.margin, rows.passes) == (0.5, 1)
    assert len(rows.order) > PROBES


def test_the_first_fetch_suffices_for_nearly_all_voices_that_are_not_there() -> None:
    found, rows = _measured(growth=1.0)
    strangers = voices(400, 1, seed=7)
    tenth = np.sort(strangers @ rows.vectors.T, axis=1)[:, -10]
    estimates, _ = _Estimates(rows, growth=1.0).raw_search(strangers, len(rows.vectors))
    needed = (estimates * found.gain >= (tenth - found.margin)[:, None]).sum(axis=1)
    assert (needed <= found.candidates).mean() > 0.95
    assert found.candidates < len(rows.vectors) / 2
