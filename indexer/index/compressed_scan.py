"""A scan of codes of 2 bits a component, cut into stripes that cores share."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.index.calibration import Calibration
from indexer.index.cores import core_count, in_parallel
from indexer.index.faiss_codes import LANES, PROBES_A_PASS, STRIPE_ROWS, PackedCodes, Quantizer, Stripe
from indexer.index.flat_scan import MaskSubset
from indexer.index.scans import Positions, Proposals, Subset
from indexer.index.snapshot_format import Codes, MappedSnapshot
from indexer.types import Vectors

_PROBES_AT_ONCE = 2 * PROBES_A_PASS
"""Probes of one task: two passes, so few that all cores have work for a batch."""

_MORE_ROWS = 0.5
"""By which power of the number of rows more are to be fetched than when that was measured."""

_WIDE = 0.7
"""Share of the rows above which a filter's codes are not laid out by themselves: others are passed over instead."""


class CompressedScan:
    """Codes of 4 bits for every two components, compared with the probe 32 rows at a time in the registers.

    An estimate is the sum of the products of probe and centroids, which lie nearer to the origin than what they stand
    for: it is too small by a factor that calibration measures (`gain`). See `indexer.index.calibration`.
    """

    kind = "compressed"
    probes_a_core = PROBES_A_PASS

    def __init__(self, quantizer: Quantizer, calibration: Calibration) -> None:
        self.quantizer = quantizer
        self.calibration = calibration
        self._stripes: list[Stripe] = []

    @property
    def margin(self) -> float:
        """Measured; see `Calibration`."""
        return self.calibration.margin

    @property
    def candidates(self) -> int:
        """Measured; see `Calibration`. Among more rows more are estimated as high, and the nearest score higher."""
        measured_at = self.calibration.measured_at_count
        grown = max(self.count / measured_at, 1.0) if measured_at else 1.0
        return round(float(self.calibration.candidates * grown**_MORE_ROWS))

    @property
    def count(self) -> int:
        """Rows that are in it, those that went among them."""
        return sum(stripe.count for stripe in self._stripes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes that are not mapped."""
        return sum(stripe.memory_bytes for stripe in self._stripes)

    @property
    def details(self) -> dict[str, str | int | float]:
        """What was measured when it was trained."""
        return self.calibration.details()

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Make the codes."""
        return self.quantizer.encode(vectors)

    def append(self, prepared: NDArray[Any], *, mapped: bool = False) -> None:
        """Take in more rows as (n, C) codes; those of a snapshot are used where they lie, in stripes of one size."""
        codes: Codes = prepared
        most = STRIPE_ROWS
        if mapped and len(codes):
            # Of unequal ones, whoever scans the larger is waited for.
            stripes = -(-len(codes) // STRIPE_ROWS)
            most = -(-len(codes) // (stripes * LANES)) * LANES
        done = 0
        while done < len(codes):
            last = self._stripes[-1] if self._stripes else None
            if last is None or mapped or not last.room:
                some = codes[done : done + most]
                self._stripes.append(Stripe(self.quantizer, self.count, some, mapped=mapped))
            else:
                some = codes[done : done + last.room]
                last.append(some)
            done += len(some)

    def remove(self, positions: Positions) -> None:
        """Do nothing: the index passes over rows that went."""

    def codes_at(self, positions: Positions) -> Codes:
        """(n, C) codes at (n,) positions."""
        firsts = np.array([stripe.first for stripe in self._stripes], dtype=np.int64)
        owners = np.searchsorted(firsts, positions, side="right") - 1
        codes = np.empty((len(positions), self.quantizer.code_bytes), dtype=np.uint8)
        for number, stripe in enumerate(self._stripes):
            mine = owners == number
            codes[mine] = stripe.codes[positions[mine] - stripe.first]
        return codes

    def subset(self, positions: Positions) -> Subset:
        """Lay the codes of some rows out by themselves, or note which rows a search of all is kept to.

        See `Scan.subset`.
        """
        wide = len(positions) > _WIDE * self.count
        return MaskSubset(positions) if wide else CompressedSubset(self, positions)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose the best rows by their codes; see `Scan.search`."""
        if isinstance(subset, CompressedSubset):
            return self._search(probes, fetch, [(subset.packed, subset.positions)], self.calibration.gain)
        if subset is None:
            return self._search(probes, fetch, self._all, self.calibration.gain)
        assert isinstance(subset, MaskSubset)
        found = self._search(probes, 2 * fetch, self._all, self.calibration.gain)
        positions = np.where(subset.holds(found.positions), found.positions, -1)
        return found._replace(positions=positions)

    def raw_search(self, probes: Vectors, fetch: int) -> tuple[NDArray[np.float32], Positions]:
        """Best (Q, F) scores of codes, not made estimates of cosines, and their positions."""
        found = self._search(probes, fetch, self._all, gain=1.0)
        return found.scores, found.positions

    def raw_scores(self, probes: Vectors, positions: Positions) -> NDArray[np.float32]:
        """Scores of the codes at (Q, m) positions, as a search would give them; NaN where a position is -1."""
        wanted = np.unique(positions[positions >= 0])
        scores = np.full(positions.shape, np.nan, dtype=np.float32)
        if not len(wanted):
            return scores
        found, places = PackedCodes(self.quantizer, self.codes_at(wanted)).search(probes, len(wanted))
        table = np.full(len(wanted), np.nan, dtype=np.float32)
        for row, some in enumerate(positions):
            table[places[row]] = found[row]
            scores[row] = np.where(some < 0, np.nan, table[np.searchsorted(wanted, np.maximum(some, wanted[0]))])
        return scores

    def close(self) -> None:
        """Do nothing: its threads are everybody's."""

    @property
    def _all(self) -> list[tuple[PackedCodes, Positions | int]]:
        return [(some.packed, some.first) for some in self._stripes]

    def _search(
        self, probes: Vectors, fetch: int, parts: list[tuple[PackedCodes, Positions | int]], gain: float
    ) -> Proposals:
        total = sum(packed.count for packed, _ in parts)
        # Each part proposes its share and some more; where the best lie together, the floor tells.
        shares = [min(packed.count, fetch * packed.count // max(total, 1) + LANES) for packed, _ in parts]
        ends = list(accumulate(shares))
        scores = np.empty((len(probes), sum(shares)), dtype=np.float32)
        positions = np.empty(scores.shape, dtype=np.int64)

        def work(task: tuple[slice, Iterable[int]]) -> None:
            block, some = task
            for part in some:
                packed, origin = parts[part]
                columns = slice(ends[part] - shares[part], ends[part])
                found, places = packed.search(probes[block], shares[part])
                np.multiply(found, np.float32(gain), out=scores[block, columns])
                positions[block, columns] = _placed(places, origin)

        blocks = [slice(start, start + _PROBES_AT_ONCE) for start in range(0, len(probes), _PROBES_AT_ONCE)]
        # Of few probes each core scans its part of the codes, in one go.
        step = 1 if len(blocks) > 1 else -(-len(parts) // core_count())
        groups = [range(start, min(start + step, len(parts))) for start in range(0, len(parts), step or 1)]
        in_parallel(work, [(block, group) for block in blocks for group in groups], here=len(probes) == 1)
        floors = np.full(len(probes), -np.inf, dtype=np.float32)
        for (packed, _), share, end in zip(parts, shares, ends, strict=True):
            if share < packed.count:
                np.maximum(floors, scores[:, end - 1], out=floors)
        return Proposals(scores, positions, floors, (0, *ends[:-1]))


class CompressedSubset:
    """Codes of some rows, laid out by themselves."""

    def __init__(self, scan: CompressedScan, positions: Positions) -> None:
        self._scan = scan
        self.positions = positions.copy()
        """(n,) rising: which row each is."""
        self.packed = PackedCodes(scan.quantizer, scan.codes_at(positions))

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes and positions."""
        return self.packed.memory_bytes + int(self.positions.nbytes)

    def append(self, positions: Positions) -> None:
        """Take in more rows; see `Subset.append`."""
        if len(positions):
            self.packed.append(self._scan.codes_at(positions))
            self.positions = np.concatenate([self.positions, positions])


def _placed(places: Positions, origin: Positions | int) -> Positions:
    """Positions in the index of places within a part."""
    if isinstance(origin, int):
        return np.where(places < 0, places, places + origin)
    return np.where(places < 0, places, origin[places])


def restored(base: MappedSnapshot) -> CompressedScan | None:
    """Make the scan of a snapshot's codes; None where it has none."""
    if base.codes is None or base.codebook is None or base.calibration is None:
        return None
    scan = CompressedScan(Quantizer(base.codebook), Calibration.read(base.calibration))
    scan.append(base.codes, mapped=True)
    return scan
