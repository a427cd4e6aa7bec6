"""The operating point of a gallery: what may stand together, and what is refused."""

from collections.abc import Mapping
from typing import Any

from indexer.db.rows import GallerySummary
from indexer.errors import InvalidRequest

_COSINES = ("identification_threshold", "verification_threshold", "possible_threshold")
_SHARES = ("target_fpir", "possible_fpir", "target_p_fa")


def require_rules(before: GallerySummary | None, rules: Mapping[str, Any]) -> None:
    """Refuse rules that mean nothing, or that contradict those which stay as they are.

    Parameters
    ----------
    before
        The gallery as it is; None: it is about to be made.
    rules
        What is to change.

    Raises
    ------
    InvalidRequest
        If a threshold is no cosine, a rate no share, an edge above the one it is below, or a decision would be made
        by two means at once.
    """
    for name in _COSINES:
        value = rules.get(name)
        if value is not None and not -1.0 <= value <= 1.0:
            raise InvalidRequest(f"{name} {value:g} is no cosine: give a number from -1 to 1")
    for name in _SHARES:
        value = rules.get(name)
        if value is not None and not 0.0 < value < 1.0:
            raise InvalidRequest(f"{name} {value:g} is no share: give a number above 0 and below 1, as in 0.01")

    def now(name: str) -> Any:
        return rules[name] if name in rules else getattr(before, name, None)

    for threshold, rate in (("identification_threshold", "target_fpir"), ("verification_threshold", "target_p_fa")):
        if now(threshold) is not None and now(rate) is not None:
            raise InvalidRequest(
                f"{threshold} {now(threshold):g} and {rate} {now(rate):g} at once: decide by one of them, and take the "
                "other one back (null, or `none` on the command line)"
            )
    _require_order("possible_threshold", now("possible_threshold"), "identification_threshold", now, above=False)
    _require_order("possible_fpir", now("possible_fpir"), "target_fpir", now, above=True)


def _require_order(name: str, value: float | None, other: str, now: Any, *, above: bool) -> None:
    edge = now(other)
    if value is None or edge is None or (value >= edge if above else value <= edge):
        return
    raise InvalidRequest(
        f"{name} {value:g} is {'below' if above else 'above'} {other} {edge:g}: whoever is identified is possible too"
    )
